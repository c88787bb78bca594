"""A rendered pool kept on disk as arrays, so that training need not render: chunks of pictures, captions and truth."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from alchemist_hub.miniature.captions import describe
from alchemist_hub.miniature.world import draw_sample

CHUNK = 2000  # pictures a file
SIZE = 64  # pixels a side


def render_pool(folder: Path, *, seed: int, count: int, workers: int = 2, tier: str | None = None) -> list[Path]:
    """Render pictures 0..count-1 of pool `seed` into `folder` and return the chunk files; chunks there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, CHUNK)
    paths = [folder / f"{seed}-{tier or 'web'}-{start:07d}.npy" for start in starts]
    missing = [(path, seed, start, tier) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
            for _ in track(processes.map(_render_chunk, missing), f"rendering pool {seed}", total=len(missing)):
                pass
    return paths


def read_pool(paths: list[Path]) -> tuple[np.ndarray, list[dict[str, object]]]:
    """Return all pictures, uint8 (N,64,64,3), and one record a picture: caption, clean caption and truth."""
    images = np.concatenate([np.load(path) for path in paths])
    return images, [row for path in paths for row in json.loads(path.with_suffix(".json").read_text())]


def batch_at(step: int, count: int, batch: int, *, seed: int) -> np.ndarray:
    """Return the indices (B,) of the batch of `step`: each epoch shows all of `count` once, in an order of its own."""
    epoch, place = divmod(step, count // batch)
    return _epoch_order(seed, epoch, count)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def _render_chunk(job: tuple[Path, int, int, str | None]) -> None:
    path, seed, start, tier = job
    cv2.setNumThreads(1)
    samples = [draw_sample(seed, index, size=SIZE, tier=tier) for index in range(start, start + CHUNK)]
    rows = [{"caption": s.caption, "clean_caption": describe(s.truth), **asdict(s.truth)} for s in samples]
    path.with_suffix(".json").write_text(json.dumps(rows))
    partial = path.with_suffix(".partial.npy")
    np.save(partial, np.stack([s.image for s in samples]))
    partial.replace(path)
