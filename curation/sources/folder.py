"""A folder of images on this machine."""

import os
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import SourceError
from curation.plan import short_hash
from curation.records import SAMPLE
from curation.sources.base import (
    EXTENSIONS,
    MAX_TEXT,
    TEXT_COLUMNS,
    Slice,
    Source,
    first_of,
    printable,
    sample,
    split_columns,
    too_large,
)
from curation.sources.files import csv_lines, json_lines

FILE_NAME = "file_name"  # the column of metadata.jsonl and metadata.csv that names the image, as `datasets` has it
Described = tuple[str | None, Mapping[str, Any]]  # text, further columns


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images below a folder. Text: a .txt beside the image, else metadata.jsonl or .csv at the top, else its name."""

    root: Path

    kind = "folder"

    def __len__(self) -> int:
        return len(self._files)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        described = _metadata(self.root)
        rows = [(name, size, described.get(name, (None, {}))) for name, size in self._files]
        parts = [tuple(rows[start : start + rows_per_shard]) for start in range(0, len(rows), rows_per_shard)]
        return [Slice(id=short_hash([printable(name) for name, *_ in part]), rows=part) for part in parts]

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        rows = [self._row(name, told) for name, _, told in part.rows if urls is None or printable(name) in urls]
        return pa.Table.from_pylist(rows, SAMPLE)

    def mean_bytes(self) -> float:
        return sum(size for _, size in self._files) / max(1, len(self))

    def identity(self) -> dict[str, Any]:
        listing = short_hash([[printable(name), size] for name, size in self._files])
        location = str(self.root)
        return {"kind": self.kind, "location": location, "options": {}, "samples": len(self), "listing": listing}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}  # without the listing

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        """(path below the root, bytes) of every image, sorted by path; hidden files and folders are left out."""
        try:
            return sorted(_walk(self.root))
        except OSError as error:
            raise SourceError(f"cannot list {self.root}: {error.strerror}") from error

    def _row(self, name: str, told: Described) -> dict[str, Any]:
        text, extra = told
        path = self.root / name
        try:
            gone = _refusal(path)
            image = None if gone else path.read_bytes()
        except OSError as error:
            return sample(printable(name), None, text, extra, gone=f"cannot be read: {error.strerror}")
        return sample(printable(name), image, _sidecar(path) or text or _words(name), extra, gone=gone)


def _refusal(path: Path) -> str:
    """Why a path is not read at all: a pipe would never end."""
    found = path.stat()
    return too_large(found.st_size) if stat.S_ISREG(found.st_mode) else "not a file"


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith("."):
                yield path.relative_to(root).as_posix(), path.lstat().st_size


def _words(name: str) -> str:
    return " ".join(printable(Path(name).stem).replace("_", " ").replace("-", " ").split())


def _sidecar(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return None
    with beside.open("rb") as file:
        return file.read(MAX_TEXT).decode("utf-8", "replace").strip()


def _metadata(root: Path) -> dict[str, Described]:
    """Read metadata.jsonl or metadata.csv: `file_name`, the text in one of `TEXT_COLUMNS`, whatever else."""
    for path, records in ((root / "metadata.jsonl", json_lines), (root / "metadata.csv", csv_lines)):
        if path.is_file():
            return dict(_described(path, record) for record in records(path))
    return {}


def _described(path: Path, record: dict[str, Any]) -> tuple[str, Described]:
    if not isinstance(record, dict) or FILE_NAME not in record:
        raise SourceError(f"{path}: expected {FILE_NAME} in every line")
    column = first_of(list(record), TEXT_COLUMNS)
    text = record.get(column) if column else None
    return record[FILE_NAME], (text if isinstance(text, str) else None, split_columns(record, FILE_NAME, column))
