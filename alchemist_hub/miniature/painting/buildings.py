"""Buildings: village and city."""

import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas, surface
from alchemist_hub.miniature.painting.land import hills, land, layers


def paint_village(canvas: Canvas) -> None:
    outline = hills(canvas, (0.45, 0.60, 0.24), amplitude=0.07, octaves=2, layers=layers(canvas))
    count = 2 + int(canvas.scene.richness * 5)
    depths = np.sort(canvas.rng.uniform(0.0, 0.22, count))
    for depth in depths:
        _house(canvas, canvas.rng.uniform(0.08, 0.92), outline, depth)


def _house(canvas: Canvas, x: float, outline: np.ndarray, depth: float) -> None:
    rng, rich = canvas.rng, canvas.scene.richness
    wide = rng.uniform(0.055, 0.08) * (1 + 2 * depth)
    base = float(outline[int(x * (canvas.side - 1))]) + depth + 0.05
    tall = wide * 1.3
    wall = np.array(((x - wide, base - tall), (x + wide, base - tall), (x + wide, base), (x - wide, base)))
    roof = np.array(((x - 1.25 * wide, base - tall), (x, base - tall - 1.1 * wide), (x + 1.25 * wide, base - tall)))
    canvas.fill([wall], surface(canvas, (0.94, 0.86, 0.72)))
    canvas.fill([roof], surface(canvas, (0.72, 0.22, 0.16)))
    if rich > 0.3:
        glow = np.array((1.0, 0.84, 0.40) if canvas.scene.time != "day" else (0.30, 0.34, 0.42), np.float32)
        panes = [
            np.array(
                (
                    (x + s - 0.2 * wide, base - 0.85 * tall),
                    (x + s + 0.2 * wide, base - 0.85 * tall),
                    (x + s + 0.2 * wide, base - 0.45 * tall),
                    (x + s - 0.2 * wide, base - 0.45 * tall),
                )
            )
            for s in (-0.5 * wide, 0.5 * wide)
        ]
        canvas.fill(panes, glow)
    if rich > 0.6:
        side_wall = np.array(
            ((x + 0.45 * wide, base - tall), (x + wide, base - tall), (x + wide, base), (x + 0.45 * wide, base))
        )
        canvas.fill([side_wall], np.zeros(3, np.float32), opacity=0.22)


def paint_city(canvas: Canvas) -> None:
    rng, rich = canvas.rng, canvas.scene.richness
    land(
        canvas,
        np.full(canvas.side, canvas.horizon + 0.12, np.float32),
        surface(canvas, (0.24, 0.24, 0.27)),
        relief=0.2 + 0.6 * rich,
    )
    rows = 1 + int(rich * 1.99)
    far = canvas.image[int(canvas.horizon * canvas.side) - 1].mean(0)
    for row in range(rows):
        near = (row + 1) / rows
        x = -0.05
        while x < 1.0:
            wide = rng.uniform(0.09, 0.17)
            top = canvas.horizon + 0.10 * row - rng.uniform(0.08, 0.36)
            shown = surface(canvas, (0.34, 0.36, 0.42)) * rng.uniform(0.75, 1.15)
            _tower(canvas, x, x + wide, top, shown + (far - shown) * (1 - near) * 0.45)
            x += wide + rng.uniform(-0.01, 0.03)


def _tower(canvas: Canvas, left: float, right: float, top: float, colour: np.ndarray) -> None:
    side, rich = canvas.side, canvas.scene.richness
    x0, x1, y0 = (int(max(0, v) * side) for v in (left, right, top))
    block = canvas.image[y0:, x0:x1]
    if block.size == 0:
        return
    block[:] = colour * np.linspace(1.08, 0.92 if rich > 0.5 else 1.08, block.shape[1], dtype=np.float32)[None, :, None]
    if rich < 0.25:
        return
    lamp = np.array((1.0, 0.86, 0.45) if canvas.scene.time in ("night", "sunset") else (0.62, 0.72, 0.82), np.float32)
    cell = max(4, side // 21)
    rows, columns = block.shape[0] // cell, block.shape[1] // cell
    lit = np.kron(canvas.rng.random((rows, columns)) < 0.25 + 0.45 * rich, _pane(cell))
    area = block[: lit.shape[0], : lit.shape[1]]
    area += (lamp - area) * lit[..., None].astype(np.float32) * 0.85


def _pane(cell: int) -> np.ndarray:
    pane = np.zeros((cell, cell), bool)
    pane[cell // 3 :, cell // 3 :] = True
    return pane
