"""What imagededup and cleanvision do, in a Python that has them: python peers.py pairs|hashes PICTURES OUT.json.

Only imagededup's hashing is imported: its networks ask for torch and torchvision, and nothing here uses them.
"""

import json
import resource
import sys
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from unittest.mock import MagicMock

LEFT_OUT = (
    "imagededup.methods.cnn",
    "imagededup.utils.models",
    "imagededup.utils.data_generator",
    "sklearn",
    "sklearn.metrics",
    "sklearn.metrics.pairwise",
)


def main() -> None:
    """Run what is asked for on the folder and write it with its CPU seconds."""
    what, folder, out = sys.argv[1:]
    sys.modules.update(dict.fromkeys(LEFT_OUT, MagicMock()))
    found = {"pairs": pairs, "hashes": hashes}[what](folder)
    found["versions"] = {name: version(name) for name in ("imagededup", "cleanvision")}
    Path(out).write_text(json.dumps(found))


def cpu_seconds() -> float:
    """Of this process and of those it started and waited for: imagededup always hashes in a pool."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def pairs(folder: str) -> dict:
    """Near-duplicates: pairs of names by each peer."""
    found = {}
    for name, search in (("imagededup PHash <= 10", imagededup), ("cleanvision", cleanvision)):
        started = cpu_seconds()
        pairs = search(folder)
        found[name] = {"pairs": sorted(pairs), "cpu_seconds": cpu_seconds() - started}
    return found


def hashes(folder: str) -> dict:
    """Perceptual hashing end to end, its libraries loaded."""
    from imagededup.methods import PHash

    started = cpu_seconds()
    found = PHash(verbose=False).encode_images(image_dir=folder, num_enc_workers=0)
    return {"count": len(found), "cpu_seconds": cpu_seconds() - started}


def imagededup(folder: str) -> set[tuple[str, str]]:
    """PHash with one worker."""
    from imagededup.methods import PHash

    hasher = PHash(verbose=False)
    hashes = hasher.encode_images(image_dir=folder, num_enc_workers=0)
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=10, num_dist_workers=0)
    return {_pair(one, other) for one, others in found.items() for other in others}


def cleanvision(folder: str) -> set[tuple[str, str]]:
    from cleanvision import Imagelab

    lab = Imagelab(data_path=folder)
    lab.find_issues({"near_duplicates": {}, "exact_duplicates": {}}, n_jobs=1, verbose=False)
    sets = lab.info["near_duplicates"]["sets"] + lab.info["exact_duplicates"]["sets"]
    return {_pair(*pair) for group in sets for pair in combinations(group, 2)}


def _pair(one: str, other: str) -> tuple[str, str]:
    return tuple(sorted((Path(one).stem, Path(other).stem)))


if __name__ == "__main__":
    main()
