"""Data sets that `datasets` saved with `save_to_disk`."""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.errors import SourceError
from curation.plan import short_hash
from curation.records import SAMPLE
from curation.sources.base import TEXT_COLUMNS, URL_COLUMNS, Slice, Source, first_of, printable, sample, split_columns

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Saved(Source):
    """A folder with state.json and arrow files."""

    location: str

    kind = "saved"

    def __len__(self) -> int:
        return len(self._data)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        count = len(self)
        ranges = [range(start, min(count, start + rows_per_shard)) for start in range(0, count, rows_per_shard)]
        return [Slice(id=short_hash([rows.start, rows.stop]), rows=rows) for rows in ranges]

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        rows = ((self._url(number), number) for number in part.rows)
        return pa.Table.from_pylist([self._row(url, at) for url, at in rows if urls is None or url in urls], SAMPLE)

    def identity(self) -> dict[str, Any]:
        arrow = sorted(Path(self.location).glob("*.arrow"))
        listing = short_hash([[path.name, path.stat().st_size] for path in arrow])
        shown = {"samples": len(self), "listing": listing}
        return {"kind": self.kind, "location": self.location, "options": {}} | shown

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location}

    @cached_property
    def _data(self) -> "Dataset":
        from datasets import DatasetDict, Image, load_from_disk

        try:
            data = load_from_disk(self.location)
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {self.location}: {error}") from error
        if isinstance(data, DatasetDict):
            raise SourceError(f"{self.location} holds the splits {', '.join(data)}: name the folder of one of them")
        for name, feature in data.features.items():
            if isinstance(feature, Image):
                return data.cast_column(name, Image(decode=False))
        raise SourceError(f"{self.location}: expected a column of images; columns: {', '.join(data.column_names)}")

    @cached_property
    def _columns(self) -> tuple[str, str | None, str | None]:
        """The columns of image, url and text."""
        from datasets import Image

        names = self._data.column_names
        image = next(name for name in names if isinstance(self._data.features[name], Image))
        return image, first_of(names, URL_COLUMNS), first_of(names, TEXT_COLUMNS)

    def _url(self, number: int) -> str:
        _, column, _ = self._columns
        url = self._data[column][number] if column else None
        return printable(url) if isinstance(url, str) and url else f"#{number}"

    def _row(self, url: str, number: int) -> dict[str, Any]:
        record = self._data[number]
        image_column, url_column, text_column = self._columns
        text = record.get(text_column) if text_column else None
        extra = split_columns(record, image_column, url_column, text_column)
        return sample(url, (record[image_column] or {}).get("bytes"), text, extra, gone="the row holds no image bytes")
