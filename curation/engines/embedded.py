"""The default engine: a pool of worker processes on this machine.

A worker dies with its parent. Where one dies, the whole pool is rebuilt, so that nothing in flight is told from the
shard that killed; `curation.engines.recovery` finds out which it was.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curation.engines.driver import drive
from curation.engines.progress import Progress, Silence
from curation.engines.recovery import WorkerDied, Workers
from curation.engines.worker import birth, live_for
from curation.ledger import Ledger
from curation.plan import Recipe, Segment
from curation.sources import Source
from curation.stages.base import Resources


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
    with Processes(workers or cores(), watcher) as processes:
        return drive(recipe, source, out, processes.execute, watcher)


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes(Workers):
    """A process pool that outlives its workers."""

    def __init__(self, most: int, progress: Progress) -> None:
        super().__init__(progress)
        self._most = most
        self._size = 0
        self._pool: ProcessPoolExecutor | None = None
        self._lifeline: tuple[Connection, Connection] | None = None

    def staff(self, segment: Segment, shards: int) -> None:
        """Keep the pool of the segment before if it has the right size."""
        wants_gpu = segment.resources.gpu > 0
        size = min(at_once(segment.resources, self._most, has_gpu=wants_gpu and has_gpu()), shards)
        if self._pool is None or size != self._size:
            self.close(kill=False)
            self._open(size)

    def count(self) -> int:
        return self._size

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future:
        with birth():
            try:
                return self._pool.submit(task, argument)
            except BrokenProcessPool:  # a worker died while it had nothing to do
                self.heal()
                return self._pool.submit(task, argument)

    def outcome(self, future: Future) -> BaseException | None:
        error = future.exception()
        return WorkerDied() if isinstance(error, BrokenProcessPool) else error

    def heal(self) -> None:
        self.close(kill=True)
        self._open(self._size)

    def close(self, *, kill: bool) -> None:
        if self._pool is None:
            return
        if kill:
            self._lifeline[1].close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for end in self._lifeline:
            end.close()
        self._pool = None

    def _open(self, size: int) -> None:
        context = get_context("spawn")
        self._lifeline = context.Pipe(duplex=False)
        self._size = size
        self._pool = ProcessPoolExecutor(
            size, mp_context=context, initializer=live_for, initargs=(self._lifeline[0], os.getpid())
        )


def has_gpu() -> bool:
    """Whether torch, which every stage that asks for a GPU brings, sees one."""
    import torch

    return torch.cuda.device_count() > 0


def at_once(resources: Resources, workers: int, *, has_gpu: bool) -> int:
    """Return how many workers of a stage fit: by its cores, and by its share of the GPU where there is one.

    One GPU: that which `curation.stages.weights.device` names. A machine with several is a Ray cluster of one node.
    """
    fit = min(workers, max(1, int(workers / max(resources.cpu, 1e-9))))
    return min(fit, max(1, int(1 / resources.gpu))) if resources.gpu and has_gpu else fit
