"""Runs of the cluster engine: real Ray, real nodes, real kills. What needs no Ray runs by default."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_process import children, command, start, wait_for
from toy_stages import recipe, write_pool

from curation import dataset
from curation.engines import embedded
from curation.engines import ray as engine
from curation.engines.progress import Silence
from curation.errors import EngineError, MissingExtra
from curation.ledger import Ledger
from curation.stages.base import Resources

TESTS = Path(__file__).parents[1]
NODES = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}]


@pytest.fixture
def calm(tmp_path):
    """A pool and its undisturbed run."""
    pool = write_pool(tmp_path / "pool", 40)
    embedded.run(recipe(kills=0.65), pool, tmp_path / "calm", workers=1)
    return pool, tmp_path / "calm"


@pytest.fixture
def nodes_find_toys(monkeypatch):
    """Nodes begun by a test inherit where its toy stages are."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS)]))


class Notes(Silence):
    def __init__(self):
        self.lines, self.rows = [], 0

    def advance(self, rows):
        self.rows += rows

    def note(self, message):
        self.lines.append(message)


def assert_same(run: Path, calm: Path) -> None:
    assert Ledger(run).scores() == Ledger(calm).scores()
    assert Ledger(run).verdicts() == Ledger(calm).verdicts()
    assert dataset.fingerprint(dataset.freeze(run)) == dataset.fingerprint(dataset.freeze(calm))


def test_without_ray_its_pip_line_is_the_answer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="pip install 'alchemist-hub.ray.'"):
        engine.run(recipe(), tmp_path, tmp_path / "run")


def test_a_cluster_that_does_not_come_up_is_one_line(tmp_path, monkeypatch):
    def init(**options):
        raise Exception("The current node timed out during startup.\nThis may be because ...")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(EngineError, match="^no Ray cluster at this machine: The current node timed out[^\n]*$"):
        engine.run(recipe(), tmp_path, tmp_path / "run")


def test_an_actor_asks_for_a_gpu_only_where_a_node_has_one():
    wanted = Resources(cpu=8, gpu=0.5)
    assert engine.portion(wanted, NODES) == Resources(cpu=4, gpu=0.5)
    assert engine.portion(wanted, NODES[1:]) == Resources(cpu=2, gpu=0)


def test_actors_fit_on_single_nodes():
    assert engine.at_once(Resources(), NODES) == 6
    assert engine.at_once(Resources(cpu=3), NODES) == 1
    assert engine.at_once(Resources(gpu=0.5), NODES) == 2
    assert engine.at_once(Resources(cpu=0), [{}]) == 0


@pytest.mark.slow
def test_a_cluster_writes_the_same_ledger_and_quarantines_the_same_row(tmp_path, calm, nodes_find_toys):
    pytest.importorskip("ray")
    pool, reference = calm
    watcher = Notes()
    engine.run(recipe(tmp_path / "log", kills=0.65), pool, tmp_path / "run", workers=2, progress=watcher)
    assert_same(tmp_path / "run", reference)
    assert watcher.lines[-1].endswith(".jpg: its worker died")
    assert any("a worker died" in line for line in watcher.lines)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_leaves_no_process_and_a_run_that_the_embedded_engine_finishes(tmp_path):
    pytest.importorskip("ray")
    pool = write_pool(tmp_path / "pool", 40)
    process = start(tmp_path, pool, tmp_path / "log", engine="ray")
    wait_for(lambda: len(list((tmp_path / "run").rglob("*.done"))) >= 2 or process.poll() is not None)
    begun = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert error.splitlines()[-1] == "KeyboardInterrupt" and error.count("Traceback") == 1
    wait_for(lambda: not any("ray" in command(pid) for pid in begun))
    embedded.run(recipe(), pool, tmp_path / "run", workers=1)
    embedded.run(recipe(), pool, tmp_path / "calm", workers=1)
    assert_same(tmp_path / "run", tmp_path / "calm")


@pytest.mark.slow
def test_one_of_two_nodes_may_die(tmp_path, calm, nodes_find_toys):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    pool, reference = calm

    class Killer(Notes):
        def advance(self, rows):
            super().advance(rows)
            if self.rows == rows:
                os.kill(second.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    ray.init(address=cluster.address, log_to_driver=False)
    watcher = Killer()
    try:
        engine.run(recipe(kills=0.65, seconds=0.2), pool, tmp_path / "run", progress=watcher)
        wait_for(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert_same(tmp_path / "run", reference)
