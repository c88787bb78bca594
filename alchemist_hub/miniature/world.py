"""The miniature world: pictures of known quality with captions as the web has them, deterministic from a seed.

`draw_sample(seed, index)` gives one captioned picture and its hidden truth; `write_pool` writes a folder of them as
JPEG files, with near-duplicates, unsafe and broken ones among them, and the truth beside the folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alchemist_hub.errors import WorldError
from alchemist_hub.miniature.captions import (
    OPPOSITE_WORDS,
    QUALITY_WORDS,
    Prompt,
    describe,
    prompts,
    vocabulary,
    web_caption,
)
from alchemist_hub.miniature.damage import apply_defects, republish, unsafe_emblem
from alchemist_hub.miniature.render import render
from alchemist_hub.miniature.scene import BODIES, DEFECTS, GROUNDS, STYLES, TIERS, TIMES, Truth, draw_scene
from curation.records import img_key

__all__ = [
    "BODIES", "DEFECTS", "GROUNDS", "OPPOSITE_WORDS", "QUALITY_WORDS", "STYLES", "TIERS", "TIMES", "VOCABULARY",
    "Prompt", "Sample", "Truth", "describe", "draw_sample", "prompts", "write_pool",
]  # fmt: skip

VOCABULARY = vocabulary()

# Shares of a written pool.
DUPLICATED = 0.05  # of the pictures have copies
BROKEN = 0.01
SMALL = 0.02  # below half the size


@dataclass(frozen=True)
class Sample:
    """One picture of the world, uint8 RGB (size,size,3), its caption as found and its truth."""

    image: np.ndarray
    caption: str
    truth: Truth


def draw_sample(seed: int, index: int, *, size: int = 64, tier: str | None = None) -> Sample:
    """Draw picture `index` of the raw pool `seed`; `tier` asks for one of `TIERS` instead of the web's mixture."""
    rng = np.random.default_rng((seed, index))
    scene = draw_scene(rng, tier=tier)
    caption = web_caption(scene, rng)
    image = render(scene, size=size)
    if scene.unsafe:
        image = unsafe_emblem(image, rng)
    return Sample(image=apply_defects(image, scene.severity, rng), caption=caption, truth=scene.truth())


def write_pool(folder: Path, *, seed: int, count: int, size: int = 64) -> None:
    """Write about `count` files to `folder`: `NAME.jpg` and its caption `NAME.txt`, in no telling order.

    About 5% of the pictures have one to three near-duplicates, 2% are too small, 1% of the files are broken. The
    truth goes beside the folder, `folder.parent / (folder.name + ".truth.parquet")`, one row a file; it is written
    last. Raises WorldError if the folder cannot be written.
    """
    truth_path = truth_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        truth_path.unlink(missing_ok=True)
        rows = [_write_file(folder, *item) for item in _shuffled(seed, count, size)]
        partial = truth_path.with_suffix(".partial")
        pq.write_table(pa.Table.from_pylist(rows), partial)
        partial.replace(truth_path)
    except OSError as error:
        raise WorldError(f"the pool cannot be written to {folder}: {error}") from error


def truth_file(folder: Path) -> Path:
    """Return where `write_pool` keeps the truth about `folder`."""
    return folder.parent / (folder.name + ".truth.parquet")


def _shuffled(seed: int, count: int, size: int) -> Iterator[tuple[str, Sample, bytes]]:
    """Yield (file stem, sample, file bytes), names shuffled so that copies are not neighbours."""
    rng = np.random.default_rng((seed, 0xF11E))
    names = rng.permutation(count)
    place = index = 0
    while place < count:
        sample = draw_sample(seed, index, size=size)
        copies = 1 + (int(rng.integers(1, 4)) if rng.random() < DUPLICATED else 0)
        if copies > 1:
            sample = replace(sample, truth=replace(sample.truth, group=index))
        for copy in range(min(copies, count - place)):
            image = sample.image if copy == 0 else republish(sample.image, rng)
            yield f"{names[place]:06d}", sample, _file_bytes(image, rng, first=copies == 1)
            place += 1
        index += 1


def _file_bytes(image: np.ndarray, rng: np.random.Generator, *, first: bool) -> bytes:
    """Encode as JPEG of ordinary quality; a few single pictures come out too small or broken."""
    chance = rng.random() if first else 1.0
    if chance < SMALL:
        small = max(8, int(image.shape[0] * rng.uniform(0.3, 0.48)))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 97))))
    payload = data.tobytes()
    if SMALL <= chance < SMALL + BROKEN / 2:
        return payload[: len(payload) // 2]
    if SMALL + BROKEN / 2 <= chance < SMALL + BROKEN:
        return b"<html><body>404 Not Found</body></html>"
    return payload


def _write_file(folder: Path, stem: str, sample: Sample, payload: bytes) -> dict[str, object]:
    (folder / f"{stem}.jpg").write_bytes(payload)
    (folder / f"{stem}.txt").write_text(sample.caption + "\n")
    truth = sample.truth
    image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    return {
        "file": f"{stem}.jpg",
        "img_key": img_key(payload),
        "broken": image is None or not payload.endswith(b"\xff\xd9"),
        "small": image is not None and image.shape[0] < sample.image.shape[0] // 2,
        "tier": truth.tier,
        "complexity": truth.complexity,
        "aesthetics": truth.aesthetics,
        "defects": list(truth.defects),
        "unsafe": truth.unsafe,
        "style": truth.style,
        "time": truth.time,
        "ground": truth.ground,
        "body": truth.body,
        "group": truth.group,
        "caption": sample.caption,
        "clean_caption": describe(truth),
    }
