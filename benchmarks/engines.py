"""The claim: the embedded engine starts quickly, stays small, and two workers do 1.8 times the work of one.

    python benchmarks/engines.py [--pictures 6000] [--repeats 3] [--ray]

Each run is a process of its own: the miniature's resolution, safety, defects, IQA and fingerprint, fused in one
segment, on pictures of the miniature world at 64 px. Counts of workers take turns. Wall clock, because the claim is
about parallelism; what other processes took of the machine meanwhile is reported beside it. Writes
`engines-DATE.json` and `.md` beside this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from datetime import date
from statistics import median
from typing import Any

import pyarrow as pa

from alchemist_hub.miniature import weights, world
from curation.engines import embedded
from curation.engines import ray as cluster
from curation.engines.progress import Silence
from curation.plan import Recipe, Step
from curation.stages.base import Stage
from curation.stages.defects import Defects
from curation.stages.fingerprint import Fingerprint
from curation.stages.iqa import Iqa
from curation.stages.resolution import Resolution
from curation.stages.safety import Safety

GOAL = 1.8
SEED = 977_060  # of the pool


class Clock(Stage):
    """Writes when a batch was begun, seconds since 1970. All stages of a segment are open by then."""

    name = "clock"
    writes = pa.schema([pa.field("begun", pa.float64())])

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.append_column(self.writes.field(0), pa.array([time.time()] * table.num_rows, pa.float64()))


class Window(Silence):
    """Time, rows and CPU seconds from the moment that all workers have committed a shard to the end."""

    def __init__(self, workers: int) -> None:
        self._shards, self._warm, self.rows = 0, 2 * workers, 0
        self._start = self._cpu = self.seconds = self.cpu = 0.0

    def advance(self, rows: int) -> None:
        self._shards += 1
        if self._shards == self._warm:
            self._start, self._cpu = time.time(), tree_seconds()
        elif self._shards > self._warm:
            self.rows += rows
            self.seconds, self.cpu = time.time() - self._start, tree_seconds() - self._cpu


def tree_seconds() -> float:
    """Return the CPU seconds of this process and its children so far (Linux)."""
    total = time.process_time()
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def recipe() -> Recipe:
    """Return the first segment of the miniature funnel, without rules, and the clock."""
    folder = weights()
    judges = (
        Clock(),
        Resolution(),
        Safety(folder / "safety"),
        Defects(folder / "defects"),
        Iqa(folder / "iqa"),
        Fingerprint(),
    )
    return Recipe(name="engines", steps=tuple(Step(judge=judge) for judge in judges))


def child(engine: str, pool: Path, out: Path, workers: int) -> None:
    """Run once, in this process, and print what only it can know."""
    window = Window(workers)
    run = cluster.run if engine == "ray" else embedded.run
    ledger = run(recipe(), pool, out, workers=workers, progress=window)
    begun = min(ledger.scores(["begun"])["begun"].to_pylist())
    figures = {
        "begun": begun,
        "pictures per s": window.rows / window.seconds,
        "driver MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if engine == "embedded":  # Ray's workers are no children of this process
        figures["pictures per CPU s"] = window.rows / window.cpu
        figures["largest worker MB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(figures))


def measure(engine: str, pool: Path, workers: int) -> dict[str, Any]:
    """Run in a fresh process; return seconds to the first batch, pictures per second after it, peaks, and the load."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", engine, str(pool), f"{folder}/run", str(workers)]
        load, busy, start = os.getloadavg()[0], busy_seconds(), time.time()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        wall = time.time() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "engine": engine,
        "workers": workers,
        "start-up s": told["begun"] - start,
        "pictures per s": told["pictures per s"],
        "pictures per CPU s": told.get("pictures per CPU s"),
        "whole run s": wall,
        "driver MB": told["driver MB"],
        "largest worker MB": told.get("largest worker MB"),
        "load average before": load,
        "cores taken by others": max(0.0, (busy_seconds() - busy - own) / wall) if engine == "embedded" else None,
    }


def busy_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used (Linux)."""
    user, nice, system, _, _, interrupts, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the pool, take turns, return every figure."""
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        world.write_pool(pool, seed=SEED, count=arguments.pictures)
        pictures = len(list(pool.glob("*.jpg")))
        measure("embedded", pool, 1)  # reads every file and library into the page cache
        runs = [measure("embedded", pool, workers) for _ in range(arguments.repeats) for workers in (1, 2)]
        if arguments.ray:
            runs.append(measure("ray", pool, 2))
    speed = {count: median(row["pictures per s"] for row in of(runs, count)) for count in (1, 2)}
    return {
        "date": date.today().isoformat(),
        "cores": embedded.cores(),
        "pictures": pictures,
        "runs": runs,
        "ratio of medians": speed[2] / speed[1],
        "ratio of each turn": [
            two["pictures per s"] / one["pictures per s"] for one, two in zip(of(runs, 1), of(runs, 2), strict=True)
        ],
    }


def of(runs: list[dict[str, Any]], workers: int) -> list[dict[str, Any]]:
    return [row for row in runs if row["engine"] == "embedded" and row["workers"] == workers]


def markdown(figures: dict[str, Any]) -> str:
    """Return the table that people read, with the goal in plain words."""
    columns = [name for name in figures["runs"][0] if name != "engine"]
    turns = ", ".join(f"{ratio:.2f}" for ratio in figures["ratio of each turn"])
    met = "met" if figures["ratio of medians"] >= GOAL else "MISSED"
    rows = [f"| {row['engine']} | {' | '.join(cell(row[name]) for name in columns)} |" for row in figures["runs"]]
    lines = [
        f"# Engines, {figures['date']}",
        "",
        f"{figures['pictures']:,} pictures of the miniature world, 64 px: resolution, safety, defects, IQA and "
        f"fingerprint in one segment, with the shipped weights, on {figures['cores']} cores. Start-up is from the "
        "command to the first batch, with all models loaded; pictures per second, and per CPU second of driver and "
        "workers, count once all workers have committed a shard.",
        "",
        f"| engine | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *rows,
        "",
        f"Two workers to one: {figures['ratio of medians']:.2f} times the throughput (medians; turn by turn {turns}). "
        f"Goal, at least {GOAL}: {met}.",
    ]
    return "\n".join(lines) + "\n"


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=6000, help="about so many, near-duplicates included")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each number of workers")
    parser.add_argument("--ray", action="store_true", help="once on Ray, too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    parser.add_argument("--child", nargs=4, metavar=("ENGINE", "POOL", "OUT", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        engine, pool, out, workers = arguments.child
        child(engine, Path(pool), Path(out), int(workers))
        return
    figures = run(arguments)
    stem = arguments.out / f"engines-{figures['date']}"
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    text = markdown(figures)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
