"""Runs of the embedded engine: real files, real processes, real kills."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from run_process import children, command, start, wait_for
from toy_stages import Fail, Light, Lose, Rank, Width, recipe, write_pool

from curation import shards
from curation.engines import embedded, recovery
from curation.engines.base import PIXELS_PER_BATCH, batches
from curation.engines.driver import SHARDS_PER_POOL, rows_per_shard
from curation.engines.progress import Silence
from curation.engines.worker import birth
from curation.errors import EngineError, LedgerError, RecipeError
from curation.explain import funnel, why
from curation.ledger import Ledger
from curation.plan import Recipe, Step
from curation.sources import open_source
from curation.stages.base import Resources, Rule


@pytest.fixture
def pool(tmp_path):
    return write_pool(tmp_path / "pool")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def judged(log: Path, stage: str) -> Counter:
    return Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith(f"{stage} "))


def content(run: Path) -> tuple[pa.Table, pa.Table]:
    ledger = Ledger(run)
    return ledger.scores(), ledger.verdicts()


class Notes(Silence):
    def __init__(self):
        self.lines, self.rows = [], 0

    def advance(self, rows):
        self.rows += rows

    def note(self, message):
        self.lines.append(message)


def test_a_run_scores_ranks_and_explains(tmp_path, pool, log):
    ledger = embedded.run(recipe(log), pool, tmp_path / "run", workers=2)
    rows = {row.step: row for row in funnel(ledger)}
    assert (rows["source"].entered, rows["light"].entered, rows["rank"].entered) == (22, 22, 16)
    assert rows["light"].reasons == {"too dark": 4, "undecodable": 2}
    assert rows["rank"].kept == rows["wide"].kept == 11  # half of the 22
    assert judged(log, "wide").total() == 11
    assert judged(log, "rank") == {"16": 1} and "rank 16 ffd8" in log.read_text()
    assert why(ledger, "broken0.jpg").reason.startswith("undecodable: damaged")
    assert log.read_text().splitlines().count("open") <= 2  # once per worker


def test_running_again_repeats_nothing(tmp_path, pool, log):
    embedded.run(recipe(log), pool, tmp_path / "run", workers=2)
    before, once = content(tmp_path / "run"), log.read_text()
    embedded.run(recipe(log), pool, tmp_path / "run", workers=1)
    assert log.read_text() == once
    assert content(tmp_path / "run") == before


def test_a_changed_threshold_rereads_scores_and_judges_only_what_was_never_judged(tmp_path, pool, log):
    run = tmp_path / "run"
    embedded.run(recipe(log), pool, run, workers=1)
    first = judged(log, "light")
    ledger = embedded.run(recipe(log, bright=0.48, top=0.8), pool, run, workers=1)
    assert judged(log, "light") == first
    assert set(judged(log, "wide").values()) == {1}
    fresh = embedded.run(recipe(None, bright=0.48, top=0.8), pool, tmp_path / "fresh", workers=1)
    assert ledger.verdicts() == fresh.verdicts()
    assert {row["img_key"] for row in ledger.survivors().to_pylist()} == set(fresh.survivors()["img_key"].to_pylist())
    embedded.run(recipe(log), pool, run, workers=1)
    assert judged(log, "rank") == {"16": 1, "10": 1}  # back to an answer that was kept


def test_a_worker_killed_from_outside_costs_no_sample(tmp_path, pool, log):
    class Killer(Notes):
        def advance(self, rows):
            super().advance(rows)
            if self.rows <= 2:
                killed = [pid for pid in children() if "spawn_main" in command(pid)][:1]
                os.kill(killed[0], signal.SIGKILL)

    watcher = Killer()
    ledger = embedded.run(recipe(log, seconds=0.05), pool, tmp_path / "run", workers=2, progress=watcher)
    calm = embedded.run(recipe(), pool, tmp_path / "calm", workers=1)
    assert ledger.scores() == calm.scores() and ledger.verdicts() == calm.verdicts()
    assert any("a worker died" in line for line in watcher.lines)
    assert set(ledger.scores()["status"].to_pylist()) == {"ok", "undecodable"}


def test_a_poison_row_is_quarantined_alone(tmp_path, pool):
    watcher = Notes()
    ledger = embedded.run(recipe(kills=0.65), pool, tmp_path / "run", workers=2, progress=watcher)
    statuses = {row["url"]: (row["status"], row["detail"]) for row in ledger.scores().to_pylist()}
    assert statuses["013.jpg"] == ("quarantined", "its worker died")
    assert Counter(status for status, _ in statuses.values()) == {"ok": 19, "undecodable": 2, "quarantined": 1}
    assert "quarantined 013.jpg: its worker died" in watcher.lines
    assert why(ledger, "013.jpg").reason == "quarantined: its worker died"
    assert not list((tmp_path / "run").rglob("parts/*.done"))


def test_a_row_that_makes_a_stage_raise_is_quarantined_with_its_words(tmp_path):
    pool = write_pool(tmp_path / "pool", 40, broken=0)  # shards of three rows
    ledger = embedded.run(recipe(raises=0.75), pool, tmp_path / "run", workers=2)
    quarantined = [row for row in ledger.scores().to_pylist() if row["status"] == "quarantined"]
    assert [(row["url"], row["detail"]) for row in quarantined] == [
        ("030.jpg", "ArithmeticError: cannot divide by that")
    ]


def test_a_stage_that_fails_on_everything_ends_the_run(tmp_path, monkeypatch):
    pool = write_pool(tmp_path / "pool", 6, broken=0)
    monkeypatch.setattr(recovery, "QUARANTINE", 3)
    with pytest.raises(EngineError, match="fail failed on more than 3 samples, at last with: LookupError: always"):
        embedded.run(Recipe(name="x", steps=(Step(judge=Fail()),)), pool, tmp_path / "run", workers=1)


def test_a_stage_that_cannot_open_says_so(tmp_path, pool):
    with pytest.raises(EngineError, match="died while loading light"):
        embedded.run(recipe(opens="dies"), pool, tmp_path / "a", workers=1)
    with pytest.raises(MemoryError, match="no room"):
        embedded.run(recipe(opens="raises"), pool, tmp_path / "b", workers=1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resume_after_sigkill_gives_the_same_ledger_and_repeats_no_committed_shard(tmp_path, pool, log):
    process = start(tmp_path, pool, log)
    first = tmp_path / "run" / "ledger"
    wait_for(lambda: len(list(first.rglob("*.done"))) >= 3)
    workers = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any("spawn_main" in command(pid) for pid in workers), 60)
    committed = {url for path in shards.committed(next(first.iterdir())) for url in _urls(path)}
    assert 0 < len(committed) < 22
    log.write_text("")
    resumed = embedded.run(recipe(log), pool, tmp_path / "run", workers=2)
    assert not committed & set(judged(log, "light"))
    assert set(judged(log, "light")) | committed == {row["url"] for row in resumed.scores().to_pylist()}
    whole = embedded.run(recipe(), pool, tmp_path / "whole", workers=1)
    assert resumed.scores() == whole.scores() and resumed.verdicts() == whole.verdicts()


def _urls(path: Path) -> list[str]:
    return pq.read_table(path, columns=["url"])["url"].to_pylist()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_leaves_committed_shards_and_no_worker(tmp_path, pool, log):
    process = start(tmp_path, pool, log)
    wait_for(lambda: len(list((tmp_path / "run").rglob("*.done"))) >= 2)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert "KeyboardInterrupt" in error.splitlines()[-1]
    assert error.count("Traceback") == 1  # the workers were quiet
    assert not any("spawn_main" in command(pid) for pid in workers)
    committed = len(list((tmp_path / "run").rglob("*.done")))
    assert committed >= 2
    resumed = embedded.run(recipe(), pool, tmp_path / "run", workers=1)
    assert resumed.scores() == embedded.run(recipe(), pool, tmp_path / "whole", workers=1).scores()


def test_a_folder_of_another_recipe_or_pool_is_refused(tmp_path, pool):
    run = tmp_path / "run"
    embedded.run(recipe(), pool, run, workers=1)
    other = Recipe(name="toy", steps=(*recipe().steps[:2],))
    with pytest.raises(RecipeError, match="begun with another recipe .steps light, rank here"):
        embedded.run(other, pool, run, workers=1)
    (pool / "new.jpg").write_bytes((pool / "004.jpg").read_bytes())
    with pytest.raises(RecipeError, match="another pool: 22 files below .* then, 23 below"):
        embedded.run(recipe(), pool, run, workers=1)


def test_exact_copies_are_judged_once_after_the_first_segment(tmp_path, pool, log):
    (pool / "copy.jpg").write_bytes((pool / "019.jpg").read_bytes())
    ledger = embedded.run(recipe(log), pool, tmp_path / "run", workers=1)
    assert why(ledger, "copy.jpg").urls == ("019.jpg", "copy.jpg")
    assert judged(log, "wide")["019.jpg"] == 1 and "copy.jpg" not in judged(log, "wide")


def test_a_file_that_changes_during_the_run_is_undecodable_later(tmp_path, pool):
    embedded.run(Recipe(name="toy", steps=recipe().steps[:1]), pool, tmp_path / "a", workers=1)
    source_file = pool / "018.jpg"

    class Swap(Notes):
        def begin(self, title, total, done):
            if title == "wide":
                source_file.write_bytes(source_file.read_bytes()[::-1])

    ledger = embedded.run(recipe(), pool, tmp_path / "run", workers=1, progress=Swap())
    told = why(ledger, "018.jpg")
    assert (told.step, told.reason) == ("wide", "undecodable: changed or gone since this run began")


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path, pool):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="cannot write to .*file"):
        embedded.run(recipe(), pool, tmp_path / "file" / "run", workers=1)


def test_a_stage_that_loses_rows_is_caught(tmp_path, pool):
    with pytest.raises(RecipeError, match="stage lose did not return the . rows"):
        embedded.run(Recipe(name="x", steps=(Step(judge=Lose()),)), pool, tmp_path / "run", workers=1)


def test_workers_begin_with_one_thread_and_the_parent_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with birth():
        assert (os.environ["OMP_NUM_THREADS"], os.environ["TQDM_DISABLE"]) == ("1", "1")
    assert os.environ["OMP_NUM_THREADS"] == "7" and "TQDM_DISABLE" not in os.environ


def test_workers_fit_the_resources():
    assert embedded.at_once(Resources(), 8, has_gpu=False) == 8
    assert embedded.at_once(Resources(cpu=3), 8, has_gpu=True) == 2
    assert embedded.at_once(Resources(cpu=0.5), 8, has_gpu=False) == 8
    assert embedded.at_once(Resources(gpu=0.5), 8, has_gpu=True) == 2
    assert embedded.at_once(Resources(gpu=0.5), 8, has_gpu=False) == 8
    assert embedded.at_once(Resources(cpu=16), 8, has_gpu=False) == 1


@pytest.mark.parametrize(("gpus", "opened"), [(0, 3), (1, 1)])
def test_a_stage_that_asks_for_a_gpu_has_it_to_itself_where_there_is_one(monkeypatch, gpus, opened):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    judge = Light()
    judge.resources = Resources(gpu=1, batch=4)
    segment = Recipe(name="x", steps=(Step(judge=judge),)).segments[0]
    with embedded.Processes(3, Silence()) as processes:
        processes.staff(segment, 16)
        assert processes.count() == opened


def test_large_pictures_make_small_batches():
    side = int((PIXELS_PER_BATCH / 2) ** 0.5)
    table = pa.table({"width": [side] * 5 + [None], "height": [side] * 5 + [None]})
    assert [len(batch) for batch in batches(table, 64)] == [2, 2, 2]
    assert [len(batch) for batch in batches(table.slice(0, 0), 64)] == [0]
    small = pa.table({"width": [1] * 7, "height": [1] * 7})
    assert [len(batch) for batch in batches(small, 3)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "first step has to be a stage"),
        ((Step(judge=Rank()),), "first step has to be a stage"),
        ((Step(judge=Light()), Step(judge=Light())), "writes light a second time"),
        ((Step(judge=Width()), Step(judge=Rank())), "reads light, which no step up to it writes"),
        ((Step(judge=Width(), rules=(Rule(column="x", op="<", threshold=1, reason=""),)),), "rule on x"),
        ((Step(judge=Width(), rules=(Rule(column="wide", op="!", threshold=1, reason=""),)),), "operator '!'"),
    ],
)
def test_recipes_that_do_not_fit_together_are_refused(steps, words):
    with pytest.raises(RecipeError, match=words):
        Recipe(name="x", steps=steps)


def test_a_worker_holds_few_large_files_at_once(pool, monkeypatch):
    source = open_source(pool)
    assert rows_per_shard(source) == -(-len(source) // SHARDS_PER_POOL) > 1
    monkeypatch.setattr(type(source), "mean_bytes", lambda self: 100 << 20)
    assert rows_per_shard(source) == 1
