"""The claim: the CPU segment of the full recipe does more than perceptual hashing alone, at a fraction of its cost.

    python benchmarks/segment.py [--photos DIR] [--pictures 200] [--peers PYTHON]

The segment reads, probes and strictly decodes each file, measures its signals, hashes it, and commits keys, scores
and status to the ledger. imagededup's perceptual hashing, from the folder to the hashes, is an optional peer in a
Python of its own (`pip install imagededup`). Same files, one process each, in turns; CPU seconds, medians over rounds.
Writes `segment-DATE.json` and `.md` beside this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
from PIL import Image

from alchemist_hub.miniature import world
from curation.engines.base import Shard, run_shard
from curation.plan import Recipe, Step
from curation.sources import open_source
from curation.stages.fingerprint import Fingerprint
from curation.stages.resolution import Resolution
from curation.stages.signals import Signals

SIZE = 1300, 975  # 1.27 megapixels
GOAL = 4.0  # times as many pictures a CPU second as the peer
SEED = 977_100
PEERS = Path(__file__).parent / "parts" / "peers.py"


def pictures(photos: Path | None, count: int) -> Iterator[np.ndarray]:
    """Yield `count` pictures of `SIZE`: crops of the photographs where given, else scenes of the miniature world."""
    rng = np.random.default_rng(SEED)
    files = sorted(photos.glob("*.png")) if photos else []
    for index in range(count):
        if files:
            with Image.open(files[index % len(files)]) as photo:
                side = 0.6 + 0.4 * rng.random()
                crop = tuple(int(extent * side) for extent in photo.size)
                corner = [int(rng.integers(extent - part + 1)) for extent, part in zip(photo.size, crop, strict=True)]
                box = (*corner, corner[0] + crop[0], corner[1] + crop[1])
                yield np.asarray(photo.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC, box=box))
        else:
            yield np.asarray(Image.fromarray(world.draw_sample(SEED, index, size=SIZE[1]).image).resize(SIZE))


def ours(folder: Path) -> tuple[int, float]:
    """Run the segment over the folder as a worker would; return how many files it judged and its CPU seconds."""
    segment = Recipe(
        name="cpu", steps=tuple(Step(judge=judge) for judge in (Resolution(), Signals(), Fingerprint()))
    ).segments[0]
    with tempfile.TemporaryDirectory() as out:
        begun = time.process_time()
        source = open_source(str(folder))
        rows = sum(
            run_shard(Shard(segment=segment, source=source, part=part, keys=None, folder=Path(out)))
            for part in source.slices(256)
        )
        return rows, time.process_time() - begun


def theirs(python: str, folder: Path) -> tuple[int, float]:
    """Hash the folder with imagededup in one process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([python, PEERS, "hashes", folder, out.name], check=True, stdout=subprocess.DEVNULL)
        told = json.loads(Path(out.name).read_text())
    return told["count"], told["cpu_seconds"]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of every round, in pictures a CPU second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, pixels in enumerate(pictures(arguments.photos, arguments.pictures)):
            Image.fromarray(pixels).save(folder / f"{index:05d}.jpg", quality=90)
        size = sum(file.stat().st_size for file in folder.iterdir())
        ours(folder)  # libraries loaded, files in the page cache
        rounds: dict[str, list[float]] = {"segment": [], "imagededup": []}
        for _ in range(arguments.rounds):
            for who, measured in (("segment", ours), ("imagededup", lambda folder: theirs(arguments.peers, folder))):
                if who == "segment" or arguments.peers:
                    count, seconds = measured(folder)
                    rounds[who].append(count / seconds)
    rates = {who: statistics.median(values) for who, values in rounds.items() if values}
    return {
        "date": date.today().isoformat(),
        "files": {"count": arguments.pictures, "pixels": SIZE[0] * SIZE[1], "mean bytes": size // arguments.pictures},
        "pictures": "photographs" if arguments.photos else "scenes of the miniature world",
        "pictures a CPU second": rates,
        "rounds": rounds,
        "ratio": rates["segment"] / rates["imagededup"] if "imagededup" in rates else None,
    }


def report(figures: dict[str, Any]) -> str:
    files = figures["files"]
    lines = [
        f"# The CPU segment beside perceptual hashing alone, {figures['date']}",
        "",
        f"{files['count']} JPEG files of {files['pixels'] / 1e6:.2f} megapixels, quality 90, 4:2:0 "
        f"({files['mean bytes'] / 1e3:,.0f} kB in the mean), {figures['pictures']}; one process each, in turns, "
        f"median of {len(figures['rounds']['segment'])} rounds.",
        "",
        "| what | pictures a CPU second |",
        "|---|---|",
        *(f"| {_NAMES[who]} | {rate:.1f} |" for who, rate in figures["pictures a CPU second"].items()),
        "",
    ]
    if figures["ratio"]:
        told = "met" if figures["ratio"] >= GOAL else "MISSED"
        lines.append(f"Ratio {figures['ratio']:.2f}; goal at least {GOAL:.0f}: {told}.")
    else:
        lines.append("No peer was given, so no ratio.")
    return "\n".join(lines) + "\n"


_NAMES = {
    "segment": "header, strict decode, seven signals, key and perceptual hash, committed to the ledger",
    "imagededup": "imagededup, PHash.encode_images",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of PNG photographs to cut the pictures from")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help="a Python that has imagededup")
    figures = run(parser.parse_args())
    name = Path(__file__).with_name(f"segment-{figures['date']}")
    name.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    name.with_suffix(".md").write_text(report(figures))
    print(report(figures))


if __name__ == "__main__":
    main()
