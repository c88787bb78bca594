"""A remote source with a store beside the ledger, so that what was downloaded once is not asked for again.

RUN/images/SLICE.START.parquet   url and bytes of the rows that the first segment's rules kept

Rows that were not stored (a threshold was loosened since, or a file is gone) are downloaded again.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation import shards
from curation.records import SAMPLE
from curation.sources.base import Slice, Source


@dataclass(frozen=True, kw_only=True)
class Stored(Source):
    """Reads `source` through the store in `folder`."""

    source: Source
    folder: Path

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def is_remote(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.source)

    def slices(self, rows_per_shard: int) -> list[Slice]:
        return self.source.slices(rows_per_shard)

    def mean_bytes(self) -> float:
        return self.source.mean_bytes()

    def identity(self) -> dict[str, Any]:
        return self.source.identity()

    def read(self, part: Slice, urls: Container[str] | None = None) -> pa.Table:
        if urls is None:
            return self.source.read(part)
        kept = [_rows(path, list(urls)) for path in self._paths(part)]
        found = {url for table in kept for url in table["url"].to_pylist()}
        missing = set(urls) - found
        return pa.concat_tables([*kept, self.source.read(part, missing)] if missing or not kept else kept)

    def keep(self, part: Slice, start: int, table: pa.Table) -> None:
        """Store rows of a slice, which were read from its row `start` on. One image is one row group: read alone."""
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, row_group_size=1, compression="none")
        shards.write_atomically(self.folder / f"{part.id}.{start}.parquet", buffer.getvalue().to_pybytes())

    def _paths(self, part: Slice) -> list[Path]:
        return sorted(self.folder.glob(f"{part.id}.*.parquet"))


def _rows(path: Path, urls: list[str]) -> pa.Table:
    return pq.read_table(path, filters=[("url", "in", urls)]).cast(SAMPLE)
