"""The Results tab: where the visitors' votes stand, and what committed evaluations found."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import pyarrow.csv
import pyarrow.parquet

from alchemist_hub.errors import VoteError
from alchemist_hub.evaluation.results import AspectResult, Comparison, Report
from alchemist_hub.evaluation.standing import LiveStanding
from alchemist_hub.evaluation.votes import Tally
from alchemist_hub.models import MODELS
from alchemist_hub.ui.charts import Row, against_even, band_around_even, shares
from alchemist_hub.voting.board import Board, boards
from alchemist_hub.voting.store import VoteStore

SCRIPT = Path(__file__).with_name("results.js")
WRITERS = {"csv": pyarrow.csv.write_csv, "parquet": pyarrow.parquet.write_table}
NO_VOTES = "<p class='none'><b>No votes yet.</b> The first one is yours: open the Vote tab.</p>"
LEGEND = "".join(
    f"<span class='{name}'><i></i>{told}</span>"
    for name, told in {
        "better": "tuned is better",
        "neither": "not significant",
        "worse": "tuned is worse",
        "even-handed": "tie or both bad",
    }.items()
)


def build_results(
    page: gr.Blocks, tab: gr.Tab, store: VoteStore | None, reports: Sequence[Report], voted: Any | None
) -> None:
    """Lay out the tab inside the open page. `voted` registers what is to happen after a vote on this page."""
    with gr.Column(elem_classes="results"):
        if store is not None:
            live = gr.HTML(NO_VOTES, elem_id="live", apply_default_css=False)
            _add_downloads(store)

            def refresh() -> str:
                return live_html(store)

            for happens in (page.load, tab.select, voted):
                if happens is not None:
                    happens(
                        refresh, None, live, api_visibility="private", show_progress="hidden",
                        concurrency_id="results", concurrency_limit=4,
                    )  # fmt: skip
        for report in reports:
            gr.HTML(report_html(report), apply_default_css=False, elem_classes="report")


def live_html(store: VoteStore) -> str:
    """Return the live boards of all models, or that there are no votes yet."""
    try:
        found = boards(store.votes())
    except VoteError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return "<h2>Live votes</h2>" + ("".join(map(board_html, found)) or NO_VOTES)


def board_html(board: Board) -> str:
    """Return one model's standings."""
    spec = MODELS.get(board.model)
    rows = [standing_row(*row) for row in zip(board.standings, board.tallies, strict=True)]
    voters = f"{_counted(board.votes, 'vote')} by {_counted(board.raters, 'rater')}"
    return (
        f"<section class='card'><h3>{escape(spec.name if spec else board.model)}: tuned against base</h3>"
        f"<p class='about'>{voters}; ties and both bad count half. The intervals count each rater's first vote and "
        "hold at every moment of an ongoing vote, all rows together (95%). Preliminary: 50% is still possible.</p>"
        f"{_charts(rows, 'votes')}"
        f"<p class='about'>Agreement between raters (Krippendorff's alpha): {_agreements(board)}.</p>"
        "</section>"
    )


def report_html(report: Report) -> str:
    """Return what a committed evaluation found, comparison by comparison."""
    about = (
        f"{_counted(len(report.prompts), 'prompt')}, {_counted(len(report.seeds), 'seed')}, {report.steps} steps, "
        f"guidance {report.guidance:g}. The same prompts and seeds for both; networks judge. Intervals are 95% over "
        "prompts; significance is an exact test on prompts, after Holm."
    )
    cards = "".join(_comparison_html(comparison) for comparison in report.comparisons)
    return f"<h2>Evaluation: {escape(report.title)}</h2><p class='about'>{about}</p>{cards}"


def standing_row(standing: LiveStanding, tally: Tally) -> Row:
    """Return a live standing, and the tally of all votes on it, as a row of the charts."""
    sure = standing.verdict != "preliminary"
    return Row(
        label=standing.aspect.capitalize(),
        tally=tally,
        win_rate=standing.win_rate,
        verdict=standing.verdict,
        band=band_around_even(standing.win_rate),
        note=standing.verdict if sure else f"preliminary: {standing.outlook}",
    )


def aspect_row(result: AspectResult) -> Row:
    """Return an aspect of a report as a row of the charts."""
    return Row(
        label=result.aspect.capitalize() if result.higher_is_better else f"Fewer {result.aspect}",
        tally=result.votes,
        win_rate=result.win_rate,
        verdict=result.verdict,
        band=band_around_even(result.win_rate),
        note=f"{result.verdict}, {_p_told(result.p_holm)}",
    )


def votes_file(store: VoteStore, given: Any) -> dict[str, str]:
    """Return all votes, without raters, as {"name", "data" (base64)}; or {"says": why not}."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in WRITERS:
        return {"says": f"Votes come as {' or '.join(WRITERS)}."}
    stream = BytesIO()
    try:
        WRITERS[kind](store.votes().drop_columns(["rater"]), stream)
    except VoteError as error:
        return {"says": str(error)}
    return {"name": f"votes.{kind}", "data": base64.b64encode(stream.getvalue()).decode()}


def _add_downloads(store: VoteStore) -> None:
    def votes(given: Any) -> dict[str, str]:
        return votes_file(store, given)

    buttons = "".join(f'<button type="button" data-kind="{kind}">Save votes as {kind}</button>' for kind in WRITERS)
    gr.HTML(
        "", html_template=f'<div class="downloads">{buttons}<span role="status"></span></div>', apply_default_css=False,
        js_on_load=SCRIPT.read_text(encoding="utf-8"), server_functions=[votes], elem_id="downloads",
    )  # fmt: skip


def _comparison_html(comparison: Comparison) -> str:
    rows = [aspect_row(result) for result in comparison.aspects]
    title = f"{comparison.arm.capitalize()} against {comparison.opponent}"
    return f"<section class='card'><h3>{escape(title)}</h3>{_charts(rows, 'pictures')}</section>"


def _charts(rows: Sequence[Row], unit: str) -> str:
    return (
        f"<div class='pair'><div><h4>Share of {unit} won, tied, lost</h4>{shares(rows, unit=unit)}</div>"
        f"<div><h4>Win rate against an even match</h4>{against_even(rows)}</div></div><p class='legend'>{LEGEND}</p>"
    )


def _agreements(board: Board) -> str:
    found = zip(board.standings, board.alphas, strict=True)
    told = [f"{standing.aspect} {alpha:.2f}" for standing, alpha in found if not math.isnan(alpha)]
    return ", ".join(told) or "no pair has been judged by two raters yet"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _p_told(p: float) -> str:
    """Return a p value in words that keep the side of 5% it is on."""
    for bound in (0.001, 0.01, 0.05):
        if p < bound:
            return f"p < {bound:g}"
    return f"p = {p:.2f}"
