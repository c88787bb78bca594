"""Land: meadow, forest, desert, snow and mountains, with what grows there."""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas, ridge, surface


def land(canvas: Canvas, outline: np.ndarray, colour: np.ndarray, *, relief: float) -> None:
    """Fill below `outline` (S,) with `colour`; `relief` in [0,1] is how much texture and slope shading it shows."""
    mask = ((canvas.ys - outline[None, :]) * canvas.side * 0.7 + 0.5).clip(0, 1)
    slope = cv2.blur(np.gradient(outline)[None, :] * canvas.side, (7, 1)).clip(-1, 1)
    depth = ((canvas.ys - outline[None, :]) / max(1 - canvas.horizon, 0.1)).clip(0, 1)
    shade = 1 + relief * (0.34 * canvas.texture - 0.22 * slope - 0.25 * depth)
    canvas.blend(mask, (colour * shade[..., None]).clip(0, 1))


def hills(
    canvas: Canvas, colour: tuple[float, float, float], *, amplitude: float, octaves: int, layers: int
) -> np.ndarray:
    """Paint `layers` ridges from far to near, far ones paler; return the outline of the nearest."""
    outline = np.full(canvas.side, canvas.horizon, np.float32)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for layer in range(layers):
        near = (layer + 1) / layers
        rise = amplitude * (1 - 0.45 * layer / layers)
        outline = (
            canvas.horizon
            + 0.22 * layer / layers
            - rise * ridge(canvas.rng, canvas.side, octaves=octaves)
            + 0.3 * amplitude
        )
        haze = (1 - near) * 0.55 * (0.4 + 0.6 * canvas.scene.beauty)
        shown = surface(canvas, colour)
        land(canvas, outline, shown + (far - shown) * haze, relief=0.15 + 0.85 * canvas.scene.richness)
    return outline


def layers(canvas: Canvas) -> int:
    return 1 + int(canvas.scene.richness * 2.99)


def paint_meadow(canvas: Canvas) -> None:
    outline = hills(canvas, (0.33, 0.62, 0.18), amplitude=0.09, octaves=2, layers=layers(canvas))
    _paint_flowers(canvas, outline)
    for _ in range(int(canvas.scene.richness * 4)):
        _round_tree(canvas, canvas.rng.uniform(0.05, 0.95), outline, canvas.rng.uniform(0.05, 0.09))


def _paint_flowers(canvas: Canvas, outline: np.ndarray) -> None:
    count = int(60 * max(0.0, canvas.scene.richness - 0.25))
    x = canvas.rng.integers(0, canvas.side - 1, count)
    y = (
        (canvas.rng.uniform(min(float(outline.max()) + 0.03, 0.96), 1.0, count) * canvas.side)
        .astype(int)
        .clip(0, canvas.side - 2)
    )
    colours = np.array(((0.95, 0.85, 0.2), (0.95, 0.95, 0.95), (0.9, 0.3, 0.35)), np.float32) * canvas.light
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        canvas.image[y + step[0], x + step[1]] = colours[canvas.rng.integers(0, 3, count)]


def _round_tree(canvas: Canvas, x: float, outline: np.ndarray, radius: float) -> None:
    base = float(outline[int(x * (canvas.side - 1))]) + canvas.rng.uniform(0.01, 0.12)
    trunk = np.array(((x - 0.012, base), (x + 0.012, base), (x + 0.012, base - radius), (x - 0.012, base - radius)))
    canvas.fill([trunk], surface(canvas, (0.35, 0.22, 0.12)))
    ball = ((canvas.xs - x) / radius) ** 2 + ((canvas.ys - base + 1.6 * radius) / (1.1 * radius)) ** 2
    shade = 1 + 0.5 * canvas.texture - 0.3 * (canvas.xs - x) / radius
    canvas.blend((ball < 1).astype(np.float32), (surface(canvas, (0.16, 0.42, 0.14)) * shade[..., None]).clip(0, 1))


def firs(
    canvas: Canvas, outline: np.ndarray, *, count: int, height: tuple[float, float], colour: np.ndarray, drop: float
) -> None:
    """Plant conifers of `count` random places along `outline`, up to `drop` below it."""
    rng = canvas.rng
    for x in np.sort(rng.uniform(0, 1, count)):
        tall = rng.uniform(*height)
        base = float(outline[int(x * (canvas.side - 1))]) + rng.uniform(0.0, drop) + 0.02
        wide = tall * 0.30
        tiers = [
            np.array(((x, base - tall), (x + wide * w, base - tall * b), (x - wide * w, base - tall * b)))
            for w, b in ((0.55, 0.60), (0.80, 0.30), (1.0, 0.0))
        ]
        tone = colour * rng.uniform(0.75, 1.2)
        canvas.fill(tiers, tone)
        if canvas.scene.richness > 0.6:
            lit = tiers[2].copy()
            lit[1, 0] = x - wide * 0.2
            canvas.fill([lit], tone * 1.5, opacity=0.35)


