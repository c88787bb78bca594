"""Figures of pictures: the funnel as in the paper's Figure 2, grids of pairs, contact sheets."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

INK, MUTED = "#202124", "#5f6368"
TIERS = {"excellent": "#1b7f5c", "good": "#7cc39a", "plain": "#d9d3b8", "degraded": "#c0714f", "broken": "#5f6368"}
CELL, GAP, TEXT_WIDTH, HEADER = 128, 6, 210, 26  # pixels in the picture grids


def funnel(steps: Sequence[tuple[str, Mapping[str, int]]], path: Path) -> None:
    """Draw survivors after each step (log scale) and beside it what they are made of, tier by tier.

    `steps`: (label, tier -> count), the pool first, the kept set last.
    """
    totals = [sum(tiers.values()) for _, tiers in steps]
    figure = Figure(figsize=(9.6, 0.56 * len(steps) + 1.3), layout="constrained")
    survivors, mix = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    _survivor_bars(survivors, totals)
    _tier_bars(mix, steps, totals)
    survivors.set_yticks(range(len(steps)), [label for label, _ in steps])
    survivors.set_ylim(len(steps) - 0.4, -0.6)
    for axes in (survivors, mix):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    figure.savefig(path, dpi=130)


def _survivor_bars(axes: Axes, totals: Sequence[int]) -> None:
    """Bars centred like a funnel: width is the logarithm of the count."""
    widths = np.log10(np.maximum(totals, 0) + 1)
    axes.barh(range(len(totals)), widths, left=-widths / 2, height=0.72, color="#4a6fa5")
    for row, total in enumerate(totals):
        axes.text(0, row, f"{total:,}", ha="center", va="center", color="white", weight="bold", fontsize=10)
    for row, (before, after) in enumerate(pairwise(totals)):
        if before > after:
            share = f"−{(before - after) / before:.0%}"
            axes.text(widths[0] / 2 * 1.08, row + 0.5, share, ha="left", va="center", color=MUTED, fontsize=8.5)
    axes.set_xlim(-widths[0] / 2 * 1.05, widths[0] / 2 * 1.35)
    axes.set_xticks([])
    axes.set_title("pictures left (log scale)", fontsize=10, color=MUTED, loc="left")


def _tier_bars(axes: Axes, steps: Sequence[tuple[str, Mapping[str, int]]], totals: Sequence[int]) -> None:
    left = np.zeros(len(steps))
    for tier, colour in TIERS.items():
        shares = np.array([tiers.get(tier, 0) for _, tiers in steps]) / np.maximum(totals, 1)
        if shares.any():
            axes.barh(range(len(steps)), shares, left=left, height=0.72, color=colour, label=tier)
        left += shares
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.set_title("what they truly are", fontsize=10, color=MUTED, loc="left", pad=22)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, frameon=False, fontsize=8, handlelength=1)


def picture_grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str],
    columns: Sequence[str],
    path: Path,
    *,
    cell: int = CELL,
) -> None:
    """Draw rows of prompts and columns of arms, the prompt at the left, the arm above; few arms: two rows abreast.

    Every picture is fitted into a square of `cell` pixels.
    """
    abreast = 2 if len(columns) <= 3 and cell == CELL and len(rows) > 1 else 1
    lines = -(-len(rows) // abreast)
    block = TEXT_WIDTH + len(columns) * (cell + GAP)
    sheet = Image.new("RGB", (abreast * block, HEADER + lines * (cell + GAP)), "white")
    for left in range(0, abreast * block, block):
        _header(ImageDraw.Draw(sheet), left, columns, cell)
    for place, (label, pictures) in enumerate(zip(labels, rows, strict=True)):
        left, top = place // lines * block, HEADER + place % lines * (cell + GAP)
        _grid_row(sheet, left, top, label, pictures, cell)
    sheet.save(path, format="PNG")


def _header(draw: ImageDraw.ImageDraw, left: int, columns: Sequence[str], cell: int) -> None:
    for column, name in enumerate(columns):
        draw.text((left + TEXT_WIDTH + column * (cell + GAP), 5), name, font=ImageFont.load_default(15), fill=INK)


def _grid_row(sheet: Image.Image, left: int, top: int, label: str, pictures: Sequence[Image.Image], cell: int) -> None:
    text = _wrapped(label)
    ImageDraw.Draw(sheet).multiline_text(
        (left + 8, top + 8), text, font=ImageFont.load_default(13), fill=INK, spacing=4
    )
    for column, picture in enumerate(pictures):
        sheet.paste(_cell(picture, cell), (left + TEXT_WIDTH + column * (cell + GAP), top))


def contact_sheet(pictures: Sequence[Image.Image], path: Path, *, columns: int = 12, cell: int = 96) -> None:
    """Draw pictures in reading order, as many as given."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell + 3), max(rows, 1) * (cell + 3)), "white")
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet.paste(_cell(picture, cell), (column * (cell + 3), row * (cell + 3)))
    sheet.save(path)


def _cell(picture: Image.Image, cell: int = CELL) -> Image.Image:
    """Fit a picture into a square cell; enlarging keeps its pixels visible as they are."""
    scale = cell / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    resized = picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
    square = Image.new("RGB", (cell, cell), "white")
    square.paste(resized, ((cell - size[0]) // 2, (cell - size[1]) // 2))
    return square


def _wrapped(text: str) -> str:
    font, lines = ImageFont.load_default(13), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= TEXT_WIDTH - 20:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
