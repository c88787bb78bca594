"""Put data sets, models, the Space and their collection on the Hub; with --dry-run DIR, into a folder to look at first.

Each repository changes by one commit, which its readers see whole. What is there already is not sent again, so that a
command that was interrupted goes on when it is run again. The token is that of `hf auth login`, or HF_TOKEN.
"""

import json
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alchemist_hub.errors import PublishError
from alchemist_hub.models import MODELS, model

if TYPE_CHECKING:
    from alchemist_hub.publishing.hub import Published
    from alchemist_hub.publishing.trees import Tree

Org = Annotated[str, typer.Option(help="Organisation or user on the Hub.")]
Private = Annotated[bool, typer.Option("--private", help="New repositories are private; those that exist stay.")]
Revision = Annotated[str | None, typer.Option(help="Branch to publish to, made where it is missing.")]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of changing the branch.")]
DryRun = Annotated[Path | None, typer.Option(help="Write the exact repositories to this folder and send nothing.")]
Run = Annotated[Path, typer.Argument(help="A finished curation run, with its frozen RUN/dataset.")]
Variant = Annotated[
    list[str] | None,
    typer.Option(help="A further configuration as NAME=FOLDER: --variant 7k=runs/7k/dataset. Repeatable."),
]
Half = Annotated[bool, typer.Option("--fp16", help='Also the variant in half precision: variant="fp16".')]
ORGANISATION = "alchemist-hub"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Where everything is to go."""

    org: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    dry_run: Path | None = None


def make_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(no_args_is_help=True, help=__doc__)
    app.command("dataset")(publish_dataset)
    app.command("model")(publish_model)
    app.command("space")(publish_space)
    app.command("collection")(publish_collection)
    app.command("all")(publish_all)
    return app


def publish_dataset(
    run: Run,
    variant: Variant = None,
    org: Org = ORGANISATION,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = None,
) -> None:
    """Publish what a curation run froze, with its card, its table of URLs and any further configurations.

    Example: alchemist publish dataset runs/3k --variant 7k=runs/7k/dataset --dry-run tree
    """
    asked = Asked(org=org, private=private, revision=revision, create_pr=create_pr, dry_run=dry_run)
    with workshop() as folder:
        publish([_dataset(run, variant, folder, org)], asked)


def publish_model(
    key: Annotated[str, typer.Argument(help="Model key: sd15, sd21, sdxl, sd35m, sd35l or mini.")],
    checkpoint: Annotated[
        str, typer.Argument(help="Run or pipeline folder; the miniature's is shipped.", show_default=False)
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Report folder of its evaluation, for the card.")] = None,
    samples: Annotated[Path | None, typer.Option(help="A sheet of base and tuned, for the card.")] = None,
    fp16: Half = False,
    org: Org = ORGANISATION,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = None,
) -> None:
    """Publish a checkpoint as a diffusers repository with its card; of the miniature, its base too.

    Pickles, training states, files that are none of a pipeline's and whatever looks like a secret are refused.

    Example: alchemist publish model sdxl runs/sdxl --report runs/report --fp16 --dry-run tree
    """
    asked = Asked(org=org, private=private, revision=revision, create_pr=create_pr, dry_run=dry_run)
    with workshop() as folder:
        publish(_models(key, checkpoint, folder, org, report=report, samples=samples, half=fp16), asked)


def publish_space(
    org: Org = ORGANISATION,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = None,
) -> None:
    """Publish the app as a Space, from this checkout: what git knows of it, as it is now."""
    from alchemist_hub.publishing.trees import space_tree

    asked = Asked(org=org, private=private, revision=revision, create_pr=create_pr, dry_run=dry_run)
    with workshop() as folder:
        publish([lambda: space_tree(folder, organisation=org)], asked)


def publish_collection(
    org: Org = ORGANISATION,
    private: Private = False,
    dry_run: DryRun = None,
) -> None:
    """Collect the paper and everything of this project that is on the Hub on one page."""
    publish([], Asked(org=org, private=private, dry_run=dry_run), collect=True)


def publish_all(
    run: Annotated[list[Path] | None, typer.Option(help="A finished curation run. Repeatable.")] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option("--model", help="A checkpoint as KEY=FOLDER; mini alone is the shipped one. Repeatable."),
    ] = None,
    report: Annotated[
        list[str] | None, typer.Option(help="A report as KEY=FOLDER, for that model's card. Repeatable.")
    ] = None,
    samples: Annotated[list[str] | None, typer.Option(help="A sheet of base and tuned as KEY=PICTURE.")] = None,
    variant: Variant = None,
    fp16: Half = False,
    org: Org = ORGANISATION,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    dry_run: DryRun = None,
) -> None:
    """Publish data sets, models, Space and collection, in this order; run again, it goes on where it stopped.

    Example: alchemist publish all --run runs/demo/run --model mini --model sdxl=runs/sdxl --fp16 --dry-run tree
    """
    from alchemist_hub.publishing.trees import space_tree

    asked = Asked(org=org, private=private, revision=revision, create_pr=create_pr, dry_run=dry_run)
    if variant and len(run or []) != 1:
        raise PublishError(f"--variant {variant[0]}: expected one --run, whose data set it is a configuration of")
    checkpoints = _by_key(checkpoint or [], "--model")
    reports = _by_key(report or [], "--report", of=checkpoints)
    sheets = _by_key(samples or [], "--samples", of=checkpoints)
    with workshop() as folder:
        trees = [_dataset(each, variant, folder / f"run-{index}", org) for index, each in enumerate(run or [])]
        for key, place in checkpoints.items():
            shown = {"report": reports.get(key), "samples": sheets.get(key)}
            trees += _models(key, place, folder / key, org, half=fp16, **shown)
        publish([*trees, lambda: space_tree(folder / "space", organisation=org)], asked, collect=True)


def publish(trees: "Sequence[Callable[[], Tree]]", asked: Asked, *, collect: bool = False) -> None:
    """Make every tree and check it, then send them one after the other, or write them; say what is where."""
    from rich.console import Console

    from alchemist_hub.publishing.checks import check
    from alchemist_hub.publishing.hub import Hub, Target
    from alchemist_hub.publishing.trees import write

    console = Console(highlight=False, soft_wrap=True)
    hub = None if asked.dry_run else Hub(asked.org, say=console.print)
    if hub:
        hub.enter()
    made = [make() for make in trees]
    _refuse_twins(made)
    for tree in made:
        check(tree)
    if hub is None:
        for tree in made:
            console.print(f"{write(tree, asked.dry_run)}: {len(tree.files)} files, {tree.size / 1e6:,.1f} MB")
        if collect:
            items = [(tree.kind, tree.repository) for tree in made] or ours(asked.org)
            console.print(write_collection(items, asked.dry_run))
        return
    target, done = Target(private=asked.private, revision=asked.revision, create_pr=asked.create_pr), []
    try:
        for tree in made:
            done.append(hub.publish(tree, target))
        if collect:
            done.append(hub.collect(hub.existing(ours(asked.org)), private=asked.private))
    finally:  # what is there is told, also where the next one was refused
        for each in done:
            console.print(line(each))


def ours(org: str) -> list[tuple[str, str]]:
    """Return every repository that this project publishes: (kind, name)."""
    from alchemist_hub.publishing.facts import read_dataset_facts, read_model_facts
    from alchemist_hub.publishing.trees import SPACE

    facts = [read_model_facts(key).published_by(org) for key in MODELS]
    sets = [read_dataset_facts(recipe).published_by(org).repository for recipe in ("alchemist", "miniature")]
    sets += [each.prompts_dataset for each in facts if each.prompts_dataset]
    models = [each.repository for each in facts]
    models += [each.base_model for each in facts if each.base_model.startswith(f"{org}/")]
    return [*(("dataset", name) for name in sets), *(("model", name) for name in models), ("space", f"{org}/{SPACE}")]


def write_collection(items: Sequence[tuple[str, str]], folder: Path) -> Path:
    """Write what the collection would hold to `folder`/collection.json."""
    from alchemist_hub.publishing.hub import COLLECTION, DESCRIPTION, PAPER

    rows = [{"type": kind, "id": name} for kind, name in [("paper", PAPER), *items]]
    path = folder / "collection.json"
    told = {"title": COLLECTION, "description": DESCRIPTION, "items": rows}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise PublishError(f"{path} cannot be written: {error.strerror}; name another --dry-run folder") from error
    return path


def line(done: "Published") -> str:
    """Return what is where, in one line."""
    counts = {"sent": done.sent, "removed": done.removed, "unchanged": done.unchanged}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{done.kind:<10} {done.url}  {done.commit[:12]}  {told}"


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder for what is made on the way; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="alchemist-publish-") as folder:
        yield Path(folder)


def _dataset(run: Path, variant: list[str] | None, folder: Path, org: str) -> "Callable[[], Tree]":
    from alchemist_hub.publishing.dataset_card import parse_variants
    from alchemist_hub.publishing.trees import dataset_tree

    variants = parse_variants(variant or [])
    return lambda: dataset_tree(run, folder, organisation=org, variants=variants)


def _models(
    key: str,
    checkpoint: str,
    folder: Path,
    org: str,
    *,
    report: str | Path | None,
    samples: str | Path | None,
    half: bool,
) -> "list[Callable[[], Tree]]":
    """Return what makes a model's repository, and for the miniature those of its base and its prompts."""
    from alchemist_hub.publishing.trees import base_tree, model_tree, prompts_tree

    spec = model(key)
    if not checkpoint and key != "mini":
        raise PublishError(f"name the folder of the checkpoint of {key}; only the miniature's is shipped")
    shown = {"report": report, "samples": samples, "half": half}
    trees = [lambda: model_tree(key, checkpoint or spec.tuned, folder, organisation=org, **shown)]
    if key == "mini":
        trees.insert(0, lambda: base_tree(folder, organisation=org))
        if report is not None:
            trees.insert(0, lambda: prompts_tree(report, folder, organisation=org))
    return trees


def _by_key(pairs: Sequence[str], option: str, *, of: Container[str] = MODELS) -> dict[str, str]:
    """Parse KEY=PLACE, or mini alone for --model; only keys in `of` make sense. Raises PublishError, ModelError."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, place = pair.partition("=")
        model(key)
        if key not in of:
            raise PublishError(f"{option} {pair}: there is no --model {key} that it could be of")
        if key in found or not (place or (option == "--model" and key == "mini" and not equals)):
            raise PublishError(f"{option} {pair}: expected KEY=PLACE, each key once")
        found[key] = place
    return found


def _refuse_twins(trees: "Sequence[Tree]") -> None:
    """Raise PublishError where two trees would be one repository, of which the second would replace the first."""
    names = [(tree.kind, tree.repository) for tree in trees]
    for kind, name in names:
        if names.count((kind, name)) > 1:
            advice = "; publish one, and the other as its --variant NAME=FOLDER" if kind == "dataset" else ""
            raise PublishError(f"two of these would be the {kind} {name}{advice}")
