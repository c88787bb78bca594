"""A shard's files: written under a temporary name, renamed, and counted only once the marker lies beside them.

SEGMENT/SHARD.parquet     the rows
SEGMENT/SHARD.done        its marker, written last
SEGMENT/current.json      reductions: which of its shards answers now
"""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import LedgerError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk says into one LedgerError line."""
    try:
        yield
    except OSError as error:
        raise LedgerError(f"cannot write to {path}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: readers see all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")  # nodes share a folder, not pids
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def commit(folder: Path, shard: str, table: pa.Table, told: Mapping[str, Any] | None = None) -> None:
    """Write a shard, then its marker with its rows and what is `told`. One that is committed is left as it is."""
    if is_committed(folder, shard):
        return
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(folder / f"{shard}.parquet", buffer.getvalue().to_pybytes())
    write_atomically(folder / f"{shard}.done", json.dumps({"rows": table.num_rows, **(told or {})}).encode())


def is_committed(folder: Path, shard: str) -> bool:
    """Whether the shard's marker is there."""
    return (folder / f"{shard}.done").exists()


def point_at(folder: Path, shard: str) -> None:
    """Make a committed shard the one that answers for its reduction."""
    write_atomically(folder / "current.json", json.dumps({"shard": shard}).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a run folder. Raises LedgerError where it is not there or not whole."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise LedgerError(f"{path.parent} is not a run folder: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise LedgerError(f"cannot read {path}: {error}") from error


def committed(folder: Path) -> list[Path]:
    """The parquet files that answer for a segment: those with a marker; for a reduction the current one."""
    current = folder / "current.json"
    if current.exists():
        return [folder / f"{read_json(current)['shard']}.parquet"]
    return sorted(marker.with_suffix(".parquet") for marker in folder.glob("*.done"))
