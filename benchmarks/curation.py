"""Every claim of the curation beside its goal, measured in one run on one machine.

    python benchmarks/curation.py [--photos DIR] [--peers PYTHON] [--collect]

Runs segment.py, duplicates.py, scoring.py and engines.py, one after another, and writes `curation-DATE.md`: what was
asked, what came of it, and the file that tells more. `--peers`: a Python with imagededup and cleanvision. `--collect`:
run nothing, take the results of today.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import subprocess
from collections.abc import Iterator
from datetime import date
from typing import Any

FOLDER = Path(__file__).parent
Row = tuple[str, str, str, bool | None]  # what, measured, asked, met; None: not measured


def segment(found: dict[str, Any]) -> Iterator[Row]:
    ratio = found["ratio"]
    told = "no peer given" if ratio is None else f"{ratio:.2f} times imagededup's perceptual hashing"
    yield "CPU segment, pictures a CPU second", told, "4 times", None if ratio is None else ratio >= 4


def duplicates(found: dict[str, Any]) -> Iterator[Row]:
    goals = {"ordinary": (0.995, 0.99), "strong": (0.95, 0.85)}
    for method, kinds in found["methods"].items():
        if "candidates" in method:
            continue
        for kind, least in goals.items():
            values = [kinds[kind][what]["value"] for what in ("precision", "recall")]
            told = " and ".join(f"{value:.3f}" for value in values)
            met = values[0] >= least[0] and values[1] >= least[1] if method.startswith("ours") else None
            yield f"{method}: {kind} edits, precision and recall", told, f"{least[0]} and {least[1]}", met
    search = found["search"]
    told = f"{search['recall_all']:.4f} in {search['cpu_seconds']:.0f} CPU s and {search['peak_gigabytes']:.2f} GB"
    met = search["recall_all"] >= 0.99 and search["cpu_seconds"] < 60 and search["peak_gigabytes"] < 1
    yield "search among a million hashes: recall", told, "0.99 in 60 CPU s and 1 GB", met


def scoring(found: dict[str, Any]) -> Iterator[Row]:
    small = found["miniature"]
    for column, cost in small["costs"].items():
        ratio, most = cost["of bare passes"]["median"], found["most"].get(column)
        what = "CPU time over bare passes, miniature"
        if most is None:
            yield f"{column}, a by-product of the shipped calibration: {what}", f"{ratio:.2f}", "stated", None
            continue
        yield f"{column}: {what}", f"{ratio:.2f}", f"at most {most}", ratio <= most
        low, high = small["shipped auc"][column]["interval"]
        value = small["auc"][column]["auc"]
        yield "... its AUC on held-out pictures", f"{value:.3f}", f"in [{low:.3f}, {high:.3f}]", low <= value <= high


def engines(found: dict[str, Any]) -> Iterator[Row]:
    yield "two workers over one, throughput", f"{found['ratio of medians']:.2f} times", "1.8 times", (
        found["ratio of medians"] >= 1.8
    )
    start = max(run["start-up s"] for run in found["runs"])
    peak = max(run["largest worker MB"] for run in found["runs"])
    yield "start-up to the first shard, largest worker", f"{start:.1f} s, {peak:.0f} MB", "stated", None


PARTS = {"segment": segment, "duplicates": duplicates, "scoring": scoring, "engines": engines}
WITH_PEERS = ("segment", "duplicates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of PNG photographs")
    parser.add_argument("--peers", help="a Python that has imagededup and cleanvision")
    parser.add_argument("--collect", action="store_true", help="run nothing, take the results of today")
    options = parser.parse_args()
    today = date.today()
    lines = [f"# Curation: claims and goals, {today}", "", "| what | measured | asked | |", "|---|---|---|---|"]
    for name, rows in PARTS.items():
        if not options.collect:
            subprocess.run(command(name, options), check=True)
        found = json.loads((FOLDER / f"{name}-{today}.json").read_text())
        for what, measured, asked, met in rows(found):
            lines.append(f"| {what} | {measured} | {asked} | {'' if met is None else 'met' if met else 'MISSED'} |")
    lines += ["", "More in " + ", ".join(f"[{name}](./{name}-{today}.md)" for name in PARTS) + "."]
    text = "\n".join(lines) + "\n"
    (FOLDER / f"curation-{today}.md").write_text(text)
    print(text)


def command(name: str, options: argparse.Namespace) -> list[str]:
    """Return how a part is run."""
    told = [sys.executable, str(FOLDER / f"{name}.py")]
    if options.photos and name in WITH_PEERS:
        told += ["--photos", str(options.photos)]
    return told + ["--peers", options.peers] if options.peers and name in WITH_PEERS else told


if __name__ == "__main__":
    main()
