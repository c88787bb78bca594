"""The figures: which are drawn, that nothing is cut off, that a verdict is told by more than its colour."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.evaluation import figures, plots, plots_wins
from alchemist_hub.evaluation.plots_wins import Painted
from alchemist_hub.evaluation.results import Comparison, Report, compare

NAMES = ("aesthetics", "complexity", "defects", "relevance")


def scores() -> dict[str, dict[str, np.ndarray]]:
    """Of tuned aesthetics rise, defects too (which is worse), and the rest stays."""
    rng = np.random.default_rng(0)
    base = {name: rng.uniform(0, 1, (40, 1)) for name in NAMES}
    noise = {name: rng.normal(0, 0.05, (40, 1)) for name in NAMES}
    shifts = {"aesthetics": 0.3, "defects": 0.3}
    tuned = {name: base[name] + noise[name] + shifts.get(name, 0.0) for name in NAMES}
    return {"base": base, "tuned": tuned, "ref": {name: base[name] + 0.02 for name in NAMES}}


def comparisons() -> tuple[Comparison, ...]:
    return compare(scores(), [("tuned", "base"), ("base", "ref"), ("tuned", "ref")])


def svg(draw, tmp_path: Path) -> str:
    """Return a figure's text: matplotlib writes by the ending."""
    import matplotlib

    path = tmp_path / "figure.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(path)
    return path.read_text()


def test_a_single_comparison_says_each_verdict_in_shape_and_numbers(tmp_path):
    comparison = comparisons()[0]
    assert [result.verdict for result in comparison.aspects][::2] == ["better", "worse"]
    text = svg(lambda path: plots_wins.win_rates([comparison], path), tmp_path)
    assert "tuned against base" in text
    for result in comparison.aspects:
        assert f"{plots_wins.SIGNS[result.verdict]} {result.win_rate.value:.0%}" in text
    assert "p &lt; 0.001" in text and "fewer is better" in text


def test_several_comparisons_have_a_panel_per_aspect_and_a_row_each(tmp_path):
    text = svg(lambda path: plots_wins.win_rates(comparisons(), path), tmp_path)
    for name in ("tuned over base", "base over ref", "tuned over ref"):
        assert text.count(name) == 1
    assert all(f">{name}" in text for name in NAMES)


def test_before_and_after_show_both_rates_and_the_band(tmp_path):
    _, before, after = comparisons()
    text = svg(lambda path: plots_wins.before_after(before, after, path), tmp_path)
    assert "base and tuned against ref" in text and "p ≥ 0.05, uncorrected" in text
    result = after.aspect("aesthetics").prompts
    assert f"▲ {(result.wins + result.ties / 2) / result.total:.0%}" in text


def test_pairs_stand_under_their_prompts_in_full_or_shortened(tmp_path):
    pair = Painted(prompt="mars " * 60, opponent=Image.new("RGB", (64, 64)), ours=Image.new("RGB", (64, 40), "red"))
    odd = [replace(pair, prompt=f"a <b>prompt</b> & ${row}") for row in range(2)] + [pair]
    text = svg(lambda path: plots_wins.side_by_side(odd, comparisons()[0], path), tmp_path)
    assert "a &lt;b&gt;prompt&lt;/b&gt; &amp; $1" in text and "…" in text


def test_a_figure_is_as_wide_as_a_card_and_not_cut_off(tmp_path):
    plots_wins.win_rates(comparisons(), tmp_path / "f.png")
    with Image.open(io.BytesIO((tmp_path / "f.png").read_bytes())) as picture:
        gray = np.asarray(picture.convert("L"))
    assert 1000 < gray.shape[1] < 1500
    assert (gray[:, [0, -1]] > 250).all() and (gray[[0, -1]] > 250).all()


@pytest.fixture
def report() -> Report:
    prompts = tuple(f"prompt {row}" for row in range(40))
    return Report(
        title="t",
        version="0",
        checkpoints=dict.fromkeys(scores(), "0" * 12),
        prompts=prompts,
        seeds=(0,),
        steps=2,
        guidance=1.0,
        training={},
        comparisons=comparisons(),
        shown={},
        opponents=("ref",),
    )


def test_a_report_gets_every_figure_and_loses_those_of_an_older_run(report, tmp_path):
    for arm in report.checkpoints:
        for text in report.prompts:
            path = figures.picture_path(report, tmp_path / "pictures", arm, text, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), "teal").save(path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "before_after_old.png").write_bytes(b"")
    figures.draw(report, tmp_path / "pictures", tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "before_after_ref.png",
        "grid.png",
        "side_by_side.png",
        "win_rates.png",
    ]


def test_what_is_shown_is_spread_over_the_prompts(report):
    assert figures.shown(report, 4) == ["prompt 0", "prompt 10", "prompt 20", "prompt 30"]
    assert figures.shown(replace(report, prompts=("one", "two")), 4) == ["one", "two"]


def test_a_reference_opponent_has_a_figure_of_its_own(report):
    assert [(found.arm, found.opponent) for found in figures.own_comparisons(report)] == [("tuned", "base")]
    assert figures.before_after_name("black-forest-labs/FLUX.1 dev") == "before_after_black-forest-labs-FLUX.1-dev.png"


@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (2, 2)])
def test_a_grid_of_one_prompt_is_not_half_empty(count: int, blocks: int, tmp_path: Path) -> None:
    rows = [[Image.new("RGB", (64, 64), "navy")] * 2] * count
    plots.picture_grid(rows, ["mars"] * count, ["base", "tuned"], tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width == blocks * (plots.TEXT_WIDTH + 2 * (plots.CELL + plots.GAP))
        assert grid.height == plots.HEADER + plots.CELL + plots.GAP
