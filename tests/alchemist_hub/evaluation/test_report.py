"""A whole small evaluation: tiny checkpoints, a tiny judge, the folder people open."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_judge import tiny_judge
from tiny_models import tiny_pipeline

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import plots, results
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.report import SCORES, evaluate
from alchemist_hub.evaluation.results import Report, read_report
from alchemist_hub.miniature.world import prompts

SEEDS = (0, 1)
PROMPTS = prompts(5, seed=3)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> JudgeNetwork:
    return JudgeNetwork.load(tiny_judge(tmp_path_factory.mktemp("judge")))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("other") / "tuned", seed=5)


@pytest.fixture(scope="module")
def evaluated(v_pipeline, other, judge, tmp_path_factory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("evaluation")
    report = evaluate(
        v_pipeline,
        {"tuned": other, "same": v_pipeline},
        PROMPTS,
        seeds=SEEDS,
        judge=judge,
        out=out,
        steps=2,
        guidance=2.0,
        against=[("tuned", "base"), ("same", "base"), ("tuned", "same")],
    )
    return report, out


def test_the_report_reads_back_as_it_was_written(evaluated):
    report, out = evaluated
    assert read_report(out) == report
    assert [(found.arm, found.opponent) for found in report.comparisons] == [
        ("tuned", "base"),
        ("same", "base"),
        ("tuned", "same"),
    ]


def test_identical_weights_tie_everywhere(evaluated):
    report, _ = evaluated
    for result in report.comparison("same").aspects:
        assert (result.win_rate.value, result.difference.value, result.p_holm) == (0.5, 0.0, 1.0)
        assert result.votes.ties == len(PROMPTS) * len(SEEDS)
        assert result.verdict == "not significant"


def test_scores_hold_one_row_a_picture_and_give_the_reported_means(evaluated):
    report, out = evaluated
    rows = pq.read_table(out / SCORES).to_pandas()
    assert len(rows) == 3 * len(PROMPTS) * len(SEEDS)
    for result in report.comparison("tuned").aspects:
        assert rows.loc[rows["arm"] == "tuned", result.aspect].mean() == pytest.approx(result.mean.value)
    assert rows.loc[rows["arm"] == "base", "shown_ground"].mean() == pytest.approx(report.shown["base"]["ground"].value)


def test_a_second_evaluation_paints_nothing_and_says_the_same(evaluated, v_pipeline, other, judge, tmp_path):
    report, first_out = evaluated
    out = tmp_path / "again"
    shutil.copytree(first_out, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*-*.png")}
    again = evaluate(v_pipeline, {"tuned": other}, PROMPTS, seeds=SEEDS, judge=judge, out=out, steps=2, guidance=2.0)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*-*.png")} == before
    first = report.comparison("tuned").aspect("aesthetics")
    assert replace(again.comparison("tuned").aspect("aesthetics"), p_holm=0) == replace(first, p_holm=0)


def test_the_page_carries_its_figures_and_the_numbers(evaluated):
    report, out = evaluated
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="figures/' not in page and "http" not in page
    assert "tuned against base" in page and "tuned against base" in (out / "report.md").read_text()
    result = report.comparison("tuned").aspect("complexity")
    assert f"{result.mean.value:.3f}" in page


def test_the_grid_has_a_row_per_prompt_and_a_column_per_model(evaluated):
    _, out = evaluated
    with Image.open(out / "figures" / "grid.png") as grid:
        assert grid.width == 2 * (plots.TEXT_WIDTH + 3 * (plots.CELL + plots.GAP))  # two prompts abreast
        assert grid.height == plots.HEADER + 3 * (plots.CELL + plots.GAP)


def test_better_means_fewer_defects_and_holm_runs_over_the_whole_report():
    rng = np.random.default_rng(0)
    base = {name: rng.uniform(0, 1, (30, 2)) for name in ("aesthetics", "complexity", "relevance", "defects")}
    tuned = {**base, "defects": base["defects"] - 0.2, "aesthetics": base["aesthetics"] - 0.2}
    (found,) = results.compare({"base": base, "tuned": tuned}, [("tuned", "base")])
    assert found.aspect("defects").verdict == "better"
    assert found.aspect("defects").win_rate.value == 1.0
    assert found.aspect("defects").difference.value == pytest.approx(-0.2)
    assert found.aspect("aesthetics").verdict == "worse"
    assert found.aspect("relevance").verdict == "not significant"
    assert found.aspect("defects").p_holm == pytest.approx(4 * found.aspect("defects").p)


def test_bad_input_is_one_clear_error(v_pipeline, judge, tmp_path):
    with pytest.raises(EvaluationError, match="nothing to compare"):
        evaluate(v_pipeline, {}, PROMPTS, seeds=SEEDS, judge=judge, out=tmp_path, steps=2, guidance=2.0)
    with pytest.raises(EvaluationError, match='may not be called "base"'):
        evaluate(
            v_pipeline, {"base": v_pipeline}, PROMPTS, seeds=SEEDS, judge=judge, out=tmp_path, steps=2, guidance=2.0
        )
    with pytest.raises(EvaluationError, match="unknown arm tunde"):
        evaluate(
            v_pipeline,
            {"tuned": v_pipeline},
            PROMPTS,
            seeds=SEEDS,
            judge=judge,
            out=tmp_path,
            steps=2,
            guidance=2.0,
            against=[("tunde", "base")],
        )
    with pytest.raises(EvaluationError, match="no evaluation in"):
        read_report(tmp_path)


def test_unknown_numbers_are_null_in_the_file_and_nan_again_in_memory(tmp_path):
    results.write_json({"value": float("nan"), "list": (1, float("nan"))}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"value": None, "list": [1, None]}


def test_a_missing_checkpoint_is_refused_before_anything_is_painted(v_pipeline, judge, tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        evaluate(
            v_pipeline,
            {"tuned": "/nope"},
            prompts(1, seed=0),
            seeds=(0,),
            judge=judge,
            out=tmp_path / "out",
            steps=2,
            guidance=2.0,
        )
    assert not (tmp_path / "out").exists()