def paint_forest(canvas: Canvas) -> None:
    colour = np.array((0.09, 0.30, 0.14), np.float32)
    rows = 1 + layers(canvas)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for row in range(rows):
        near = (row + 1) / rows
        outline = canvas.horizon + 0.05 + 0.30 * row / rows - 0.06 * ridge(canvas.rng, canvas.side, octaves=1)
        shown = surface(canvas, colour)
        shown = shown + (far - shown) * (1 - near) * 0.5 * (0.3 + 0.7 * canvas.scene.beauty)
        land(canvas, outline + 0.03, shown * 0.7, relief=0.6 * canvas.scene.richness)
        firs(
            canvas,
            outline,
            count=int(9 + 8 * canvas.scene.richness),
            height=(0.14 + 0.05 * row, 0.24 + 0.06 * row),
            colour=shown,
            drop=0.03,
        )


def paint_desert(canvas: Canvas) -> None:
    outline = hills(canvas, (0.87, 0.65, 0.36), amplitude=0.13, octaves=1, layers=layers(canvas))
    if canvas.scene.richness > 0.35:  # wind ripples
        wave = np.sin((canvas.ys * 60 + 6 * canvas.texture + 4 * np.sin(canvas.xs * 7)) * 2)
        below = (canvas.ys > outline[None, :] + 0.02).astype(np.float32)
        canvas.blend(below * (wave > 0.45) * 0.22 * canvas.scene.richness, surface(canvas, (0.62, 0.40, 0.20)))
    for _ in range(canvas.rng.integers(1, 3 + int(2 * canvas.scene.richness))):
        _cactus(canvas, canvas.rng.uniform(0.08, 0.92), outline, canvas.rng.uniform(0.16, 0.26))


def _cactus(canvas: Canvas, x: float, outline: np.ndarray, tall: float) -> None:
    base = float(outline[int(x * (canvas.side - 1))]) + 0.10
    w = tall * 0.11
    boxes = (
        (x - w, base - tall, x + w, base),
        (x - 4 * w, base - 0.55 * tall, x, base - 0.42 * tall),
        (x - 4 * w, base - 0.8 * tall, x - 2.6 * w, base - 0.45 * tall),
    )
    shapes = [np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1))) for x0, y0, x1, y1 in boxes]
    canvas.fill(shapes, surface(canvas, (0.18, 0.40, 0.18)))


def paint_snow(canvas: Canvas) -> None:
    outline = hills(canvas, (0.93, 0.95, 0.99), amplitude=0.10, octaves=1, layers=layers(canvas))
    count = int(2 + 9 * canvas.scene.richness)
    firs(canvas, outline, count=count, height=(0.10, 0.22), colour=surface(canvas, (0.12, 0.26, 0.20)), drop=0.16)


def paint_mountains(canvas: Canvas) -> None:
    side, rng, rich = canvas.side, canvas.rng, canvas.scene.richness
    layers = 1 + int(rich * 2.99)
    far = canvas.image[int(canvas.horizon * side) - 1].mean(0)
    for layer in range(layers):
        near = (layer + 1) / layers
        peaks = _peaks(rng, side, rough=0.2 + 0.8 * rich)
        outline = canvas.horizon + 0.14 - (0.46 - 0.16 * layer) * peaks
        shown = surface(canvas, (0.44, 0.42, 0.46))
        shown = shown + (far - shown) * (1 - near) * 0.5 * (0.3 + 0.7 * canvas.scene.beauty)
        land(canvas, outline, shown, relief=0.2 + 0.8 * rich)
        line = outline[None, :] + 0.05 * canvas.texture + 0.10 * peaks[None, :] * (0.4 + 0.6 * rich)
        cap = ((canvas.ys > outline[None, :]) & (canvas.ys < line) & (peaks[None, :] > 0.55)).astype(np.float32)
        canvas.blend(cap * 0.9, surface(canvas, (0.96, 0.97, 1.0)))
    foot = np.full(side, canvas.horizon + 0.22, np.float32) - 0.04 * ridge(rng, side, octaves=2)
    land(canvas, foot, surface(canvas, (0.22, 0.32, 0.20)), relief=0.3 + 0.7 * rich)
    if rich > 0.5:
        firs(
            canvas,
            foot,
            count=int(14 * rich),
            height=(0.06, 0.13),
            colour=surface(canvas, (0.08, 0.20, 0.12)),
            drop=0.1,
        )


def _peaks(rng: np.random.Generator, side: int, *, rough: float) -> np.ndarray:
    """Return a jagged outline (S,) in [0,1]: straight slopes between a few summits, roughened."""
    count = rng.integers(4, 7)
    x = np.linspace(-0.1, 1.1, 2 * count + 1) + rng.uniform(-0.03, 0.03, 2 * count + 1)
    y = np.where(
        np.arange(2 * count + 1) % 2, rng.uniform(0.6, 1.0, 2 * count + 1), rng.uniform(0.05, 0.4, 2 * count + 1)
    )
    line = np.interp(np.linspace(0, 1, side), x, y) + rough * 0.09 * (ridge(rng, side, octaves=3, start=12) - 0.5)
    return line.astype(np.float32)
