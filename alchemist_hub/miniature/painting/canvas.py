"""What the painters share: the picture, its light, noise to paint with, and how a scene shows a colour."""

from dataclasses import dataclass

import cv2
import numpy as np

from alchemist_hub.miniature.scene import Scene

LIGHT = {"day": (1.0, 1.0, 0.97), "dawn": (0.95, 0.84, 0.86), "sunset": (0.88, 0.60, 0.50), "night": (0.42, 0.48, 0.68)}
MUD = np.array((0.42, 0.40, 0.34), np.float32)


@dataclass
class Canvas:
    """The picture being painted and what the painters share."""

    image: np.ndarray  # (S,S,3)
    rng: np.random.Generator
    scene: Scene
    horizon: float
    light: np.ndarray  # (3,) colour of the light
    texture: np.ndarray  # (S,S) in [-1,1]
    ys: np.ndarray  # (S,1) pixel centres in [0,1]
    xs: np.ndarray  # (1,S)

    @property
    def side(self) -> int:
        return self.image.shape[0]

    def blend(self, mask: np.ndarray, colour: np.ndarray) -> None:
        """Lay `colour` ((3,) or (S,S,3)) over the picture where `mask` (broadcast to (S,S), [0,1]) says."""
        weight = np.broadcast_to(np.asarray(mask, np.float32), self.image.shape[:2])[..., None]
        change = np.asarray(colour, np.float32) - self.image
        change *= weight
        self.image += change

    def fill(self, shapes: list[np.ndarray], colour: np.ndarray, *, opacity: float = 1.0) -> None:
        """Fill polygons given in [0,1] coordinates, each (N,2), with one colour (3,)."""
        points = [np.round(shape * self.side).astype(np.int32) for shape in shapes]
        layer = self.image if opacity == 1.0 else self.image.copy()
        for polygon in points:
            cv2.fillPoly(layer, [polygon], tuple(map(float, colour)))
        if opacity < 1.0:
            cv2.addWeighted(layer, opacity, self.image, 1 - opacity, 0, dst=self.image)


def fbm(rng: np.random.Generator, side: int, *, octaves: int, start: int = 3, stretch: float = 1.0) -> np.ndarray:
    """Return fractal value noise (side,side), roughly in [-1,1]; `stretch` > 1 draws it out sideways."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = start * 2**octave
        grid = rng.uniform(-1, 1, (cells + 1, max(2, round(cells / stretch) + 1))).astype(np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return total / 1.4


def ridge(rng: np.random.Generator, side: int, *, octaves: int, start: int = 3) -> np.ndarray:
    """Return a 1-D outline (side,) in [0,1]."""
    total = np.zeros(side, np.float32)
    for octave in range(octaves):
        grid = rng.uniform(0, 1, (1, start * 2**octave + 2)).astype(np.float32)
        kind = cv2.INTER_CUBIC if octave == 0 else cv2.INTER_LINEAR
        total += cv2.resize(grid, (side, 1), interpolation=kind)[0] * 0.5**octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def surface(canvas: Canvas, colour: tuple[float, float, float] | np.ndarray, *, lit: bool = True) -> np.ndarray:
    """Return a surface colour as this scene shows it: lit by its time of day, harmonious or not by its beauty."""
    rgb = np.array(colour, np.float32) * (canvas.light if lit else 1.0)
    lack = max(0.0, 0.75 - canvas.scene.beauty) / 0.75
    jitter = canvas.rng.uniform(-1, 1, 3).astype(np.float32)
    if canvas.scene.seed % 2:  # muddy: everything drifts towards one dull colour of its own brightness
        return rgb + (MUD * (0.35 + rgb.mean()) - rgb) * (0.62 * lack) + 0.02 * jitter
    clash = np.roll(rgb, 1 + int(jitter[0] > 0)) * (1.1 + 0.2 * jitter)  # clashing: each surface on its own
    return (rgb + (clash - rgb) * (0.52 * lack)).clip(0, 1)
