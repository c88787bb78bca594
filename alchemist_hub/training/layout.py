"""Which pictures of a data set are shown, and each in which bucket. What cannot be shown is counted by reason.

Shapes: N pictures that are shown.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Image as ImageFeature
from PIL import Image
from rich.console import Console
from torch import Tensor

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.buckets import SDXL, Size, assign, crop_corner, enlargement, table
from alchemist_hub.training.recipes import TrainingRecipe

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: the values that exchange width and height
EMPTY, SMALL = "with an empty prompt", "too small for their bucket"  # why pictures are not shown


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The pictures that are shown, in the order of the data set."""

    rows: tuple[int, ...]  # their places in the data set
    sizes: tuple[Size, ...]  # as they are in the data set, (height, width) in pixels
    buckets: tuple[Size, ...]  # those that are used
    bucket_of: tuple[int, ...]  # index into `buckets`
    skipped: dict[str, int] = field(default_factory=dict)  # how many for which reason

    def members(self, bucket: int) -> list[int]:
        """Return the pictures of a bucket, as indices into `rows`."""
        return [index for index, found in enumerate(self.bucket_of) if found == bucket]

    @cached_property
    def sizes_N6(self) -> Tensor:
        """Original height and width, top and left of the cut, height and width shown: SDXL's micro-conditioning."""
        shown = [self.buckets[bucket] for bucket in self.bucket_of]
        return torch.tensor(
            [[*size, *crop_corner(size, bucket), *bucket] for size, bucket in zip(self.sizes, shown, strict=True)],
            dtype=torch.float32,
        )

    def tell(self) -> None:
        """Say on stderr what is not shown, if anything."""
        for reason, count in self.skipped.items():
            Console(stderr=True).print(f"not shown: {count} of {count + len(self.rows)} pictures, {reason}")

    def digest(self) -> str:
        """Return a hash of which picture is where."""
        return hashlib.sha256(json.dumps([self.rows, self.buckets, self.bucket_of]).encode()).hexdigest()


def table_of(recipe: TrainingRecipe, base: Path, denoiser: torch.nn.Module) -> Sequence[Size]:
    """Return the buckets that a recipe asks for, around the base's native size unless it names another."""
    if recipe.buckets == "sdxl":
        return SDXL
    blocks = json.loads((base / "vae" / "config.json").read_text())["block_out_channels"]
    size = recipe.size or denoiser.config.sample_size * 2 ** (len(blocks) - 1)
    return table(size) if recipe.buckets == "ratios" else [(size, size)]


def lay_out(rows: Any, buckets: Sequence[Size], *, least: int, enlarge: float) -> Layout:
    """Choose the pictures of `rows` (a `datasets.Dataset`) to show, and their buckets.

    Left out are empty prompts, and pictures that would have to be enlarged by more than `enlarge` to fill their bucket.
    A bucket of fewer than `least` pictures is given up: they move to the next one. Raises `TrainingError` if nothing is
    left.
    """
    prompts, sizes = rows["prompt"], _sizes(rows)
    skipped: Counter[str] = Counter()
    kept = [index for index, prompt in enumerate(prompts) if (prompt or "").strip()]
    skipped[EMPTY] = len(rows) - len(kept)
    bucket_of = _filled(sizes, kept, buckets, least=least, enlarge=enlarge)
    skipped[SMALL] = len(kept) - len(bucket_of)
    told = {reason: count for reason, count in skipped.items() if count}
    if not bucket_of:
        reasons = ", ".join(f"{count} {reason}" for reason, count in told.items()) or "the data set is empty"
        raise TrainingError(f"no picture of {len(rows)} can be shown: {reasons}")
    used = tuple(sorted(set(bucket_of.values())))
    return Layout(
        rows=tuple(bucket_of),
        sizes=tuple(sizes[index] for index in bucket_of),
        buckets=used,
        bucket_of=tuple(used.index(bucket) for bucket in bucket_of.values()),
        skipped=told,
    )


def _filled(
    sizes: Sequence[Size], rows: Sequence[int], buckets: Sequence[Size], *, least: int, enlarge: float
) -> dict[int, Size]:
    """The bucket of every one of `rows` that is shown.

    Small pictures leave before they can keep a bucket alive; what a bucket that is given up held may be too small for
    the next, and leave in turn.
    """
    bucket_of = dict.fromkeys(rows)
    for fewest in (1, least):
        settled = False
        while bucket_of and not settled:
            chosen = assign([sizes[row] for row in bucket_of], buckets, least=fewest)
            found = dict(zip(bucket_of, chosen, strict=True))
            bucket_of = {row: bucket for row, bucket in found.items() if enlargement(sizes[row], bucket) <= enlarge}
            settled = len(bucket_of) == len(found)
    return bucket_of


def _sizes(rows: Any) -> list[Size]:
    """(height, width) of every picture: from the data set's columns, or else from the files' headers."""
    if {"width", "height"} <= set(rows.column_names):
        return list(zip(rows["height"], rows["width"], strict=True))
    files = rows.select_columns(["img_key", "image"]).cast_column("image", ImageFeature(decode=False))
    return [_header_size(row["img_key"], row["image"]) for row in files]


def _header_size(key: str, file: dict[str, Any]) -> Size:
    """(height, width) as people see the picture. Raises `TrainingError`."""
    try:
        with Image.open(file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"])) as image:
            width, height = image.size
            return (width, height) if image.getexif().get(_ORIENTATION, 1) in _TURNED else (height, width)
    except (OSError, Image.DecompressionBombError) as error:
        raise TrainingError(f"picture {key} cannot be decoded: {error}; take it out of the data set") from error
