"""The `alchemist` command: one thin shell per room. Heavy packages are imported by the command that needs them."""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alchemist_hub import __version__
from alchemist_hub.errors import HubError
from alchemist_hub.miniature import weights
from curation import cli as curation_cli
from curation.errors import CurationError

PURPOSE = "Find the pictures that teach a text-to-image model the most, fine-tune on them, and show the difference."


class Side(str, Enum):
    """The two sides of a pair."""

    BASE = "base"
    TUNED = "tuned"


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and exit status 2, an interrupt is 130."""
    for library in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(library, "error")
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
    for command in (demo, train, sample, evaluate, card):
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


def serve() -> None:
    """Open the comparison in the browser (port: GRADIO_SERVER_PORT)."""
    from alchemist_hub.ui.demo import launch
    from alchemist_hub.ui.services import default_services

    launch(default_services())


def train(
    data: Annotated[Path, typer.Option(help="Frozen data set: RUN/dataset of a curation run.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the checkpoint is its pipeline/.")],
    base: Annotated[str, typer.Option(help="Folder or Hub repository; the miniature's base unless given.")] = "",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per optimiser step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every draw of the run.")] = None,
) -> None:
    """Fine-tune a base on a data set; run again, it goes on where it was stopped."""
    from alchemist_hub.training import loop, recipes

    asked = {"steps": steps, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    recipe = recipes.miniature(**{name: value for name, value in asked.items() if value is not None})
    print(loop.train(recipe, base=base or weights() / "base", data=data, out=out))


def sample(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("picture.png"),
    model: Annotated[str, typer.Option(help="Model key.")] = "mini",
    side: Annotated[Side, typer.Option(help="Which side of the pair.")] = Side.TUNED,
    checkpoint: Annotated[Path | None, typer.Option(help="Your own pipeline folder instead of the side.")] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same picture.", min=0)] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the model's own unless given.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance; the model's own unless given.", min=0)] = None,
) -> None:
    """Paint one picture."""
    from alchemist_hub import models, sampling

    spec = models.model(model)
    pipe = sampling.load(checkpoint or getattr(spec, side.value))
    (picture,) = sampling.generate(
        pipe, [prompt], [seed], negative=negative, steps=steps or spec.steps,
        guidance=spec.guidance if guidance is None else guidance,
    )  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture.save(out, format="PNG")
    except OSError as error:
        raise HubError(f"{out} cannot be written: {error.strerror}; name another file with --out") from error
    print(out)


def evaluate(
    out: Annotated[Path, typer.Option(help="Report folder.")],
    tuned: Annotated[Path | None, typer.Option(help="Pipeline folder; the miniature's tuned unless given.")] = None,
    base: Annotated[Path | None, typer.Option(help="Pipeline folder; the miniature's base unless given.")] = None,
    prompts: Annotated[int, typer.Option(help="How many prompts of the miniature world.", min=1)] = 200,
    seeds: Annotated[int, typer.Option(help="Pictures per prompt and side.", min=1)] = 1,
) -> None:
    """Paint the same prompts and seeds with two checkpoints of the miniature and report who wins."""
    from alchemist_hub.evaluation.judges import JudgeNetwork
    from alchemist_hub.evaluation.report import evaluate as report
    from alchemist_hub.miniature.world import prompts as world_prompts

    report(
        base or weights() / "base",
        {"tuned": tuned or weights() / "tuned"},
        world_prompts(prompts, seed=0),
        seeds=range(seeds),
        judge=JudgeNetwork.load(weights() / "judge"),
        out=out,
    )
    print(out)


def card(
    report: Annotated[Path, typer.Option(help="Report folder of an evaluation.")],
    out: Annotated[Path, typer.Option(help="The card to write.")] = Path("README.md"),
) -> None:
    """Render the miniature's model card from an evaluation report."""
    from alchemist_hub.publishing.cards import write_card

    print(write_card(report, out))
