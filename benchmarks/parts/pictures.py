"""Labelled pictures for the benchmark of near-duplicates: sources, their edited copies, and hard negatives.

A source is a photograph, or a scene that the miniature's renderer paints. Every edit is named, of one of two kinds,
and drawn with its own strength; every picture is a JPEG file, as on the web. Two pictures are a pair if they show one
source. Hard negatives are sources of their own that share something: a caption bar, a logo, a scene's description.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from alchemist_hub.miniature.render import render
from alchemist_hub.miniature.scene import draw_scene

SIZE = 512  # pixels of a painted scene
ORDINARY, STRONG = "ordinary", "strong"
PLAIN, ANEW, BAR, LOGO = "original", "rendered anew", "same caption bar", "same logo"

Edit = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Picture:
    """One JPEG file: which source it shows, the kind of edit or of hard negative, the edit's name."""

    name: str
    source: str
    kind: str  # ORDINARY or STRONG, or for what is not an edit: PLAIN, ANEW, BAR, LOGO
    edit: str
    data: bytes


def pictures(*, photos: list[Path], scenes: int, seed: int) -> Iterator[Picture]:
    """Yield every source as it is, its edited copies, and the hard negatives made of it."""
    for name, pixels, anew in _sources(photos, scenes, seed):
        rng = np.random.default_rng((seed, *name.encode()))
        yield _saved(name, name, PLAIN, PLAIN, pixels, 92)
        for kind, edits in EDITS.items():
            for edit, change in edits.items():
                quality = int(rng.integers(75, 95))
                yield _saved(f"{name}+{edit}", name, kind, edit, change(pixels, rng), quality)
        for kind, other in ((ANEW, anew), (BAR, caption_bar(pixels, "BREAKING NEWS 24")), (LOGO, logo(pixels))):
            if other is not None:
                # A covered picture still is its source; only pairs of different sources count against a method.
                source = f"{name}+{kind}" if kind == ANEW else name
                yield _saved(f"{name}+{kind}", source, kind, kind, other, 90)


def _sources(photos: list[Path], scenes: int, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield name, pixels, and for a scene the same description painted anew."""
    for path in photos:
        yield path.stem, cv2.imread(str(path))[..., ::-1].copy(), None
    for index in range(scenes):
        scene = draw_scene(np.random.default_rng((seed, index)))
        anew = replace(scene, seed=scene.seed + 1)
        yield f"scene{seed}-{index:04d}", render(scene, size=SIZE), render(anew, size=SIZE)


def _saved(name: str, source: str, kind: str, edit: str, pixels: np.ndarray, quality: int) -> Picture:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), (cv2.IMWRITE_JPEG_QUALITY, quality))
    return Picture(name.replace(" ", "-"), source, kind, edit, data.tobytes())


def resized(share: float) -> Edit:
    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        way = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
        return cv2.resize(pixels, None, fx=share, fy=share, interpolation=way)

    return change


def encoded(quality: int) -> Edit:
    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)

    return change


def cropped(share: float) -> Edit:
    """Cut `share` of the width and of the height, anywhere."""

    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = pixels.shape[:2]
        y, x = (round(float(rng.uniform(0, share)) * side) for side in (height, width))
        return pixels[y : y + round(height * (1 - share)), x : x + round(width * (1 - share))]

    return change


def gained(low: float, high: float) -> Edit:
    """Scale each channel by its own factor: brighter or darker, warmer or colder."""

    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (pixels * rng.uniform(low, high, 3)).clip(0, 255).astype(np.uint8)

    return change


def toned(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another contrast and saturation, each by up to 25%."""
    contrast, saturation = rng.uniform(0.75, 1.25, 2)
    gray = pixels.mean(2, keepdims=True)
    changed = gray + (pixels - gray) * saturation
    return (changed.mean() + (changed - changed.mean()) * contrast).clip(0, 255).astype(np.uint8)


def framed(share: float) -> Edit:
    """Add a border of one colour outside the picture, `share` of its longer side wide."""

    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        wide, colour = round(share * max(pixels.shape)), int(rng.choice((0, 0, 128, 255)))
        return cv2.copyMakeBorder(pixels, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=(colour,) * 3)

    return change


def bars(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black bars above and below, a tenth of the height each, as of a film."""
    high = pixels.shape[0] // 10
    return cv2.copyMakeBorder(pixels, high, high, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def rotated(degrees: float, *, filled: bool) -> Edit:
    """Turn one way or the other; the corners black, or cut away with the edges they are on."""

    def change(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = pixels.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees * int(rng.choice((-1, 1))), 1)
        turned = cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_CUBIC)
        cut = 0 if filled else round(np.sin(np.radians(degrees)) * max(height, width) / 2)
        return turned[cut : height - cut, cut : width - cut]

    return change


def caption_bar(pixels: np.ndarray, text: str) -> np.ndarray:
    """An opaque bar with a line of text over the lowest sixth."""
    height, width = pixels.shape[:2]
    covered, high = pixels.copy(), height // 6
    covered[-high:] = (20, 24, 90)
    scale = high / 60
    return cv2.putText(
        covered, text, (width // 30, height - high // 3), cv2.FONT_HERSHEY_DUPLEX, scale, (255, 255, 255),
        max(1, round(scale * 2)), cv2.LINE_AA,
    )  # fmt: skip


def caption(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A caption bar with a text of its own."""
    return caption_bar(pixels, "".join(rng.choice(list("ABCDEFGHIKLMNOPRSTUV  "), 14)))


def logo(pixels: np.ndarray) -> np.ndarray:
    """A disc with a star and rays in a corner, 3% of the area, and the same in the middle, half as large."""
    height, width = pixels.shape[:2]
    covered = pixels.copy()
    for x, y, radius in ((0.84, 0.18, 0.12), (0.5, 0.5, 0.06)):
        at, size = (int(x * width), int(y * height)), radius * min(height, width)
        cv2.circle(covered, at, round(size), (230, 190, 20), -1, cv2.LINE_AA)
        for turn in np.linspace(0, 2 * np.pi, 7, endpoint=False):
            end = (int(at[0] + 0.8 * size * np.cos(turn)), int(at[1] + 0.8 * size * np.sin(turn)))
            cv2.line(covered, at, end, (40, 20, 20), max(1, round(size / 9)), cv2.LINE_AA)
    return covered


def badge(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An opaque rectangle of noise and stripes anywhere, 10 to 20% of the area: an advertisement over the picture."""
    height, width = pixels.shape[:2]
    share = np.sqrt(rng.uniform(0.10, 0.20))
    high, wide = round(height * share), round(width * share)
    y, x = int(rng.integers(0, height - high)), int(rng.integers(0, width - wide))
    blocks = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    covered = pixels.copy()
    covered[y : y + high, x : x + wide] = cv2.resize(blocks, (wide, high), interpolation=cv2.INTER_NEAREST)
    return covered


def watermark(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An agency's word across the middle, half transparent."""
    height, width = pixels.shape[:2]
    scale = width / 160
    layer = cv2.putText(
        pixels.copy(), "STOCK", (width // 12, round(height * rng.uniform(0.4, 0.7))), cv2.FONT_HERSHEY_SIMPLEX, scale,
        (245, 245, 245), max(1, round(2 * scale)), cv2.LINE_AA,
    )  # fmt: skip
    return cv2.addWeighted(layer, 0.6, pixels, 0.4, 0)


def flipped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels[:, ::-1].copy()


EDITS: dict[str, dict[str, Edit]] = {
    ORDINARY: {
        "resize 0.35": resized(0.35),
        "resize 0.7": resized(0.7),
        "resize 1.4": resized(1.4),
        "jpeg 30": encoded(30),
        "jpeg 60": encoded(60),
        "crop 3%": cropped(0.03),
        "crop 5%": cropped(0.05),
        "colour 10%": gained(0.9, 1.1),
        "colour 20%": gained(0.8, 1.15),
        "tone 25%": toned,
    },
    STRONG: {
        "crop 20% of the area": cropped(1 - np.sqrt(0.8)),
        "crop 20% of each side": cropped(0.2),
        "border 5%": framed(0.05),
        "border 12%": framed(0.12),
        "bars 10%": bars,
        "rotation 3, filled": rotated(3, filled=True),
        "rotation 3, cut": rotated(3, filled=False),
        "caption bar": caption,
        "badge 10-20%": badge,
        "watermark": watermark,
        "flip": flipped,
    },
}
