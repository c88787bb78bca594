"""Ballots and votes for tests, without pictures."""

import time
import uuid

from alchemist_hub.voting.records import ASPECTS, Ballot, Subject
from alchemist_hub.voting.store import Receipt, VoteStore

SUBJECT = Subject(
    model="mini", prompt="mars", seed=3, steps=20, guidance=3.5, base="0123456789ab", tuned="ba9876543210"
)
RATER = "a-browser-1"


def answers(*choices: str) -> dict[str, str]:
    """Answers to the four aspects; one choice stands for all."""
    return dict(zip(ASPECTS, choices * (len(ASPECTS) // len(choices)), strict=True))


def dealt(store: VoteStore, *, left: str = "tuned", name: str | None = None, subject: Subject = SUBJECT) -> str:
    """Deal a ballot and return its id."""
    ballot = Ballot(id=name or uuid.uuid4().hex, subject=subject, left=left, dealt=time.time())
    store.deal(ballot)
    return ballot.id


def voted(store: VoteStore, *choices: str, rater: str = RATER, **ballot: object) -> Receipt:
    """Deal a ballot and vote on it."""
    return store.cast(dealt(store, **ballot), answers(*choices), rater)
