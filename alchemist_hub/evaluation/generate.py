"""Pictures for an evaluation: every prompt with every seed, from one checkpoint, kept on disk.

A picture's place is named by what made it (weights, settings, prompt, seed), so a second run finds what the first one
finished and paints only the rest; a changed checkpoint or setting never meets old pictures. Several processes share
the work: each paints every so-manieth picture, whatever the others do.
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
import torch
from PIL import Image

from alchemist_hub import sampling
from alchemist_hub.errors import EvaluationError
from alchemist_hub.models import local_folder

INDEX = "index.parquet"
DTYPES = ("float32", "bfloat16", "float16")
EXACT = "float32"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pictures are sampled. Steps, guidance and precision decide what they show and are part of their place."""

    seeds: tuple[int, ...]
    steps: int
    guidance: float
    dtype: str = EXACT
    batch: int = 8  # pictures per call: changes speed and memory only
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of the pictures this process paints, and how it waits for those that paint the rest."""

    index: int = 0
    of: int = 1
    wait: Callable[[], None] = lambda: None


ALL = Share()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One picture to be there."""

    row: int  # of the prompt
    text: str
    seed: int  # which of the prompt's pictures
    path: Path

    @property
    def noise(self) -> int:
        """The seed of its noise."""
        return noise_seed(self.text, self.seed)


def paint(
    checkpoint: str | Path,
    prompts: Sequence[str],
    settings: Settings,
    out: Path,
    *,
    share: Share = ALL,
    weights: str | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> pa.Table:
    """Paint what is missing or broken below `out` and return the index, prompts first, seeds within.

    The index has the columns prompt_index, prompt, seed, noise_seed and file (relative to `out`); it is also in
    index.parquet. Every prompt starts from noise of its own (`noise_seed`): with one noise for all, what it happens to
    favour would be in every picture, and intervals over prompts would not know.
    `weights` is the checkpoint's id where it is known already. `on_done(count)` is told of this process's pictures,
    found or made. A picture depends on its prompt and seed alone: other batches or numbers of processes change it by
    rounding at most (one level of 255 in float32). Raises EvaluationError without prompts or seeds, for a place that
    cannot be written and for a batch that does not fit the card, ModelError for a checkpoint that cannot be read.
    """
    wanted = wanted_pictures(weights or checkpoint_id(checkpoint), prompts, settings, out)
    own = list({picture.path: picture for picture in wanted}.values())[share.index :: share.of]
    missing = [picture for picture in own if not is_whole(picture.path)]
    on_done(len(own) - len(missing))
    if missing:
        _make_folder(missing[0].path.parent)
        pipe = sampling.load(checkpoint, device=settings.device, dtype=getattr(torch, settings.dtype))
        for batch in _batches(missing, settings.batch):
            _paint_batch(pipe, batch, settings)
            on_done(len(batch))
    share.wait()
    index = pa.table(
        {
            "prompt_index": pa.array([picture.row for picture in wanted], pa.int32()),
            "prompt": [picture.text for picture in wanted],
            "seed": pa.array([picture.seed for picture in wanted], pa.int64()),
            "noise_seed": pa.array([picture.noise for picture in wanted], pa.int64()),
            "file": [picture.path.relative_to(out).as_posix() for picture in wanted],
        }
    )
    if share.index == 0:
        write_parquet(index, wanted[0].path.parent / INDEX)
    return index


def wanted_pictures(weights: str, prompts: Sequence[str], settings: Settings, out: Path) -> list[Wanted]:
    """Return every prompt with every seed and its place below `out`. Raises EvaluationError if there is none."""
    if not prompts or not settings.seeds:
        raise EvaluationError(f"nothing to paint: {len(prompts)} prompts and {len(settings.seeds)} seeds were given")
    folder = out / folder_name(weights, settings)
    return [
        Wanted(row=row, text=text, seed=seed, path=folder / picture_name(text, seed))
        for (row, text), seed in product(enumerate(prompts), settings.seeds)
    ]


def folder_name(weights: str, settings: Settings) -> str:
    """Return the name below which the pictures of these weights and settings lie."""
    precision = "" if settings.dtype == EXACT else f"-{settings.dtype}"
    return f"{weights}-{settings.steps}steps-cfg{settings.guidance:g}{precision}"


def noise_seed(prompt: str, seed: int) -> int:
    """Return the seed that a prompt's picture number `seed` is painted with, the same for every checkpoint.

    A function of both, in [0, 2^31): `alchemist sample --seed` paints the same picture with it.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {prompt}".encode()).digest()[:4], "big") >> 1


def picture_name(prompt: str, seed: int) -> str:
    """Return the file name of one picture."""
    return f"{hashlib.sha256(prompt.encode()).hexdigest()[:16]}-{noise_seed(prompt, seed)}.png"


def is_whole(path: Path) -> bool:
    """Whether a picture is there to its last byte: PNG has a checksum in every chunk and a mark at its end."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except (OSError, SyntaxError):  # how PIL tells of no file, no picture and broken chunks
        return False
    return True


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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be made: {error.strerror}; name another folder with --out") from error


def _paint_batch(pipe: object, batch: list[Wanted], settings: Settings) -> None:
    texts, seeds = [picture.text for picture in batch], [picture.noise for picture in batch]
    try:
        images = sampling.generate(
            pipe, texts, seeds, steps=settings.steps, guidance=settings.guidance, batch_size=settings.batch
        )
    except torch.OutOfMemoryError as error:
        raise EvaluationError(
            f"{len(batch)} pictures at once do not fit {settings.device}: lower --batch-size; what is painted stays"
        ) from error
    for picture, image in zip(batch, images, strict=True):
        _save(image, picture.path)


def _save(image: Image.Image, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        image.save(part, format="PNG")
        os.replace(part, path)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {error.strerror}; what is painted stays") from error


def _batches(items: list[Wanted], size: int) -> Iterator[list[Wanted]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
