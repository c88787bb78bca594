"""Shards on workers that may die, written once for every engine.

Shards run together, one per worker. Those that failed, or that were in flight when a worker died, run again alone, so
that the guilty one shows itself: it is halved until the one row that kills is found and quarantined.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, ClassVar

from curation.engines.base import Shard, check_opening, merge, quarantine, run_shard
from curation.engines.progress import Progress
from curation.errors import CurationError, EngineError
from curation.plan import Segment

DEATHS = 2  # times that a shard, alone, may take its worker with it before it is halved
QUARANTINE = 16  # samples a segment may lose this way; with more, it is not the samples


class WorkerDied(Exception):
    """The process that ran a task is gone."""


class Workers(ABC):
    """The workers of an engine. A context manager; leaving it by an exception ends them at once."""

    rounds: ClassVar[int] = 1  # times that shards run together before those that failed run alone

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._quarantined = 0

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self.close(kill=kind is not None)

    def execute(self, segment: Segment, shards: list[Shard]) -> None:
        """Run the shards of a segment; return when all are committed. Raises EngineError, and what opening raises."""
        self._quarantined = 0
        if not shards:
            return
        self.staff(segment, len(shards))
        for _ in range(self.rounds):
            shards = self._together(shards)
        for suspect in shards:
            self._alone(suspect)

    @abstractmethod
    def staff(self, segment: Segment, shards: int) -> None:
        """Have workers with the resources of `segment`, no more than it has shards."""

    @abstractmethod
    def count(self) -> int:
        """Return how many workers there are now, at least one."""

    @abstractmethod
    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future:
        """Start a task on a free worker. Called with fewer than `count()` tasks in flight."""

    @abstractmethod
    def outcome(self, future: Future) -> BaseException | None:
        """Wait for a task, once; return what it raised, WorkerDied where its worker is gone."""

    @abstractmethod
    def heal(self) -> None:
        """Replace workers that died. Tasks that did not survive are done when it returns."""

    @abstractmethod
    def close(self, *, kill: bool) -> None:
        """End the workers: at once, or after what they do."""

    def _together(self, shards: list[Shard]) -> list[Shard]:
        """Run shards, one per worker at a time; return those that raised or whose worker died."""
        waiting, flights, suspects = deque(shards), {}, []
        while waiting or flights:
            while waiting and len(flights) < self.count():
                shard = waiting.popleft()
                flights[self.submit(run_shard, shard)] = shard
            landed = self._land(flights, wait(flights, return_when=FIRST_COMPLETED).done)
            if any(isinstance(error, WorkerDied) for _, error in landed):
                self.heal()
                landed += self._land(flights, {future for future in flights if future.done()})
                failed = len(suspects) + sum(error is not None for _, error in landed)
                self._progress.note(f"a worker died; shards to try again: {failed}")
            for shard, error in landed:
                if error is None:
                    self._progress.advance(shard.rows)
                else:
                    suspects.append(shard)
        return suspects

    def _land(self, flights: dict[Future, Shard], done: set[Future]) -> list[tuple[Shard, BaseException | None]]:
        return [(flights.pop(future), self._error(future)) for future in done]

    def _alone(self, shard: Shard) -> None:
        """Run a shard with nothing else in flight; halve it, or quarantine its only row, if it still fails."""
        error = None
        for _ in range(1 if shard.span else DEATHS):
            error = self._attempt(run_shard, shard)
            if error is None:
                self._progress.advance(shard.rows)
                return
            self._check_that_stages_open(shard.segment)
            if not isinstance(error, WorkerDied):
                break  # it would raise the same again
        if shard.rows == 1:
            self._quarantine(shard, error)
            return
        for half in shard.halves():
            self._alone(half)
        merge(shard)

    def _check_that_stages_open(self, segment: Segment) -> None:
        """Tell a step that cannot load from a sample that cannot be judged: raise what opening raises."""
        error = self._attempt(check_opening, segment)
        if isinstance(error, WorkerDied):
            raise EngineError(
                f"a worker died while loading {segment.title}: not enough memory for its models? Try fewer workers; "
                'in a script, call run() below if __name__ == "__main__"'
            ) from error
        if error:
            raise error

    def _quarantine(self, shard: Shard, error: BaseException | None) -> None:
        died = isinstance(error, WorkerDied)
        reason = "its worker died" if died else f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._quarantined += 1
        if self._quarantined > QUARANTINE:
            title = shard.segment.title
            raise EngineError(f"{title} failed on more than {QUARANTINE} samples, at last with: {reason}") from error
        self._progress.note(f"quarantined {', '.join(quarantine(shard, reason))}: {reason}")
        self._progress.advance(shard.rows)

    def _attempt(self, task: Callable[[Any], Any], argument: Any) -> BaseException | None:
        """Run one task; return what it raised."""
        self.count()
        error = self._error(self.submit(task, argument))
        if isinstance(error, WorkerDied):
            self.heal()
        return error

    def _error(self, future: Future) -> BaseException | None:
        """Return what a task raised. The user's mistakes and broken disks end the run here."""
        error = self.outcome(future)
        if isinstance(error, CurationError):
            raise error
        return error
