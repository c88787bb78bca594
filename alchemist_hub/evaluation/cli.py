"""`alchemist evaluate`: who is compared, on which prompts, by which measures; the report folder is the answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alchemist_hub.errors import EvaluationError

if TYPE_CHECKING:
    from alchemist_hub.evaluation.results import Report

SOURCE = "a model key (sd15, sd21, sdxl, sd35m, sd35l, mini), a pipeline or run folder, or a Hub repository"


def evaluate(
    base: Annotated[str, typer.Argument(help=f"The base: {SOURCE}.")] = "mini",
    tuned: Annotated[
        str | None, typer.Argument(help="The tuned one, likewise; a key alone is compared as the pair it is.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Report folder; run again, it goes on where it was stopped.")] = Path(
        "report"
    ),
    arm: Annotated[
        list[str] | None, typer.Option(help="A further tuned one, as NAME=SOURCE: --arm 7k=runs/7k. Repeatable.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="A reference that base and tuned are both held against: flux, SOURCE, NAME=SOURCE."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="project, miniature, parti, mjhq, drawbench, or a .txt, .csv, .tsv, .jsonl, .parquet file."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="How many of the prompts; 200 of a set and all of a file unless given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Pictures per prompt and side.", min=1)] = 1,
    metrics: Annotated[
        str | None, typer.Option(help="Measures, by commas: judge (the miniature's), clip-score, pickscore, ...")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A measure's own weights as NAME=FILE or FOLDER: --weights hpsv2.1=hps.safetensors."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Folder of real pictures or data set: Frechet distance, precision, recall, ...")
    ] = None,
    training_data: Annotated[
        str | None,
        typer.Option(help="What the tuned one was trained on: shows the pictures nearest to it."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="What compares sets: dinov2, clip, thumbnail, miniature-judge."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; each model's own unless given.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance; each model's own unless given.", min=0)] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures at once: speed and memory only.", min=1)] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; a card if there is one.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; float32 on cpu, else bfloat16.")
    ] = None,
) -> None:
    """Paint the same prompts and seeds with a base and what was tuned from it, and report who wins.

    With several GPUs: torchrun --nproc-per-node 8 -m alchemist_hub evaluate ...; each process paints its share.
    """
    from alchemist_hub.evaluation.planning import Asked, run
    from alchemist_hub.sampling import hide_loading_bars

    hide_loading_bars()
    asked = Asked(
        base=base,
        tuned=tuned,
        arms=tuple(arm or ()),
        against=tuple(against or ()),
        prompts=prompts,
        count=count,
        seeds=seeds,
        metrics=None if metrics is None else tuple(filter(None, (name.strip() for name in metrics.split(",")))),
        weights=named_weights(weights or ()),
        reference=reference,
        training_data=training_data,
        features=features,
        steps=steps,
        guidance=guidance,
        batch=batch_size,
        device=device,
        dtype=dtype,
    )
    report = run(asked, out)
    if report is not None:  # of several processes, the first tells
        print("\n".join(summary(report)))
        print(out)


def named_weights(given: Sequence[str]) -> dict[str, str]:
    """Return measure -> file or folder of NAME=PLACE. Raises EvaluationError."""
    pairs = [text.partition("=") for text in given]
    for name, equals, place in pairs:
        if not (name and equals and place):
            raise EvaluationError(f"--weights {name}{equals}{place}: expected NAME=FILE, as hpsv2.1=hps.safetensors")
    return {name: place for name, _, place in pairs}


def summary(report: "Report") -> list[str]:
    """Return a line for each comparison and aspect, and one for each measure that was left out."""
    from alchemist_hub.evaluation.pages import percent
    from alchemist_hub.evaluation.results import p_value

    lines = [
        f"{comparison.arm} against {comparison.opponent}, {result.aspect}: {percent(result.win_rate.value)} "
        f"[{percent(result.win_rate.low)}, {percent(result.win_rate.high)}], p {p_value(result.p_holm)}, "
        f"{result.verdict}"
        for comparison in report.comparisons
        for result in comparison.aspects
    ]
    if report.copies:
        found = report.copies
        lines.append(f"possible copies: {found.flagged} of {found.generated} pictures; by chance {found.expected:.1f}")
    return lines + [f"left out: {name}: {reason}" for name, reason in report.left_out.items()]
