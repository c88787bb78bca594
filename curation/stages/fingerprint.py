"""Fingerprint: 64 bits that stay nearly the same when a picture is resized, re-encoded, recoloured or framed.

The hash holds the signs of the 64 lowest frequencies of a cosine transform (DCT) of the picture without its uniform
border, so that a mirrored picture has the same hash with the bits of the odd horizontal frequencies flipped: one number
serves both passes.
"""

import cv2
import numpy as np
import pyarrow as pa

from curation.images import decode_gray_table
from curation.stages.base import Stage
from curation.stages.signals import without_border

SIDE = 32  # pixels that the transform sees


def _lowest_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the 64 lowest frequencies, the mean left out; every second one is odd horizontally."""
    order = sorted((v + u, v, u) for v in range(SIDE) for u in range(SIDE))[1:65]
    _, rows, columns = (np.array(part) for part in zip(*order, strict=True))
    return rows, columns


_ROWS, _COLUMNS = _lowest_frequencies()
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)
ODD = np.bitwise_or.reduce(_POWERS[_COLUMNS % 2 == 1])  # the bits that a mirror flips


def perceptual_hash(gray: np.ndarray) -> int:
    """Return the 64-bit hash of uint8 gray (H, W); pictures alike differ in few bits."""
    return hash_of(without_border(gray, least=SIDE))


def hash_of(gray: np.ndarray) -> int:
    """Return the 64-bit hash of uint8 gray (H, W) as it is, border and all."""
    spectrum = cv2.dct(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32))
    return int(np.bitwise_or.reduce(_POWERS[spectrum[_ROWS, _COLUMNS] > 0], initial=np.uint64(0)))


class Fingerprint(Stage):
    """Writes `phash`."""

    name = "fingerprint"
    version = "2"
    reads = ("gray",)
    writes = pa.schema([pa.field("phash", pa.uint64())])

    def __call__(self, table: pa.Table) -> pa.Table:
        hashes = [None if gray is None else perceptual_hash(gray) for gray in decode_gray_table(table)]
        return table.append_column(self.writes.field("phash"), pa.array(hashes, pa.uint64()))
