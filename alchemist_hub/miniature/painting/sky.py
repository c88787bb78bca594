"""The sky: gradient by time of day, stars, clouds, birds."""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas, fbm

# (zenith, middle, horizon) by time of day; the harmonious ones.
SKIES = {
    "day": (
        ((0.08, 0.32, 0.74), (0.32, 0.62, 0.94), (0.82, 0.92, 0.98)),
        ((0.05, 0.42, 0.72), (0.38, 0.74, 0.90), (0.96, 0.95, 0.86)),
        ((0.16, 0.36, 0.66), (0.46, 0.68, 0.90), (0.90, 0.92, 0.96)),
    ),
    "dawn": (
        ((0.46, 0.50, 0.78), (0.86, 0.70, 0.80), (1.00, 0.88, 0.76)),
        ((0.52, 0.56, 0.74), (0.94, 0.74, 0.72), (1.00, 0.90, 0.70)),
        ((0.40, 0.52, 0.72), (0.78, 0.72, 0.84), (0.98, 0.84, 0.84)),
    ),
    "sunset": (
        ((0.22, 0.10, 0.38), (0.80, 0.22, 0.34), (1.00, 0.66, 0.22)),
        ((0.30, 0.12, 0.40), (0.90, 0.34, 0.24), (1.00, 0.80, 0.36)),
        ((0.16, 0.12, 0.36), (0.70, 0.20, 0.40), (1.00, 0.54, 0.24)),
    ),
    "night": (
        ((0.02, 0.03, 0.12), (0.06, 0.09, 0.26), (0.14, 0.19, 0.40)),
        ((0.04, 0.02, 0.11), (0.12, 0.07, 0.26), (0.22, 0.16, 0.38)),
        ((0.01, 0.05, 0.10), (0.04, 0.13, 0.22), (0.10, 0.26, 0.36)),
    ),
}


def paint_sky(canvas: Canvas) -> None:
    table = SKIES[canvas.scene.time]
    top, middle, low = (_sky_tone(canvas, c) for c in table[canvas.rng.integers(len(table))])
    depth = (canvas.ys / max(canvas.horizon, 0.3)).clip(0, 1)[..., None]
    upper = top + (middle - top) * (depth / 0.6).clip(0, 1)
    canvas.image[:] = upper + (low - upper) * ((depth - 0.6) / 0.4).clip(0, 1)
    if canvas.scene.richness > 0.4:  # air is never quite even
        canvas.image += (canvas.texture * 0.05 * canvas.scene.richness)[..., None] * low


def _sky_tone(canvas: Canvas, colour: tuple[float, float, float]) -> np.ndarray:
    """The sky keeps its time of day; lack of beauty greys it or makes it garish."""
    rgb = np.array(colour, np.float32)
    lack = max(0.0, 0.75 - canvas.scene.beauty) / 0.75
    gray = rgb.mean()
    if canvas.scene.seed % 2:
        return rgb + (gray * np.array((0.98, 0.98, 0.92), np.float32) - rgb) * (0.60 * lack)
    return (
        (gray + (rgb - gray) * (1 + 0.75 * lack) + 0.07 * lack * canvas.rng.uniform(-1, 1, 3))
        .clip(0, 1)
        .astype(np.float32)
    )


def paint_stars(canvas: Canvas) -> None:
    rich, rng, side = canvas.scene.richness, canvas.rng, canvas.side
    count = int(6 + 70 * rich)
    x, y = rng.integers(0, side, count), (rng.uniform(0, canvas.horizon, count) * side).astype(int)
    canvas.image[y, x] = np.maximum(canvas.image[y, x], rng.uniform(0.5, 1.0, (count, 1)).astype(np.float32))
    bright = rng.random(count) < 0.3
    for dx, dy in ((1, 0), (0, 1), (1, 1)):
        canvas.image[(y[bright] + dy).clip(0, side - 1), (x[bright] + dx).clip(0, side - 1)] = 0.95
    if rich > 0.55:  # the milky way
        slope = rng.uniform(-0.8, 0.8)
        band = np.exp(-(((canvas.ys - 0.28) - slope * (canvas.xs - 0.5)) ** 2) / 0.012)
        glow = band * (0.5 + 0.8 * canvas.texture).clip(0, 1) * 0.55 * rich
        canvas.blend(glow.clip(0, 1), np.array((0.62, 0.55, 0.85), np.float32))


def paint_clouds(canvas: Canvas) -> None:
    scene, rng = canvas.scene, canvas.rng
    if scene.time == "night" or rng.random() > 0.25 + 0.6 * scene.richness:
        return
    white = {"day": (1.0, 1.0, 1.0), "dawn": (1.0, 0.90, 0.88), "sunset": (1.0, 0.62, 0.46)}[scene.time]
    colour = _sky_tone(canvas, white)
    if scene.richness > 0.4:
        field = fbm(rng, canvas.side, octaves=4, start=3, stretch=0.6)
        amount = ((field - 0.12) * 2.6).clip(0, 1) * ((canvas.horizon - canvas.ys) * 5).clip(0, 1)
        canvas.blend(0.85 * amount, colour - 0.25 * (0.4 - field[..., None]).clip(0, 0.4))
        return
    for _ in range(rng.integers(1, 4)):  # flat little ovals
        x, y, w = rng.uniform(0.1, 0.9), rng.uniform(0.06, canvas.horizon * 0.6), rng.uniform(0.08, 0.16)
        oval = ((canvas.xs - x) / w) ** 2 + ((canvas.ys - y) / (0.35 * w)) ** 2
        canvas.blend((oval < 1).astype(np.float32), colour)


def paint_birds(canvas: Canvas) -> None:
    if canvas.scene.time == "night" or canvas.rng.random() > canvas.scene.richness * 0.6:
        return
    for _ in range(canvas.rng.integers(2, 6)):
        x, y, s = (
            canvas.rng.uniform(0.08, 0.92),
            canvas.rng.uniform(0.08, canvas.horizon * 0.7),
            canvas.rng.uniform(0.018, 0.032),
        )
        wings = np.array(((x - s, y - 0.5 * s), (x, y), (x + s, y - 0.5 * s)))
        cv2.polylines(
            canvas.image,
            [np.round(wings * canvas.side).astype(np.int32)],
            False,
            (0.1, 0.1, 0.12),
            max(1, canvas.side // 100),
        )
