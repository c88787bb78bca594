"""The command group `curate`, as a person uses it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from datasets import load_dataset
from toy_stages import Words, recipe, write_pool
from typer.testing import CliRunner

from curation import cli, recipes
from curation.errors import CalibrationError
from curation.estimator.fitting import Statistic
from curation.images import to_jpeg
from curation.ledger import Ledger
from curation.records import img_key
from tests.chat_server import ChatServer, says
from tests.hostile_server import body, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(monkeypatch) -> typer.Typer:
    """The group, with toy judges in the place of the miniature's."""
    monkeypatch.setattr(recipes, "miniature", lambda models: recipe(Path(models) / "log"))
    return cli.make_app(lambda: Path(os.environ["TOY_LOG"]))


@pytest.fixture
def ask(app, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path))

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return write_pool(tmp_path_factory.mktemp("files") / "pool")


@pytest.fixture(scope="module")
def finished(pool, tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    assert cli.curate(recipe(), pool, run, workers=1) == run / "dataset"
    return run


def test_run_judges_freezes_and_says_what_to_do_next(ask, pool, tmp_path):
    told = ask("run", "--source", pool, "--out", tmp_path / "run", "--workers", 1, "--top", 5, "--set", "light=0.29")
    assert told.exit_code == 0, told.output
    assert "5 samples in" in told.stdout and "alchemist train --data" in told.stdout
    assert "6 too dark, 2 undecodable" in told.stdout
    assert "light: 22 of 22" in told.stderr  # no terminal here: lines in the place of bars
    assert json.loads((tmp_path / "run" / "dataset" / "dataset.json").read_text())["samples"] == 5
    saved = json.loads((tmp_path / "run" / "funnel.json").read_text())
    assert [row["step"] for row in saved] == ["source", "light", "rank", "wide"]
    log = (tmp_path / "log").read_text()
    again = ask("run", "--source", pool, "--out", tmp_path / "run", "--workers", 1, "--top", 5, "--set", "light=0.29")
    assert again.exit_code == 0 and (tmp_path / "log").read_text() == log


def test_an_engine_that_cannot_run_is_one_line(ask, pool, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    missing = ask("run", "--source", pool, "--out", tmp_path / "run", "--engine", "ray")
    assert missing.exit_code == 2 and "pip install 'alchemist-hub[ray]'" in missing.stderr
    lost = ask("run", "--source", pool, "--out", tmp_path / "run", "--address", "10.0.0.1:6379")
    assert lost.exit_code == 2 and "add --engine ray" in lost.stderr
    assert not (tmp_path / "run").exists()


def test_a_pool_of_which_nothing_passes_ends_normally(ask, pool, tmp_path):
    told = ask("run", "--source", pool, "--out", tmp_path / "run", "--workers", 1, "--set", "light=2")
    assert told.exit_code == 0
    assert "no sample passed every rule" in told.stdout
    assert not (tmp_path / "run" / "dataset").exists()


def test_funnel_answers_what_if_without_changing_the_run(ask, finished):
    before = (finished / "recipe.json").read_bytes(), (finished / "funnel.json").read_bytes()
    plain = ask("funnel", finished)
    assert plain.exit_code == 0 and "4 too dark, 2 undecodable" in plain.stdout
    asked = ask("funnel", finished, "--set", "light=0.5")
    assert "10 too dark" in asked.stdout and "what if" in asked.stdout
    assert ((finished / "recipe.json").read_bytes(), (finished / "funnel.json").read_bytes()) == before


def test_funnel_is_drawn(ask, finished, tmp_path):
    told = ask("funnel", finished, "--plot", tmp_path / "funnel.png")
    assert told.exit_code == 0
    assert (tmp_path / "funnel.png").read_bytes().startswith(b"\x89PNG")
    refused = ask("funnel", finished, "--plot", tmp_path / "nowhere" / "funnel.png")
    assert refused.exit_code == 2 and refused.stderr.startswith("error: cannot write")


def test_why_tells_every_score_and_threshold(ask, finished, pool):
    dark = ask("why", "001.jpg", "--run", finished)
    assert dark.exit_code == 0
    assert "light >= 0.2" in dark.stdout and "drop: too dark" in dark.stdout
    assert dark.stdout.splitlines()[-1] == "dropped at light: too dark"
    bright = ask("why", img_key((pool / "019.jpg").read_bytes())[:12], "--run", finished)
    assert bright.stdout.splitlines()[-1] == "kept"
    assert "impact_rank <= 11" in bright.stdout and "wide = 24" in bright.stdout
    broken = ask("why", pool / "broken0.jpg", "--run", finished)
    assert "dropped at light: undecodable: damaged" in broken.stdout


@pytest.fixture
def captioned(monkeypatch):
    """The toy recipe with a last step that an endpoint can replace."""
    toy = recipe()
    steps = (*toy.steps[:2], replace(toy.steps[2], judge=Words()))
    monkeypatch.setattr(recipes, "miniature", lambda models: replace(toy, steps=steps))


def test_an_endpoint_writes_the_prompts_and_a_run_goes_on_after_it_died(ask, captioned, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTION_KEY", "sk-very-secret-0123456789")
    dead = body(b"", status=500, headers={"Retry-After": "0"})
    server = ChatServer(lambda number: dead if number > 3 else says("a gray picture"))
    words = ("run", "--source", pool, "--out", tmp_path / "run", "--workers", 1, "--top", 5, "--caption-at-once", 1)
    words += ("--caption-endpoint", server.url, "--caption-model", "sees", "--caption-key-env", "CAPTION_KEY")
    with server:
        server.trial_answer = lambda handler: (dead if len(server.questions) > 3 else says("gray"))(handler)
        died = ask(*words)
    assert died.exit_code == 2 and died.stderr.splitlines()[-1].startswith(f"error: {server.url} has stopped answering")
    assert not (tmp_path / "run" / "dataset").exists()
    again = ChatServer(lambda number: says("a gray picture"), port=server.port)
    with again:
        told = ask(*words)
    assert told.exit_code == 0, told.output
    ledger = Ledger(tmp_path / "run")
    assert ledger.survivors(columns=["prompt"])["prompt"].to_pylist() == ["a gray picture"] * 5
    assert 1 <= len(again.questions) < 5  # what was committed before is not asked again
    assert ledger.outline.steps[-1].config["endpoint"] == server.url
    assert ledger.outline.steps[-1].config["model"] == "sees"
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"very-secret" not in path.read_bytes()
    assert "very-secret" not in died.output + told.output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--caption-endpoint", "http://127.0.0.1/v1"), "--caption-model NAME"),
        (("--caption-endpoint", "nowhere", "--caption-model", "sees"), "is no URL"),
        (("--caption-endpoint", "http://127.0.0.1/v1", "--caption-model", "sees"), "recipe toy has no step recaption"),
    ],
)
def test_an_endpoint_that_cannot_be_meant_is_one_line(ask, pool, tmp_path, words, line):
    told = ask("run", "--source", pool, "--out", tmp_path / "run", *words)
    assert told.exit_code == 2 and told.stderr.count("\n") == 1 and line in told.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "--source", "{tmp}/nowhere", "--out", "{tmp}/run"), "no such file or folder"),
        (("run", "--source", "{tmp}/empty", "--out", "{tmp}/run"), "holds no image"),
        (("run", "--source", "{pool}", "--out", "{tmp}/file/run"), "cannot write to"),
        (("run", "--source", "{pool}", "--out", "{tmp}/run", "--set", "light=bright"), "expected COLUMN=NUMBER"),
        (("run", "--source", "{pool}", "--out", "{tmp}/run", "--set", "lihgt=1"), "no rule reads the column 'lihgt'"),
        (("run", "--source", "{pool}", "--out", "{tmp}/run", "--recipe", "alchemist"), "--models DIR"),
        (("funnel", "{tmp}/empty"), "is not a run folder"),
        (("funnel", "{finished}", "--set", "x=1"), "no rule reads the column 'x'"),
        (("why", "nobody.jpg", "--run", "{finished}"), "no sample of"),
    ],
)
def test_mistakes_are_one_line_and_status_2(ask, pool, finished, tmp_path, words, line):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    told = ask(*(word.format(tmp=tmp_path, pool=pool, finished=finished) for word in words))
    assert told.exit_code == 2
    assert told.stderr.startswith("error: ") and line in told.stderr
    assert told.stderr.count("\n") == 1


