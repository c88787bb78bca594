"""What a run has to tell, shown on the terminal, and its funnel as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from curation.errors import LedgerError

if TYPE_CHECKING:
    from curation.capacity import Plan
    from curation.explain import FunnelRow, Judgement, SegmentStatus, Why


def funnel(rows: "list[FunnelRow]", judging: set[str]) -> None:
    """Print a table: the source and the steps that have rules."""
    table = Table("step", "in", "kept", "dropped", "why", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in _shown(rows, judging):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in _most_first(row.reasons))
        table.add_row(row.step, f"{row.entered:,}", f"{row.kept:,}", f"{row.dropped:,}", reasons)
    Console(highlight=False).print(table)


def status(rows: "list[SegmentStatus]", unfinished: str | None) -> None:
    """Print how far each segment is; `unfinished`: the step that is next, None where the run is complete."""
    table = Table("steps", "judged", "waiting", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.title, f"{row.judged:,}", f"{row.waiting:,}")
    Console(highlight=False).print(table)
    print(f"not finished: {unfinished} is next; `alchemist curate run` goes on" if unfinished else "finished")


def why(told: "Why") -> None:
    """Print one sample's story: what was asked of it, further scores, and what decided."""
    from curation.explain import NOT_REACHED

    print(f"{told.img_key}  {'  '.join(told.urls)}")
    print(f"text: {told.text}")
    asked = [each for each in told.judgements if each.outcome != NOT_REACHED or each.score is not None]
    for judgement in asked:
        print(_line(judgement))
    for column, score in told.scores.items():
        if score is not None and column not in {judgement.column for judgement in told.judgements}:
            print(f"  {'':<14}{column} = {_number(score)}")
    if later := dict.fromkeys(judgement.step for judgement in told.judgements if judgement not in asked):
        print(f"  not reached: {', '.join(later)}")
    if told.keeper:
        print(f"kept instead: {told.keeper}  {told.keeper_url}")
    print("kept" if told.kept else f"dropped at {told.step}: {told.reason}")


def plan(planned: "Plan") -> None:
    """Print a table of the segments, and what it rests on."""
    heads = ("samples", "core hours", "GPU hours", "TB read", "GB held", "hours")
    table = Table("segment", *heads, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in planned.costs:
        table.add_row(cost.title, *map(_amount, cost.figures()))
    table.add_row("all", *map(_amount, planned.totals()))
    Console(highlight=False).print(table)
    for line in planned.assumptions:
        print(f"- {line}")


def plot_funnel(rows: "list[FunnelRow]", judging: set[str], path: Path) -> None:
    """Draw horizontal bars of the survivors of each step. Raises LedgerError where `path` cannot be written."""
    from matplotlib.figure import Figure

    shown = _shown(rows, judging)[::-1]
    figure = Figure(figsize=(8, 0.45 * len(shown) + 1), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh([row.step for row in shown], [row.kept for row in shown], color="#3b6ea5")
    axes.bar_label(bars, labels=[f" {row.kept:,}" for row in shown])
    axes.set_xlabel("samples that pass")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise LedgerError(f"cannot write {path}: {error}") from error


def _shown(rows: "list[FunnelRow]", judging: set[str]) -> "list[FunnelRow]":
    return [row for number, row in enumerate(rows) if number == 0 or row.step in judging or row.dropped]


def _most_first(reasons: Any) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: -item[1])


def _line(judgement: "Judgement") -> str:
    rule = f"{judgement.column} {judgement.op} {_number(judgement.threshold)}"
    told = judgement.outcome if judgement.outcome != "drop" else f"drop: {judgement.reason}"
    return f"  {judgement.step:<14}{rule:<32}{_number(judgement.score):<12}{told}"


def _number(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _amount(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
