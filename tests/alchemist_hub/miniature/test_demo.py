"""The whole chain on the shipped models, smaller than the demo: it ends with a report; a rerun repeats nothing."""

from pathlib import Path

import pytest

from alchemist_hub.errors import WorldError
from alchemist_hub.evaluation.results import read_report
from alchemist_hub.miniature.demo import make_pool, run_demo
from curation import dataset


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.[jp][pn]g")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_chain_ends_with_a_report_and_a_second_run_repeats_nothing(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    report = run_demo(out, pool=400, prompts=6, steps=12)
    result = read_report(report).comparison("tuned")
    assert 0.0 <= result.aspect("aesthetics").win_rate.value <= 1.0
    assert (report / "report.html").stat().st_size > 10_000
    assert "Alchemist" in (out / "card" / "README.md").read_text()
    kept = dataset.read(out / "run" / "dataset")
    assert 4 <= len(kept) <= 20 and all(prompt for prompt in kept["prompt"])
    weights = (out / "tuned" / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    painted = times(report / "pictures")
    run_demo(out, pool=400, prompts=6, steps=12)
    assert times(report / "pictures") == painted
    assert (out / "tuned" / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == weights


def test_the_pool_is_made_once_and_another_one_is_not_touched(tmp_path: Path) -> None:
    truth = make_pool(tmp_path / "pool", 12)
    written = times(tmp_path)
    assert make_pool(tmp_path / "pool", 12) == truth and times(tmp_path) == written
    with pytest.raises(WorldError, match="12 pictures where the pool has 13"):
        make_pool(tmp_path / "pool", 13)
