"""The command as people run it: in two processes, killed in the middle, interrupted, with prompts of the Hub."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hub_server
import pandas as pd
import pytest
from hub_client import client

from alchemist_hub.evaluation.results import read_report

ROOT = Path(__file__).parents[3]
COUNT = 6
UPLOAD = """
api.create_repo(sys.argv[1], repo_type="dataset")
api.upload_folder(repo_id=sys.argv[1], repo_type="dataset", folder_path=sys.argv[2])
say("done")
"""


def start(out: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "alchemist_hub", "evaluate", *arguments, "--steps", "4", "--out", str(out)],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stamps(out: Path) -> dict[str, int]:
    return {path.name + path.parent.name: path.stat().st_mtime_ns for path in out.rglob("pictures/*/*.png")}


@pytest.mark.slow
def test_two_processes_paint_what_one_does_and_write_one_report(tmp_path):
    with start(tmp_path / "one", "mini", "--count", str(COUNT)) as alone:
        assert alone.wait(timeout=280) == 0, alone.stderr.read()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    asked = ("mini", "--count", str(COUNT), "--batch-size", "2")
    children = [start(tmp_path / "two", *asked, environment=shared | rank) for rank in ranks]
    said = [child.communicate(timeout=280) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert str(tmp_path / "two") in said[0][0] and said[1][0] == ""
    assert "pictures of base (1 of 2 processes): 3 of 3" in said[0][1] and "pictures of" not in said[1][1]
    assert stamps(tmp_path / "one").keys() == stamps(tmp_path / "two").keys()
    one, two = read_report(tmp_path / "one"), read_report(tmp_path / "two")
    assert one.checkpoints == two.checkpoints and one.prompts == two.prompts
    for mine, theirs in zip(one.comparisons[0].aspects, two.comparisons[0].aspects, strict=True):
        assert mine.mean.value == pytest.approx(theirs.mean.value, abs=1e-3)


@pytest.mark.slow
def test_a_killed_run_paints_only_what_is_missing_when_it_runs_again(tmp_path):
    asked = ("mini", "--count", str(COUNT), "--batch-size", "1")
    with start(tmp_path, *asked) as first:
        while len(stamps(tmp_path)) < 3:
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
    before = stamps(tmp_path)
    with start(tmp_path, *asked) as second:
        assert second.wait(timeout=280) == 0, second.stderr.read()
    after = stamps(tmp_path)
    assert len(after) == 2 * COUNT
    assert {name: after[name] for name in before} == before
    assert read_report(tmp_path).comparison("tuned").aspects


@pytest.mark.slow
def test_an_interrupt_ends_with_130_and_keeps_what_is_painted(tmp_path):
    with start(tmp_path, "mini", "--count", str(COUNT), "--batch-size", "1") as running:
        while not stamps(tmp_path):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGINT)
        errors = running.communicate(timeout=60)[1]
    assert running.returncode == 130 and "Traceback" not in errors
    assert stamps(tmp_path) and not (tmp_path / "report.json").exists()


@pytest.mark.slow
def test_prompts_of_the_hub_are_read_with_their_categories_and_revision(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    table = pd.DataFrame({"Prompt": [f"a fox {row}" for row in range(5)], "Category": ["Animals"] * 5})
    table.to_csv(made / "PartiPrompts.tsv", sep="\t", index=False)
    code = """
from alchemist_hub.evaluation import prompts
found = prompts.load("parti", 3)
say([[prompt.text for prompt in found.prompts], found.prompts[0].category, found.source.source, found.source.revision])
"""
    with hub_server.serving(tmp_path / "hub", organisations=("nateraw",)) as hub:
        client(hub, UPLOAD, "nateraw/parti-prompts", made)
        texts, category, source, revision = client(hub, code, PYTHONPATH=str(ROOT))
    assert texts == ["a fox 0", "a fox 1", "a fox 3"] and category == "Animals"
    assert source == "nateraw/parti-prompts" and len(revision) == 40
