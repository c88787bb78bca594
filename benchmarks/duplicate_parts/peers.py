"""Near-duplicates by imagededup and cleanvision, in a Python that has them: python peers.py PICTURES OUT.json.

Only imagededup's hashing is imported: its networks ask for torch and torchvision, and nothing here uses them.
"""

import json
import sys
import time
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
    """Run each peer on the folder and write pairs of names and CPU seconds."""
    folder, out = sys.argv[1:]
    found = {}
    for name, search in (("imagededup PHash <= 10", imagededup), ("cleanvision", cleanvision)):
        started = time.process_time()
        pairs = search(folder)
        found[name] = {"pairs": sorted(pairs), "cpu_seconds": time.process_time() - started}
    found["versions"] = {name: version(name) for name in ("imagededup", "cleanvision")}
    Path(out).write_text(json.dumps(found))


def imagededup(folder: str) -> set[tuple[str, str]]:
    """PHash with one worker, so that its CPU time is this process's."""
    sys.modules.update(dict.fromkeys(LEFT_OUT, MagicMock()))
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
