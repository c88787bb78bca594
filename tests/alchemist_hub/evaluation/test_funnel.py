"""A funnel against known truth: counts that can be checked by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toy_stages import Light, Rank

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import funnel
from alchemist_hub.miniature.world import truth_file, write_pool
from curation.engines import embedded
from curation.plan import Recipe, Step
from curation.stages.base import Rule
from curation.stages.resolution import Resolution

STAGES = ("resolution", "safety", "defects", "duplicates", "iqa", "impact", "top")


def sample(key: str, step: str | None = None, **truth: object) -> dict[str, object]:
    clean = {"broken": False, "small": False, "tier": "plain", "defects": [], "unsafe": False, "group": -1}
    return {
        "img_key": key,
        "file": f"{key}.jpg",
        "status": "undecodable" if truth.get("broken") else "ok",
        "kept": step is None,
        "step": step,
        "reason": step and f"dropped by {step}",
        **clean,
        **truth,
    }


ROWS = pd.DataFrame(
    [
        sample("a", "resolution", broken=True, tier="good"),
        sample("b", "safety", unsafe=True),
        sample("c", "safety"),  # wrongly
        sample("d", "defects", tier="degraded", defects=["blur"]),
        sample("e", "iqa", tier="degraded", defects=["watermark"]),  # missed by the defect stage
        sample("f", group=1, tier="excellent"),
        sample("g", "duplicates", group=1, tier="excellent"),
        sample("h", "duplicates", group=1, tier="excellent"),
        sample("i", "duplicates", tier="good"),  # wrongly
        sample("j", "top", tier="plain"),
        sample("k", "top", tier="excellent"),  # wrongly
        sample("l", tier="plain", unsafe=True),  # missed by the safety stage
        sample("m", "top", tier="good"),
    ]
)


TRUTH = ROWS.drop(columns=["kept", "step", "reason", "status"])


def test_a_score_with_the_name_of_a_truth_does_not_hide_it():
    scored = ROWS[[*funnel.VERDICT]].assign(unsafe=0.4)  # the safety stage's probability
    assert funnel.joined(scored, TRUTH)["unsafe"].tolist() == ROWS["unsafe"].tolist()


@pytest.fixture(scope="module")
def report() -> funnel.FunnelReport:
    twice = pd.concat([ROWS, ROWS.iloc[:1].assign(file="copy.jpg")])
    return funnel.against_truth(ROWS, twice, STAGES)


def stage(report: funnel.FunnelReport, name: str) -> tuple[int, int, int | None, int | None]:
    (found,) = [result for result in report.stages if result.stage == name]
    return found.reached, found.dropped, found.hits, found.wanted_count


def test_each_stage_is_judged_on_what_reached_it(report):
    assert stage(report, "exact copies") == (14, 1, 1, 1)
    assert stage(report, "decode") == (13, 1, 1, 1)  # though the ledger names the step that met it
    assert stage(report, "resolution") == (12, 0, 0, 0)
    assert stage(report, "safety") == (12, 2, 1, 2)
    assert stage(report, "defects") == (10, 1, 1, 2)
    assert stage(report, "duplicates") == (9, 3, 2, 2)
    assert stage(report, "iqa") == (6, 1, 1, 1)
    assert stage(report, "impact") == (5, 0, None, None)  # the truth says nothing about a stage without a rule
    assert stage(report, "top") == (5, 3, 2, 3)


def test_a_ratio_without_a_denominator_is_none(report):
    (resolution,) = [result for result in report.stages if result.stage == "resolution"]
    assert (resolution.precision, resolution.recall) == (None, None)


def test_the_bars_end_at_the_kept_set(report):
    assert report.steps[0] == ("files", {"excellent": 4, "plain": 4, "good": 2, "degraded": 2, "broken": 2})
    assert report.steps[-1] == ("top", {"excellent": 1, "plain": 1})
    totals = [sum(tiers.values()) for _, tiers in report.steps]
    assert totals == sorted(totals, reverse=True)


def test_the_figure_leaves_out_steps_that_dropped_nothing(report):
    shown = [label for label, _ in funnel.narrowing(report.steps)]
    assert shown == ["files", "exact copies", "decode", "safety", "defects", "duplicates", "iqa", "top"]


def test_purity_counts_what_slipped_through(report):
    assert (report.kept.count, report.kept.unsafe, report.kept.degraded, report.kept.repeated) == (2, 1, 0, 0)
    assert report.candidates.count == 5
    assert funnel.purity(ROWS[ROWS["group"] == 1]).repeated == 2


def test_whichever_of_a_group_stays_is_right_but_not_more_than_one():
    groups = pd.Series([1, 1, 1, 2, 2, -1])
    all_dropped = funnel.duplicate_counts(groups, pd.Series([True] * 6))
    assert (all_dropped.hits, all_dropped.flagged, all_dropped.wanted) == (3, 6, 3)
    none_dropped = funnel.duplicate_counts(groups, pd.Series([False] * 6))
    assert (none_dropped.hits, none_dropped.flagged, none_dropped.wanted) == (0, 0, 3)


def test_enrichment_is_the_ratio_of_shares_with_an_interval_around_it(report):
    assert report.enrichment.value == pytest.approx((1 / 2) / (2 / 5))
    rng = np.random.default_rng(0)
    excellent = pd.Series(rng.random(800) < 0.2)
    kept = pd.Series(rng.random(800) < np.where(excellent, 0.6, 0.05))
    found = funnel.enrichment(excellent, kept)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(excellent[kept].mean() / excellent.mean())
    assert np.isnan(funnel.enrichment(excellent, kept & False).value)


def test_a_foreign_truth_is_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, match="not in the truth, m among them"):
        funnel.joined(ROWS[[*funnel.VERDICT]], TRUTH.iloc[:-1])
    with pytest.raises(EvaluationError, match="no truth at"):
        funnel.read_truth(tmp_path / "absent.parquet")
    pq.write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "wrong.parquet")
    with pytest.raises(EvaluationError, match="it lacks broken, defects, group"):
        funnel.read_truth(tmp_path / "wrong.parquet")


def test_a_real_run_becomes_figures_sheets_and_a_page(tmp_path: Path):
    pool, out = tmp_path / "pool", tmp_path / "report"
    write_pool(pool, seed=3, count=90)
    steps = (
        Step(judge=Resolution(), rules=(Rule(column="area", op=">=", threshold=32 * 32, reason="too small"),)),
        Step(judge=Light(), rules=(Rule(column="light", op=">=", threshold=0.2, reason="too dark"),)),
        Step(judge=Rank(), rules=(Rule(column="impact_rank", op="<=", threshold=10, reason="not the brightest"),)),
    )
    embedded.run(Recipe(name="toy", steps=steps), pool, tmp_path / "run", workers=1)
    report = funnel.funnel_report(tmp_path / "run", truth_file(pool), out, pool=pool)
    truth = pq.read_table(truth_file(pool)).to_pandas()
    assert report.pool == 90 and report.kept.count == 10
    found = {result.stage: result for result in report.stages}
    assert found["decode"].hits == truth.loc[truth["broken"], "img_key"].nunique() > 0
    assert found["resolution"].recall == found["resolution"].precision == 1.0
    assert sum(report.reasons.values()) == truth["img_key"].nunique() - 10
    assert json.loads((out / funnel.FUNNEL).read_text())["kept"]["count"] == 10
    sheets = {path.name for path in (out / "figures").iterdir()}
    assert {"funnel.png", "kept.png", "dropped_too_dark.png", "dropped_not_the_brightest.png"} <= sheets
    with Image.open(out / "figures" / "kept.png") as sheet:
        assert np.asarray(sheet).std() > 20  # pictures, not gray cells
    page = (out / "report.html").read_text()
    assert "The funnel, against known truth" in page and page.count("data:image/png") == len(sheets)
