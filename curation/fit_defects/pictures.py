"""What the network learns from: clean pictures, to be damaged in every view anew, and pictures that people judged.

All are kept beside the training as PNG, reduced to `side` pixels on the shorter side, known by their keys.
Shapes: N pictures, C labels; a label that nobody gave is NaN.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from curation import images, shards
from curation.degrade import DEFECTS
from curation.errors import ImageError, SourceError
from curation.records import OK, img_key
from curation.sources import Source, files, open_source
from curation.sources.base import first_of

LOW_APPEAL = "low_appeal"  # known from labels only
LABELS = (*DEFECTS, LOW_APPEAL)
SCORES = ("mos", "MOS", "mean_score", "mean_opinion_score", "score")
PATHS = ("image", "path", "file_name", "filename", "image_name")
ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of the training or of its validation. `labels`: (C,) for `LABELS`; None for a clean one."""

    key: str
    file: Path
    labels: tuple[float, ...] | None = None

    def pixels(self) -> np.ndarray:
        """Return uint8 RGB (H, W, 3), read only."""
        return _read(str(self.file))


@lru_cache(maxsize=256)
def _read(file: str) -> np.ndarray:
    pixels = images.decode(Path(file).read_bytes())
    pixels.flags.writeable = False
    return pixels


def clean_pictures(pool: str | Path | Source, folder: Path, side: int, told: Callable[[int], None]) -> list[Picture]:
    """Keep the pictures of a pool in `folder`, ordered by key. `told` hears how many rows were read. SourceError."""
    source, found = pool if isinstance(pool, Source) else open_source(pool), {}
    for part in source.slices(ROWS_AT_ONCE):
        for row in source.read(part).to_pylist():
            told(1)
            if row["status"] == OK and (kept := _kept(row["image"], folder, side)):
                found[row["img_key"]] = Picture(key=row["img_key"], file=kept)
    return [found[key] for key in sorted(found)]


def labelled_pictures(table: Path, folder: Path, side: int, *, lowest: float) -> list[Picture]:
    """Keep the pictures that a table names in one of `PATHS`, relative to the table, with their labels.

    Columns named like `LABELS` hold [0,1]; one of `SCORES` makes its `lowest` share low appeal. Raises SourceError.
    """
    rows = files.read(str(table), range(files.count(str(table))))
    names = list(rows[0]) if rows else []
    path = first_of(names, PATHS)
    columns = [name for name in names if name in LABELS]
    score = None if LOW_APPEAL in columns else first_of(names, SCORES)
    if path is None or not (columns or score):
        raise SourceError(
            f"{table} has the columns {', '.join(names)}; expected one of {', '.join(PATHS)}, and labels "
            f"({', '.join(LABELS)}) or a score ({', '.join(SCORES)})"
        )
    bound = np.nanquantile([_number(row[score], table) for row in rows], lowest) if score else None
    found = {}
    for row in rows:
        labels = [_label(row[name], table) if name in columns else np.nan for name in LABELS]
        if score and not np.isnan(value := _number(row[score], table)):
            labels[LABELS.index(LOW_APPEAL)] = float(value <= bound)
        try:
            data = (table.parent / str(row[path])).read_bytes()
        except OSError as error:
            raise SourceError(f"{table} names {row[path]}, which cannot be read: {error.strerror}") from error
        if kept := _kept(data, folder, side):
            found[img_key(data)] = Picture(key=img_key(data), file=kept, labels=tuple(labels))
    return [found[key] for key in sorted(found)]


def split(pictures: list[Picture], share: float) -> tuple[list[Picture], list[Picture]]:
    """Return (training, validation): other files, chosen by their keys, the same in every run."""
    ordered = sorted(pictures, key=lambda picture: hashlib.sha256(picture.key.encode()).hexdigest())
    count = max(1, round(len(ordered) * share)) if share and len(ordered) > 1 else 0
    return ordered[count:], ordered[:count]


def _kept(data: bytes, folder: Path, side: int) -> Path | None:
    """Reduce and keep one file, unless it is there; None where it is no whole picture."""
    file = folder / f"{img_key(data)}.png"
    if not file.exists():
        try:
            pixels = images.decode(data)
        except ImageError:
            return None  # as the funnel would, but without a ledger to tell it to
        scale = min(1.0, side / min(pixels.shape[:2]))
        reduced = images.resize(pixels, tuple(max(1, round(edge * scale)) for edge in pixels.shape[1::-1]))
        _, png = cv2.imencode(".png", reduced[..., ::-1])
        shards.write_atomically(file, png.tobytes())
    return file


def _label(value: object, table: Path) -> float:
    number = _number(value, table)
    if not np.isnan(number) and not 0 <= number <= 1:
        raise SourceError(f"{table}: a label is {value}; expected [0,1], or nothing where it is not known")
    return number


def _number(value: object, table: Path) -> float:
    try:
        return float(value) if value not in (None, "") else float("nan")
    except (TypeError, ValueError) as error:
        raise SourceError(f"{table}: {value!r} is no number") from error


def known(pictures: list[Picture]) -> Iterator[str]:
    """Yield the labels that have an example of both kinds, so that a network can learn them."""
    labels_NC = np.array([picture.labels for picture in pictures if picture.labels]).reshape(-1, len(LABELS))
    has_clean = any(picture.labels is None for picture in pictures)
    for column, name in enumerate(LABELS):
        judged = labels_NC[:, column] >= 0.5, labels_NC[:, column] < 0.5
        if (has_clean and name in DEFECTS) or all(side.any() for side in judged):
            yield name
