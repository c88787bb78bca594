"""The booth: deals blind ballots and takes the votes on them.

Which side is left is drawn when a ballot is dealt and stays in the store, by the ballot's id; what goes to a visitor is
the id, the prompt and two pictures.
"""

import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alchemist_hub.errors import VoteError
from alchemist_hub.voting.records import SIDES, Ballot, checked_answers, checked_name
from alchemist_hub.voting.stock import Stock
from alchemist_hub.voting.store import Receipt, VoteStore
from alchemist_hub.voting.sync import VoteSync


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """What a visitor may know of a ballot before the vote. The paths are the server's, never the visitor's."""

    ballot: str
    prompt: str
    left: Path
    right: Path


class Booth:
    """Everything behind the Vote tab: the store, a stock for each model, and the way to the Hub, if there is one."""

    def __init__(
        self,
        store: VoteStore,
        stocks: Mapping[str, Stock],
        *,
        sync: VoteSync | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not stocks:
            raise ValueError("a booth needs at least one stock")
        self.store, self.stocks, self._sync, self._clock = store, stocks, sync, clock

    def start(self) -> None:
        """Paint ahead, and send votes to the Hub where that is configured."""
        for stock in self.stocks.values():
            stock.start()
        if self._sync is not None:
            self._sync.start()

    def stop(self) -> None:
        """End the painting, send what is left, close the store."""
        for stock in self.stocks.values():
            stock.stop()
        if self._sync is not None:
            self._sync.stop()
        self.store.close()

    def deal(self, model: str | None = None, *, wait: float = 0.0) -> Dealt | None:
        """Return a new ballot, or None if no pair is painted within `wait` seconds. Raises VoteError."""
        stock = self.stocks.get(model or next(iter(self.stocks)))
        if stock is None:
            raise VoteError(f"there is no vote on this model; there is one on {', '.join(self.stocks)}")
        drawn = stock.take(wait=wait)
        if drawn is None:
            return None
        left, right = secrets.choice((SIDES, SIDES[::-1]))
        ballot = Ballot(id=uuid.uuid4().hex, subject=drawn.subject, left=left, dealt=self._clock())
        self.store.deal(ballot)
        return Dealt(
            ballot=ballot.id, prompt=drawn.subject.prompt, left=getattr(drawn, left), right=getattr(drawn, right)
        )

    def vote(self, ballot: Any, answers: Any, rater: Any) -> Receipt:
        """Count one vote and return once it is on the disk. Raises VoteError, in one line, whatever arrives."""
        name, rater = checked_name(ballot, "the ballot"), checked_name(rater, "the rater")
        return self.store.cast(name, checked_answers(answers), rater)

    def count(self, rater: Any) -> int:
        """Return how often a rater has voted. Raises VoteError."""
        return self.store.count(checked_name(rater, "the rater"))
