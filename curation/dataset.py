"""The data set: what a finished run kept, frozen with its images, and the run's verdicts as tables.

RUN/dataset/README.md              so that `datasets.load_dataset("RUN/dataset", split="train")` works
RUN/dataset/data/train-*.parquet   img_key, url, prompt, text, image, width, height, every score, and whatever
                                   further columns the source had; best first
RUN/dataset/dataset.json           fingerprint, counts, recipe
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation import explain, shards
from curation.engines.driver import image_reader
from curation.errors import LedgerError
from curation.explain import FunnelRow
from curation.ledger import Ledger
from curation.plan import Outline
from curation.sources import reopen

if TYPE_CHECKING:
    from datasets import Dataset

BYTES_PER_FILE = 256 << 20
ROWS_PER_GROUP = 100  # a reader that wants a few pictures reads a group, not the file
LEADING = ("img_key", "url", "prompt", "text", "image", "width", "height")
_EXPECTED = "expected the folder RUN/dataset of a finished curation run"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VERDICT = ("kept", "step", "column", "op", "threshold", "reason")


def freeze(run: str | Path) -> Path:
    """Write what a finished run kept to RUN/dataset, all or nothing, and return that folder.

    A data set that is there already and would be the same is left alone. Raises LedgerError if the run is not
    finished, kept nothing, or its pictures are no longer there.
    """
    ledger = _finished(run)
    kept = _kept(ledger)
    folder = ledger.run / "dataset"
    described = _described(ledger, kept)
    if not _is_current(folder, described):
        temporary = ledger.run / f".dataset.{os.getpid()}.tmp"
        with shards.writing(folder):
            for leftover in ledger.run.glob(".dataset.*"):  # of a freeze that was killed
                shutil.rmtree(leftover)
            _write(temporary, kept, image_reader(ledger, reopen(ledger.source, ledger.run)), described)
            _replace(folder, temporary)
    return folder


def write_urls(run: str | Path, path: Path) -> int:
    """Write what a finished run kept as a table of img_key, url, prompt, best first, and return its rows.

    The format follows the name: .parquet, .csv or .jsonl. Raises LedgerError as `freeze` does, and for other names.
    """
    table = _kept(_finished(run)).select(["img_key", "url", "prompt"])
    with shards.writing(path):
        if path.suffix == ".parquet":
            buffer = pa.BufferOutputStream()
            pq.write_table(table, buffer, compression="zstd")
            content = buffer.getvalue().to_pybytes()
        elif path.suffix == ".csv":
            content = table.to_pandas().to_csv(index=False).encode()
        elif path.suffix == ".jsonl":
            content = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()).encode()
        else:
            raise LedgerError(f"cannot write {path}: expected a name that ends in .parquet, .csv or .jsonl")
        shards.write_atomically(path, content)
    return len(table)


def read(folder: str | Path) -> "Dataset":
    """Return a frozen data set as `datasets.Dataset`, best first; `image` decodes to PIL. Raises LedgerError."""
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    return load_dataset("parquet", data_files=[str(path) for path in files(folder)], split="train")


def fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 over (img_key, prompt) of a frozen data set, in order. Raises LedgerError."""
    return _digest([pq.read_table(path, columns=["img_key", "prompt"]) for path in files(folder)])


def scores(run: str | Path) -> pa.Table:
    """Return every sample of a run, one row per key: registration, status, scores, and its verdict.

    The verdict: `kept`, and where it is false `step`, `column`, `op`, `threshold`, `reason`. Raises LedgerError.
    """
    ledger = Ledger(run)
    table, verdicts = ledger.scores(), ledger.verdicts()
    for name in _VERDICT:
        table = table.append_column(name, verdicts[name])
    return table


def steps(run: str | Path) -> list[str]:
    """Return the names of a run's steps, in order. Raises LedgerError."""
    return [step.name for step in Ledger(run).outline.steps]


def funnel(run: str | Path) -> list[FunnelRow]:
    """Return what each step of a run was given, kept and dropped, and why; the source first. Raises LedgerError."""
    return explain.funnel(Ledger(run))


def describe(folder: str | Path) -> dict[str, Any]:
    """Return a frozen data set's dataset.json: fingerprint, samples, pool, recipe. Raises LedgerError."""
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        raise LedgerError(f"no data set in {folder}: {_EXPECTED}")
    return shards.read_json(path)


def files(folder: str | Path) -> list[Path]:
    """Return the parquet files of a frozen data set, in order. Raises LedgerError."""
    found = sorted(Path(folder).glob("data/*.parquet")) or sorted(Path(folder).glob("*.parquet"))
    if not found:
        raise LedgerError(f"no data set in {folder}: {_EXPECTED}")
    return found


