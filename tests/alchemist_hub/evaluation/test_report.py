"""A whole small evaluation: tiny checkpoints, a tiny judge, the folder people open."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import binomtest
from tiny_judge import tiny_judge
from tiny_models import tiny_pipeline

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import plots, results
from alchemist_hub.evaluation.generate import Share
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.measures import WorldJudge
from alchemist_hub.evaluation.prompts import Prompt, PromptSet, miniature
from alchemist_hub.evaluation.report import SCORES, Plan, evaluate
from alchemist_hub.evaluation.results import PromptSource, Report, Tally, read_report, undecided
from alchemist_hub.evaluation.sides import Contest, Side
from alchemist_hub.evaluation.votes import Interval

SEEDS = (0, 1)
PROMPTS = miniature(5, seed=3)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> WorldJudge:
    return WorldJudge(JudgeNetwork.load(tiny_judge(tmp_path_factory.mktemp("judge"))))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("other") / "tuned", seed=5)


def side(name: str, source: str | Path) -> Side:
    return Side.of(name, source, steps=2, guidance=2.0)


def plan(judge: WorldJudge, *sides: Side, pairs=None, **settings) -> Plan:
    contest = Contest.between(*sides, pairs=pairs)
    return Plan(contest=contest, **{"prompts": PROMPTS, "seeds": SEEDS, "measures": (judge,)} | settings)


@pytest.fixture(scope="module")
def evaluated(v_pipeline, other, judge, tmp_path_factory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("evaluation")
    sides = (side("base", v_pipeline), side("tuned", other), side("same", v_pipeline))
    pairs = [("tuned", "base"), ("same", "base"), ("tuned", "same")]
    return evaluate(plan(judge, *sides, pairs=pairs, left_out={"pickscore": "no weights here"}), out), out


def test_the_report_reads_back_as_it_was_written(evaluated):
    report, out = evaluated
    assert read_report(out) == report
    assert [(found.arm, found.opponent) for found in report.comparisons] == [
        ("tuned", "base"),
        ("same", "base"),
        ("tuned", "same"),
    ]


def test_a_report_of_an_older_version_is_still_read(evaluated, tmp_path):
    report, out = evaluated
    found = json.loads((out / "report.json").read_text())
    for name in ("own", "prompt_source", "judged", "left_out", "sets", "reference", "copies", "opponents"):
        del found[name]
    (tmp_path / "report.json").write_text(json.dumps(found))
    old = read_report(tmp_path)
    assert old.comparisons == report.comparisons and old.left_out == {} and old.opponents == ()
    assert old.sampling("tuned") == results.Sampling(steps=2, guidance=2.0)


def test_identical_weights_tie_everywhere(evaluated):
    report, _ = evaluated
    for result in report.comparison("same").aspects:
        assert (result.win_rate.value, result.difference.value, result.p_holm) == (0.5, 0.0, 1.0)
        assert result.votes.ties == len(PROMPTS.prompts) * len(SEEDS)
        assert result.verdict == "not significant"


def test_scores_hold_one_row_a_picture_and_give_the_reported_means(evaluated):
    report, out = evaluated
    rows = pq.read_table(out / SCORES).to_pandas()
    assert len(rows) == 3 * len(PROMPTS.prompts) * len(SEEDS)
    for result in report.comparison("tuned").aspects:
        assert rows.loc[rows["arm"] == "tuned", result.aspect].mean() == pytest.approx(result.mean.value)
    for arm, file, score in zip(rows["arm"], rows["file"], rows["aesthetics"], strict=True):
        own = rows[(rows["file"] == file) & (rows["arm"] != arm)]["aesthetics"]  # base and same are one checkpoint
        assert (own == score).all()
    assert rows.loc[rows["arm"] == "base", "shown_ground"].mean() == pytest.approx(report.shown["base"]["ground"].value)


def test_a_second_evaluation_paints_nothing_and_says_the_same(evaluated, v_pipeline, other, judge, tmp_path):
    report, first_out = evaluated
    out = tmp_path / "again"
    shutil.copytree(first_out, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*-*.png")}
    again = evaluate(plan(judge, side("base", v_pipeline), side("tuned", other)), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*-*.png")} == before
    first = report.comparison("tuned").aspect("aesthetics")
    assert replace(again.comparison("tuned").aspect("aesthetics"), p_holm=0) == replace(first, p_holm=0)


def test_the_page_carries_its_figures_and_the_numbers(evaluated):
    report, out = evaluated
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="figures/' not in page and "://" not in page  # base64 has letters for "http", but no colon
    assert "tuned against base" in page and "tuned against base" in (out / "report.md").read_text()
    result = report.comparison("tuned").aspect("complexity")
    assert f"{result.mean.value:.3f}" in page
    assert "no weights here" in page and "no weights here" in (out / "report.md").read_text()


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
    base, tuned = side("base", v_pipeline), side("tuned", v_pipeline)
    plain = PromptSet(source=PromptSource(name="mine"), prompts=(Prompt("mars"),))
    for wrong, says in (
        (plan(judge, base), "nothing to compare"),
        (plan(judge, base, side("base", v_pipeline)), "different names"),
        (plan(judge, base, tuned, pairs=[("tunde", "base")]), "unknown arm tunde"),
        (plan(judge, base, tuned, measures=()), "nothing to judge by"),
        (plan(judge, base, tuned, measures=(judge, judge)), "two measures give aesthetics, complexity"),
        (plan(judge, base, tuned, prompts=plain), "knows the prompts of its world only"),
    ):
        with pytest.raises(EvaluationError, match=says):
            evaluate(wrong, tmp_path)
    with pytest.raises(EvaluationError, match="no evaluation in"):
        read_report(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_error(v_pipeline, judge, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvaluationError, match="cannot be made"):
        evaluate(plan(judge, side("base", v_pipeline), side("tuned", v_pipeline)), tmp_path / "file" / "report")


def test_a_report_that_cannot_be_written_is_one_clear_error(v_pipeline, judge, evaluated, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(evaluated[1] / "pictures", out / "pictures")
    (out / "figures").write_text("in the way")
    with pytest.raises(EvaluationError, match="cannot be written to .*what is painted stays"):
        evaluate(plan(judge, side("base", v_pipeline), side("tuned", v_pipeline)), out)


def test_what_is_asked_of_a_set_of_pictures_stands_in_the_report(v_pipeline, other, judge, evaluated, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(evaluated[1], out)

    def count(paths, prompts):
        assert all(path.is_file() for path in paths) and set(prompts) == {prompt.text for prompt in PROMPTS.prompts}
        return {"pictures": Interval(value=len(paths), low=1.0, high=99.0)}

    sides = (side("base", v_pipeline), side("tuned", other))
    report = evaluate(plan(judge, *sides, set_measure=count, reference="the pool"), out)
    assert read_report(out).sets == report.sets == {arm: count_of(10) for arm in ("base", "tuned")}
    assert "the pool" in (out / "report.html").read_text() and "10.000" in (out / "report.md").read_text()
    assert (out / "tables" / "sets.csv").read_text().splitlines()[1:] == [
        f"{arm},pictures,10,1.0,99.0" for arm in ("base", "tuned")
    ]


def count_of(pictures: int) -> dict[str, Interval]:
    return {"pictures": Interval(value=pictures, low=1.0, high=99.0)}


def test_the_tables_hold_the_reports_numbers(evaluated):
    report, out = evaluated
    rows = list(csv.DictReader((out / "tables" / "comparisons.csv").open()))
    assert len(rows) == 3 * 4
    found = report.comparison("tuned", "same").aspect("defects")
    (row,) = [row for row in rows if (row["arm"], row["opponent"], row["aspect"]) == ("tuned", "same", "defects")]
    assert float(row["win_rate_low"]) == found.win_rate.low and float(row["p_holm"]) == found.p_holm
    assert int(row["prompts_won"]) == found.prompts.wins and row["higher_is_better"] == "False"
    means = list(csv.DictReader((out / "tables" / "means.csv").open()))
    assert len(means) == 3 * 4 and not (out / "tables" / "sets.csv").exists()


def test_a_process_that_paints_only_writes_no_report(v_pipeline, judge, tmp_path):
    sides = (side("base", v_pipeline), side("tuned", v_pipeline))
    painting = plan(judge, *sides, measures=())
    assert evaluate(painting, tmp_path, share=Share(index=1, of=2)) is None
    assert len(list(tmp_path.rglob("*.png"))) == len(PROMPTS.prompts) * len(SEEDS) // 2
    assert not list(tmp_path.rglob("report.*")) and not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("tally", [Tally(wins=30, ties=4, losses=26), Tally(wins=3, ties=7, losses=9)])
def test_the_band_of_the_undecided_ends_where_the_test_decides(tally):
    low, high = undecided(tally)
    decisive = tally.wins + tally.losses
    assert low + high == pytest.approx(1.0)
    for wins in range(decisive + 1):
        inside = low - 1e-9 <= (wins + tally.ties / 2) / tally.total <= high + 1e-9
        assert inside == (binomtest(wins, decisive).pvalue >= 0.05)


def test_the_band_of_few_prompts_is_everything_and_of_none_nothing():
    assert undecided(Tally(wins=5, ties=0, losses=0)) == (0.0, 1.0)
    assert undecided(Tally(wins=0, ties=7, losses=0)) == (0.5, 0.5)
    assert all(math.isnan(end) for end in undecided(Tally(wins=0, ties=0, losses=0)))


def test_a_p_value_is_never_rounded_across_the_line():
    told = [results.p_value(p) for p in (0.0004, 0.0123, 0.0496, 0.0504, 0.9999)]
    assert told == ["< 0.001", "0.012", "0.0496", "0.0504", "1.000"]


def test_unknown_numbers_are_null_in_the_file_and_nan_again_in_memory(tmp_path):
    results.write_json({"value": float("nan"), "list": (1, float("nan"))}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"value": None, "list": [1, None]}


def test_a_missing_checkpoint_is_refused():
    with pytest.raises(ModelError, match="does not exist"):
        Side.of("tuned", "/nope")


@pytest.mark.parametrize("damage", ["{bad", "[]", '{"title": "another program\'s"}'])
def test_a_damaged_report_is_one_line(damage, tmp_path):
    (tmp_path / "report.json").write_text(damage)
    with pytest.raises(EvaluationError, match="damaged or not a report"):
        read_report(tmp_path)
