"""What was measured of a checkpoint, as its card tells it: training record, results and pairs of pictures.

Shape legend: P prompts, S seeds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from PIL import Image, UnidentifiedImageError

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.figures import picture_path
from alchemist_hub.evaluation.generate import noise_seed
from alchemist_hub.evaluation.report import PICTURES
from alchemist_hub.evaluation.results import BASE, TUNED, AspectResult, Report
from alchemist_hub.training.checkpoint import RECORD

METRIC = "win_rate"
RESULTS = Path(".eval_results") / "side-by-side.yaml"
PAIR_FILES = ("assets/*-base.jpg", "assets/*-tuned.jpg")
PAIRS = 4  # shown on a card: the first prompts, not chosen
SIDE = 384  # pixels of a picture on a card
_SHOWN = ("steps", "batch_size", "learning_rate", "schedule", "warmup", "ema", "caption_dropout", "seed")


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What a fine-tune took. `origin`: whose watts these are."""

    kwh: float | None
    watts: float | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a card tells of training.json. Only these are copied: a record may name folders of its machine."""

    recipe: Mapping[str, Any]  # the numbers in _SHOWN, and the precision where it is recorded
    objective: str
    fingerprint: str
    samples: int
    not_shown: Mapping[str, int]  # reason -> samples of the data set
    base_revision: str | None
    final_loss: float
    code: Mapping[str, str]
    hardware: str
    seconds: float
    energy: Energy | None  # records of older versions have none

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Training":
        """Return the facts of a record. Raises EvaluationError if it lacks one."""
        try:
            energy = record.get("energy")
            optional = {name: record["recipe"].get(name) for name in ("weights", "optimizer", "mixed_precision")}
            return cls(
                recipe={name: record["recipe"][name] for name in _SHOWN} | optional,
                objective=record["objective"],
                fingerprint=record["data"]["fingerprint"],
                samples=record["data"]["samples"],
                not_shown={reason: count for reason, count in record["data"].get("not shown", {}).items() if count},
                base_revision=record.get("base", {}).get("revision"),
                final_loss=record["final_loss"],
                code=record["code"],
                hardware=record["hardware"],
                seconds=record["seconds"],
                energy=energy and Energy(kwh=energy["kWh"], watts=energy["watts"], origin=energy["watts are"]),
            )
        except KeyError as error:
            raise EvaluationError(f"{RECORD} has no {error}: expected the record of `alchemist train`") from error


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt and seed, painted by both; paths relative to the card."""

    prompt: str
    seed: int  # of the noise: `alchemist sample` paints the same with it
    base: str
    tuned: str


def read_training(checkpoint: Path) -> Training | None:
    """Return what a checkpoint's training.json tells, None where there is none. Raises EvaluationError."""
    path = checkpoint / RECORD
    try:
        return Training.of(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged: expected the record of `alchemist train`") from error


def model_index(report: Report, prompts_dataset: str | None) -> list[EvalResult]:
    """Return the win rates over the base in the card's own, older form."""
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type=prompts_dataset or "custom",
            dataset_name=_extent(report),
            metric_type=METRIC,
            metric_name=f"{aspect.aspect}: win rate over the base, ties half, {_interval(aspect)}",
            metric_value=round(aspect.win_rate.value, 4),
        )
        for aspect in _counted(report)
    ]


def eval_results(report: Report, prompts_dataset: str) -> str:
    """Return the same results as the text of `.eval_results/*.yaml`, which the Hub lists by data set and task."""
    entries = [
        EvalResultEntry(
            dataset_id=prompts_dataset,
            task_id=aspect.aspect,
            value=round(aspect.win_rate.value, 4),
            notes=f"win rate over the base, ties half; {_interval(aspect)} over prompts; {_extent(report)}, "
            f"{report.steps} steps, guidance {report.guidance:g}",
        )
        for aspect in _counted(report)
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=1000)


def copy_pairs(report: Report, folder: Path, card: Path) -> tuple[Pair, ...]:
    """Copy the first prompts' pictures of a report folder to `card`/assets, and return them.

    Prompts of which either picture is no longer in the folder are left out.
    """
    found = []
    for prompt in report.prompts[:PAIRS]:
        painted = {arm: picture_path(report, folder / PICTURES, arm, prompt, report.seeds[0]) for arm in (BASE, TUNED)}
        if all(path.is_file() for path in painted.values()):
            places = {arm: f"assets/{len(found)}-{arm}.jpg" for arm in painted}
            for arm, path in painted.items():
                copy_picture(path, card / places[arm], side=SIDE)
            noise = noise_seed(prompt, report.seeds[0])
            found.append(Pair(prompt=prompt, seed=noise, base=places[BASE], tuned=places[TUNED]))
    return tuple(found)


def copy_picture(source: Path, target: Path, *, side: int | None = None) -> None:
    """Write a picture anew, without its metadata, in the format of `target`'s name; `side`: its width in pixels.

    Raises EvaluationError if it cannot be read.
    """
    try:
        picture = Image.open(source).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise EvaluationError(f"{source} is no picture that can be shown on a card: expected a PNG or JPEG") from error
    if side:
        enlarged = side > picture.width
        size = (side, round(picture.height * side / picture.width))
        picture = picture.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    picture.info.clear()  # what a camera or a program wrote into the file
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, quality=92)


def _counted(report: Report) -> list[AspectResult]:
    """The aspects that had anything to count: neither form knows a number that is none."""
    return [aspect for aspect in report.comparison(TUNED).aspects if not math.isnan(aspect.win_rate.value)]


def _extent(report: Report) -> str:
    seeds = len(report.seeds)
    return f"{len(report.prompts)} prompts, {seeds} seed{'s' if seeds > 1 else ''}"


def _interval(aspect: AspectResult) -> str:
    return f"95% [{aspect.win_rate.low:.3f}, {aspect.win_rate.high:.3f}]"
