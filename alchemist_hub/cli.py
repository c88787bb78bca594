"""The `alchemist` command: one thin shell per room. Heavy packages are imported by the command that needs them."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from alchemist_hub import __version__
from alchemist_hub.errors import HubError
from alchemist_hub.evaluation.cli import evaluate
from alchemist_hub.miniature import weights
from alchemist_hub.publishing import cli as publishing_cli
from curation import cli as curation_cli
from curation.errors import CurationError

PURPOSE = "Find the pictures that teach a text-to-image model the most, fine-tune on them, and show the difference."


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and exit status 2, an interrupt is 130."""
    for library in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(library, "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels that it would fetch if it could
    try:
        make_app()()
    except (HubError, CurationError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def make_app() -> typer.Typer:
    """Return the whole command."""
    app = typer.Typer(name="alchemist", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback(help=PURPOSE)(_options)
    app.add_typer(
        curation_cli.make_app(weights), name="curate", help="Turn a pool of captioned pictures into a small data set."
    )
    app.add_typer(publishing_cli.make_app(), name="publish")
    for command in (demo, models, train, sample, evaluate, card):
        app.command()(command)
    app.command(name="app")(serve)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"alchemist-hub {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the chain produces.")] = Path("runs/demo"),
) -> None:
    """Run the whole chain on the miniature: pool, funnel, data set, fine-tune, evaluation, card. Resumes."""
    from alchemist_hub.miniature.demo import run_demo

    run_demo(out)


def serve(
    port: Annotated[
        int | None, typer.Option(help="GRADIO_SERVER_PORT, or the first free one from 7860.", min=1, max=65535)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Whom to listen to: 0.0.0.0 for other machines.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Also open a public link through Gradio's servers.")] = False,
    models: Annotated[
        Path | None, typer.Option(help="Folder whose KEY/base and KEY/tuned stand in for the public models.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Curation run, or a packed one, for the Funnel tab; the miniature's unless given."),
    ] = None,
    judges: Annotated[
        Path | None, typer.Option(help="Folder of the models that run was made with, to judge a visitor's pictures by.")
    ] = None,
) -> None:
    """Open the app in the browser: compare, vote, results, funnel."""
    from alchemist_hub.ui.demo import launch
    from alchemist_hub.ui.services import default_services

    launch(default_services(models, run=run, judges=judges), server_port=port, server_name=host, share=share)


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table; memory in bytes.")] = False,
) -> None:
    """List the models that can be fine-tuned: bases, licences, sizes, memory."""
    from rich.console import Console

    from alchemist_hub import listing
    from alchemist_hub.models import MODELS

    if as_json:
        print(json.dumps([listing.facts(spec) for spec in MODELS.values()], indent=1))
    else:
        Console().print(listing.table())


def train(
    model: Annotated[str, typer.Argument(help="Model key: sd15, sd21, sdxl, sd35m, sd35l or mini.")],
    data: Annotated[Path | None, typer.Option(help="Frozen data set: RUN/dataset of a curation run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; the checkpoint is its pipeline/.")] = None,
    base: Annotated[str, typer.Option(help="Folder or Hub repository; the model's own base unless given.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder of encodings that several runs share.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per optimiser step.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Pictures per forward pass: fewer need less memory.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every draw of the run.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any number of the recipe, as name=value: --set buckets=square. Repeatable."),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log to RUN/tensorboard.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what memory it takes, and train nothing.")] = False,
    gpu_memory: Annotated[
        str | None, typer.Option(help="Of each card, as 80GiB or 24GB; this machine's own unless given.")
    ] = None,
) -> None:
    """Fine-tune a base on a data set, by the model's recipe; run again, it goes on where it was stopped.

    A run that does not fit the card is refused before anything is loaded, with the nearest settings that do.
    """
    from alchemist_hub.models import model as spec_of
    from alchemist_hub.sampling import hide_loading_bars
    from alchemist_hub.training import fitting, loop, recipes
    from alchemist_hub.training.hardware import card_memory, launched_processes
    from alchemist_hub.training.memory import parse_size

    spec = spec_of(model)
    asked = {
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "seed": seed,
    }
    overrides = {name: value for name, value in asked.items() if value is not None} | recipes.parse(settings or [])
    recipe = recipes.recipe(spec.key, **overrides)
    memory = parse_size(gpu_memory) if gpu_memory else card_memory()
    if plan and memory:
        fitting.show_plan(recipe, spec, memory, processes=launched_processes())
        return
    if plan or data is None or out is None:
        raise HubError("no GPU here: --plan takes --gpu-memory" if plan else "nothing to do: name --data and --out")
    if memory:
        fitting.admit(recipe, spec, memory, processes=launched_processes())
    hide_loading_bars()
    print(loop.train(recipe, base=base or spec.base, data=data, out=out, cache=cache, tensorboard=tensorboard))


def sample(
    checkpoint: Annotated[str, typer.Argument(help="Model key (its tuned side), pipeline or run folder, or Hub id.")],
    prompt: Annotated[list[str], typer.Option(help="What the picture should show. Repeatable.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("picture.png"),
    seed: Annotated[list[int] | None, typer.Option(help="Same seed, same picture. Repeatable.", min=0)] = None,
    beside: Annotated[
        str | None, typer.Option(help="Paint these with another one too: a model key (its base), folder or Hub id.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the model's own unless given.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance; the model's own unless given.", min=0)] = None,
) -> None:
    """Paint a picture; of several prompts, seeds or checkpoints, one sheet with a row for each prompt and seed."""
    from alchemist_hub import sampling
    from alchemist_hub.evaluation.plots import CELL, picture_grid

    sampling.hide_loading_bars()
    sides = {"tuned": checkpoint} if beside is None else {"base": beside, "tuned": checkpoint}
    asked = [(text, number) for text in prompt for number in seed or [0]]
    columns = [
        sampling.paint(source, side, asked, negative=negative, steps=steps, guidance=guidance)
        for side, source in sides.items()
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if len(asked) == len(columns) == 1:
            columns[0][0].save(out, format="PNG")
        else:
            labels = [f"{text} (seed {number})" for text, number in asked]
            cell = min(max(CELL, *columns[0][0].size), 512)
            picture_grid(list(zip(*columns, strict=True)), labels, list(sides), out, cell=cell)
    except OSError as error:
        raise HubError(f"{out} cannot be written: {error.strerror}; name another file with --out") from error
    print(out)


def card(
    model: Annotated[str, typer.Option(help="Model key: sd15, sd21, sdxl, sd35m, sd35l or mini.")] = "mini",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Pipeline folder; its training.json gives the training facts.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Report folder of its evaluation, with an arm tuned.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="A sheet of base and tuned, as `alchemist sample --beside` paints it.")
    ] = None,
    prompts_dataset: Annotated[
        str | None, typer.Option(help="Hub data set of the report's prompts, for .eval_results.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the card, or its README.md.")] = Path("card"),
    org: Annotated[str, typer.Option(help="Organisation on the Hub whose repositories it names.")] = "alchemist-hub",
) -> None:
    """Write a model's card alone: what it is, how it was trained, and, where it was evaluated, what it changes.

    `alchemist publish model` puts the same card beside the weights.
    """
    from alchemist_hub.publishing.cards import CARD, write_model_card

    folder = out.parent if out.name == CARD else out
    names = {"organisation": org, "prompts_dataset": prompts_dataset}
    print(write_model_card(model, checkpoint, folder, report, samples, **names))
