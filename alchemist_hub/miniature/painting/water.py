"""Water: sea and lake, with reflections, glitter and boats."""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas, ridge, surface
from alchemist_hub.miniature.painting.land import firs, land


def _water(canvas: Canvas, colour: np.ndarray, *, mirror: float) -> None:
    """Paint water below the horizon: `mirror` in [0,1] of what stands above, rippled, over `colour`."""
    side, top = canvas.side, int(canvas.horizon * canvas.side)
    rows = np.arange(top, side)
    source = (2 * top - rows - 1).clip(0, top - 1)
    strength = 0.5 + 2.5 * canvas.scene.richness
    shift = (strength * np.sin(rows * 1.3 + 2 * canvas.rng.random()) * (rows - top) / max(side - top, 1)).astype(int)
    above = canvas.image[source[:, None], (np.arange(side)[None, :] + shift[:, None]) % side]
    depth = np.linspace(0, 1, len(rows), dtype=np.float32)[:, None, None]
    water = colour * (1.1 - 0.45 * depth)
    canvas.image[top:] = water + (above * 0.85 - water) * mirror
    wave = np.sin(canvas.ys[top:] ** 0.5 * 160 + 5 * canvas.texture[top:] + 9 * np.sin(canvas.xs * 5))
    crest = (wave > 0.55).astype(np.float32)[..., None] * (0.05 + 0.20 * canvas.scene.richness)
    canvas.image[top:] += (np.float32(0.9) * canvas.light - canvas.image[top:]) * crest * (0.3 + depth)


def paint_sea(canvas: Canvas) -> None:
    _water(canvas, surface(canvas, (0.06, 0.34, 0.58)), mirror=0.30)
    if canvas.scene.body in ("sun", "moon") and canvas.scene.richness > 0.35:
        _glitter(canvas)
    if canvas.rng.random() < 0.1 + 0.6 * canvas.scene.richness:
        _boat(canvas)


def _glitter(canvas: Canvas) -> None:
    """A path of light on the water below the brightest column of the sky."""
    top = int(canvas.horizon * canvas.side)
    column = int(cv2.blur(canvas.image[:top].mean(2).sum(0)[None, :], (15, 1)).argmax())
    width = 0.03 + 0.12 * (canvas.ys - canvas.horizon).clip(0, 1)
    path = np.exp(-(((canvas.xs - column / canvas.side) / width) ** 2)) * (canvas.ys > canvas.horizon)
    sparkle = (np.sin(canvas.ys * 210) + 1.5 * canvas.texture > 0.2).astype(np.float32)
    canvas.blend((path * sparkle * 0.7).astype(np.float32), np.array((1.0, 0.92, 0.72), np.float32))


def paint_lake(canvas: Canvas) -> None:
    rich = canvas.scene.richness
    shore = canvas.horizon - 0.15 * ridge(canvas.rng, canvas.side, octaves=1 + int(3 * rich)) - 0.02
    mask = ((canvas.ys - shore[None, :]) * canvas.side * 0.7 + 0.5).clip(0, 1)
    tone = surface(canvas, (0.24, 0.38, 0.28))
    canvas.blend(mask, (tone * (1 + rich * 0.4 * canvas.texture)[..., None]).clip(0, 1))
    if rich > 0.4:
        firs(
            canvas,
            np.full(canvas.side, canvas.horizon - 0.03, np.float32),
            count=int(12 * rich),
            height=(0.06, 0.12),
            colour=tone * 0.6,
            drop=0.01,
        )
    _water(canvas, surface(canvas, (0.16, 0.42, 0.56)), mirror=0.68)
    bank = 0.97 - 0.10 * ridge(canvas.rng, canvas.side, octaves=2, start=2)
    land(canvas, bank, surface(canvas, (0.30, 0.46, 0.20)), relief=0.2 + 0.8 * rich)
    if canvas.rng.random() < 0.5 * rich:
        _boat(canvas)


def _boat(canvas: Canvas) -> None:
    x, y = canvas.rng.uniform(0.15, 0.85), canvas.horizon + canvas.rng.uniform(0.06, 0.16)
    s = canvas.rng.uniform(0.06, 0.10)
    hull = np.array(((x - s, y), (x + s, y), (x + 0.6 * s, y + 0.4 * s), (x - 0.6 * s, y + 0.4 * s)))
    sail = np.array(((x, y - 0.1 * s), (x, y - 1.9 * s), (x + 0.9 * s, y - 0.1 * s)))
    canvas.fill([hull], surface(canvas, (0.50, 0.22, 0.14)))
    canvas.fill([sail], surface(canvas, (0.98, 0.96, 0.90)))
