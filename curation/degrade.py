"""What goes wrong with pictures on the web, done on purpose to clean ones: the truth that a defect network learns from.

All functions take and return uint8 RGB (H, W, 3) of any size, the size unchanged. `strength` is in (0,1]; everything
random comes from `rng`. How strong "strong" is, is (ours).
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)
LETTERS = "ABCDEFGHIJKLMNOPRSTUVWZ"


def degrade(image: np.ndarray, strengths: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    """Apply the defects named in `strengths` in the order of `DEFECTS`: taken, edited, framed, saved."""
    for name, apply in DEFECTS.items():
        if name in strengths:
            image = apply(image, strengths[name], rng)
    return image


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Out of focus (a disc), or moved while it was taken (a line)."""
    side = min(image.shape[:2])
    if rng.random() < 0.5:
        radius = max(1, round(side * (0.006 + 0.020 * strength)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    else:
        length = max(3, round(side * (0.02 + 0.07 * strength)))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1
        turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def low_contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Hazy, washed out, or far too dark."""
    kind, keep = rng.integers(3), 0.5 - 0.35 * strength
    if kind == 0:
        veil = rng.uniform(170, 235) + np.array([-4.0, 0.0, 8.0])
    elif kind == 1:
        veil = np.full(3, image.mean())
    else:
        veil = np.zeros(3)
    return (veil + (image - veil) * keep).clip(0, 255).astype(np.uint8)


def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Grain in each channel, blotches of colour, or single pixels that are black or white."""
    height, width = image.shape[:2]
    cell = max(1.0, min(height, width) / 400) * rng.uniform(1.0, 1.6)  # grain that is still seen in a small copy
    grid = max(1, round(height / cell)), max(1, round(width / cell))
    kind = rng.integers(3)
    if kind == 2:
        hit = cv2.resize(rng.random(grid), (width, height), interpolation=cv2.INTER_NEAREST)
        share = 0.004 + 0.03 * strength
        spoilt = np.where((hit < share / 2)[..., None], 0, image)
        return np.where((hit > 1 - share / 2)[..., None], 255, spoilt).astype(np.uint8)
    grain = rng.normal(0, 10 + 35 * strength, (*grid, 3))
    if kind == 1:
        grain -= grain.mean(axis=2, keepdims=True)  # colour alone, brightness untouched
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_NEAREST)
    return (image + grain).clip(0, 255).astype(np.uint8)


def watermark(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A word across the picture, the same word all over it, or a mark in a corner."""
    draw = (_word, _words, _mark)[rng.integers(3)]
    cover = draw(*image.shape[:2], rng)[..., None] * (0.3 + 0.5 * strength)
    ink = 0.0 if rng.random() < 0.25 else 255.0
    return (image * (1 - cover) + ink * cover).astype(np.uint8)


def border(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A frame of one colour, bars on two sides, or the picture inside a blurred copy of itself."""
    height, width = image.shape[:2]
    share = 0.03 + 0.14 * strength
    down, right = ((1, 1), (1, 0), (0, 1))[rng.integers(3)]
    top, left = (max(1, round(share * height)) * down, max(1, round(share * width)) * right)
    inner = slice(top, max(top + 1, height - top)), slice(left, max(left + 1, width - left))
    if rng.random() < 0.4 and min(height, width) > 8:
        framed = cv2.GaussianBlur(image, (0, 0), min(height, width) * 0.05)
    else:
        framed = np.full_like(image, rng.choice((0, 0, 255, rng.integers(256))))
    framed[inner] = image[inner]
    return framed


def compression(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Saved as a bad JPEG: once, twice on shifted grids of blocks, or small and enlarged again."""
    quality, kind = round(30 - 25 * strength), rng.integers(3)
    if kind == 1:
        shift = tuple(int(step) for step in rng.integers(1, 8, 2))
        image = np.roll(jpeg(np.roll(image, shift, (0, 1)), quality + 8), (-shift[0], -shift[1]), (0, 1))
    if kind == 2:
        height, width = image.shape[:2]
        scale = rng.uniform(0.5, 0.8)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return cv2.resize(jpeg(small, quality + 5), (width, height), interpolation=cv2.INTER_CUBIC)
    return jpeg(image, quality)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return the picture as a JPEG of `quality`, 1 to 100, shows it."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def _text(rng: np.random.Generator) -> str:
    word = "".join(rng.choice(list(LETTERS), rng.integers(3, 9)))
    return (f"(c) {word}", f"{word}.COM", word, f"{word} 20{rng.integers(10, 30)}")[rng.integers(4)]


def _word(height: int, width: int, rng: np.random.Generator, *, share: float | None = None) -> np.ndarray:
    """A line of text on an empty sheet, (H, W) in [0,1]; `share`: of the width that it takes."""
    text, font = _text(rng), FONTS[rng.integers(len(FONTS))]
    (length, tall), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(width * (share or rng.uniform(0.3, 0.9)) / length, height * 0.5 / tall)
    x = int(rng.uniform(0, max(1, width - length * scale)))
    y = int(rng.uniform(min(height - 1, tall * scale), height))
    sheet = np.zeros((height, width), np.uint8)
    cv2.putText(sheet, text, (x, y), font, scale, 255, max(1, round(scale * rng.uniform(1, 3))), cv2.LINE_AA)
    return sheet / 255


def _words(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A word repeated over the whole sheet, on a slope."""
    across = rng.integers(3, 6)
    tile = _word(max(4, height // 6), max(8, width // across), rng, share=0.8)
    count = -(-3 * height // tile.shape[0]), -(-3 * width // tile.shape[1])
    turn = cv2.getRotationMatrix2D((1.5 * width, 1.5 * height), float(rng.uniform(-45, 45)), 1)
    turned = cv2.warpAffine(np.tile(tile, count), turn, (3 * width, 3 * height))
    return turned[height : 2 * height, width : 2 * width]


def _mark(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A ring with a letter in one of the corners."""
    radius = max(2, round(min(height, width) * rng.uniform(0.06, 0.14)))
    x = rng.choice((int(1.3 * radius), width - int(1.3 * radius)))
    y = rng.choice((int(1.3 * radius), height - int(1.3 * radius)))
    sheet = np.zeros((height, width), np.uint8)
    thick = max(1, radius // 6)
    cv2.circle(sheet, (int(x), int(y)), radius, 255, thick, cv2.LINE_AA)
    at = int(x - 0.45 * radius), int(y + 0.45 * radius)
    cv2.putText(sheet, rng.choice(list(LETTERS)), at, cv2.FONT_HERSHEY_DUPLEX, radius / 22, 255, thick, cv2.LINE_AA)
    return sheet / 255


Defect = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
DEFECTS: dict[str, Defect] = {
    "blur": blur,
    "low_contrast": low_contrast,
    "noise": noise,
    "watermark": watermark,
    "border": border,
    "compression": compression,
}
