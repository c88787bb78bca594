"""Tables: of URLs to download, or of images that lie in the rows, as `datasets` stores them."""

from abc import abstractmethod
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

import curation.sources.files as files
from curation.errors import FetchError, SourceError
from curation.fetch import Fetcher, Limits
from curation.plan import short_hash
from curation.records import SAMPLE, UNAVAILABLE
from curation.sources.base import TEXT_COLUMNS, URL_COLUMNS, Slice, Source, first_of, printable, sample, split_columns

DOWNLOADS = 32  # at once, per worker


@dataclass(frozen=True, kw_only=True)
class Tables(Source):
    """Files of records; a sample is a row. `location` is what the user named, `paths` the files behind it."""

    location: str
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return sum(rows for _, rows in self._counts)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        return [
            Slice(id=short_hash([PurePosixPath(path).name, start, part.stop]), rows=part, place=path)
            for path, rows in self._counts
            for start in range(0, rows, rows_per_shard)
            for part in [range(start, min(rows, start + rows_per_shard))]
        ]

    def identity(self) -> dict[str, Any]:
        listing = short_hash([[PurePosixPath(path).name, rows, files.size(path)] for path, rows in self._counts])
        shown = {"samples": len(self), "listing": listing}
        return {"kind": self.kind, "location": self.location, "options": self.options()} | shown

    def options(self) -> dict[str, Any]:
        """What else is needed to open it again, as JSON values."""
        return {}

    @property
    @abstractmethod
    def column(self) -> str:
        """The column that makes a row a sample."""

    @cached_property
    def text_column(self) -> str | None:
        """The column of the captions."""
        return first_of(self._names, TEXT_COLUMNS)

    @cached_property
    def _names(self) -> list[str]:
        return files.schema(self.paths[0]).names

    @cached_property
    def _counts(self) -> list[tuple[str, int]]:
        return [(path, files.count(path)) for path in self.paths]

    def _text(self, record: dict[str, Any]) -> str | None:
        text = record.get(self.text_column) if self.text_column else None
        return text if text is None or isinstance(text, str) else str(text)


@dataclass(frozen=True, kw_only=True)
class UrlTable(Tables):
    """A table of URLs: every row is downloaded, within `limits`."""

    limits: Limits = field(default_factory=Limits)

    kind = "urls"
    is_remote = True

    @property
    def column(self) -> str:
        return first_of(self._names, URL_COLUMNS) or ""

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        records = [
            record
            for record in files.read(part.place, part.rows)
            if urls is None or printable(str(record.get(self.column))) in urls
        ]
        with ThreadPoolExecutor(DOWNLOADS) as threads:
            return pa.Table.from_pylist(list(threads.map(self._row, records)), SAMPLE)

    def options(self) -> dict[str, Any]:
        return {"allowed": list(self.limits.allowed)}

    def _row(self, record: dict[str, Any]) -> dict[str, Any]:
        url, extra = record.get(self.column), split_columns(record, self.column, self.text_column)
        shown = printable(str(url))
        try:
            image = _fetcher(self.limits).fetch(str(url))
        except FetchError as error:
            return sample(shown, None, self._text(record), extra, gone=str(error)) | {"status": UNAVAILABLE}
        return sample(shown, image, self._text(record), extra)


@dataclass(frozen=True, kw_only=True)
class ImageTable(Tables):
    """A data set as `datasets` writes it to parquet, on this machine or on the Hub: the images lie in the rows.

    A row's url is its url column where there is one, else its place, FILE#ROW.
    """

    kind = "images"

    @property
    def column(self) -> str:
        return image_column(self.paths[0]) or ""

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        numbered = zip(part.rows, files.read(part.place, part.rows), strict=True)
        rows = ((self._url(part.place, number, record), record) for number, record in numbered)
        return pa.Table.from_pylist([self._row(url, r) for url, r in rows if urls is None or url in urls], SAMPLE)

    def mean_bytes(self) -> float:
        files_here = [Path(path) for path in self.paths if Path(path).is_file()]
        if len(files_here) < len(self.paths):  # on the Hub
            return super().mean_bytes()
        return sum(path.stat().st_size for path in files_here) / max(1, len(self))

    @cached_property
    def _url_column(self) -> str | None:
        return first_of(self._names, URL_COLUMNS)

    def _url(self, place: str, number: int, record: dict[str, Any]) -> str:
        url = record.get(self._url_column) if self._url_column else None
        return printable(url) if isinstance(url, str) and url else f"{PurePosixPath(place).name}#{number}"

    def _row(self, url: str, record: dict[str, Any]) -> dict[str, Any]:
        image = record[self.column]
        image = image.get("bytes") if isinstance(image, dict) else image
        extra = split_columns(record, self.column, self.text_column, self._url_column)
        return sample(url, image, self._text(record), extra, gone="the row holds no image bytes")


def image_column(path: str) -> str | None:
    """Return the column of a parquet file that holds images: struct<bytes, path>, or binary named like one."""
    if not path.endswith(".parquet"):
        return None
    for column in files.schema(path):
        is_image = pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0
        is_binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
        if is_image or (is_binary and column.name.lower() in ("image", "img", "jpg", "png", "bytes", "image_bytes")):
            return column.name
    return None


def open_tables(location: str, paths: Sequence[str], limits: Limits) -> Tables:
    """Return the source behind files of one kind. Raises SourceError where they hold neither images nor URLs."""
    paths = tuple(paths)
    source = (
        ImageTable(location=location, paths=paths)
        if image_column(paths[0])
        else UrlTable(location=location, paths=paths, limits=limits)
    )
    if not source.column:
        found = ", ".join(files.schema(paths[0]).names) or "none"
        raise SourceError(f"{paths[0]}: expected images, or URLs in a column {_either(URL_COLUMNS)}; columns: {found}")
    return source


@lru_cache(maxsize=2)
def _fetcher(limits: Limits) -> Fetcher:
    return Fetcher(limits)


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
