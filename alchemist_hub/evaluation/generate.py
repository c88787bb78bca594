"""Pictures for an evaluation: every prompt with every seed, from one checkpoint, kept on disk.

A picture's place is named by what made it (weights, settings, prompt, seed), so a second run finds what the first one
finished and paints only the rest; a changed checkpoint or setting never meets old pictures.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from alchemist_hub import sampling
from alchemist_hub.errors import EvaluationError
from alchemist_hub.models import local_folder

INDEX = "index.parquet"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pictures are sampled: the same for every checkpoint that is compared."""

    seeds: tuple[int, ...]
    steps: int
    guidance: float
    batch: int = 8  # pictures per call: changes speed and memory only


def paint(
    checkpoint: str | Path,
    prompts: Sequence[str],
    settings: Settings,
    out: Path,
    *,
    on_done: Callable[[int], None] = lambda count: None,
) -> pa.Table:
    """Paint what is missing below `out` and return the index, prompts first, seeds within: also in index.parquet.

    Columns: prompt_index, prompt, seed, file (relative to `out`). `on_done(count)` is told of pictures found or made.
    Raises EvaluationError without prompts or seeds, ModelError for a checkpoint that cannot be read.
    """
    if not prompts or not settings.seeds:
        raise EvaluationError(f"nothing to paint: {len(prompts)} prompts and {len(settings.seeds)} seeds were given")
    folder = out / folder_name(checkpoint_id(checkpoint), settings)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        (row, text, seed, folder / picture_name(text, seed))
        for (row, text), seed in product(enumerate(prompts), settings.seeds)
    ]
    missing = list({path: (text, seed) for _, text, seed, path in wanted if not path.exists()}.items())
    on_done(len(wanted) - len(missing))
    if missing:
        pipe = sampling.load(checkpoint)
        for batch in _batches(missing, settings.batch):
            _paint_batch(pipe, batch, settings)
            on_done(len(batch))
    index = pa.table(
        {
            "prompt_index": pa.array([row for row, *_ in wanted], pa.int32()),
            "prompt": [text for _, text, *_ in wanted],
            "seed": pa.array([seed for *_, seed, _ in wanted], pa.int64()),
            "file": [path.relative_to(out).as_posix() for *_, path in wanted],
        }
    )
    write_parquet(index, folder / INDEX)
    return index


def folder_name(weights: str, settings: Settings) -> str:
    """Return the name below which the pictures of these weights and settings lie."""
    return f"{weights}-{settings.steps}steps-cfg{settings.guidance:g}"


def picture_name(prompt: str, seed: int) -> str:
    """Return the file name of one picture."""
    return f"{hashlib.sha256(prompt.encode()).hexdigest()[:16]}-{seed}.png"


def checkpoint_id(checkpoint: str | Path) -> str:
    """Return 12 hex digits over the bytes of every component that model_index.json names. Raises ModelError."""
    folder = local_folder(checkpoint)
    index = folder / "model_index.json"
    digest = hashlib.sha256(index.read_bytes())
    components = [folder / name for name in json.loads(index.read_text()) if not name.startswith("_")]
    for path in sorted(file for part in components if part.is_dir() for file in part.rglob("*") if file.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:12]


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a parquet file that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part)
    os.replace(part, path)


def _paint_batch(pipe: object, batch: list[tuple[Path, tuple[str, int]]], settings: Settings) -> None:
    texts, seeds = [text for _, (text, _) in batch], [seed for _, (_, seed) in batch]
    images = sampling.generate(pipe, texts, seeds, steps=settings.steps, guidance=settings.guidance)
    for (path, _), image in zip(batch, images, strict=True):
        _save(image, path)


def _save(image: Image.Image, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    image.save(part, format="PNG")
    os.replace(part, path)


def _batches(items: list, size: int) -> Iterator[list]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
