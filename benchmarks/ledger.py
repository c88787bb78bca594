"""The claim: the ledger of a million samples answers in seconds, and "what if" in less than one, without an image.

    python benchmarks/ledger.py [--samples 1000000] [--rows-per-shard 4096] [--folder DIR]

Builds a run of synthetic scores with the miniature's columns and rules, through the same commit as a real one, and
asks it: in this process (a ledger that is open, and one that is opened for the question) and by whole commands. Writes
`ledger-DATE.json` and `.md` beside this file. A figure is a median of `REPEATS`: wall seconds, which other work on the
machine lengthens, and CPU seconds of this process and its children.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from alchemist_hub.miniature import weights
from curation import explain, recipes, shards
from curation.ledger import Ledger
from curation.plan import Outline
from curation.records import OK, UNDECODABLE

REPEATS = 5
SEED = 3
UNDECODABLE_SHARE = 0.01
CHANGE = {"iqa": 0.75}  # the miniature keeps from 0.7
PASSING = 0.93  # of each rule on a float column: about a third of the pool reaches the first barrier


def build(run: Path, samples: int, rows_per_shard: int) -> None:
    """Write the run folder of a pool of `samples`, all of it judged."""
    outline = recipes.miniature(weights()).outline.resolved(samples)
    told = {"samples": samples, "location": "/pool", "shards": -(-samples // rows_per_shard), "options": {}}
    shards.write_atomically(run / "recipe.json", json.dumps(outline.to_json()).encode())
    shards.write_atomically(run / "source.json", json.dumps(told).encode())
    draw = np.random.default_rng(SEED)
    for start in range(0, samples, rows_per_shard):
        table = registered(outline, start, min(rows_per_shard, samples - start), draw)
        shards.commit(run / "ledger" / outline.segments[0], f"{start:012d}", table)
    for segment in outline.segments[1:]:
        judged_later(run, outline, segment, rows_per_shard, draw)


def registered(outline: Outline, start: int, rows: int, draw: np.random.Generator) -> pa.Table:
    """A shard of the first segment: keys, places, texts, and scores where the picture could be decoded."""
    broken = draw.random(rows) < UNDECODABLE_SHARE
    numbers = range(start, start + rows)
    columns = {
        "img_key": [key.hex() for key in np.frombuffer(draw.bytes(16 * rows), "V16").tolist()],
        "url": [f"deep/folder{number // 1000:06d}/picture-{number:09d}.jpg" for number in numbers],
        "text": [f"a picture of the sea at night, number {number}, with some words about it" for number in numbers],
        "extra": pa.nulls(rows, pa.string()),
        "status": np.where(broken, UNDECODABLE, OK),
        "detail": pa.array(np.where(broken, "damaged: cut short", ""), pa.string(), mask=~broken),
        "width": pa.array(np.full(rows, 1024), pa.int32()),
        "height": pa.array(np.full(rows, 1024), pa.int32()),
        "bytes": pa.array(draw.integers(50_000, 900_000, rows), pa.int64()),
        "slice": [f"slice{start:012d}"] * rows,
    }
    return pa.table(columns | scores(outline, outline.segments[0], rows, draw, broken))


def judged_later(run: Path, outline: Outline, segment: str, rows_per_shard: int, draw: np.random.Generator) -> None:
    """Commit a later segment for the samples that reach it, as the engine cuts them."""
    folder, ledger = run / "ledger" / segment, Ledger(run)
    (step, *_) = [step for step in outline.steps if step.segment == segment]
    if step.is_reduction:
        table, answer = ledger.reduction_input(step)
        told = scores(outline, segment, len(table), draw, np.zeros(len(table), bool))
        if "duplicate_keeper" in told:
            told["duplicate_keeper"] = table["img_key"]
        shards.commit(folder, answer, pa.table({"img_key": table["img_key"], **told}))
        shards.point_at(folder, answer)
        return
    reached = ledger.survivors(segment, ["slice"]).sort_by("slice")
    for number, keys in enumerate(by_slice(reached)):
        head = {"img_key": keys, "status": [OK] * len(keys), "detail": pa.nulls(len(keys), pa.string())}
        told = scores(outline, segment, len(keys), draw, np.zeros(len(keys), bool))
        shards.commit(folder, f"{number:012d}", pa.table(head | told))


def by_slice(reached: pa.Table) -> Iterator[pa.ChunkedArray]:
    """Yield the keys of each slice of a table that is sorted by slice."""
    names = reached["slice"].to_numpy()
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    for start, end in zip([0, *edges], [*edges, len(names)], strict=True):
        if end > start:
            yield reached["img_key"].slice(start, end - start)


def scores(
    outline: Outline, segment: str, rows: int, draw: np.random.Generator, broken: np.ndarray
) -> dict[str, pa.Array]:
    """Random scores of a segment's columns, of which `PASSING` satisfy each rule on a float; null where broken."""
    rules = {rule.column: rule for step in outline.steps for rule in step.rules}
    columns = {name: kind for step in outline.steps if step.segment == segment for name, kind in step.columns.items()}
    return {
        name: pa.array(_drawn(name, kind, rules.get(name), rows, draw), pa.type_for_alias(kind), mask=broken)
        for name, kind in columns.items()
    }


