"""Who wins, drawn: pairs with their prompts as in the paper's Figure 3, win rates as in Figure 4, before and after as
in Figure 5.

What is significant is told by colour, by shape and in words: green and a triangle up is better, gray and a circle not
significant, red, hatched and a triangle down worse.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter
from PIL import Image

from alchemist_hub.evaluation.plots import INK, MUTED
from alchemist_hub.evaluation.results import AspectResult, Comparison, p_value, undecided

COLOURS = {"better": "#2a9461", "not significant": "#8d949b", "worse": "#c8473f"}
MARKERS = {"better": "^", "not significant": "o", "worse": "v"}
SIGNS = {"better": "▲", "not significant": "●", "worse": "▼"}
HATCHES = {"better": "", "not significant": "", "worse": "////"}
TIE, REST, BAND = "#dfe3e6", "#f1f3f4", "#e9ebee"
WIDTH, DPI = 8.6, 130  # inches: a card shows it at its full width
ABREAST = 4  # panels of aspects beside each other, at most
PAIRS_ABREAST = 2


@dataclass(frozen=True, kw_only=True)
class Painted:
    """One prompt as both sides painted it."""

    prompt: str
    opponent: Image.Image
    ours: Image.Image


def side_by_side(pairs: Sequence[Painted], comparison: Comparison, path: Path) -> None:
    """Draw Figure 3: pairs of pictures under their prompts, two pairs abreast, and a bar for each aspect below."""
    lines = -(-len(pairs) // PAIRS_ABREAST)
    heights = (2.45 * lines, 0.5 * len(comparison.aspects) + 0.75)
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    blocks = above.subfigures(lines, PAIRS_ABREAST, squeeze=False, wspace=0.02).flat
    for block, pair in zip(blocks, pairs, strict=False):
        _pair(block, pair, comparison)
    axes = below.subplots()
    _win_panel(axes, comparison)
    axes.set_xlabel(_READING, fontsize=9, color=MUTED)
    below.legend(handles=_swatches(ties=True), loc="outside upper right", ncols=4, frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=DPI)


def win_rates(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw Figure 4. One comparison: a bar per aspect, won, tied and lost. Several: a panel per aspect, a bar each."""
    if len(comparisons) == 1:
        _one(comparisons[0], path)
    else:
        _by_aspect(comparisons, path)