def _finished(run: str | Path) -> Ledger:
    """Return the ledger of a run that judged everything and kept something. Raises LedgerError."""
    ledger = Ledger(run)
    if step := ledger.unfinished():
        raise LedgerError(f"{run} is not finished: {step} has samples left to judge; run `alchemist curate run` again")
    if not len(ledger.survivors()):
        raise LedgerError(f"no sample of {run} passed every rule: see `alchemist curate funnel {run}`")
    return ledger


def _kept(ledger: Ledger) -> pa.Table:
    columns = list(ledger.outline.columns)
    names = ["url", "text", "extra", "width", "height", "bytes", *columns]
    table = ledger.survivors(columns=names)
    if "prompt" not in columns:
        table = table.append_column("prompt", table["text"])
    rank = [("impact_rank", "ascending")] if "impact_rank" in columns else []
    return _with_extra(table.sort_by([*rank, ("img_key", "ascending")]))


def _with_extra(table: pa.Table) -> pa.Table:
    """Turn the JSON of the source's further columns into columns; one whose name is taken becomes source_NAME."""
    records = [json.loads(extra) if extra else {} for extra in table["extra"].to_pylist()]
    table = table.drop_columns("extra")
    for name in sorted({name for record in records for name in record}):
        values = [record.get(name) for record in records]
        taken = name in table.column_names or name in LEADING
        table = table.append_column(f"source_{name}" if taken else name, _as_column(values))
    return table


def _as_column(values: list[Any]) -> pa.Array:
    """Return numbers, texts or truths as what they are; anything mixed or nested as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds in ({str}, {bool}, {int}, {float}):
        return pa.array(values)
    if kinds == {int, float}:
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _described(ledger: Ledger, kept: pa.Table) -> dict[str, Any]:
    outline = ledger.outline.to_json()
    pool = {name: ledger.source[name] for name in ("kind", "samples")}
    return {"fingerprint": _digest([kept]), "samples": len(kept), "pool": pool, "recipe": outline}


def _digest(tables: list[pa.Table]) -> str:
    digest = hashlib.sha256()
    for table in tables:
        for row in zip(table["img_key"].to_pylist(), table["prompt"].to_pylist(), strict=True):
            digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _is_current(folder: Path, described: dict[str, Any]) -> bool:
    return (folder / "dataset.json").exists() and shards.read_json(folder / "dataset.json") == described


def _write(folder: Path, kept: pa.Table, read_image: Callable[[str], bytes], described: dict[str, Any]) -> None:
    (folder / "data").mkdir(parents=True)
    parts = list(_by_size(kept))
    for number, part in enumerate(parts):
        path = folder / "data" / f"train-{number:05d}-of-{len(parts):05d}.parquet"
        pq.write_table(_with_images(part, read_image), path, row_group_size=ROWS_PER_GROUP, compression="zstd")
    (folder / "README.md").write_text(_readme(described), "utf-8")
    (folder / "dataset.json").write_text(json.dumps(described, indent=1) + "\n", "utf-8")


def _by_size(kept: pa.Table) -> Iterator[pa.Table]:
    start, size = 0, 0
    for position, count in enumerate(kept["bytes"].to_pylist()):
        if position > start and size + count > BYTES_PER_FILE:
            yield kept.slice(start, position - start)
            start, size = position, 0
        size += count
    yield kept.slice(start)


def _with_images(part: pa.Table, read_image: Callable[[str], bytes]) -> pa.Table:
    places = zip(part["img_key"].to_pylist(), part["url"].to_pylist(), strict=True)
    images = [{"bytes": read_image(key), "path": PurePosixPath(url).name} for key, url in places]
    part = part.append_column("image", pa.array(images, _IMAGE))
    part = part.select([*LEADING, *(name for name in part.column_names if name not in (*LEADING, "bytes"))])
    features = {field.name: _feature(field) for field in part.schema}
    return part.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(field: pa.Field) -> dict[str, str]:
    """What `datasets` calls a column's type."""
    if field.type == _IMAGE:
        return {"_type": "Image"}
    return {"_type": "Value", "dtype": {"float": "float32", "double": "float64"}.get(str(field.type), str(field.type))}


def _readme(described: dict[str, Any]) -> str:
    outline = Outline.from_json(described["recipe"])
    rules = "".join(
        f"- {step.name}: `{rule.column} {rule.op} {rule.threshold}`, else {rule.reason}\n"
        for step in outline.steps
        for rule in step.rules
    )
    kept, pool = described["samples"], described["pool"]["samples"]
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*.parquet\n---\n\n"
        f"# {kept:,} of {pool:,} samples, chosen by the recipe {outline.name}\n\n"
        f"Fingerprint `{described['fingerprint']}`. Rows are ordered best first. A sample had to pass:\n\n{rules}"
    )


def _replace(folder: Path, temporary: Path) -> None:
    """Put the new folder in the place of an older data set; any other folder of that name is not ours to remove."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    if not (folder / "dataset.json").exists():
        shutil.rmtree(temporary)
        raise LedgerError(f"{folder} is there and is not a data set of this project; move it away")
    old = temporary.with_suffix(".old")
    os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old)
