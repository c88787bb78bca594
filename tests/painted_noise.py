"""What a stock paints in tests: two small pictures of noise, at once."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from alchemist_hub.voting.stock import Listed, Pictures

LISTED = Listed(model="mini", prompts=("mars", "the moon", "saturn"), seeds=range(2), steps=2, guidance=2.0)
WEIGHTS = ("0123456789ab", "ba9876543210")


def noise(prompt: str, seed: int, should_stop: Callable[[], bool]) -> Pictures:
    """Base and tuned, different, and the same for the same prompt and seed."""
    rng = np.random.default_rng([seed, len(prompt)])
    return tuple(Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(2))
