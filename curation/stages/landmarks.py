"""Landmarks: up to `MARKS` places of a picture by which a crop of it, or what is left beside a caption, is known again.

A landmark is the surroundings of a blob (SIFT's detector), as wide as the blob says, so that it is found again at
another size and place; what is kept of it is its perceptual hash. A crop or something laid over the picture changes the
hash of the whole, and leaves most landmarks alone.
"""

import cv2
import numpy as np
import pyarrow as pa

from curation.images import decode_gray_table
from curation.stages.base import Resources, Stage
from curation.stages.fingerprint import SIDE, hash_of
from curation.stages.signals import without_border

CANVAS = 192  # pixels of the longer side that landmarks are looked for in
MARKS = 8  # of a picture, at most: 64 bytes
SMALLEST = 6  # pixels of the canvas across a blob
REACH = 3  # how far a landmark's surroundings go from its middle, in sizes of its blob
APART = 2  # blobs of like size are at least this far from each other, in the same measure
LIKE = (0.6, 1.7)  # sizes of blobs relative to each other that count as alike
CONTRAST = 0.02  # of the faintest blob


def landmarks(gray: np.ndarray) -> np.ndarray:
    """Return the hashes (uint64, at most `MARKS`) of the surroundings of the clearest blobs of uint8 gray (H, W)."""
    canvas = _canvas(without_border(gray, least=SIDE))
    return np.array([hash_of(_patch(canvas, blob)) for blob in _blobs(canvas)], "<u8")


class Landmarks(Stage):
    """Writes `landmarks`, 8 bytes a hash, the lowest first. Dearer than all other measures that need no network."""

    name = "landmarks"
    reads = ("gray",)
    writes = pa.schema([pa.field("landmarks", pa.binary())])
    resources = Resources(batch=128)  # unlike its neighbours': a segment of its own, which only survivors reach

    def __call__(self, table: pa.Table) -> pa.Table:
        found = [None if gray is None else landmarks(gray).tobytes() for gray in decode_gray_table(table)]
        return table.append_column(self.writes.field("landmarks"), pa.array(found, pa.binary()))


def _canvas(gray: np.ndarray) -> np.ndarray:
    scale = CANVAS / max(gray.shape)
    size = max(SIDE, round(gray.shape[1] * scale)), max(SIDE, round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _blobs(canvas: np.ndarray) -> list[cv2.KeyPoint]:
    """Blobs that lie well inside and apart from each other, the clearest first."""
    blobs = cv2.SIFT_create(contrastThreshold=CONTRAST).detect(canvas, None)
    chosen: list[cv2.KeyPoint] = []
    for blob in sorted(blobs, key=lambda blob: (-blob.response * blob.size, blob.pt)):
        if len(chosen) == MARKS:
            break
        if blob.size >= SMALLEST and _inside(blob, canvas) and not any(_close(blob, other) for other in chosen):
            chosen.append(blob)
    return chosen


def _inside(blob: cv2.KeyPoint, canvas: np.ndarray) -> bool:
    reach = REACH * blob.size - 1  # a pixel beyond the edge is repeated
    return all(reach <= at <= extent - reach for at, extent in zip(blob.pt, canvas.shape[::-1], strict=True))


def _close(blob: cv2.KeyPoint, other: cv2.KeyPoint) -> bool:
    distance = max(abs(blob.pt[0] - other.pt[0]), abs(blob.pt[1] - other.pt[1]))
    return distance < APART * blob.size and LIKE[0] < other.size / blob.size < LIKE[1]


def _patch(canvas: np.ndarray, blob: cv2.KeyPoint) -> np.ndarray:
    step = 2 * REACH * blob.size / SIDE
    x, y = (at - step * (SIDE - 1) / 2 for at in blob.pt)  # the middle between the middle pixels: a mirror keeps it
    fit = np.float32([[step, 0, x], [0, step, y]])
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(canvas, fit, (SIDE, SIDE), flags=way, borderMode=cv2.BORDER_REPLICATE)
