"""Pictures as tables, for the tests of the stages."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from curation.images import to_jpeg
from curation.records import OK, SAMPLE, UNDECODABLE, img_key


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    """Return a maker of random pictures: coarse blocks of colour, uint8 (H, W, 3)."""

    def draw(seed: int, *, width: int = 40, height: int = 32) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        return coarse.repeat(-(-height // 4), axis=0).repeat(-(-width // 5), axis=1)[:height, :width]

    return draw


@pytest.fixture
def samples() -> Callable[..., pa.Table]:
    """Return a maker of sample tables from pictures; None stands for a file that does not decode."""

    def table(pictures: Sequence[np.ndarray | None], texts: Sequence[str | None] | None = None) -> pa.Table:
        files = [b"not a picture" if picture is None else to_jpeg(picture) for picture in pictures]
        rows = [
            {
                "img_key": img_key(file),
                "url": f"{row}.jpg",
                "text": texts[row] if texts else f"text {row}",
                "image": file,
                "status": UNDECODABLE if picture is None else OK,
                "width": None if picture is None else picture.shape[1],
                "height": None if picture is None else picture.shape[0],
                "bytes": len(file),
            }
            for row, (picture, file) in enumerate(zip(pictures, files, strict=True))
        ]
        return pa.Table.from_pylist(rows, schema=SAMPLE)

    return table
