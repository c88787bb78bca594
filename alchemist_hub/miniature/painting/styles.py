"""The styles: what makes a painted scene a watercolour, an oil painting, a sketch or pixel art."""

import cv2
import numpy as np

from alchemist_hub.miniature.painting.canvas import Canvas, fbm


def _photo(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    return image


def _watercolour(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pale pigment that bleeds, darker at the edges of each wash, on paper that shows through."""
    soft = cv2.bilateralFilter(image.clip(0, 1), 5, 0.25, canvas.side / 40)
    wash = cv2.GaussianBlur(soft, (0, 0), canvas.side / 85)
    edge = np.abs(wash - cv2.GaussianBlur(wash, (0, 0), canvas.side / 28)).mean(2, keepdims=True)
    paper = 0.95 + 0.05 * canvas.texture[..., None]
    pigment = 0.78 + 0.14 * canvas.texture[..., None]
    return (paper + (wash - paper) * pigment - 0.9 * edge).clip(0, 1)


def _oil(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Strokes: colours dragged along a flow, with ridges of paint."""
    byte = (image.clip(0, 1) * 255).astype(np.uint8)
    flat = cv2.medianBlur(byte, 2 * (canvas.side // 50) + 1).astype(np.float32) / 255
    stroke = fbm(canvas.rng, canvas.side, octaves=1, start=18, stretch=3.0)
    flat = (flat - 0.5) * 1.12 + 0.5
    return (flat * (1 + 0.20 * stroke[..., None]) + 0.03 * stroke[..., None]).clip(0, 1)


def _sketch(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pencil: outlines and hatched shadows; on clean paper where beautiful, smudged and gray where not."""
    byte = (image.clip(0, 1) * 255).astype(np.uint8)
    flat = cv2.medianBlur(byte, 2 * (canvas.side // 50) + 1)
    gray = flat.astype(np.float32) @ np.array((0.30, 0.59, 0.11), np.float32) / 255
    edges = (
        np.abs(cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)).max(2) / 255
    )
    lines = (1.1 - 3.4 * cv2.GaussianBlur(edges, (0, 0), canvas.side / 150)).clip(0.08, 1)
    beauty, rich = canvas.scene.beauty, canvas.scene.richness
    hatch = 0.5 + 0.5 * np.sin((canvas.xs + canvas.ys) * canvas.side * 0.32)
    shadow = (0.80 - gray).clip(0, 1) * (0.35 + 0.45 * beauty)
    tone = 1 - shadow * (1 - 0.45 * rich * hatch)
    paper = 0.70 + 0.28 * min(1.0, beauty / 0.6) + 0.16 * max(0.0, 0.6 - beauty) * canvas.texture
    tint = np.array((1.0, 0.985, 0.94) if beauty > 0.5 else (0.97, 0.97, 0.97), np.float32)
    return ((lines * tone * paper)[..., None] * tint).clip(0, 1)


def _pixel(image: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pixel art: a coarse grid and few colours."""
    cells = 16
    small = cv2.resize(image, (cells, cells), interpolation=cv2.INTER_AREA)
    small = np.round(small.clip(0, 1) * 9) / 9
    return cv2.resize(small, (canvas.side, canvas.side), interpolation=cv2.INTER_NEAREST)


STYLE_PAINTERS = {"photo": _photo, "watercolour": _watercolour, "oil": _oil, "sketch": _sketch, "pixel": _pixel}
