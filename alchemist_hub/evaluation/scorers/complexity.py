"""How complex a picture is, measured without weights: subband entropy, compressed size, edge density.

Subband entropy is the measure to report: the clutter measure of Rosenholtz, Li and Nakano (2007) with Haar bands. It
asks how many bits the picture's detail takes, octave by octave, so that a forest counts more than a sky, blur less,
and sensor noise (which lives in the finest octave) little. The two others are cross-checks with other weaknesses:
compressed size takes noise for detail, edge density stops at the finest scale.

Pictures are shrunk to 512 x 512 pixels of area and never enlarged: compare pictures of at least that size, or of equal
size. On 25 photographs, in standard deviations between them: a Gaussian blur of 4 pixels moves the three by -1.8, -2.2
and -1.6, noise of 10 grey levels by +0.6, +0.6 and 0.0, noise of 25 by +1.4, +2.1 and +0.1. Styles differ more than
scenes do (a sketch is all edges), so compare pictures of the same prompts: among the miniature's photo-like pictures
subband entropy follows the world's own complexity with a rank correlation of 0.6, among all its styles with 0.3.
Shape legend: B pictures.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.features import check_paired

AREA = 512 * 512  # pixels
SMALLEST = 8  # pixels a side of the coarsest band
JUST_NOTICEABLE = 2.3  # CIELAB units: detail below it is invisible, and takes no bits
CHANNELS = (0.84, 0.08, 0.08)  # weights of L*, a*, b*, as Rosenholtz et al.
QUALITY = 75  # of the JPEG
EDGES = (100, 200)  # Canny's thresholds on 8-bit gray


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """One way to measure it, as a scorer: no weights, and a prompt that is not read."""

    name: str
    says: str
    unit: str
    measure: Callable[[np.ndarray], float]  # of a uint8 RGB (H, W, 3) picture
    higher_is_better: bool = True  # as the paper counts complexity; more is not prettier
    source: str = "computed"
    revision: str = "1"

    def load(self, weights: str | Path | None = None, *, device: str = "cpu") -> "Complexity":
        """Return the measure itself. Raises ModelError if weights are given, since there are none."""
        if weights is not None:
            raise ModelError(f"{self.name} is computed without weights; {weights} cannot be used")
        return self

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64. Raises EvaluationError unless there is one prompt a picture."""
        check_paired(images, prompts)
        return np.array([self.measure(_shrunk(image)) for image in images], dtype=np.float64)


def subband_entropy(picture: np.ndarray) -> float:
    """Return the entropy of the Haar bands in CIELAB, channels weighted; 1.7 to 3.5 for 25 photographs of Kodak's."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(sum(weight * band_entropy(lab[..., channel]) for channel, weight in enumerate(CHANNELS)))


def jpeg_bits(picture: np.ndarray) -> float:
    """Return the bits a pixel of a JPEG of quality 75, less what a flat picture of that size takes."""
    spent = _jpeg_bytes(picture) - _jpeg_bytes(np.full_like(picture, 128))
    return 8 * spent / (picture.shape[0] * picture.shape[1])


def edge_density(picture: np.ndarray) -> float:
    """Return the share of pixels on an edge, by Canny after a slight blur (Mack and Oliva 2004)."""
    gray = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (5, 5), 1.0)
    return float((cv2.Canny(gray, *EDGES) > 0).mean())


MEASURES = (
    Complexity(
        name="complexity",
        says="how much there is to see: entropy of the picture's detail over all scales",
        unit="bits a coefficient",
        measure=subband_entropy,
    ),
    Complexity(
        name="complexity-jpeg",
        says="compressed size; takes noise for detail",
        unit="bits a pixel",
        measure=jpeg_bits,
    ),
    Complexity(
        name="complexity-edges",
        says="share of pixels that lie on an edge",
        unit="share of pixels",
        measure=edge_density,
    ),
)


def band_entropy(channel: np.ndarray) -> float:
    """Return the mean entropy, in bits, of the Haar bands of one (H, W) channel in CIELAB units; every octave is equal.

    A band holds differences of neighbouring means, horizontal, vertical and diagonal, counted in just noticeable steps.
    """
    entropies = []
    while min(channel.shape) >= 2 * SMALLEST:
        a, b, c, d = _quarters(channel)
        bands = ((a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2)
        entropies.append(np.mean([_entropy(band) for band in bands]))
        channel = (a + b + c + d) / 4
    return float(np.mean(entropies)) if entropies else 0.0


def _quarters(channel: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the four corners of every 2 x 2 block; an odd last row or column is left out."""
    height, width = channel.shape[0] // 2 * 2, channel.shape[1] // 2 * 2
    even = channel[:height, :width]
    return even[0::2, 0::2], even[0::2, 1::2], even[1::2, 0::2], even[1::2, 1::2]


def _entropy(band: np.ndarray) -> float:
    _, counts = np.unique(np.rint(band / JUST_NOTICEABLE), return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _shrunk(image: Image.Image) -> np.ndarray:
    """Return uint8 RGB of at most `AREA` pixels."""
    scale = (AREA / (image.width * image.height)) ** 0.5
    image = image.convert("RGB")
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


def _jpeg_bytes(picture: np.ndarray) -> int:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, format="JPEG", quality=QUALITY)
    return written.tell()
