"""Files of records, read by row number: parquet (also on the Hub), csv, tsv, jsonl."""

import csv
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import SourceError

HUB = "hf://"
SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")


def count(path: str) -> int:
    """Return the number of rows. Raises SourceError for a file that cannot be read."""
    return _parquet(path).metadata.num_rows if path.endswith(".parquet") else len(_lines(path))


def schema(path: str) -> pa.Schema:
    """Return the columns; a csv or jsonl file has those of its first row. Raises SourceError."""
    if path.endswith(".parquet"):
        return _parquet(path).schema_arrow
    rows = _lines(path)
    return pa.Table.from_pylist(rows[:1]).schema if rows else pa.schema([])


def read(path: str, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows by their numbers, which ascend by one. Raises SourceError."""
    if not rows:
        return []
    if not path.endswith(".parquet"):
        return [_lines(path)[row] for row in rows]
    try:
        return list(_parquet_rows(_parquet(path), rows[0], rows[-1] + 1))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {path}: {_first_line(error)}") from error


def size(path: str) -> int:
    """Return its bytes."""
    return _hub().info(path.removeprefix(HUB))["size"] if path.startswith(HUB) else Path(path).stat().st_size


def hub_files(pattern: str) -> list[str]:
    """Return the files of the Hub that a pattern below `datasets/` matches, as hf:// paths, sorted."""
    return [f"{HUB}{path}" for path in sorted(_hub().glob(pattern.removeprefix(HUB)))]


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read one JSON object a line. Raises SourceError with the number of a line that is none."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise SourceError(f"{path}, line {number} is not JSON: {error.msg}") from error
                if not isinstance(record, dict):
                    raise SourceError(f"{path}, line {number}: expected an object with named columns")
                yield record


def csv_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a csv file with a header; a tsv is known by its name. Surplus fields are dropped."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for record in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","):
            record.pop(None, None)
            yield record


@lru_cache(maxsize=4)
def _lines(path: str) -> list[dict[str, Any]]:
    try:
        return list((json_lines if path.endswith(".jsonl") else csv_lines)(Path(path)))
    except (OSError, csv.Error) as error:
        raise SourceError(f"cannot read {path}: {_first_line(error)}") from error


@lru_cache(maxsize=4)
def _parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(_hub().open(path.removeprefix(HUB)) if path.startswith(HUB) else path)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {path}: {_first_line(error)}") from error


def _parquet_rows(file: pq.ParquetFile, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Read the row groups that hold rows [start, stop) and nothing else."""
    begins = 0
    for group in range(file.num_row_groups):
        ends = begins + file.metadata.row_group(group).num_rows
        if begins < stop and start < ends:
            table = file.read_row_group(group)
            first = max(start - begins, 0)
            yield from table.slice(first, min(stop, ends) - begins - first).to_pylist()
        begins = ends


def _hub() -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