def test_every_name_of_a_recipe_means_one(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(recipes, "alchemist", lambda models, top: asked.append(top))
    for name in cli.RecipeName:
        if name is not cli.RecipeName.MINIATURE:
            cli._recipe(name, tmp_path, None)
    assert asked == [3_350, 7_000, 19_000] == list(recipes.VARIANTS.values())


def test_a_calibration_is_for_the_statistic_that_was_asked(ask, monkeypatch, tmp_path):
    asked = []

    def refuse(model, *, search, **_):
        asked.append(search.statistic)
        raise CalibrationError("asked")

    monkeypatch.setattr("curation.calibrate.calibrate", refuse)
    words = ("calibrate", "model", "--good", tmp_path, "--plain", tmp_path, "--out", tmp_path / "estimator.json")
    for name in cli.StatisticName:
        assert ask(*words, "--statistic", name.value).exit_code == 2
    ask(*words)
    assert asked == [*Statistic, Statistic.ALL]
    assert ask(*words, "--statistic", "taste").exit_code == 2 and len(asked) == 4


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from curation.cli import make_app; from typer.testing import CliRunner; "
        "told = CliRunner().invoke(make_app(None), ['run', '--help']); assert '--source' in told.output; "
        "print([name for name in ('torch', 'duckdb', 'pyarrow', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy_stages import recipe
from curation import cli, recipes
from curation.images import to_jpeg
from curation.ledger import Ledger
if __name__ == "__main__":
    recipes.miniature = lambda models: recipe(seconds=0.2)
    cli.make_app(Path)()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_says_how_to_go_on_and_exits_130(pool, tmp_path):
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests")))
    process = subprocess.Popen(
        [sys.executable, script, "run", "--source", pool, "--out", run, "--workers", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not list(run.rglob("*.done")) and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"the same command goes on from {run}" in error and "Traceback" not in error


def test_status_says_how_far_every_segment_is(ask, finished, tmp_path):
    told = ask("status", finished)
    assert told.exit_code == 0 and told.stdout.splitlines()[-1] == "finished"
    assert any(line.split() == ["light", "22", "0"] for line in told.stdout.splitlines())
    partial = tmp_path / "partial"
    shutil.copytree(finished, partial)
    wide = next(path for path in (partial / "ledger").iterdir() if "wide" in path.name)
    removed = sorted(wide.glob("*.done"))[0]
    rows = json.loads(removed.read_text())["rows"]
    removed.unlink()
    told = ask("status", partial)
    assert "not finished: wide is next" in told.stdout
    assert any(line.split()[0] == "wide" and line.split()[2] == str(rows) for line in told.stdout.splitlines()[1:-1])


def test_what_if_counts_from_the_scores(ask, finished, pool):
    told = ask("what-if", finished, "--set", "light=0.6")
    kept = len(Ledger(finished).survivors())
    then = Ledger(finished).verdicts(Ledger(finished).outline.with_thresholds({"light": 0.6}))["kept"].to_pylist()
    assert told.stdout.startswith(f"kept now {kept}, then {sum(then)}: 0 more, {kept - sum(then)} fewer")
    assert 0 < sum(then) < kept
    assert ask("what-if", finished).exit_code == 2


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_export_writes_a_table_like_the_authors(ask, finished, tmp_path, suffix):
    told = ask("export", finished, "--urls-only", tmp_path / f"table{suffix}")
    assert told.exit_code == 0, told.output
    rows = load_dataset(suffix[1:].replace("jsonl", "json"), data_files=str(tmp_path / f"table{suffix}"), split="train")
    assert rows.column_names == ["img_key", "url", "prompt"]
    assert set(rows["img_key"]) == set(Ledger(finished).survivors()["img_key"].to_pylist())


def test_export_freezes_and_refuses_other_names(ask, finished, tmp_path):
    assert str(finished / "dataset") in ask("export", finished).stdout
    refused = ask("export", finished, "--urls-only", tmp_path / "table.xlsx")
    assert refused.exit_code == 2 and "expected a name that ends in" in refused.stderr


def test_materialise_reports_what_has_rotted(ask, tmp_path):
    with serving({"/a.jpg": body(to_jpeg(np.zeros((8, 8, 3), np.uint8)))}) as server:
        (tmp_path / "table.csv").write_text(f"url,prompt\n{server.url('/a.jpg')},one\n{server.url('/b.jpg')},two\n")
        told = ask("materialise", tmp_path / "table.csv", "--out", tmp_path / "out", "--allow-host", server.host)
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines() == [f"1 of 2 images are in {tmp_path / 'out'}", "  1 unavailable: HTTP 404"]
