"""The engine of a cluster: the same shards on the actors of Ray, which places their processes on its nodes.

An actor opens a segment's stages once and lives as long as the segment. Every node needs this package, and sees the
source and the run folder under the same paths: actors commit there themselves, so that only descriptions of shards
and counts of rows pass through Ray, never an image. Where a node dies, its actors are hired again on those that
remain, or on one that joins.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.engines.driver import drive
from curation.engines.embedded import cores
from curation.engines.progress import Progress, Silence
from curation.engines.recovery import WorkerDied, Workers
from curation.engines.worker import ENVIRONMENT
from curation.errors import EngineError, MissingExtra
from curation.ledger import Ledger
from curation.plan import Recipe, Segment
from curation.sources import Source
from curation.stages.base import Resources

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

OBJECT_STORE = 100 << 20  # bytes, little above the least that Ray accepts: see above
Share = dict[str, float]  # what Ray calls a node's resources: "CPU" and "GPU" among them


def run(
    recipe: Recipe,
    source: str | Path | Source,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    address: str | None = None,
) -> Ledger:
    """Run a recipe as `embedded.run` does, on the cluster at `address`, or on this machine without one.

    `workers`: at most so many actors; as many as fit unless given. A session of Ray that the caller began is used
    and left open. Raises CurationError as the embedded engine does; MissingExtra without Ray, EngineError where no
    cluster answers.
    """
    watcher = progress or Silence()
    with session(address, workers or cores()), Actors(workers, watcher) as actors:
        return drive(recipe, source, Path(out).resolve(), actors.execute, watcher)


@contextmanager
def session(address: str | None, workers: int) -> Iterator[None]:
    """Be connected to a cluster, or to one on this machine alone that ends with this block."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    if address is None and ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report each session to its makers
    local = {"num_cpus": workers, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else local),
        )
    except Exception as error:  # the plain class itself, where a node does not come up in time
        raise EngineError(f"no Ray cluster at {address or 'this machine'}: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


class Worker:
    """An actor: its process keeps the stages that a task opened."""

    def __init__(self) -> None:
        pa.set_cpu_count(1)

    def do(self, task: Callable[[Any], Any], argument: Any) -> Any:
        """Run a task."""
        return task(argument)


class Actors(Workers):
    """The actors of one segment. Hired are as many as fit; those that no node has room for yet are waited for."""

    rounds = 2  # a node that dies takes many innocent shards with it

    def __init__(self, most: int | None, progress: Progress) -> None:
        super().__init__(progress)
        self._most = most
        self._wanted = 0
        self._resources = Resources()
        self._joining: dict[ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._busy: dict[Future, ActorHandle] = {}

    def staff(self, segment: Segment, shards: int) -> None:
        """Hire anew for every segment: the models of the one before leave memory."""
        import ray

        self.close(kill=False)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._resources = portion(segment.resources, nodes)
        fit = at_once(self._resources, nodes)
        if not fit:
            raise EngineError(f"no node of the Ray cluster offers a CPU for {segment.title}; start one that does")
        self._wanted = min(fit, shards, self._most or fit)
        self.heal()

    def count(self) -> int:
        self._welcome(wait=not self._idle and not self._busy)
        return len(self._idle) + len(self._busy)

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future:
        actor = self._alive()
        future = actor.do.remote(task, argument).future()
        self._busy[future] = actor
        return future

    def outcome(self, future: Future) -> BaseException | None:
        from ray.exceptions import OutOfMemoryError, RayActorError, RaySystemError, RayTaskError

        error = future.exception()
        actor = self._busy.pop(future)
        if isinstance(error, (RayActorError, OutOfMemoryError)):
            _end(actor)
            return WorkerDied()
        if isinstance(error, RaySystemError):
            raise EngineError(f"a node cannot read its task; has it the packages of this one? {_first_line(error)}")
        self._idle.append(actor)
        return error.cause if isinstance(error, RayTaskError) else error

    def heal(self) -> None:
        import ray

        hire = ray.remote(Worker).options(
            num_cpus=self._resources.cpu,
            num_gpus=self._resources.gpu,
            runtime_env={"env_vars": ENVIRONMENT},
        )
        for _ in range(self._wanted - len(self._joining) - len(self._idle) - len(self._busy)):
            actor = hire.remote()
            self._joining[actor.__ray_ready__.remote()] = actor

    def close(self, *, kill: bool) -> None:
        """Nothing is in flight where a segment ended well, so both ways end the actors at once."""
        for actor in [*self._joining.values(), *self._idle, *self._busy.values()]:
            _end(actor)
        self._joining, self._idle, self._busy = {}, [], {}

    def _alive(self) -> "ActorHandle":
        """Return an idle actor that answers: a shard is not to blame for a node that died while nothing ran there."""
        import ray
        from ray.exceptions import RayActorError

        while True:
            self._welcome(wait=not self._idle)
            actor = self._idle.pop()
            try:
                ray.get(actor.__ray_ready__.remote())
                return actor
            except RayActorError:
                _end(actor)
                self.heal()

    def _welcome(self, *, wait: bool) -> None:
        """Count in the actors that have started; where `wait` says so, wait for the first."""
        import ray
        from ray.exceptions import RayActorError

        while self._joining:
            ready, _ = ray.wait([*self._joining], timeout=None if wait else 0)
            if not ready:
                return
            actor = self._joining.pop(ready[0])
            try:
                ray.get(ready[0])
                self._idle.append(actor)
                wait = False
            except RayActorError as error:
                if not self._joining and not self._idle and not self._busy:
                    raise EngineError(f"no worker starts on the Ray cluster: {_first_line(error)}") from error


def portion(resources: Resources, nodes: list[Share]) -> Resources:
    """Return what one actor asks for: no more than the largest node has, so no GPU where there is none."""
    most = {kind: max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU")}
    return Resources(cpu=min(resources.cpu, most["CPU"]), gpu=min(resources.gpu, most["GPU"]), batch=resources.batch)


def at_once(portion: Resources, nodes: list[Share]) -> int:
    """Return how many actors fit on the nodes."""
    if not portion.cpu:
        return 0
    return sum(
        min(
            int(node.get("CPU", 0) / portion.cpu),
            int(node.get("GPU", 0) / portion.gpu) if portion.gpu else 1 << 30,
        )
        for node in nodes
    )


def _end(actor: "ActorHandle") -> None:
    import ray

    ray.kill(actor, no_restart=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
