"""WebDataset tars: neighbouring files that differ only after the first dot of their names are one sample."""

import json
import tarfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
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
    URL_COLUMNS,
    Slice,
    Source,
    first_of,
    printable,
    sample,
    split_columns,
    too_large,
)

Member = tuple[str, int, int]  # name, where its bytes begin, how many
TEXTS = (".txt", ".caption")


@dataclass(frozen=True, kw_only=True)
class Tars(Source):
    """Archives on this machine. Text: a .txt or .caption beside the image, else from the .json; the rest is kept."""

    location: str
    paths: tuple[str, ...]

    kind = "webdataset"

    def __len__(self) -> int:
        return sum(len(samples) for _, samples in self._index)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        return [
            Slice(id=short_hash([Path(path).name, start, part]), rows=part, place=path)
            for path, samples in self._index
            for start in range(0, len(samples), rows_per_shard)
            for part in [tuple(samples[start : start + rows_per_shard])]
        ]

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        with open(part.place, "rb") as archive:
            rows = [_row(archive, part.place, members) for members in part.rows if _wanted(part.place, members, urls)]
        return pa.Table.from_pylist(rows, SAMPLE)

    def mean_bytes(self) -> float:
        sizes = (_image(members)[2] for _, samples in self._index for members in samples)
        return sum(sizes) / max(1, len(self))

    def identity(self) -> dict[str, Any]:
        listing = short_hash([[Path(path).name, samples] for path, samples in self._index])
        shown = {"samples": len(self), "listing": listing}
        return {"kind": self.kind, "location": self.location, "options": {}} | shown

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location, "paths": self.paths}  # without the index

    @cached_property
    def _index(self) -> list[tuple[str, list[tuple[Member, ...]]]]:
        return [(path, list(_samples(path))) for path in self.paths]


def _samples(path: str) -> Iterator[tuple[Member, ...]]:
    """Read the headers of an archive; group what belongs together; leave out what holds no image."""
    for _, members in groupby(_members(path), key=lambda member: _stem(member[0])):
        group = tuple(members)
        if _image(group):
            yield group


def _members(path: str) -> Iterator[Member]:
    """Files of an archive, up to where it is cut short, if it is."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg():
                    yield printable(member.name), member.offset_data, member.size
    except tarfile.ReadError as error:
        if "unexpected end" not in str(error):
            raise SourceError(f"{path} is not a tar archive (uncompressed): {error}") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error


def _stem(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _image(members: tuple[Member, ...]) -> Member | None:
    return next((member for member in members if member[0].lower().endswith(EXTENSIONS)), None)


def _wanted(place: str, members: tuple[Member, ...], urls: Container[str] | None) -> bool:
    return urls is None or _url(place, members) in urls


def _url(place: str, members: tuple[Member, ...]) -> str:
    """The place in the archive: a URL in the JSON may be missing, or twice."""
    return f"{printable(Path(place).name)}/{_image(members)[0]}"


def _row(archive: Any, place: str, members: tuple[Member, ...]) -> dict[str, Any]:
    record = _record(archive, members)
    column = first_of(list(record), TEXT_COLUMNS)
    texts = [_bytes(archive, member, MAX_TEXT) for member in members if member[0].lower().endswith(TEXTS)]
    text = texts[0].decode("utf-8", "replace").strip() if texts else record.get(column) if column else None
    _, _, size = found = _image(members)
    refusal = too_large(size)
    image = b"" if refusal else _bytes(archive, found, size)
    return sample(
        _url(place, members),
        image if len(image) == size else None,
        text if isinstance(text, str) else None,
        _renamed(split_columns(record, column)),
        gone=refusal or "the archive is cut short",
    )


def _renamed(extra: dict[str, Any]) -> dict[str, Any]:
    """The URL it once was downloaded from is kept as `source_url`: here, `url` is the place in the archive."""
    column = first_of(list(extra), URL_COLUMNS)
    return {("source_url" if name == column else name): value for name, value in extra.items()}


def _record(archive: Any, members: tuple[Member, ...]) -> dict[str, Any]:
    found = next((member for member in members if member[0].lower().endswith(".json")), None)
    try:
        record = json.loads(_bytes(archive, found, MAX_TEXT)) if found else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _bytes(archive: Any, member: Member, most: int) -> bytes:
    _, begins, size = member
    archive.seek(begins)
    return archive.read(min(size, most))
