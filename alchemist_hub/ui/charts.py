"""Charts of win rates as HTML, in the page's own colours and fonts: the paper's Figures 4 and 5.

`shares`: a bar an aspect, won | tied | lost, green where better is sure, red where worse is, grey where neither.
`against_even`: the win rate with its interval; the shaded band is where it would not be significant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from alchemist_hub.evaluation.votes import Interval, Tally


@dataclass(frozen=True, kw_only=True)
class Row:
    """One aspect of a chart. `band`: the win rates that would not be significant."""

    label: str
    tally: Tally
    win_rate: Interval
    verdict: str  # better, worse, not significant, preliminary
    band: tuple[float, float]
    note: str = ""  # what is to be known of this row, plain text


def shares(rows: Sequence[Row], *, unit: str) -> str:
    """Return the chart of Figure 4: shares of `unit` won, tied and lost."""
    return f'<div class="chart" role="list" aria-label="Share of {escape(unit)}">{"".join(map(_share_row, rows))}</div>'


def against_even(rows: Sequence[Row]) -> str:
    """Return the chart of Figure 5: win rates on one axis, 50% in the middle."""
    axis = "".join(f'<span style="left:{tick}%">{tick}%</span>' for tick in (0, 25, 50, 75, 100))
    return (
        f'<div class="chart" role="list" aria-label="Win rates">{"".join(map(_rate_row, rows))}'
        f'<div class="row axis" aria-hidden="true"><span></span><div class="track">{axis}</div><span></span></div>'
        "</div>"
    )


def band_around_even(win_rate: Interval) -> tuple[float, float]:
    """Return the win rates that an interval as wide as this one would not tell from 50%."""
    if math.isnan(win_rate.value):
        return 0.0, 1.0
    below, above = win_rate.value - win_rate.low, win_rate.high - win_rate.value
    return max(0.0, 0.5 - above), min(1.0, 0.5 + below)


def _share_row(row: Row) -> str:
    total = max(row.tally.total, 1)
    parts = {"won": row.tally.wins, "tied": row.tally.ties, "lost": row.tally.losses}
    bars = "".join(
        f'<span class="{name}" style="width:{100 * count / total:.2f}%">{_percent(count, total)}</span>'
        for name, count in parts.items()
        if count
    )
    told = f"{row.tally.wins} won, {row.tally.ties} tied, {row.tally.losses} lost"
    drawing = f'<div class="bar" role="img" aria-label="{told}" title="{told}">{bars}</div>'
    return _row(row, drawing, f"<b>{(parts['won'] + parts['tied'] / 2) / total:.0%}</b>", f"of {row.tally.total:,}")


def _rate_row(row: Row) -> str:
    low, high = (100 * edge for edge in row.band)
    band = f'<span class="band" style="left:{low:.2f}%;width:{high - low:.2f}%"></span><span class="even"></span>'
    rate = row.win_rate
    if not math.isnan(rate.value):
        band += (
            f'<span class="reach" style="left:{100 * rate.low:.2f}%;width:{100 * (rate.high - rate.low):.2f}%"></span>'
            f'<span class="dot" style="left:{100 * rate.value:.2f}%"></span>'
        )
    return _row(row, f'<div class="track" aria-hidden="true">{band}</div>', _told(rate), row.note or row.verdict)


def _row(row: Row, drawing: str, value: str, note: str) -> str:
    return (
        f'<div class="row {row.verdict.replace(" ", "-")}" role="listitem">'
        f'<span class="label">{escape(row.label)}</span>{drawing}'
        f'<span class="value">{value}<em>{escape(note)}</em></span></div>'
    )


def _told(rate: Interval) -> str:
    if math.isnan(rate.value):
        return "–"
    return f"<b>{rate.value:.0%}</b> [{rate.low:.0%}, {rate.high:.0%}]"


def _percent(count: int, total: int) -> str:
    return f"{count / total:.0%}" if count / total >= 0.08 else ""
