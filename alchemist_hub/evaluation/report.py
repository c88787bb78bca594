"""One base, any number of tuned siblings, the same prompts and seeds for all: who wins, by how much, how surely.

A report folder holds report.json (everything below), scores.parquet (one row a picture), pictures/, figures/ and the
pages report.md and report.html. Shape legend: P prompts, S seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from alchemist_hub import __version__
from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import generate, pages, plots, votes
from alchemist_hub.evaluation.aspects import SHOWN, Asked, aspect_scores, shown_correctly
from alchemist_hub.evaluation.generate import Settings
from alchemist_hub.evaluation.judges import Judge
from alchemist_hub.evaluation.progress import watched
from alchemist_hub.evaluation.results import BASE, REPORT, Report, compare, write_json
from alchemist_hub.models import local_folder

SCORES, PICTURES = "scores.parquet", "pictures"
GRID_PROMPTS = 12
JUDGED_AT_ONCE = 64


def evaluate(
    base: str | Path,
    arms: Mapping[str, str | Path],
    prompts: Sequence[Asked],
    *,
    seeds: Sequence[int],
    judge: Judge,
    out: str | Path,
    steps: int,
    guidance: float,
    against: Sequence[tuple[str, str]] | None = None,
    title: str = "Base and tuned, side by side",
) -> Report:
    """Paint, judge, compare and write the report folder `out`; pictures already there are not painted again.

    `arms` maps names to checkpoint folders; `against` lists the (arm, opponent) pairs to compare, where "base" names
    the base: by default every arm against it. Raises EvaluationError if names clash or nothing is to be compared,
    ModelError for a folder that is no checkpoint.
    """
    checkpoints = {BASE: base, **arms}
    pairs = list(against) if against is not None else [(name, BASE) for name in arms]
    _check(arms, pairs, checkpoints)
    settings = Settings(seeds=tuple(seeds), steps=steps, guidance=guidance)
    out = Path(out)
    weights = {name: generate.checkpoint_id(folder) for name, folder in checkpoints.items()}  # refused before painting
    scores = _score(checkpoints, prompts, settings, judge, out)
    report = Report(
        title=title,
        version=__version__,
        checkpoints=weights,
        prompts=tuple(prompt.text for prompt in prompts),
        seeds=settings.seeds,
        steps=steps,
        guidance=guidance,
        training=_training(checkpoints),
        comparisons=compare(scores, pairs),
        shown={arm: {part: votes.share(values[f"shown_{part}"]) for part in SHOWN} for arm, values in scores.items()},
    )
    _write(report, out)
    return report


def _check(arms: Mapping[str, Any], pairs: list[tuple[str, str]], checkpoints: Mapping[str, str | Path]) -> None:
    if BASE in arms:
        raise EvaluationError(f'an arm may not be called "{BASE}": that names the base it is compared with')
    if not pairs:
        raise EvaluationError("nothing to compare: name at least one arm")
    if unknown := sorted(set(chain.from_iterable(pairs)) - set(checkpoints)):
        raise EvaluationError(f"unknown arm {', '.join(unknown)}; there are {', '.join(checkpoints)}")


def _training(checkpoints: Mapping[str, str | Path]) -> dict[str, dict[str, Any]]:
    records = {arm: local_folder(folder) / "training.json" for arm, folder in checkpoints.items()}
    return {arm: json.loads(path.read_text()) for arm, path in records.items() if path.is_file()}


def _score(
    checkpoints: Mapping[str, str | Path], prompts: Sequence[Asked], settings: Settings, judge: Judge, out: Path
) -> dict[str, dict[str, np.ndarray]]:
    """Paint and judge every arm; return arm -> column -> (P, S) and write scores.parquet."""
    shape = (len(prompts), len(settings.seeds))
    asked = [prompt for prompt in prompts for _ in settings.seeds]
    texts = [prompt.text for prompt in prompts]
    scores, tables = {}, []
    for arm, checkpoint in checkpoints.items():
        with watched(f"pictures of {arm}", len(asked)) as advance:
            index = generate.paint(checkpoint, texts, settings, out / PICTURES, on_done=advance)
        columns = judge_pictures(judge, [out / PICTURES / file for file in index["file"].to_pylist()], asked)
        scores[arm] = {name: values.reshape(shape) for name, values in columns.items()}
        tables.append(_with_columns(index, {"arm": [arm] * len(asked), **columns}))
    generate.write_parquet(pa.concat_tables(tables), out / SCORES)
    return scores


def judge_pictures(judge: Judge, paths: Sequence[Path], asked: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Judge picture files, one prompt each; return (B,) columns: the aspects, shown_PART, judge_LABEL as it came."""
    judged = _judge_files(judge, paths)
    shown = {f"shown_{part}": values for part, values in shown_correctly(judged, asked).items()}
    raw = {f"judge_{label}": values for label, values in judged.items()}
    return aspect_scores(judged, asked) | shown | raw


def _judge_files(judge: Judge, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Judge a few at a time, so that memory does not grow with the number of pictures."""
    parts = [
        judge.score_images([_open(path) for path in paths[start : start + JUDGED_AT_ONCE]])
        for start in range(0, len(paths), JUDGED_AT_ONCE)
    ]
    return {label: np.concatenate([part[label] for part in parts]) for label in parts[0]}


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def _write(report: Report, out: Path) -> None:
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    plots.win_rates(report.comparisons, figures / "win_rates.png")
    plots.picture_grid(
        _grid(report, out), report.prompts[:GRID_PROMPTS], list(report.checkpoints), figures / "grid.png"
    )
    write_json(asdict(report), out / REPORT)
    pages.write(out)


def _grid(report: Report, out: Path) -> list[list[Image.Image]]:
    """Return the first prompts' pictures of the first seed: rows of prompts, columns of arms."""
    settings = Settings(seeds=report.seeds, steps=report.steps, guidance=report.guidance)
    folders = [out / PICTURES / generate.folder_name(weights, settings) for weights in report.checkpoints.values()]
    return [
        [_open(folder / generate.picture_name(text, report.seeds[0])) for folder in folders]
        for text in report.prompts[:GRID_PROMPTS]
    ]
