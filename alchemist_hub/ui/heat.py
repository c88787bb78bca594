"""Where the estimator responds, drawn over the picture: gold where it speaks for the picture, blue where against."""

import numpy as np
from PIL import Image

FOR, AGAINST = (233, 178, 30), (38, 92, 214)
SIDE = 384  # pixels of the drawing, at least
OPACITY = 0.78  # of the strongest response
QUIET = 0.35  # how much of the picture's own brightness is taken away, so that both colours are seen


def heat_map(seen: np.ndarray, map_hw: np.ndarray) -> Image.Image:
    """Return `seen`, uint8 (S, S, 3), under the signed map (h, w); full colour at `strongest(map_hw)`."""
    side = max(SIDE, seen.shape[0])
    picture = Image.fromarray(seen).resize((side, side), Image.Resampling.LANCZOS)
    gray_HW1 = np.asarray(picture.convert("L"), np.float32)[..., None] * (1 - QUIET)
    share_HW = enlarged(map_hw / strongest(map_hw), side).clip(-1, 1)
    colour_HW3 = np.where(share_HW[..., None] > 0, FOR, AGAINST)
    alpha_HW1 = OPACITY * np.abs(share_HW)[..., None]
    return Image.fromarray((gray_HW1 * (1 - alpha_HW1) + colour_HW3 * alpha_HW1).clip(0, 255).astype(np.uint8))


def strongest(map_hw: np.ndarray) -> float:
    """Return the value that is drawn in full colour: the largest, without its sign; never zero."""
    return max(float(np.abs(map_hw).max()), 1e-6)


def enlarged(map_hw: np.ndarray, side: int) -> np.ndarray:
    """Return the map at (side, side), smooth between its positions."""
    return np.asarray(Image.fromarray(map_hw.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