def _drawn(name: str, kind: str, rule: Any, rows: int, draw: np.random.Generator) -> np.ndarray:
    if kind == "string":
        return np.full(rows, "a moderately long prompt, such as a person would type" if name == "prompt" else OK)
    if kind == "bool":
        return draw.random(rows) < PASSING
    if name == "impact_rank":
        return draw.permutation(rows) + 1
    if kind in ("int64", "uint64"):
        return draw.integers(1024, 1 << 62, rows)
    uniform = draw.random(rows, np.float32)
    if rule is None:
        return uniform
    if rule.op.startswith("<"):
        return uniform * np.float32(rule.threshold / PASSING)
    return np.float32(rule.threshold) + (uniform - np.float32(1 - PASSING))


def measure(run: Path, sample: str) -> dict[str, dict[str, float]]:
    """Return the seconds of every question."""
    stricter = Ledger(run).outline.with_thresholds(CHANGE)
    shutil.rmtree(run / "index", ignore_errors=True)
    first = timed(lambda: Ledger(run).compare(stricter), times=1)
    opened = Ledger(run)
    opened.compare(stricter)
    words = [f"{column}={value}" for column, value in CHANGE.items()]
    return {
        "what-if, the first after a run: joins the shards": first,
        "what-if, ledger open": timed(lambda: opened.compare(stricter)),
        "what-if": timed(lambda: Ledger(run).compare(stricter)),
        "funnel": timed(lambda: explain.funnel(Ledger(run))),
        "status": timed(lambda: (explain.status(ledger := Ledger(run)), ledger.unfinished())),
        "why": timed(lambda: explain.why(Ledger(run), sample)),
        "command: --help": timed(lambda: command("--help")),
        "command: what-if": timed(lambda: command("what-if", str(run), "--set", *words)),
        "command: funnel": timed(lambda: command("funnel", str(run))),
        "command: status": timed(lambda: command("status", str(run))),
        "command: why": timed(lambda: command("why", sample, "--run", str(run))),
    }


def timed(ask: Callable[[], Any], *, times: int = REPEATS) -> dict[str, float]:
    """Return the median wall and CPU seconds of a question."""
    wall, cpu = [], []
    for _ in range(times):
        start, before = time.perf_counter(), sum(os.times()[:4])
        ask()
        wall.append(time.perf_counter() - start)
        cpu.append(sum(os.times()[:4]) - before)
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}


def command(*words: str) -> None:
    main = "from alchemist_hub.cli import main; main()"
    subprocess.run([sys.executable, "-c", main, "curate", *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--rows-per-shard", type=int, nargs="+", default=[4096, 256])
    parser.add_argument("--folder", type=Path, help="where to build the runs; kept, and used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        figures = [figures_of(folder, arguments.samples, rows) for rows in arguments.rows_per_shard]
    file = Path(__file__).with_name(f"ledger-{date.today()}")
    file.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    file.with_suffix(".md").write_text(report(figures))
    print(report(figures))


def figures_of(folder: Path, samples: int, rows_per_shard: int) -> dict[str, Any]:
    """Build a run, unless it is there, and return what asking it takes."""
    run = folder / f"{samples}-{rows_per_shard}"
    if not (run / "complete").exists():
        build(run, samples, rows_per_shard)
        (run / "complete").touch()
    kept = Ledger(run).survivors(columns=["url"])
    files = list((run / "ledger").rglob("*.parquet"))
    return {
        "samples": samples,
        "rows_per_shard": rows_per_shard,
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "kept": len(kept),
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "seconds": measure(run, kept["url"][0].as_py()),
    }


def report(figures: list[dict[str, Any]]) -> str:
    """Tell the figures in Markdown: a column for each size of shard."""
    first = figures[0]
    head = " | ".join(f"{told['rows_per_shard']:,} rows a shard, {told['files']:,} files" for told in figures)
    lines = [
        "# Questions to the ledger of a large pool",
        "",
        f"{first['samples']:,} samples with the miniature's columns and rules, synthetic scores. Seconds of wall time "
        f"(of CPU), median of {REPEATS}; {first['cores']} cores shared with other work, load "
        + " and ".join(f"{told['load']:.1f}" for told in figures)
        + "; files in the system's cache. In-process questions open the ledger anew unless said otherwise; a command "
        "includes starting Python and importing, as `--help` does.",
        "",
        f"| question | {head} |",
        "|---|" + "---|" * len(figures),
    ]
    for question in first["seconds"]:
        spent = [told["seconds"][question] for told in figures]
        lines.append(f"| {question} | " + " | ".join(f"{one['wall']:.2f} ({one['cpu']:.2f})" for one in spent) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
