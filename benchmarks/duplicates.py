"""Near-duplicates on labelled pairs, beside imagededup and cleanvision, and the search among a million hashes.

Every edit of `parts/pictures.py`, per edit and per kind: recall is over (original, edited copy); precision
counts these hits against every pair found of two different sources, hard negatives among them. Settings were looked
at on scenes of seed 11 and on the photographs of even position; reported are another seed and the others. Writes
duplicates-DATE.json and .md beside itself.

    python benchmarks/duplicates.py [--photos FOLDER] [--scenes 20] [--peers PYTHON]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import datetime
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable

import cv2
import pyarrow as pa
from scipy.stats import binomtest

from benchmarks.parts.pictures import ORDINARY, PLAIN, STRONG, Picture, pictures
from curation.images import decode
from curation.stages import alignment
from curation.stages.duplicates import Duplicates
from curation.stages.fingerprint import Fingerprint
from curation.stages.landmarks import Landmarks

SEED = 977_201
PARTS = Path(__file__).parent / "parts"
Pairs = set[tuple[str, str]]


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    cv2.setNumThreads(1)
    photos = sorted(options.photos.glob("*.png"))[1::2] if options.photos else []
    drawn = {picture.name: picture for picture in pictures(photos=photos, scenes=options.scenes, seed=SEED)}
    methods = ours(drawn) | (peers(drawn, options.peers) if options.peers else {})
    found = {
        "pictures": len(drawn),
        "photos": len(photos),
        "scenes": options.scenes,
        "seed": SEED,
        "methods": {
            name: {"cpu_seconds_per_picture": seconds / len(drawn), **judged(drawn, pairs)}
            for name, (pairs, seconds) in methods.items()
        },
        "search": searched(),
    }
    target = Path(__file__).with_name(f"duplicates-{datetime.date.today()}")
    target.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    target.with_suffix(".md").write_text(page(found))
    print(page(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of PNG photographs; every second one is used")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--peers", help="a Python that has imagededup and cleanvision")
    return parser.parse_args()


def ours(drawn: dict[str, Picture]) -> dict[str, tuple[Pairs, float]]:
    """Candidates alone, and those that verification accepts; pairs of two edited copies of one source are left out."""
    started = time.process_time()
    names = list(drawn)
    table = pa.table(
        {"img_key": names, "image": [drawn[name].data for name in names], "status": ["ok"] * len(names)}
    )
    reduction = Duplicates()
    reduction.open(lambda name: drawn[name].data)
    hashed = Landmarks()(Fingerprint()(table))
    candidates = {(min(i, j), max(i, j), turned) for i, j, turned in reduction.candidates(hashed)}
    asked = [(names[i], names[j], turned) for i, j, turned in sorted(candidates)]
    asked = [pair for pair in asked if counts(drawn[pair[0]], drawn[pair[1]])]
    first = time.process_time() - started
    ready = {name: alignment.Picture.of(decode(drawn[name].data)) for pair in asked for name in pair[:2]}
    same = {
        (one, other)
        for one, other, turned in asked
        if alignment.same_picture(ready[one].mirrored() if turned else ready[one], ready[other])
    }
    both = time.process_time() - started
    return {"ours, candidates": ({pair[:2] for pair in asked}, first), "ours, verified": (same, both)}


def counts(one: Picture, other: Picture) -> bool:
    return one.source != other.source or PLAIN in (one.kind, other.kind)


def peers(drawn: dict[str, Picture], python: str) -> dict[str, tuple[Pairs, float]]:
    """Run the peers in their own Python on the same files."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pictures").mkdir()
        for name, picture in drawn.items():
            (Path(folder) / "pictures" / f"{name}.jpg").write_bytes(picture.data)
        out = Path(folder) / "found.json"
        one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [python, str(PARTS / "peers.py"), "pairs", str(Path(folder) / "pictures"), str(out)]
        subprocess.run(command, check=True, env=one_thread, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    versions = found.pop("versions")
    return {
        f"{name} ({versions[name.split()[0]]})": ({tuple(pair) for pair in it["pairs"]}, it["cpu_seconds"])
        for name, it in found.items()
    }


def searched() -> dict:
    """Run the search in a process of its own, for its memory."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        path = os.pathsep.join([str(PARTS.parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(PARTS / "search.py"), out.name]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
        return json.loads(Path(out.name).read_text())


def judged(drawn: dict[str, Picture], pairs: Pairs) -> dict:
    """Recall of each edit, recall and precision of each kind; with the hard negatives counted against each kind."""
    pairs = {tuple(sorted(pair)) for pair in pairs if counts(*(drawn[name] for name in pair))}
    result = {}
    for kind, other in ((ORDINARY, STRONG), (STRONG, ORDINARY)):
        edited = [it for it in drawn.values() if it.kind == kind]
        hits = {it.name: tuple(sorted((it.name, it.source))) in pairs for it in edited}
        wrong = sum(
            drawn[one].source != drawn[two].source and other not in (drawn[one].kind, drawn[two].kind)
            for one, two in pairs
        )
        right = sum(hits.values())
        edits = {it.edit: share([hits[each.name] for each in edited if each.edit == it.edit]) for it in edited}
        result[kind] = {
            "recall": share(hits.values()),
            "precision": share([True] * right + [False] * wrong),
            "edits": edits,
        }
    return result


def share(outcomes: Iterable[bool]) -> dict:
    """A share with its Wilson interval, 95%."""
    outcomes = list(outcomes)
    if not outcomes:
        return {"value": float("nan"), "low": 0.0, "high": 1.0, "n": 0}
    interval = binomtest(sum(outcomes), len(outcomes)).proportion_ci(method="wilson")
    value = sum(outcomes) / len(outcomes)
    return {"value": value, "low": float(interval.low), "high": float(interval.high), "n": len(outcomes)}


def page(found: dict) -> str:
    """The figures as Markdown."""
    methods, search = found["methods"], found["search"]
    lines = [
        "# Near-duplicates",
        "",
        f"{found['pictures']} JPEG files of {found['photos']} photographs and {found['scenes']} painted scenes (seed "
        f"{found['seed']}). Wilson intervals, 95%.",
        "",
        "| method | kind | precision | recall | CPU ms a picture |",
        "|---|---|---|---|---|",
    ]
    for name, method in methods.items():
        for kind in (ORDINARY, STRONG):
            cells = told(method[kind]["precision"]), told(method[kind]["recall"])
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} | {method['cpu_seconds_per_picture'] * 1000:.1f} |")
    lines += ["", f"| recall of edit | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for kind in (ORDINARY, STRONG):
        for edit in next(iter(methods.values()))[kind]["edits"]:
            cells = [told(method[kind]["edits"][edit]) for method in methods.values()]
            lines.append(f"| {edit} | {' | '.join(cells)} |")
    recalls = ", ".join(f"{bits}: {value:.4f}" for bits, value in search["recall"].items())
    lines += [
        "",
        f"Search among {search['hashes']:,} whole hashes and {search['landmarks']:,} landmarks, as they are and in a "
        f"mirror: {search['cpu_seconds']:.1f} CPU s ({search['cpu_seconds_whole']:.1f} for the whole hashes), peak "
        f"{search['peak_gigabytes']:.2f} GB. Recall of planted pairs {search['recall_to_8']:.4f} up to 8 bits, "
        f"{search['recall_all']:.4f} up to 11; by bits changed {recalls}.",
        "",
    ]
    return "\n".join(lines)


def told(share: dict) -> str:
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}] n={share['n']}"


if __name__ == "__main__":
    main()
