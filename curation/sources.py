"""Where samples come from: each source cuts itself into slices, and reads a slice as a table of `records.SAMPLE`.

A slice is small, picklable and deterministic: it names its rows, it does not hold them. A row that cannot be read or
has no readable header is still a row, with status "undecodable" and the reason.
"""

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import ImageError, SourceError
from curation.images import probe
from curation.plan import short_hash
from curation.records import OK, SAMPLE, UNDECODABLE, img_key

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
CAPTION_COLUMNS = ("text", "caption", "prompt")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One shard's part of a source: an id that is the same in every run, and the rows it names, source's own words."""

    id: str
    rows: tuple[Any, ...]


class Source(ABC):
    """A pool of samples. Pickled to the workers, so it holds where the pool is, not the pool."""

    kind: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def slices(self, rows_per_shard: int) -> list[Slice]:
        """Cut into slices of at most `rows_per_shard` rows, the same in every run."""

    @abstractmethod
    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        """Read a slice as a table of `records.SAMPLE`; only the rows of `urls` where they are given."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this pool from another, as JSON values: part of what a run folder is bound to."""


def open_source(location: str | Path) -> Source:
    """Open a folder of images. Raises SourceError where there is none, or it holds no image."""
    text = str(location)
    if "://" in text:
        raise SourceError(f"cannot read {text}: expected a folder of images on this machine")
    root = Path(text).expanduser()
    if not root.exists():
        raise SourceError(f"no such folder: {text}")
    if not root.is_dir():
        raise SourceError(f"{text} is a file; expected a folder of images ({', '.join(EXTENSIONS)})")
    source = Folder(root=root.resolve())
    if not len(source):
        raise SourceError(f"{text} holds no image: no file below it ends in {', '.join(EXTENSIONS)}")
    return source


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images below a folder. Text: a .txt beside the image, else metadata.jsonl or .csv at the top, else its name."""

    root: Path

    kind = "folder"

    def __len__(self) -> int:
        return len(self._files)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        captions = _metadata(self.root)
        rows = [(name, size, captions.get(name)) for name, size in self._files]
        parts = [tuple(rows[start : start + rows_per_shard]) for start in range(0, len(rows), rows_per_shard)]
        return [Slice(id=short_hash([_printable(name) for name in _names(part)]), rows=part) for part in parts]

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        rows = [self._row(name, caption) for name, _, caption in part.rows if urls is None or _printable(name) in urls]
        return pa.Table.from_pylist(rows, SAMPLE)

    def identity(self) -> dict[str, Any]:
        listing = short_hash([[_printable(name), size] for name, size in self._files])
        return {"kind": self.kind, "location": str(self.root), "samples": len(self), "listing": listing}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}  # without the listing

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        """(path below the root, bytes) of every image, sorted by path; hidden files and folders are left out."""
        try:
            return sorted(_walk(self.root))
        except OSError as error:
            raise SourceError(f"cannot list {self.root}: {error.strerror}") from error

    def _row(self, name: str, caption: str | None) -> dict[str, Any]:
        row = {"url": _printable(name), "status": OK}
        try:
            image = (self.root / name).read_bytes()
            row |= {"img_key": img_key(image), "image": image, "bytes": len(image)}
            row["text"] = _sidecar(self.root / name) or caption or _words(name)
            header = probe(image)
            row |= {"width": header.width, "height": header.height}
        except OSError as error:
            key = img_key(f"unreadable:{row['url']}".encode())  # no bytes to hash: known by its path
            row = {"img_key": key, **row, "status": UNDECODABLE, "detail": f"cannot be read: {error.strerror}"}
        except ImageError as error:
            row |= {"status": UNDECODABLE, "detail": str(error)}
        return row


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith("."):
                yield path.relative_to(root).as_posix(), path.lstat().st_size


def _names(rows: tuple[tuple[str, int, str | None], ...]) -> list[str]:
    return [name for name, _, _ in rows]


def _printable(name: str) -> str:
    """A file name that is not valid UTF-8 is shown with escapes, so that any table can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _words(name: str) -> str:
    return " ".join(_printable(Path(name).stem).replace("_", " ").replace("-", " ").split())


def _sidecar(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    return text.read_text("utf-8", "replace").strip() if text.is_file() else None


def _metadata(root: Path) -> dict[str, str]:
    """Read the captions of metadata.jsonl or metadata.csv: `file_name` and one of `CAPTION_COLUMNS`."""
    for path, records in ((root / "metadata.jsonl", _json_lines), (root / "metadata.csv", _csv_lines)):
        if path.is_file():
            return dict(_captions(path, records(path)))
    return {}


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise SourceError(f"{path}, line {number} is not JSON: {error.msg}") from error


def _csv_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        yield from csv.DictReader(file)


def _captions(path: Path, records: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for record in records:
        column = next((name for name in CAPTION_COLUMNS if isinstance(record.get(name), str)), None)
        if "file_name" not in record or column is None:
            raise SourceError(f"{path}: expected file_name and one of {', '.join(CAPTION_COLUMNS)} in every line")
        yield record["file_name"], record[column]
