"""The data set's card: what the Hub's viewer asks for, the funnel with its run's numbers, judges, licences, removal.

The repository that the card is about:

data/train-*.parquet     configuration "default": the frozen data set
NAME/train-*.parquet     a further variant, as "7k"
urls/train.parquet       configuration "urls": img_key, url, prompt
README.md                this card
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, DatasetCardData

from alchemist_hub.errors import EvaluationError
from alchemist_hub.publishing.facts import ORGANISATION, DatasetFacts, read_dataset_facts, render
from curation import dataset
from curation.dataset import FunnelRow
from curation.recipes import Outline

CARD = "README.md"
DEFAULT, URLS = "default", "urls"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_PRIVATE = ("endpoint",)  # of a judge's configuration: addresses of whoever ran it


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What `load_dataset(repository, name)` gives."""

    name: str
    path: str  # of its files in the repository
    features: Mapping[str, Any]  # as in `datasets.Features`
    rows: int
    stored: int  # bytes of the files
    size: int  # bytes when uncompressed
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One step of the funnel, as a reader follows it. `rules`: what a sample had to hold, one line each."""

    step: str
    entered: int
    kept: int
    dropped: int
    reasons: tuple[tuple[str, int], ...]  # most frequent first
    rules: tuple[str, ...] = ()
    judge: str = ""  # models and settings, one line; "" where there are none
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a card tells of a frozen data set and of the run that chose it. `described` is dataset.json."""

    described: Mapping[str, Any]
    passages: Sequence[Passage]
    configurations: Sequence[Configuration]


def write_dataset_card(
    dataset_folder: str | Path,
    run_folder: str | Path,
    out_folder: str | Path,
    *,
    variants: Mapping[str, str | Path] | None = None,
    urls: str | Path | None = None,
    organisation: str = ORGANISATION,
) -> Path:
    """Write the card of a frozen data set and of the run that chose it; return the README.md.

    `variants` are further configurations, name -> frozen data set (one that names the data set itself shares its
    files); `urls` is the parquet file of the configuration without images. Raises EvaluationError where the data set
    is not what the run keeps, and LedgerError for folders that are neither.
    """
    evidence = evidence_of(dataset_folder, run_folder, variants=variants, urls=urls)
    facts = read_dataset_facts(evidence.described["recipe"]["name"]).published_by(organisation)
    out = Path(out_folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / CARD).write_text(str(dataset_card(facts, evidence)), encoding="utf-8")
    return out / CARD


def evidence_of(
    dataset_folder: str | Path,
    run_folder: str | Path,
    *,
    variants: Mapping[str, str | Path] | None = None,
    urls: str | Path | None = None,
) -> Evidence:
    """Read what a card tells; parameters and errors as of `write_dataset_card`."""
    described = dataset.describe(dataset_folder)
    passages = funnel_of(run_folder, described)
    configurations = [configuration(DEFAULT, dataset_folder)]
    for name, folder in (variants or {}).items():
        is_same = Path(folder).resolve() == Path(dataset_folder).resolve()
        configurations.append(configuration(name, folder, place="data" if is_same else name))
    if urls is not None:
        configurations.append(_configuration(URLS, f"{URLS}/train.parquet", [Path(urls)]))
    return Evidence(described=described, passages=passages, configurations=configurations)


def dataset_card(facts: DatasetFacts, evidence: Evidence) -> DatasetCard:
    """Return a card that holds only what it is given."""
    outline, configurations = Outline.from_json(evidence.described["recipe"]), evidence.configurations
    context = {
        "card_data": card_data(facts, configurations).to_yaml(),
        "facts": facts,
        "described": evidence.described,
        "passages": evidence.passages,
        "configurations": configurations,
        "columns": {name: _meaning(name, facts, outline) for name in configurations[0].features},
        "recipe": outline.name,
    }
    return DatasetCard(render("dataset.md.j2", context))


