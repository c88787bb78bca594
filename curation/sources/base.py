"""What a source is: it cuts itself into slices, and reads a slice as a table of `records.SAMPLE`.

A slice is small, picklable and deterministic: it names its rows, it does not hold them. A row that cannot be read or
has no readable header is still a row, with a status and the reason.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.errors import ImageError
from curation.images import probe
from curation.records import OK, UNDECODABLE, img_key

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TEXT_COLUMNS = ("text", "caption", "prompt", "TEXT", "txt", "alt_text")
MAX_BYTES = 256 << 20  # of one file on this machine; more is not read: no picture within bounds needs it
MAX_TEXT = 1 << 20  # bytes of a caption or of a JSON that are read
URL_COLUMNS = ("url", "URL", "image_url", "uri", "link")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One shard's part of a source: an id that is the same in every run, and the rows it names, source's own words."""

    id: str
    rows: Sequence[Any]  # can be cut: a tuple or a range
    place: str | None = None  # the file that holds them, where it is one


class Source(ABC):
    """A pool of samples. Pickled to the workers, so it holds where the pool is, not the pool."""

    kind: str
    is_remote = False  # reading costs a download: what the first segment keeps is stored beside the ledger

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def slices(self, rows_per_shard: int) -> list[Slice]:
        """Cut into slices of at most `rows_per_shard` rows, the same in every run."""

    @abstractmethod
    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        """Read a slice as a table of `records.SAMPLE`; only the rows of `urls` where they are given."""

    def mean_bytes(self) -> float:
        """Bytes of a sample, about: what tells how many rows a worker can hold. Half a megabyte where none knows."""
        return 500_000.0

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this pool from another, as JSON values: part of what a run folder is bound to.

        `kind`, `location` and `options` open it again; `samples` and `listing` tell whether it is still the same.
        """


def sample(
    url: str, image: bytes | None, text: str | None, extra: Mapping[str, Any] | None = None, *, gone: str = ""
) -> dict[str, Any]:
    """Return one row of `records.SAMPLE`. Without `image` the row is undecodable, `gone` says why."""
    row: dict[str, Any] = {"url": url, "text": text, "extra": _as_json(extra), "status": OK}
    if image is None:  # no bytes to hash: known by its place
        key = img_key(f"unreadable:{url}".encode())
        return row | {"img_key": key, "status": UNDECODABLE, "detail": gone}
    row |= {"img_key": img_key(image), "image": image, "bytes": len(image)}
    try:
        header = probe(image)
    except ImageError as error:
        return row | {"status": UNDECODABLE, "detail": str(error)}
    return row | {"width": header.width, "height": header.height}


def too_large(size: int) -> str:
    """Why a file of `size` bytes is not read; empty if it is."""
    return f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read" if size > MAX_BYTES else ""


def split_columns(record: Mapping[str, Any], *used: str | None) -> dict[str, Any]:
    """Return the columns of a record that are not `used` and not empty: what is kept to the end as it came."""
    return {name: value for name, value in record.items() if name not in used and value is not None}


def first_of(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the first candidate that is among `names`."""
    return next((name for name in candidates if name in names), None)


def printable(name: str) -> str:
    """A name that is not valid UTF-8 is shown with escapes, so that any table can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _as_json(extra: Mapping[str, Any] | None) -> str | None:
    return json.dumps(extra, sort_keys=True, ensure_ascii=False, default=str) if extra else None
