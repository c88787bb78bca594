"""What a vote is: a ballot dealt to one visitor, the answers to it, and the row that is kept. Checks what arrives."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alchemist_hub.errors import VoteError

ASPECTS = ("relevance", "aesthetics", "complexity", "fidelity")
QUESTIONS = {
    "relevance": "Which shows better what the prompt asks for?",
    "aesthetics": "Which is more beautiful?",
    "complexity": "Which is richer in detail?",
    "fidelity": "Which has fewer flaws?",
}
CHOICES = ("left", "right", "tie", "both bad")
SIDES = ("base", "tuned")
_NAME = re.compile(r"[A-Za-z0-9_-]{8,64}")

# One row a vote, in the order of the table in the store. `rater` is a salted hash; `left` is the side that was there.
SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),  # of this replica, counted from 1
        ("id", pa.string()),  # of the ballot: what makes a repeated request the same vote
        ("time", pa.float64()),  # seconds since 1970, UTC
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("steps", pa.int32()),
        ("guidance", pa.float64()),
        ("base", pa.string()),  # ids of the weights, as in an evaluation's report
        ("tuned", pa.string()),
        ("left", pa.string()),
        *((aspect, pa.string()) for aspect in ASPECTS),
        ("rater", pa.string()),
        ("replica", pa.string()),
        ("version", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What both sides of a ballot were painted from. `base` and `tuned` are ids of weights."""

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    base: str
    tuned: str


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """One blind question, dealt once. Only the server knows which side is `left`."""

    id: str
    subject: Subject
    left: str
    dealt: float  # seconds since 1970


def checked_answers(answers: Any) -> dict[str, str]:
    """Return aspect -> choice for every aspect; raises VoteError, in one line, for anything else."""
    if not isinstance(answers, Mapping) or set(answers) != set(ASPECTS):
        raise VoteError(f"a vote answers exactly {', '.join(ASPECTS)}")
    if wrong := [aspect for aspect in ASPECTS if answers[aspect] not in CHOICES]:
        raise VoteError(f"{wrong[0]} has to be one of {', '.join(CHOICES)}")
    return {aspect: answers[aspect] for aspect in ASPECTS}


def checked_name(name: Any, what: str) -> str:
    """Return the id of a ballot or a rater; raises VoteError unless it is 8 to 64 letters, digits, - or _."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise VoteError(f"{what} has to be 8 to 64 letters, digits, hyphens or underscores")
    return name


def pseudonym(rater: str, salt: bytes) -> str:
    """Return what a rater is called in a vote: 16 hex digits that say nothing about who it is."""
    return hmac.new(salt, rater.encode(), hashlib.sha256).hexdigest()[:16]
