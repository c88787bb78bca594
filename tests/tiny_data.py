"""A tiny frozen data set, as `curation.dataset.freeze` leaves it: a parquet folder with keys, prompts and pictures."""

import io
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from curation.records import img_key

PROMPTS = ("a photo of mars", "a sketch of the moon", "the sea at night", "the forest at sunset")


def tiny_image(index: int, size: int | tuple[int, int] = 64) -> bytes:
    """A JPEG with a gradient and a disc, different for every index; `size`: side, or height and width."""
    draw = np.random.default_rng(index)
    height, width = (size, size) if isinstance(size, int) else size
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    pixels = (x + y)[..., None] * draw.uniform(40, 110, 3)
    pixels[(x - draw.uniform(0.3, 0.7)) ** 2 + (y - draw.uniform(0.3, 0.7)) ** 2 < 0.04] = draw.uniform(0, 255, 3)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def tiny_dataset(folder: Path, rows: int = 8) -> Path:
    """Write `rows` pictures of 64 x 64 pixels with prompts into `folder` and return it."""
    images = [tiny_image(index) for index in range(rows)]
    return write_dataset(folder, images, [PROMPTS[index % len(PROMPTS)] for index in range(rows)])


def write_dataset(
    folder: Path, images: list[bytes], prompts: list[str], *, sizes: list[int | tuple[int, int]] | None = None
) -> Path:
    """Write these pictures and prompts into `folder` and return it; `sizes` as for `tiny_image`, 64 unless given."""
    shapes = [(size, size) if isinstance(size, int) else size for size in sizes or [64] * len(images)]
    names = [f"{index}.jpg" for index in range(len(images))]
    columns = {
        "img_key": [img_key(image) for image in images],
        "url": names,
        "prompt": prompts,
        "text": prompts,
        "image": [{"bytes": image, "path": name} for image, name in zip(images, names, strict=True)],
        "width": [width for _, width in shapes],
        "height": [height for height, _ in shapes],
    }
    texts = {name: Value("string") for name in ("img_key", "url", "prompt", "text")}
    features = Features({**texts, "image": ImageFeature(), "width": Value("int32"), "height": Value("int32")})
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder
