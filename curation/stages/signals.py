"""Signals: what a file says about itself without any network, to turn the hopeless away early.

H, W are the sides of the picture in gray, reduced to at most `SIDE` pixels on the longer one, so that a measure means
the same for a small and for a large file.
"""

import cv2
import numpy as np
import pyarrow as pa

from curation.images import decode_gray_table, jpeg_quality
from curation.stages.base import Stage

SIDE = 512
EDGE = 6.0  # gray levels: a row or column that varies less than this is part of a uniform border

COLUMNS = {
    "jpeg_quality": "1 to 100, from the quantisation table; 100 where the file is no JPEG",
    "sharpness": "variance of the Laplacian, gray levels squared",
    "exposure": "mean gray in [0,1]",
    "clipped": "share of pixels that are black or white, [0,1]",
    "contrast": "standard deviation of gray, [0,0.5]",
    "entropy": "of the gray levels, bits in [0,8]",
    "border": "share of the picture's area that is uniform border, [0,1]",
}


class Signals(Stage):
    """Writes `jpeg_quality` and the measures of `measures`, each named and explained in `COLUMNS`."""

    name = "signals"
    reads = ("gray",)
    writes = pa.schema([pa.field(name, pa.float32()) for name in COLUMNS])

    def __call__(self, table: pa.Table) -> pa.Table:
        files = table["image"].to_pylist()
        found = [
            None if gray is None else {"jpeg_quality": jpeg_quality(file), **measures(gray)}
            for gray, file in zip(decode_gray_table(table), files, strict=True)
        ]
        for field in self.writes:
            values = [None if row is None else row[field.name] for row in found]
            table = table.append_column(field, pa.array(values, field.type))
        return table


def measures(gray: np.ndarray) -> dict[str, float]:
    """Return the measures of a picture, uint8 (H, W)."""
    gray = _reduced(gray)
    share = cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel().astype(np.float64) / gray.size
    levels = np.arange(256) / 255
    mean = float(share @ levels)
    seen = share[share > 0]
    return {
        "sharpness": float(cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S, ksize=1))[1][0, 0] ** 2),
        "exposure": mean,
        "clipped": float(share[:3].sum() + share[-3:].sum()),
        "contrast": float(np.sqrt(share @ (levels - mean) ** 2)),
        "entropy": float(-(seen * np.log2(seen)).sum()),
        "border": border(gray),
    }


def border(gray: np.ndarray) -> float:
    """Return the share of the area outside the smallest box without uniform rows above and below, columns aside."""
    return 1 - _inner(gray).size / max(gray.size, 1)


def without_border(gray: np.ndarray, *, least: int) -> np.ndarray:
    """Return the part of uint8 gray (H, W) inside its uniform border; all of it if that has a side below `least`."""
    inner = _inner(gray)
    return inner if min(inner.shape) >= least else gray


def _inner(gray: np.ndarray) -> np.ndarray:
    rows = _inside(np.ptp(gray, axis=1)) if gray.size else slice(0, 0)
    inner = gray[rows]
    return inner[:, _inside(np.ptp(inner, axis=0)) if inner.size else slice(0, 0)]


def _inside(ranges: np.ndarray) -> slice:
    varied = np.flatnonzero(ranges > EDGE)
    return slice(varied[0], varied[-1] + 1) if varied.size else slice(0, 0)


def _reduced(gray: np.ndarray) -> np.ndarray:
    scale = SIDE / max(gray.shape)
    if scale >= 1:
        return gray
    size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
