"""Fingerprint: 64 bits of the whole picture and of up to `MARKS` places in it, its landmarks.

A hash holds the signs of the 64 lowest frequencies of a cosine transform (DCT), so that a mirrored picture has the
same hash with the bits of the odd horizontal frequencies flipped: one number serves both passes. The whole picture's,
its uniform border left out, stays nearly the same when the picture is resized, re-encoded, recoloured or framed. A crop
or something laid over the picture changes it, and leaves most landmarks alone: the surroundings of blobs (SIFT's
detector), each as wide as its blob says, so that they are found again at another size and place.
"""

import cv2
import numpy as np
import pyarrow as pa

from curation.images import decode_gray_table
from curation.stages.base import Stage
from curation.stages.signals import without_border

SIDE = 32  # pixels that the transform sees
CANVAS = 192  # pixels of the longer side that landmarks are looked for in
MARKS = 8  # of a picture, at most: 64 bytes
SMALLEST = 6  # pixels of the canvas across a blob
REACH = 3  # how far a landmark's surroundings go from its middle, in sizes of its blob
APART = 2  # blobs of like size are at least this far from each other, in the same measure
CONTRAST = 0.02  # of the faintest blob


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
    return _hash(without_border(gray, least=SIDE))


def landmarks(gray: np.ndarray) -> np.ndarray:
    """Return the hashes (uint64, at most `MARKS`) of the surroundings of the clearest blobs of uint8 gray (H, W)."""
    canvas = _canvas(without_border(gray, least=SIDE))
    return np.array([_hash(patch) for patch in _surroundings(canvas)], np.uint64)


def _canvas(gray: np.ndarray) -> np.ndarray:
    scale = CANVAS / max(gray.shape)
    size = max(SIDE, round(gray.shape[1] * scale)), max(SIDE, round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _surroundings(canvas: np.ndarray) -> list[np.ndarray]:
    """The patches (SIDE, SIDE) around blobs that lie well inside and apart from each other, the clearest first."""
    blobs = cv2.SIFT_create(contrastThreshold=CONTRAST).detect(canvas, None)
    height, width = canvas.shape
    chosen: list[cv2.KeyPoint] = []
    for blob in sorted(blobs, key=lambda blob: (-blob.response * blob.size, blob.pt)):
        (x, y), reach = blob.pt, REACH * blob.size
        inside = reach <= x + 1 and reach <= y + 1 and x + reach <= width + 1 and y + reach <= height + 1
        if len(chosen) < MARKS and blob.size >= SMALLEST and inside and not any(_close(blob, it) for it in chosen):
            chosen.append(blob)
    return [_patch(canvas, blob) for blob in chosen]


def _close(blob: cv2.KeyPoint, other: cv2.KeyPoint) -> bool:
    distance = max(abs(blob.pt[0] - other.pt[0]), abs(blob.pt[1] - other.pt[1]))
    return distance < APART * blob.size and 0.6 < other.size / blob.size < 1.7


def _patch(canvas: np.ndarray, blob: cv2.KeyPoint) -> np.ndarray:
    step = 2 * REACH * blob.size / SIDE
    x, y = (at - step * (SIDE - 1) / 2 for at in blob.pt)  # the middle between the middle pixels: a mirror keeps it
    fit = np.float32([[step, 0, x], [0, step, y]])
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(canvas, fit, (SIDE, SIDE), flags=way, borderMode=cv2.BORDER_REPLICATE)


def _hash(gray: np.ndarray) -> int:
    spectrum = cv2.dct(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32))
    return int(np.bitwise_or.reduce(_POWERS[spectrum[_ROWS, _COLUMNS] > 0], initial=np.uint64(0)))


class Fingerprint(Stage):
    """Writes `phash` and `landmarks`: with the key, all that the search for near-duplicates keeps of a sample."""

    name = "fingerprint"
    version = "2"
    reads = ("gray",)
    writes = pa.schema([pa.field("phash", pa.uint64()), pa.field("landmarks", pa.list_(pa.uint64()))])

    def __call__(self, table: pa.Table) -> pa.Table:
        pictures = decode_gray_table(table)
        found = [(None, None) if gray is None else (perceptual_hash(gray), landmarks(gray)) for gray in pictures]
        for position, field in enumerate(self.writes):
            table = table.append_column(field, pa.array([row[position] for row in found], field.type))
        return table
