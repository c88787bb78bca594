"""The search among the hashes of a million pictures, as the reduction makes it: python search.py OUT.json.

Random hashes and landmarks; a tenth of the pictures are planted copies whose whole hash has 0 to 11 bits changed, every
second one mirrored. Both searches count: whole hashes and landmarks, each as they are and in a mirror.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from curation.stages.candidates import near_pairs
from curation.stages.duplicates import PART, WHOLE
from curation.stages.fingerprint import ODD
from curation.stages.landmarks import MARKS

COUNT, PLANTED, RADIUS = 1_000_000, 100_000, 11


def main() -> None:
    """Plant, search, measure, write."""
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, COUNT, dtype=np.uint64)
    distance = rng.integers(0, RADIUS + 1, PLANTED)
    places = rng.random((PLANTED, 64)).argsort(1)[:, :RADIUS].astype(np.uint64)
    flips = np.where(np.arange(RADIUS) < distance[:, None], np.uint64(1) << places, np.uint64(0))
    hashes[-PLANTED:] = hashes[:PLANTED] ^ np.bitwise_xor.reduce(flips, axis=1)
    hashes[-PLANTED::2] ^= ODD
    landmarks = rng.integers(0, 2**64, COUNT * MARKS, dtype=np.uint64)
    del places, flips
    started = time.process_time()
    i, j, in_mirror = near_pairs(hashes, radius=RADIUS, odd=ODD, **WHOLE)
    whole = time.process_time() - started
    near_pairs(landmarks, odd=ODD, **PART)
    seconds = time.process_time() - started
    planted = (j - i == COUNT - PLANTED) & (in_mirror == (i % 2 == 0))
    hit = np.isin(np.arange(PLANTED), i[planted])
    found = {
        "hashes": COUNT,
        "landmarks": COUNT * MARKS,
        "cpu_seconds_whole": whole,
        "cpu_seconds": seconds,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "recall": {str(bits): float(hit[distance == bits].mean()) for bits in range(RADIUS + 1)},
        "recall_to_8": float(hit[distance <= 8].mean()),
        "recall_all": float(hit.mean()),
    }
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
