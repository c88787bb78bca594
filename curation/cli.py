"""The command group `curate`: run a funnel, look at it, ask why. Heavy packages are imported by the commands."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation import show
from curation.errors import CurationError, EngineError, RecipeError

if TYPE_CHECKING:
    from curation.explain import FunnelRow
    from curation.ledger import Ledger
    from curation.plan import Recipe
    from curation.sources import Source

INTERRUPTED = 130
_USER_ERROR = 2
Run = Annotated[Path, typer.Argument(help="Folder of a run.")]
Thresholds = Annotated[
    list[str] | None, typer.Option("--set", help="Another threshold, COLUMN=VALUE; repeatable.", metavar="COLUMN=VALUE")
]
AllowHost = Annotated[
    list[str] | None, typer.Option(help="A host of URLs that may be private, HOST or HOST:PORT; repeatable.")
]

CaptionEndpoint = Annotated[
    str | None, typer.Option(help="Recaption by this chat-completions endpoint, http://HOST:PORT/v1.", metavar="URL")
]
CaptionModel = Annotated[str | None, typer.Option(help="The endpoint's name of the model.")]
CaptionKey = Annotated[str | None, typer.Option(help="Environment variable with the endpoint's key.", metavar="VAR")]


class RecipeName(str, Enum):
    """The recipes of `curation.recipes`."""

    MINIATURE = "miniature"
    ALCHEMIST = "alchemist"
    ALCHEMIST_7K = "alchemist-7k"
    ALCHEMIST_19K = "alchemist-19k"


class EngineName(str, Enum):
    """Where shards run: `curation.engines`."""

    EMBEDDED = "embedded"
    RAY = "ray"


class StatisticName(str, Enum):
    """What a calibration is for: `curation.estimator.fitting.Statistic`."""

    ALL = "all"
    ATTENTION = "attention"
    LIKELIHOOD = "likelihood"


def make_app(miniature_models: Callable[[], Path] | None) -> typer.Typer:
    """Return the group. `miniature_models`: where the miniature's weights are, unless --models says so."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.command()
    def run(
        source: Annotated[
            str, typer.Option(help="Folder of images, table of URLs, WebDataset tars, data set, or hf://ORG/NAME.")
        ],
        out: Annotated[Path, typer.Option(help="Folder of the run; run again, it goes on where it was stopped.")],
        recipe: Annotated[RecipeName, typer.Option(help="Which funnel.")] = RecipeName.MINIATURE,
        models: Annotated[Path | None, typer.Option(help="Folder with the recipe's models.")] = None,
        workers: Annotated[int | None, typer.Option(help="Processes; one per core unless given.", min=1)] = None,
        engine: Annotated[EngineName, typer.Option(help="Processes of this machine, or a Ray cluster.")] = (
            EngineName.EMBEDDED
        ),
        address: Annotated[str | None, typer.Option(help="The Ray cluster's, unless it is this machine.")] = None,
        top: Annotated[int | None, typer.Option(help="How many samples to keep.", min=1)] = None,
        allow_host: AllowHost = None,
        thresholds: Thresholds = None,
        caption_endpoint: CaptionEndpoint = None,
        caption_model: CaptionModel = None,
        caption_key_env: CaptionKey = None,
        caption_at_once: Annotated[
            int, typer.Option(help="Requests to the endpoint in flight, in each worker.", min=1)
        ] = 4,
        caption_requests: Annotated[
            int | None, typer.Option(help="Requests that each worker may send before the run stops.", min=2)
        ] = None,
    ) -> None:
        """Judge a pool and freeze what passes as a data set."""
        with one_line():
            changes = parse_thresholds(thresholds) | ({"impact_rank": top} if top else {})
            chosen = _recipe(recipe, models, miniature_models)
            bounds = {"at_once": caption_at_once, "requests": caption_requests}
            chosen = _captioned(chosen, caption_endpoint, caption_model, caption_key_env, bounds)
            chosen = chosen.with_thresholds(changes)
            from curation.sources import open_source

            pool = open_source(source, allowed=tuple(allow_host or ()))
            curate(chosen, pool, out, workers=workers, execute=_engine(engine, address))

    @app.command()
    def plan(
        samples: Annotated[float, typer.Option(help="Size of the pool, like 1e10.", min=1)],
        recipe: Annotated[RecipeName, typer.Option(help="Which funnel.")] = RecipeName.MINIATURE,
        models: Annotated[Path | None, typer.Option(help="Folder with the recipe's models.")] = None,
        source: Annotated[str | None, typer.Option(help="Pool to measure on; generated noise unless given.")] = None,
        run: Annotated[Path | None, typer.Option(help="Take rates and shares from this finished run instead.")] = None,
        pictures: Annotated[int, typer.Option(help="How many pictures to measure on.", min=3)] = 64,
        cores: Annotated[int | None, typer.Option(help="Cores you have, of this machine's kind.", min=1)] = None,
        gpus: Annotated[int | None, typer.Option(help="GPUs you have; needs --gpu-speed.", min=1)] = None,
        gpu_speed: Annotated[
            float | None, typer.Option(help="One GPU's speed with networks in this machine's cores: measure it.")
        ] = None,
        bandwidth: Annotated[float | None, typer.Option(help="MB a second that all readers get together.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say what a pool of any size would cost, from measured rates and declared hardware, with every assumption."""
        with one_line():
            from curation import capacity

            moved = bandwidth * 1e6 if bandwidth else None
            hardware = capacity.Hardware(cores=cores, gpus=gpus, gpu_speed=gpu_speed, bandwidth=moved)
            if run:
                planned = capacity.plan_of_run(run, samples, hardware)
            else:
                chosen = _recipe(recipe, models, miniature_models)
                planned = capacity.plan(chosen, source, pictures, samples, hardware)
            print(json.dumps(planned.to_json(), indent=1)) if as_json else show.plan(planned)

    for command in (status, funnel, what_if, why, export, pack, materialise, calibrate, fit_defects):
        app.command()(command)
    return app


def curate(
    recipe: "Recipe",
    source: "str | Path | Source",
    out: Path,
    *,
    workers: int | None = None,
    execute: "Callable[..., Ledger] | None" = None,
) -> Path | None:
    """Run a recipe with progress on the terminal, print its funnel, freeze and return the data set.

    `execute`: an engine's `run`, the embedded one's unless given.

    None if no sample passed. Raises CurationError, and KeyboardInterrupt after saying how to go on.
    """
    from curation.engines import embedded
    from curation.engines.progress import Terminal
    from curation.explain import funnel as funnel_rows

    try:
        with Terminal() as progress:
            ledger = (execute or embedded.run)(recipe, source, out, workers=workers, progress=progress)
        rows = funnel_rows(ledger)
        show.funnel(rows, {step.name for step in ledger.outline.steps if step.rules})
        _save_funnel(out, rows)
        return _frozen(out, rows[-1].kept)
    except KeyboardInterrupt:
        print(f"interrupted; what is judged is kept: the same command goes on from {out}", file=sys.stderr)
        raise


def funnel(
    run: Run,
    thresholds: Thresholds = None,
    plot: Annotated[Path | None, typer.Option(help="Write the funnel as a picture (png, svg, pdf).")] = None,
) -> None:
    """Show how many samples each step kept and why it dropped the rest; --set asks what other thresholds would do."""
    with one_line():
        from curation.explain import funnel as funnel_rows
        from curation.ledger import Ledger

        ledger = Ledger(run)
        changes = parse_thresholds(thresholds)
        asked = ledger.outline.with_thresholds(changes)
        rows = funnel_rows(ledger.what_if(asked), asked)
        judging = {step.name for step in ledger.outline.steps if step.rules}
        show.funnel(rows, judging)
        if changes:
            print("what if: nothing was changed or judged again; samples a step never judged count as not scored")
        else:
            _save_funnel(run, rows)
        if plot:
            show.plot_funnel(rows, judging, plot)
            print(plot)


def status(run: Run) -> None:
    """Show how far a run is: what each step has judged, and what waits."""
    with one_line():
        from curation.explain import status as segment_status
        from curation.ledger import Ledger

        ledger = Ledger(run)
        show.status(segment_status(ledger), ledger.unfinished())


def what_if(run: Run, thresholds: Thresholds = None) -> None:
    """Say how many samples other thresholds would keep, from the scores alone: --set iqa=0.65."""
    with one_line():
        from curation.ledger import Ledger

        ledger = Ledger(run)
        changes = parse_thresholds(thresholds)
        if not changes:
            raise RecipeError("what if what? Name a threshold: --set iqa=0.65")
        difference = ledger.compare(ledger.outline.with_thresholds(changes))
        print(
            f"kept now {difference.now:,}, then {difference.then:,}: {difference.gained:,} more, {difference.lost:,} "
            "fewer; samples that a later step never judged count as not scored"
        )


def export(
    run: Run,
    urls_only: Annotated[
        Path | None, typer.Option(help="Write only a table of img_key, url, prompt: .parquet, .csv or .jsonl.")
    ] = None,
) -> None:
    """Freeze what a finished run kept as a data set, or as a table of URLs without images."""
    with one_line():
        from curation import dataset

        if urls_only is not None:
            count = dataset.write_urls(run, urls_only)
            print(f"{count:,} rows in {urls_only}")
        else:
            folder = dataset.freeze(run)
            print(f"{folder}, fingerprint {dataset.fingerprint(folder)[:16]}")


def pack(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder to write, which must not be there.")],
    side: Annotated[int, typer.Option(help="Pixels of a thumbnail's longer side.", min=16, max=256)] = 64,
) -> None:
    """Write a run small enough to be sent: its ledger and thumbnails, for `alchemist app --run`."""
    with one_line():
        from rich.progress import Progress as Bars

        from curation.pack import pack as packed

        with Bars() as bars:
            bar = bars.add_task("making thumbnails", total=None)
            packed(run, out, side=side, progress=lambda done, total: bars.update(bar, completed=done, total=total))
        print(out)


def materialise(
    table: Annotated[Path, typer.Argument(help="A published table: img_key, url, prompt.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set; run again, it goes on where it was stopped.")],
    allow_host: AllowHost = None,
) -> None:
    """Download a published table's images into a data set again, and say what has rotted away."""
    with one_line():
        from curation.engines.progress import Terminal
        from curation.materialise import materialise as again

        with Terminal() as progress:
            report = again(table, out, allowed=tuple(allow_host or ()), progress=progress)
        for line in report.lines():
            print(line)


def calibrate(
    model: Annotated[str, typer.Argument(help="The diffusion model: a from_pretrained folder or a Hub id.")],
    good: Annotated[str, typer.Option(help="Pictures that taught much, or would: any source.")],
    plain: Annotated[str, typer.Option(help="Clean pictures that did not: any source.")],
    out: Annotated[Path, typer.Option(help="The calibration, estimator.json.")],
    family: Annotated[str, typer.Option(help="Whose keywords: stable-diffusion or miniature.")] = "stable-diffusion",
    statistic: Annotated[
        StatisticName,
        typer.Option(
            help="What to read. likelihood: whole passes under several prompts. attention: one prompt, and passes end "
            "at the layer where going deeper no longer pays: a fraction of the cost, and by far the weaker judge on "
            "the miniature (AUC 0.544, likelihood 0.836). all: both, the strongest (0.881), at the likelihood's cost."
        ),
    ] = StatisticName.ALL,
) -> None:
    """Choose what the estimator reads and how much it counts, on half of your labels, and measure it on the rest."""
    with one_line():
        from rich.progress import Progress as Bars

        from curation.calibrate import calibrate as fit
        from curation.calibrate import lines
        from curation.estimator.fitting import Search, Statistic

        with Bars() as bars:
            bar = bars.add_task("reading the model", total=None)
            calibration = fit(
                model,
                good=good,
                plain=plain,
                out=out,
                family=family,
                search=Search(statistic=Statistic(statistic.value)),
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
            )
        for line in lines(calibration):
            print(line)
        print(out)


def fit_defects(
    clean: Annotated[str, typer.Option(help="Clean pictures, which are damaged on purpose: any source. Hundreds do.")],
    out: Annotated[Path, typer.Option(help="Folder of the network; run again, it goes on where it was stopped.")],
    labelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="A table of judged pictures, .parquet or .csv: image, and columns like blur or low_appeal in [0,1], "
            "or mos (mean opinions: the lowest become low_appeal). Empty cells are not learnt from. Repeatable."
        ),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Clean pictures to measure on; a fifth of --clean unless given.")
    ] = None,
    lowest: Annotated[float, typer.Option(help="Share of mean opinions that is low appeal.", min=0, max=1)] = 0.2,
    backbone: Annotated[
        str | None, typer.Option(help="An image classifier to begin from, folder or Hub id; else a small ResNet.")
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels a side that the network sees.", min=32)] = 224,
    epochs: Annotated[
        int | None, typer.Option(help="How often each picture is shown; 40,000 views in all unless given.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Views a step.", min=2)] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate; with --backbone try 1e-4.", min=0)] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
) -> None:
    """Fit the network that judges watermarks, compression, blur, noise, contrast and borders, from clean pictures.

    Every view of a picture gets defects of its own. Put the folder into your models as defects/. Low appeal cannot be
    made: it is learnt only where a table --labelled tells it.
    """
    with one_line():
        from rich.progress import Progress as Bars

        from curation.fit_defects.fit import fit_defects as fit
        from curation.fit_defects.report import lines
        from curation.fit_defects.training import Settings

        settings = Settings(
            size=size, epochs=epochs, batch=batch, rate=rate, seed=seed, lowest=lowest, backbone=backbone
        )
        try:
            with Bars() as bars:
                bar = bars.add_task("reading pictures", total=None)
                figures = fit(
                    clean,
                    out,
                    labelled=tuple(labelled or ()),
                    held_out=held_out,
                    settings=settings,
                    progress=lambda title, done, total: bars.update(
                        bar, description=title, completed=done, total=total
                    ),
                )
        except KeyboardInterrupt:
            print(f"interrupted; the same command goes on from the last checkpoint in {out}", file=sys.stderr)
            raise
        for line in lines(figures or {}):
            print(line)
        print(out)


def why(
    key: Annotated[str, typer.Argument(help="A sample: its key, the beginning of it, or its file.")],
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
) -> None:
    """Explain one sample: every score, every threshold, and what decided."""
    with one_line():
        from curation.explain import why as explain
        from curation.ledger import Ledger

        show.why(explain(Ledger(run), key))


@contextmanager
def one_line() -> Iterator[None]:
    """A user's mistake is one line on stderr and exit status 2, an interrupt is 130."""
    try:
        yield
    except CurationError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(_USER_ERROR) from error
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt


def parse_thresholds(pairs: list[str] | None) -> dict[str, float | bool]:
    """Read COLUMN=VALUE pairs. Raises RecipeError."""
    return dict(_threshold(pair) for pair in pairs or [])


def _recipe(name: RecipeName, models: Path | None, miniature_models: Callable[[], Path] | None) -> "Recipe":
    from curation import recipes

    if name is RecipeName.MINIATURE and models is None and miniature_models is not None:
        models = miniature_models()
    if models is None:
        raise RecipeError(f"the recipe {name.value} needs a folder of models: --models DIR")
    if name is RecipeName.MINIATURE:
        return recipes.miniature(models)
    return recipes.alchemist(models, top=recipes.VARIANTS[name.value])


def _engine(name: EngineName, address: str | None) -> "Callable[..., Ledger]":
    if name is EngineName.RAY:
        from curation.engines import ray

        return partial(ray.run, address=address)
    if address is not None:
        raise EngineError(f"--address {address} is for a Ray cluster: add --engine ray")
    from curation.engines import embedded

    return embedded.run


def _captioned(
    recipe: "Recipe", endpoint: str | None, model: str | None, key_env: str | None, bounds: dict[str, int | None]
) -> "Recipe":
    if endpoint is None:
        return recipe
    if model is None:
        raise RecipeError("--caption-endpoint needs the name of a model there: --caption-model NAME")
    from curation.plan import with_captions
    from curation.stages.endpoint import Bounds, RecaptionByEndpoint

    return with_captions(recipe, RecaptionByEndpoint(endpoint, model, key_env=key_env, bounds=Bounds(**bounds)))


def _threshold(pair: str) -> tuple[str, float | bool]:
    column, _, value = pair.partition("=")
    if value.lower() in ("true", "false"):
        return column.strip(), value.lower() == "true"
    try:
        return column.strip(), float(value)
    except ValueError as error:
        raise RecipeError(f"--set {pair}: expected COLUMN=NUMBER, or true or false, like --set iqa=0.6") from error


def _frozen(out: Path, kept: int) -> Path | None:
    if not kept:
        print(
            f"no sample passed every rule; see what other thresholds would do: alchemist curate funnel {out} --set ..."
        )
        return None
    from curation import dataset

    folder = dataset.freeze(out)
    print(f"{kept:,} samples in {folder}, fingerprint {dataset.fingerprint(folder)[:16]}")
    print(f"next: alchemist train --data {folder} --out ...   or   alchemist curate why FILE --run {out}")
    return folder


def _save_funnel(run: Path, rows: "list[FunnelRow]") -> None:
    from curation import shards

    text = json.dumps([asdict(row) for row in rows], indent=1)
    shards.write_atomically(run / "funnel.json", f"{text}\n".encode())