def before_after(before: Comparison, after: Comparison, path: Path) -> None:
    """Draw Figure 5: the prompts won against one opponent before and after, the band of what is not significant shaded.

    Both points count prompts by their majorities, as the test does. The band is where the sign test gives p >= 0.05,
    before Holm's correction; the shapes tell the verdicts after it.
    """
    rows = list(zip(before.aspects, after.aspects, strict=True))
    figure = Figure(figsize=(WIDTH, 0.62 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for row, (first, second) in enumerate(rows):
        _movement(axes, row, first, second)
    title = f"{before.arm} and {after.arm} against {after.opponent}"
    axes.set_title(title, loc="left", fontsize=11, color=INK, weight="bold")
    axes.set_yticks(range(len(rows)), [_aspect_label(first) for first, _ in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    _share_axis(axes)
    axes.set_xlabel("prompts won, ties half; open: before, filled: after", fontsize=9, color=MUTED)
    band = Patch(color=BAND, label="p ≥ 0.05, uncorrected")
    figure.legend(
        handles=[band, *_shapes()], loc="outside lower right", ncols=4, frameon=False, fontsize=8.5, handlelength=1.2
    )
    figure.savefig(path, dpi=DPI)


_READING = "share of pictures, same prompts and seeds; line: win rate (ties half), 95% over prompts"


def _pair(block: SubFigure, pair: Painted, comparison: Comparison) -> None:
    text = textwrap.shorten(pair.prompt, 110, placeholder=" …")
    block.suptitle("\n".join(textwrap.wrap(text, 56)), fontsize=9, color=INK, style="italic")
    for axes, name, image in zip(
        block.subplots(1, 2), (comparison.opponent, comparison.arm), (pair.opponent, pair.ours), strict=True
    ):
        axes.imshow(image, interpolation="nearest" if max(image.size) < 200 else "antialiased")
        axes.set_xlabel(name, fontsize=9, color=MUTED)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)


def _one(comparison: Comparison, path: Path) -> None:
    figure = Figure(figsize=(WIDTH, 0.52 * len(comparison.aspects) + 1.35), layout="constrained")
    axes = figure.subplots()
    _win_panel(axes, comparison)
    axes.set_xlabel(_READING, fontsize=9, color=MUTED)
    figure.legend(handles=_swatches(ties=True), loc="outside upper right", ncols=4, frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=DPI)


def _win_panel(axes: Axes, comparison: Comparison) -> None:
    axes.set_title(f"{comparison.arm} against {comparison.opponent}", loc="left", fontsize=11, color=INK, weight="bold")
    for row, result in enumerate(comparison.aspects):
        _win_bar(axes, row, result)
    axes.set_yticks(range(len(comparison.aspects)), [_aspect_label(result) for result in comparison.aspects])
    axes.set_ylim(len(comparison.aspects) - 0.45, -0.55)
    _share_axis(axes)


def _win_bar(axes: Axes, row: int, result: AspectResult) -> None:
    total = max(result.votes.total, 1)
    won, tied = result.votes.wins / total, result.votes.ties / total
    _coloured(axes, row, won, result)
    axes.barh(row, tied, left=won, height=0.62, color=TIE)
    axes.barh(row, 1 - won - tied, left=won + tied, height=0.62, color=REST)
    axes.plot([result.win_rate.low, result.win_rate.high], [row, row], color=INK, linewidth=1.6, solid_capstyle="butt")
    axes.plot(result.win_rate.value, row, marker="o", markersize=4.5, color=INK)
    label = f"{SIGNS[result.verdict]} {_percent(result.win_rate.value)}  {_p_text(result.p_holm)}"
    axes.text(1.01, row, label, va="center", fontsize=9, color=_ink(result), clip_on=False)


def _by_aspect(comparisons: Sequence[Comparison], path: Path) -> None:
    aspects = [result.aspect for result in comparisons[0].aspects]
    lines = -(-len(aspects) // ABREAST)
    abreast = -(-len(aspects) // lines)
    size = (WIDTH + 1.6, (0.34 * len(comparisons) + 0.7) * lines + 0.55)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, abreast, squeeze=False, sharey=True)
    for axes, aspect in zip(panels.flat, aspects, strict=False):
        _aspect_panel(axes, comparisons, aspect)
    for axes in list(panels.flat)[len(aspects) :]:
        axes.set_visible(False)
    names = [f"{comparison.arm} over {comparison.opponent}" for comparison in comparisons]
    panels[0, 0].set_yticks(range(len(names)), names, fontsize=9)
    panels[0, 0].set_ylim(len(names) - 0.4, -0.6)
    figure.legend(handles=_swatches(ties=False), loc="outside lower right", ncols=3, frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=DPI)


def _aspect_panel(axes: Axes, comparisons: Sequence[Comparison], aspect: str) -> None:
    for row, result in enumerate(comparison.aspect(aspect) for comparison in comparisons):
        win = result.win_rate
        _coloured(axes, row, win.value, result)
        axes.plot([win.low, win.high], [row, row], color=INK, linewidth=1.4, solid_capstyle="butt")
        label = f"{SIGNS[result.verdict]} {_percent(win.value)}"
        axes.text(1.02, row, label, va="center", fontsize=8.5, color=_ink(result), clip_on=False)
    axes.set_title(_aspect_label(comparisons[0].aspect(aspect)), loc="left", fontsize=10, color=INK, weight="bold")
    _share_axis(axes)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=8.5)


def _coloured(axes: Axes, row: int, width: float, result: AspectResult) -> None:
    axes.barh(
        row, width, height=0.62, color=COLOURS[result.verdict], hatch=HATCHES[result.verdict], edgecolor="white", lw=0
    )


def _movement(axes: Axes, row: int, before: AspectResult, after: AspectResult) -> None:
    for offset, result in ((-0.36, before), (0.0, after)):
        low, high = undecided(result.prompts)
        axes.add_patch(Rectangle((low, row + offset), high - low, 0.36, color=BAND, lw=0, zorder=0))
    start, end = _prompts_won(before), _prompts_won(after)
    arrow = {"arrowstyle": "->", "color": MUTED, "lw": 1.3, "shrinkA": 6, "shrinkB": 6}
    axes.annotate("", xy=(end, row + 0.16), xytext=(start, row - 0.16), arrowprops=arrow)
    for place, rate, result, filled in ((-0.16, start, before, False), (0.16, end, after, True)):
        colour = COLOURS[result.verdict]
        face = colour if filled else "white"
        axes.plot(rate, row + place, marker=MARKERS[result.verdict], ms=9, mec=colour, mfc=face, mew=1.8, zorder=3)
    label = f"{_percent(start)} → {SIGNS[after.verdict]} {_percent(end)}"
    axes.text(1.01, row, label, va="center", fontsize=9, color=INK, clip_on=False)


def _share_axis(axes: Axes) -> None:
    axes.axvline(0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _swatches(*, ties: bool) -> list[Patch]:
    found = [
        Patch(facecolor=colour, hatch=HATCHES[verdict], edgecolor="white", lw=0, label=f"{SIGNS[verdict]} {verdict}")
        for verdict, colour in COLOURS.items()
    ]
    return [*found, Patch(color=TIE, label="tie")] if ties else found


def _shapes() -> list[Line2D]:
    return [
        Line2D([], [], marker=MARKERS[verdict], color=colour, linestyle="", label=verdict)
        for verdict, colour in COLOURS.items()
    ]


def _prompts_won(result: AspectResult) -> float:
    return (result.prompts.wins + result.prompts.ties / 2) / max(result.prompts.total, 1)


def _aspect_label(result: AspectResult) -> str:
    name = result.aspect.replace("_", " ")
    return name if result.higher_is_better else f"{name}\n(fewer is better)"


def _ink(result: AspectResult) -> str:
    return MUTED if result.verdict == "not significant" else COLOURS[result.verdict]


def _percent(value: float) -> str:
    return "–" if value != value else f"{value:.0%}"


def _p_text(p: float) -> str:
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"
