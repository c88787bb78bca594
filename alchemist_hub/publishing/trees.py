"""Repository trees: exactly which file will lie where, before anything is sent.

Weights and tables stay where they are until they are sent; what is made for the repository (cards, pictures, half
precision, the table of URLs) is written to a workshop folder of the caller's.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alchemist_hub.errors import PublishError
from alchemist_hub.evaluation.results import read_report
from alchemist_hub.models import local_folder, model, pipeline_class
from alchemist_hub.publishing.cards import write_model_card
from alchemist_hub.publishing.compatible import write_compatible
from alchemist_hub.publishing.dataset_card import URLS, write_dataset_card
from alchemist_hub.publishing.facts import CARDS, ORGANISATION, read_dataset_facts, read_model_facts, render
from alchemist_hub.publishing.halves import write_half
from curation import dataset

Kind = Literal["model", "dataset", "space"]
FOLDERS: Mapping[Kind, str] = {"model": "models", "dataset": "datasets", "space": "spaces"}
CHECKOUT = CARDS.parent
SPACE = "alchemist-hub"
SPACE_FILES = ("app.py", "requirements.txt", "LICENSE")
PACKAGES = ("alchemist_hub", "curation")
LEFT_OUT = {"__pycache__", ".DS_Store", ".gitattributes", ".cache"}  # the last two: what a download from the Hub leaves


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A repository as it will be. `files`: path in the repository -> local file."""

    kind: Kind
    repository: str  # ORGANISATION/NAME
    files: Mapping[str, Path]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.stat().st_size for file in self.files.values())


def model_tree(
    key: str,
    checkpoint: str | Path,
    workshop: Path,
    *,
    organisation: str = ORGANISATION,
    report: str | Path | None = None,
    samples: str | Path | None = None,
    half: bool = False,
) -> Tree:
    """Return a checkpoint's repository: pipeline, training.json, card; with `half` also an fp16 variant.

    Raises ModelError where there is no pipeline, EvaluationError for a report of something else, and PublishError for a
    pipeline of another class than the model key's.
    """
    folder, spec = local_folder(checkpoint), model(key)
    repository = read_model_facts(key).published_by(organisation).repository
    _of_class(folder, spec.pipeline, key)
    files = _pipeline(folder, workshop / "compatible")
    if half:
        write_half(files, workshop / "fp16")
        files |= _below(workshop / "fp16")
    card = write_model_card(key, folder, workshop / "card", report, samples, organisation=organisation)
    return Tree(kind="model", repository=repository, files=files | _below(card.parent))


def base_tree(workshop: Path, *, organisation: str = ORGANISATION) -> Tree:
    """Return the repository of the miniature's base, the only base that this project publishes."""
    facts, folder = read_model_facts("mini").published_by(organisation), Path(model("mini").base)
    card = _written(workshop / "base" / "README.md", render("miniature-base.md.j2", {"facts": facts}))
    files = _pipeline(folder, workshop / "base" / "compatible")
    return Tree(kind="model", repository=facts.base_model, files=files | {"README.md": card})


def dataset_tree(
    run: str | Path,
    workshop: Path,
    *,
    organisation: str = ORGANISATION,
    variants: Mapping[str, str | Path] | None = None,
) -> Tree:
    """Return the repository of what a run froze: its parquet files, `variants` (name -> frozen data set), URLs, card.

    Raises LedgerError and EvaluationError as `write_dataset_card`.
    """
    frozen, variants = Path(run) / "dataset", dict(variants or {})
    facts = read_dataset_facts(dataset.describe(frozen)["recipe"]["name"]).published_by(organisation)
    urls = workshop / URLS / "train.parquet"
    dataset.write_urls(run, urls)
    card = write_dataset_card(frozen, run, workshop / "card", variants=variants, urls=urls, organisation=organisation)
    files = _tables(frozen, "data") | {f"{URLS}/train.parquet": urls, "README.md": card}
    for name, folder in variants.items():
        if Path(folder).resolve() != frozen.resolve():
            files |= _tables(Path(folder), name)
    return Tree(kind="dataset", repository=facts.repository, files=files)


def prompts_tree(report: str | Path, workshop: Path, *, organisation: str = ORGANISATION) -> Tree:
    """Return the data set of a report's prompts, which the results in the miniature's card refer to."""
    facts, measured = read_model_facts("mini").published_by(organisation), read_report(report)
    if facts.prompts_dataset is None:
        raise PublishError("the miniature's facts name no data set of prompts")
    table = workshop / "prompts" / "test.parquet"
    table.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"prompt": list(measured.prompts)}), table)
    context = {"facts": facts, "count": len(measured.prompts)}
    card = _written(workshop / "prompts" / "README.md", render("prompts.md.j2", context))
    return Tree(kind="dataset", repository=facts.prompts_dataset, files={"data/test.parquet": table, "README.md": card})


def space_tree(workshop: Path, *, organisation: str = ORGANISATION) -> Tree:
    """Return the Space: app.py, what requirements.txt installs, and both packages as this checkout has them.

    Raises PublishError outside a checkout of the project.
    """
    if missing := [name for name in (*SPACE_FILES, *PACKAGES) if not (CHECKOUT / name).exists()]:
        raise PublishError(f"the Space is made of a checkout of the project; {CHECKOUT} has no {', '.join(missing)}")
    facts = [read_model_facts(key).published_by(organisation) for key in ("sd15", "sd21", "sdxl", "sd35m", "sd35l")]
    context = {"gradio": version("gradio"), "models": facts, "organisation": organisation}
    card = _written(workshop / "space" / "README.md", render("space.md.j2", context))
    files = {name: CHECKOUT / name for name in SPACE_FILES} | {"README.md": card}
    for package in PACKAGES:
        files |= {f"{package}/{path}": file for path, file in _below(CHECKOUT / package).items()}
    return Tree(kind="space", repository=f"{organisation}/{SPACE}", files=_tracked(files))


def write(tree: Tree, folder: Path) -> Path:
    """Copy a tree to `folder`/models|datasets|spaces/ORGANISATION/NAME, whole or not at all, and return that folder.

    One that an earlier run wrote there is replaced. Raises PublishError where it cannot be written.
    """
    place = folder / FOLDERS[tree.kind] / tree.repository
    part = place.with_name(f".{place.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        for path, file in tree.files.items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, part / path)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(part, place)
    except OSError as error:
        raise PublishError(f"{place} cannot be written: {error.strerror}; name another --dry-run folder") from error
    return place


def _pipeline(folder: Path, workshop: Path) -> dict[str, Path]:
    """Return every file of a pipeline, as clients of all ages read it."""
    files = _below(folder)
    write_compatible(files, workshop)
    return files | _below(workshop)


def _below(folder: Path) -> dict[str, Path]:
    """Return every file below a folder: relative path -> file."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {place.as_posix(): path for place, path in found.items() if not LEFT_OUT & set(place.parts)}


def _tracked(files: Mapping[str, Path]) -> dict[str, Path]:
    """Leave out what git ignores or does not know, where the checkout is one of git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return dict(files)
    known = set(listed.stdout.split("\0"))
    return {path: file for path, file in files.items() if path == "README.md" or path in known}


def _tables(folder: Path, place: str) -> dict[str, Path]:
    return {f"{place}/{file.name}": file for file in dataset.files(folder)}


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _of_class(folder: Path, expected: str, key: str) -> None:
    if (found := pipeline_class(folder)) != expected:
        raise PublishError(f"{folder} is a {found}; {key} is a {expected}")
