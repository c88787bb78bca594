"""Aspect-ratio buckets: every picture is cut to the one of a few sizes that fits it best, all of about the same area.

Sizes are (height, width) in pixels. Pictures of one forward pass come from one bucket.
"""

import math
from collections import Counter
from collections.abc import Sequence

Size = tuple[int, int]

# Podell et al. 2023 (SDXL), appendix I: the wide ones; the tall ones are these turned.
_SDXL_WIDE = (
    (512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792), (576, 1728), (576, 1664), (640, 1600),
    (640, 1536), (704, 1472), (704, 1408), (704, 1344), (768, 1344), (768, 1280), (832, 1216), (832, 1152),
    (896, 1152), (896, 1088), (960, 1088), (960, 1024),
)  # fmt: skip
SDXL: tuple[Size, ...] = (*_SDXL_WIDE, (1024, 1024), *((width, height) for height, width in reversed(_SDXL_WIDE)))


def table(size: int, *, step: int = 64, longest: float = 2.0) -> tuple[Size, ...]:
    """Return the buckets around a square of `size`: sides are multiples of `step`, no area is larger than the square's.

    For each height the widest that fits; none is longer than `longest` times its other side.
    """
    found = []
    for height in range(step, round(size * math.sqrt(longest)) + 1, step):
        width = size * size // height // step * step
        if width and max(height / width, width / height) <= longest:
            found += [(height, width), (width, height)]
    return tuple(sorted({*found, (size, size)}))


def nearest(size: Size, buckets: Sequence[Size]) -> Size:
    """Return the bucket whose aspect ratio is nearest to that of `size`, measured by its logarithm."""
    ratio = math.log(size[0] / size[1])
    return min(sorted(buckets), key=lambda bucket: abs(math.log(bucket[0] / bucket[1]) - ratio))


def assign(sizes: Sequence[Size], buckets: Sequence[Size], *, least: int) -> list[Size]:
    """Return the bucket of each picture. One that would hold fewer than `least` pictures is given up, emptiest first.

    Such a bucket could not fill a forward pass without showing a picture twice. At least one bucket remains.
    """
    used = set(buckets)
    while True:
        found = [nearest(size, tuple(used)) for size in sizes]
        held = Counter(found)
        used = set(held)
        emptiest = min(used, key=lambda bucket: (held[bucket], bucket))
        if held[emptiest] >= least or len(used) == 1:
            return found
        used.remove(emptiest)


def enlargement(size: Size, bucket: Size) -> float:
    """Return by how much a picture of `size` is enlarged to cover the bucket; below 1 it is made smaller."""
    return max(bucket[0] / size[0], bucket[1] / size[1])


def crop_corner(size: Size, bucket: Size) -> tuple[int, int]:
    """Return (top, left) of the middle of a picture that was resized to cover the bucket, in its resized pixels."""
    scale = enlargement(size, bucket)
    return tuple((round(side * scale) - kept) // 2 for side, kept in zip(size, bucket, strict=True))
