"""What is laid over the whole scene: clutter, light, a crooked hand."""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas


def paint_clutter(canvas: Canvas) -> None:
    """Poles, wires, boxes, signs: what makes a rich scene ugly."""
    amount = canvas.scene.richness - canvas.scene.beauty - 0.15
    if amount <= 0:
        return
    rng, side = canvas.rng, canvas.side
    for _ in range(int(2 + 9 * amount)):
        x, y, s = rng.uniform(0, 0.95), rng.uniform(canvas.horizon, 0.98), rng.uniform(0.03, 0.10)
        cv2.rectangle(
            canvas.image,
            (int(x * side), int((y - s) * side)),
            (int((x + s) * side), int(y * side)),
            tuple(map(float, rng.uniform(0.1, 0.9, 3) * (0.4 + 0.6 * canvas.light.mean()))),
            -1,
        )
    for _ in range(int(1 + 4 * amount)):
        x, top = rng.uniform(0.02, 0.98), rng.uniform(0.1, canvas.horizon)
        cv2.line(
            canvas.image,
            (int(x * side), int(top * side)),
            (int((x + rng.uniform(-0.03, 0.03)) * side), side),
            (0.16, 0.14, 0.13),
            max(1, side // 50),
        )
    for _ in range(int(3 * amount)):
        cv2.line(
            canvas.image,
            (0, int(rng.uniform(0.1, 0.5) * side)),
            (side, int(rng.uniform(0.1, 0.5) * side)),
            (0.15, 0.15, 0.15),
            max(1, side // 100),
        )


def finish_light(canvas: Canvas) -> None:
    """Beautiful scenes get depth: a soft vignette and a warm gradient of light; others stay as flat as they are."""
    beauty = canvas.scene.beauty
    if beauty <= 0.55:
        return
    amount = (beauty - 0.55) / 0.45
    corner = (canvas.xs - 0.5) ** 2 + (canvas.ys - 0.5) ** 2
    canvas.image *= (1 - 0.55 * amount * corner)[..., None]
    warm = np.exp(-((canvas.ys - canvas.horizon) ** 2) / 0.02) * 0.14 * amount
    canvas.blend(warm, np.array((1.0, 0.86, 0.66), np.float32) * (0.55 + 0.45 * canvas.light))


def tilt(canvas: Canvas) -> np.ndarray:
    """Return the picture, crooked where nobody took care."""
    lack = max(0.0, 0.5 - canvas.scene.beauty) * 2
    if canvas.rng.random() > lack:
        return canvas.image
    degrees = canvas.rng.choice((-1, 1)) * canvas.rng.uniform(4, 4 + 8 * lack)
    grow = 1.0 + 0.018 * abs(degrees)
    turn = cv2.getRotationMatrix2D((canvas.side / 2, canvas.side / 2), float(degrees), grow)
    return cv2.warpAffine(canvas.image, turn, (canvas.side, canvas.side), borderMode=cv2.BORDER_REFLECT)
