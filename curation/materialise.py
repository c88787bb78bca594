"""A published table of URLs turned into a data set with images again, as far as the web still has them.

OUT/parts/SLICE.parquet            committed downloads, one slice of the table each
OUT/data/train-00000-of-00001.parquet   img_key, url, prompt, image, width, height: what arrived unchanged
OUT/rotted.jsonl                   the rest, with the reason
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation import shards
from curation.engines.progress import Progress, Silence
from curation.errors import SourceError
from curation.records import OK
from curation.sources import open_source
from curation.sources.base import Slice
from curation.sources.tables import UrlTable

ROWS_PER_PART = 256
CHANGED = "changed"
KEY = "img_key"


@dataclass(frozen=True)
class Report:
    """What became of a table's rows: those that arrived, and reason -> how many did not."""

    folder: Path
    arrived: int
    lost: Mapping[str, int]

    def lines(self) -> list[str]:
        """Return the report as people read it."""
        total = self.arrived + sum(self.lost.values())
        reasons = [f"  {count:,} {reason}" for reason, count in sorted(self.lost.items(), key=lambda item: -item[1])]
        return [f"{self.arrived:,} of {total:,} images are in {self.folder}", *reasons]


def materialise(
    table: str | Path, out: Path, *, allowed: tuple[str, ...] = (), progress: Progress | None = None
) -> Report:
    """Download every row of `table` and write OUT as a `datasets`-loadable folder; an earlier run's parts are kept.

    An image whose key is not the table's `img_key` has changed since and is left out. Raises SourceError.
    """
    watcher = progress or Silence()
    source = open_source(table, allowed=allowed)
    if not isinstance(source, UrlTable):
        raise SourceError(f"{table}: expected a table of URLs")
    parts = source.slices(ROWS_PER_PART)
    folder = out / "parts"
    done = sum(len(part.rows) for part in parts if shards.is_committed(folder, part.id))
    watcher.begin("download", len(source), done)
    for part in parts:
        if not shards.is_committed(folder, part.id):
            shards.commit(folder, part.id, _judged(source, part))
            watcher.advance(len(part.rows))
    watcher.end()
    return _written(out, [folder / f"{part.id}.parquet" for part in parts])


def _judged(source: UrlTable, part: Slice) -> pa.Table:
    """Download a slice; a row's `lost` says why it is not what the table promised."""
    rows = source.read(part).to_pylist()
    for row in rows:
        promised = json.loads(row["extra"] or "{}").get(KEY)
        changed = promised is not None and promised != row[KEY]
        row["lost"] = f"{row['status']}: {row['detail']}" if row["status"] != OK else CHANGED if changed else None
    return pa.Table.from_pylist(rows, _PART)


def _written(out: Path, parts: list[Path]) -> Report:
    tables = [pq.read_table(path) for path in parts]
    lost = [row for table in tables for row in table.select(["url", "lost"]).to_pylist() if row["lost"]]
    whole = pa.concat_tables([table.filter(table["lost"].is_null()) for table in tables])
    images = [{"bytes": data, "path": None} for data in whole["image"].to_pylist()]
    data = pa.table(
        {
            KEY: whole[KEY],
            "url": whole["url"],
            "prompt": whole["text"],
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "width": whole["width"],
            "height": whole["height"],
        }
    )
    features = {name: {"_type": "Value", "dtype": str(data.schema.field(name).type)} for name in data.column_names}
    features["image"] = {"_type": "Image"}
    data = data.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = pa.BufferOutputStream()
    pq.write_table(data, buffer, row_group_size=100, compression="zstd")
    shards.write_atomically(out / "data" / "train-00000-of-00001.parquet", buffer.getvalue().to_pybytes())
    told = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in lost)
    shards.write_atomically(out / "rotted.jsonl", told.encode())
    return Report(out, len(data), Counter(row["lost"] for row in lost))


_PART = pa.schema(
    [(KEY, pa.string()), ("url", pa.string()), ("text", pa.string()), ("image", pa.binary())]
    + [("width", pa.int32()), ("height", pa.int32()), ("lost", pa.string())]
)