def card_data(facts: DatasetFacts, configurations: Sequence[Configuration]) -> DatasetCardData:
    """Return the card's metadata: files, features, splits and sizes of every configuration."""
    data = DatasetCardData(
        license=facts.licence,
        license_name=facts.licence_name,
        license_link=facts.licence_link,
        language=facts.language,
        pretty_name=facts.name,
        task_categories=["text-to-image"],
        size_categories=next((name for limit, name in SIZES if configurations[0].rows < limit), "n>1M"),
        tags=facts.tags,
        configs=[
            {"config_name": each.name, "data_files": [{"split": "train", "path": each.path}]}
            | ({"default": True} if each.name == DEFAULT else {})
            for each in configurations
        ],
    )
    _add_info(data, configurations)
    return data


def configuration(name: str, folder: str | Path, *, place: str = "data") -> Configuration:
    """Read a frozen data set as a configuration whose files lie in `place`. Raises LedgerError."""
    fingerprint = dataset.describe(folder)["fingerprint"]
    return _configuration(name, f"{place}/train-*.parquet", dataset.files(folder), fingerprint)


def funnel_of(run: str | Path, described: Mapping[str, Any]) -> list[Passage]:
    """Return the run's funnel, the source first. Raises EvaluationError where it does not lead to the data set."""
    source, *rows = dataset.funnel(run)
    steps = Outline.from_json(described["recipe"]).steps
    if [row.step for row in rows] != [step.name for step in steps] or rows[-1].kept != described["samples"]:
        kept = rows[-1].kept if rows else 0
        raise EvaluationError(
            f"the data set has {described['samples']:,} samples, {run} keeps {kept:,} by the steps "
            f"{', '.join(row.step for row in rows)}: name the run that it was frozen from"
        )
    told = [_passage(source)]
    for row, step in zip(rows, steps, strict=True):
        rules = tuple(f"{rule.column} {rule.op} {_plain(rule.threshold)}" for rule in step.rules)
        told.append(_passage(row, rules=rules, judge=_judge(step.config), version=step.version))
    return told


def parse_variants(pairs: Sequence[str]) -> dict[str, Path]:
    """Parse "NAME=FOLDER". Raises EvaluationError for anything else, and for a name that is taken or no plain word."""
    found: dict[str, Path] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (equals and folder and name.replace("-", "").isalnum()) or name in (DEFAULT, URLS, "data", *found):
            raise EvaluationError(f"--variant {pair}: expected NAME=FOLDER with a new name of letters and digits")
        found[name] = Path(folder)
    return found


def _configuration(name: str, path: str, files: Sequence[Path], fingerprint: str | None = None) -> Configuration:
    from datasets import Features

    metadata = [pq.read_metadata(file) for file in files]
    groups = [part.row_group(number) for part in metadata for number in range(part.num_row_groups)]
    return Configuration(
        name=name,
        path=path,
        features=Features.from_arrow_schema(pq.read_schema(files[0])),
        rows=sum(part.num_rows for part in metadata),
        stored=sum(file.stat().st_size for file in files),
        size=sum(group.total_byte_size for group in groups),
        fingerprint=fingerprint,
    )


def _add_info(data: DatasetCardData, configurations: Sequence[Configuration]) -> None:
    """Add `dataset_info`, by which the viewer knows features, splits and sizes before it reads a file."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict

    infos = {
        each.name: DatasetInfo(
            features=each.features,
            splits={"train": {"name": "train", "num_bytes": each.size, "num_examples": each.rows}},
            download_size=each.stored,
            dataset_size=each.size,
            config_name=each.name,
        )
        for each in configurations
    }
    DatasetInfosDict(infos).to_dataset_card_data(data)


def _passage(row: FunnelRow, **further: Any) -> Passage:
    reasons = tuple(sorted(row.reasons.items(), key=lambda item: -item[1]))
    return Passage(step=row.step, entered=row.entered, kept=row.kept, dropped=row.dropped, reasons=reasons, **further)


def _judge(config: Mapping[str, Any]) -> str:
    """A judge's models and settings on one line, without addresses and folders of the machine it ran on."""
    return "; ".join(f"{name} {_public(value)}" for name, value in config.items() if name not in _PRIVATE)


def _public(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_public, value))
    is_path = isinstance(value, str) and value.startswith(("/", "~", "."))
    return Path(value).name if is_path else _plain(value)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meaning(column: str, facts: DatasetFacts, outline: Outline) -> str:
    if column in facts.columns:
        return facts.columns[column]
    step = next((step.name for step in outline.steps if column in step.columns), None)
    return f"written by the step {step}" if step else "further column of the source"
