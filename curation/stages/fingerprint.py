"""Fingerprint: 64 bits that stay nearly the same when a picture is resized, re-encoded, recoloured or trimmed.

The hash holds the signs of the 64 lowest frequencies of a cosine transform (DCT), so that a mirrored picture has the
same hash with the bits of the odd horizontal frequencies flipped: one number serves both passes. Trimming moves more
bits than any other ordinary edit, so a second hash sees the picture with its edges trimmed: the trimmed copy of a
picture resembles that one.
"""

import cv2
import numpy as np
import pyarrow as pa

from curation.images import decode_gray_table
from curation.stages.base import Stage

SIDE = 32  # pixels that the transform sees
CANVAS = 256  # pixels that both hashes are taken from, whatever the picture's shape
TRIM = 10  # of them, taken off each side for the inner hash: 4%


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the 64 lowest frequencies, the mean left out; every second one is odd horizontally."""
    order = sorted((v + u, v, u) for v in range(SIDE) for u in range(SIDE))[1:65]
    _, rows, columns = (np.array(part) for part in zip(*order, strict=True))
    return rows, columns


_ROWS, _COLUMNS = _lowest_frequencies()
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)
_ODD = np.bitwise_or.reduce(_POWERS[_COLUMNS % 2 == 1])


def perceptual_hashes(gray: np.ndarray) -> tuple[int, int]:
    """Return the 64-bit hash of uint8 gray (H, W) and that of its inner part; pictures alike differ in few bits."""
    shrinks = min(gray.shape) > CANVAS
    canvas = cv2.resize(gray, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return _hash(canvas), _hash(canvas[TRIM:-TRIM, TRIM:-TRIM])


def _hash(gray: np.ndarray) -> int:
    spectrum = cv2.dct(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32))
    return int(np.bitwise_or.reduce(_POWERS[spectrum[_ROWS, _COLUMNS] > 0], initial=np.uint64(0)))


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes (uint64) of the same pictures seen in a mirror."""
    return hashes ^ _ODD


class Fingerprint(Stage):
    """Writes `phash` and `phash_inner`: with the key, all that the search for near-duplicates keeps of a sample."""

    name = "fingerprint"
    reads = ("gray",)
    writes = pa.schema([pa.field("phash", pa.uint64()), pa.field("phash_inner", pa.uint64())])

    def __call__(self, table: pa.Table) -> pa.Table:
        pictures = decode_gray_table(table)
        hashes = [(None, None) if gray is None else perceptual_hashes(gray) for gray in pictures]
        for position, field in enumerate(self.writes):
            table = table.append_column(field, pa.array([row[position] for row in hashes], field.type))
        return table
