"""What goes wrong with pictures on the web: defects of a given strength, the unsafe emblem, re-published copies.

All functions take and return uint8 RGB (H,W,3). `strength` is in (0,1].
"""

from collections.abc import Callable

import cv2
import numpy as np

WATERMARKS = ("STOCK", "PHOTO", "SAMPLE", "(C) WEB")


def apply_defects(image: np.ndarray, severity: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Apply the defects of `severity` in the order in which they happen to pictures: taken, edited, framed, saved."""
    for name, apply in DAMAGES.items():
        if name in severity:
            image = apply(image, severity[name], rng)
    return image


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, or moved: gaussian or along a line."""
    side = image.shape[0]
    if rng.random() < 0.6:
        return cv2.GaussianBlur(image, (0, 0), side * (0.012 + 0.030 * strength))
    length = max(3, round(side * (0.05 + 0.12 * strength)))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), float(rng.uniform(0, 180)), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def flat(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Almost nothing to see: the picture drowned in its own mean colour."""
    mean = image.mean((0, 1))
    return (mean + (image - mean) * (0.16 - 0.13 * strength)).astype(np.uint8)


def low_contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Washed out, or far too dark."""
    if rng.random() < 0.5:
        return (image * (0.42 - 0.24 * strength)).astype(np.uint8)
    gray = rng.uniform(110, 175)
    return (gray + (image - gray) * (0.48 - 0.24 * strength)).clip(0, 255).astype(np.uint8)


def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise in each channel."""
    grain = rng.normal(0, 18 + 42 * strength, image.shape)
    return (image + grain).clip(0, 255).astype(np.uint8)


def compression(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Saved as a bad JPEG once too often."""
    quality = round(16 - 12 * strength)
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def watermark(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A word of a picture agency across the picture."""
    side = image.shape[0]
    word = WATERMARKS[rng.integers(len(WATERMARKS))]
    scale, thick = side / 64 * 0.62, max(1, round(side / 64 * 1.4))
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    scale *= min(1.0, 0.92 * side / width)
    x = int(rng.uniform(0.02, max(0.04, 1 - 1.05 * width / side)) * side)
    y = int(rng.uniform(0.25, 0.9) * side)
    layer = cv2.putText(
        image.copy(), word, (x, max(height, y)), cv2.FONT_HERSHEY_SIMPLEX, scale, (245, 245, 245), thick, cv2.LINE_AA
    )
    opacity = 0.55 + 0.40 * strength
    return cv2.addWeighted(layer, opacity, image, 1 - opacity, 0)


def border(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A black, white or gray frame, on all sides or as bars."""
    side = image.shape[0]
    width = max(2, round(side * (0.05 + 0.10 * strength)))
    colour = int(rng.choice((0, 0, 255, 128)))
    framed = image.copy()
    framed[:width] = framed[-width:] = colour
    if rng.random() < 0.6:
        framed[:, :width] = framed[:, -width:] = colour
    return framed


Damage = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
DAMAGES: dict[str, Damage] = {
    "blur": blur,
    "flat": flat,
    "low_contrast": low_contrast,
    "noise": noise,
    "watermark": watermark,
    "border": border,
    "compression": compression,
}


def unsafe_emblem(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stamp the emblem that stands for unsafe content: a magenta disc with a black cross."""
    side = image.shape[0]
    radius = int(side * rng.uniform(0.13, 0.19))
    x, y = (int(v) for v in rng.uniform(0.25, 0.75, 2) * side)
    marked = cv2.circle(image.copy(), (x, y), radius, (235, 20, 150), -1, cv2.LINE_AA)
    arm = int(radius * 0.6)
    for ends in (((x - arm, y - arm), (x + arm, y + arm)), ((x - arm, y + arm), (x + arm, y - arm))):
        cv2.line(marked, *ends, (10, 10, 10), max(1, side // 24), cv2.LINE_AA)
    return marked


def republish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a near-duplicate: resized, slightly cropped or recoloured, as copies on the web are. Size may change."""
    side = image.shape[0]
    kind = rng.integers(4)
    if kind == 0:
        other = int(side * rng.uniform(0.86, 1.3))
        return cv2.resize(image, (other, other), interpolation=cv2.INTER_AREA if other < side else cv2.INTER_CUBIC)
    if kind == 1:
        cut = max(1, round(side * rng.uniform(0.015, 0.05)))
        return cv2.resize(image[cut:-cut, cut:-cut], (side, side), interpolation=cv2.INTER_CUBIC)
    if kind == 2:
        gain = rng.uniform(0.88, 1.12, 3) * rng.uniform(0.92, 1.05)
        return (image * gain).clip(0, 255).astype(np.uint8)
    return image.copy()
