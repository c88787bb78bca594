"""Charts as HTML: what they show, what they say to those who do not see them, and what they escape."""

import math
import re

from alchemist_hub.evaluation.votes import Interval, Tally
from alchemist_hub.ui.charts import Row, against_even, band_around_even, shares

RATE = Interval(value=0.7, low=0.6, high=0.85)


def row(**changes: object) -> Row:
    given = {
        "label": "Aesthetics", "tally": Tally(wins=6, ties=2, losses=2), "win_rate": RATE, "verdict": "better",
        "band": band_around_even(RATE),
    }  # fmt: skip
    return Row(**given | changes)


def test_bars_are_as_wide_as_shares_and_say_so() -> None:
    shown = shares([row()], unit="votes")
    assert re.findall(r'class="(\w+)" style="width:([\d.]+)%"', shown) == [
        ("won", "60.00"), ("tied", "20.00"), ("lost", "20.00"),
    ]  # fmt: skip
    assert 'aria-label="6 won, 2 tied, 2 lost"' in shown and 'class="row better"' in shown
    assert "<b>70%</b><em>of 10</em>" in shown
    assert "<b>70%</b> [60%, 85%]<em>better</em>" in against_even([row()])


def test_the_dot_lies_outside_of_the_band_exactly_when_the_interval_excludes_even() -> None:
    for rate in (RATE, Interval(value=0.55, low=0.45, high=0.65), Interval(value=0.3, low=0.2, high=0.49)):
        low, high = band_around_even(rate)
        assert (not low <= rate.value <= high) == (not rate.low <= 0.5 <= rate.high)
    assert 'class="dot" style="left:70.00%"' in against_even([row()])


def test_without_votes_there_is_no_dot() -> None:
    nothing = Interval(value=math.nan, low=math.nan, high=math.nan)
    shown = against_even([row(win_rate=nothing, band=band_around_even(nothing), tally=Tally(wins=0, ties=0, losses=0))])
    assert 'class="dot"' not in shown and "–" in shown


def test_names_are_escaped() -> None:
    shown = against_even([row(label="<script>", note="<b>")])
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "<em><b>" not in shown
