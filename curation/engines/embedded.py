"""The default engine: a pool of worker processes on this machine.

A worker dies with its parent. Where one dies, the pool is rebuilt, and whatever was in flight is tried again, each
shard alone, so that the guilty one shows itself: it is halved until the one row that kills is found and quarantined.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curation.engines.base import Shard, check_opening, merge, quarantine, run_shard
from curation.engines.driver import drive
from curation.engines.progress import Progress, Silence
from curation.engines.worker import birth, live_for
from curation.errors import CurationError, EngineError
from curation.ledger import Ledger
from curation.plan import Recipe, Segment
from curation.sources import Source
from curation.stages.base import Resources

DEATHS = 2  # times that a shard may take its worker with it before it is halved
QUARANTINE = 16  # samples a segment may lose this way; with more, it is not the samples


def run(
    recipe: Recipe,
    source: str | Path | Source,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Ledger:
    """Run a recipe on a source with `workers` processes (one per core), writing below `out`; return its ledger.

    Run again, it goes on where it was stopped. Call it below `if __name__ == "__main__"`: workers are spawned.
    Raises CurationError: wrong source, another recipe's folder, a disk that cannot be written, workers that keep dying.
    """
    watcher = progress or Silence()
    with Workers(workers or cores(), watcher) as pool:
        return drive(recipe, source, out, pool.execute, watcher)


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A process pool that outlives its workers. A context manager; leaving it by an exception kills them at once."""

    def __init__(self, count: int, progress: Progress) -> None:
        self._count = count
        self._progress = progress
        self._quarantined = 0
        self._size = 0
        self._pool: ProcessPoolExecutor | None = None
        self._lifeline: tuple[Connection, Connection] | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self._close(kill=kind is not None)

    def execute(self, segment: Segment, shards: list[Shard]) -> None:
        """Run the shards of a segment; return when all are committed."""
        self._quarantined = 0
        if shards:
            size = min(at_once(segment.resources, self._count), len(shards))
            if self._pool is None or size != self._size:
                self._restart(size)
            for suspect in self._together(shards):
                self._alone(suspect)

    def _together(self, shards: list[Shard]) -> list[Shard]:
        """Run shards, one per worker at a time; return those in flight when a worker died, and those that raised."""
        waiting, flights, suspects = deque(shards), {}, []
        while waiting or flights:
            while waiting and len(flights) < self._size:
                shard = waiting.popleft()
                flights[self._submit(run_shard, shard)] = shard
            for future in wait(flights, return_when=FIRST_COMPLETED).done:
                shard, error = flights.pop(future), _error(future)
                if error is None:
                    self._progress.advance(shard.rows)
                    continue
                suspects.append(shard)
                if isinstance(error, BrokenProcessPool):
                    suspects += flights.values()
                    flights.clear()
                    self._progress.note(f"a worker died; {len(suspects)} shards will be tried again")
                    self._restart(self._size)
                    break
        return suspects

    def _alone(self, shard: Shard) -> None:
        """Run a shard with nothing else in flight; halve it, or quarantine its only row, if it still fails."""
        error = None
        for _ in range(1 if shard.span else DEATHS):
            error = self._attempt(run_shard, shard)
            if error is None:
                self._progress.advance(shard.rows)
                return
            self._check_that_stages_open(shard.segment)
            if not isinstance(error, BrokenProcessPool):
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
        if isinstance(error, BrokenProcessPool):
            raise EngineError(
                f"a worker died while loading {segment.title}: not enough memory for its models? Try fewer workers; "
                'in a script, call run() below if __name__ == "__main__"'
            ) from error
        if error:
            raise error

    def _quarantine(self, shard: Shard, error: BaseException | None) -> None:
        died = isinstance(error, BrokenProcessPool)
        reason = "its worker died" if died else f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._quarantined += 1
        if self._quarantined > QUARANTINE:
            title = shard.segment.title
            raise EngineError(f"{title} failed on more than {QUARANTINE} samples, at last with: {reason}") from error
        self._progress.note(f"quarantined {', '.join(quarantine(shard, reason))}: {reason}")
        self._progress.advance(shard.rows)

    def _attempt(self, task: Callable[[Any], Any], argument: Any) -> BaseException | None:
        """Run one task; return what it raised, with a fresh pool where it killed its worker."""
        error = _error(self._submit(task, argument))
        if isinstance(error, BrokenProcessPool):
            self._restart(self._size)
        return error

    def _submit(self, task: Callable[[Any], Any], argument: Any) -> Future:
        with birth():
            try:
                return self._pool.submit(task, argument)
            except BrokenProcessPool:  # a worker died while it had nothing to do
                self._restart(self._size)
                return self._pool.submit(task, argument)

    def _restart(self, size: int) -> None:
        self._close(kill=True)
        context = get_context("spawn")
        self._lifeline = context.Pipe(duplex=False)
        self._size = size
        self._pool = ProcessPoolExecutor(
            size, mp_context=context, initializer=live_for, initargs=(self._lifeline[0], os.getpid())
        )

    def _close(self, *, kill: bool) -> None:
        if self._pool is None:
            return
        if kill:
            self._lifeline[1].close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for end in self._lifeline:
            end.close()
        self._pool = None


def at_once(resources: Resources, workers: int) -> int:
    """Return how many workers of a stage fit: by its cores, and one machine-wide GPU shared by its fraction."""
    fit = max(1, int(workers / max(resources.cpu, 1e-9)))
    return min(fit, max(1, int(1 / resources.gpu))) if resources.gpu else min(fit, workers)


def _error(future: Future) -> BaseException | None:
    """Wait; return what a task raised. The user's mistakes and broken disks end the run here."""
    error = future.exception()
    if isinstance(error, CurationError):
        raise error
    return error
