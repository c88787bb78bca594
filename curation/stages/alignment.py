"""Verification: are two pictures one and the same, after resizing, cropping, recolouring, re-encoding?

Warp and compare. One picture is laid over the other, first as they are, then, if that fails, as matched local features
(SIFT, RANSAC) say; the fit is refined on the pixels (ECC: enhanced correlation), brightness and colour are fitted per
channel, and what remains unexplained must be small in every respect. Scenes that merely look alike differ by the
place of an outline, which no such fit explains. Pictures too small for local features are only laid over each other.
Where local features agree on a fit, a part of the picture may be covered: by a caption, a badge, an empty corner. The
rest has to be explained as well, and has to hold most of what there is to see, so that a logo in common is too little.

Pictures are float32 RGB in [0,1], (H, W, 3), longer side `SIDE` pixels. A fit is a 2 x 3 matrix from pixels of the
first picture to pixels of the second.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

SIDE = 64
FEATURE_SIDE = 256  # local features need more pixels: pictures below half of this have none
FEATURES = 200  # of a picture, at most
LIKENESS = 0.85  # correlation that a coarse fit must reach to be refined
RESIDUAL = 0.02  # largest root mean square of what the fit leaves unexplained, in [0,1] of pixel range
UNEXPLAINED = 0.16  # the same relative to the picture's own deviation
OVERLAP = 0.5  # least share of the first picture that the second covers
AREA_RATIO = (0.5, 2.0)  # what a fit may scale areas by, beyond the pictures' own sizes
GAIN = (0.6, 1.6)  # what a recolouring may scale a channel's contrast by
SHIFT = 0.25  # largest change of a channel's mean, in [0,1]
BLEND = 0.06  # residual in [0,1] above which a pixel counts as covered by something else
UNCOVERED = 0.7  # least share of the common area that the fit explains
SEEN = 0.6  # the same of its places with something to see
TEXTURE = 0.03  # deviation in [0,1] among neighbours that makes such a place
LEAST_SEEN = 0.1  # least share of the common area that has to be such places: flat pictures explain each other
ROUNDS = 4  # of fitting the colours to what is uncovered
INLIERS = 10  # feature matches that must agree on one fit
RATIO = 0.8  # Lowe's ratio of the nearest to the second nearest descriptor
_COARSE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)  # steps, and when to stop before
_FINE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-5)
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class Picture:
    """A picture made ready for comparison; local features are found when first asked for."""

    pixels: np.ndarray  # float32 RGB (H, W, 3)
    large: np.ndarray | None  # uint8 gray, what features are found in; None for a picture too small to have any

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Picture":
        """Make a picture from uint8 RGB (H, W, 3) of any size."""
        has_features = max(pixels.shape[:2]) >= FEATURE_SIDE // 2
        large = cv2.cvtColor(_scaled(pixels, FEATURE_SIDE), cv2.COLOR_RGB2GRAY) if has_features else None
        return cls(_scaled(pixels, SIDE).astype(np.float32) / 255, large)

    def mirrored(self) -> "Picture":
        """Return the same picture seen in a mirror."""
        large = None if self.large is None else np.ascontiguousarray(self.large[:, ::-1])
        return Picture(np.ascontiguousarray(self.pixels[:, ::-1]), large)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `pixels`."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @cached_property
    def gray(self) -> np.ndarray:
        """float32 (H, W)."""
        return cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)

    @cached_property
    def features(self) -> tuple[np.ndarray, np.ndarray | None]:
        """SIFT positions (K, 2) in pixels of `pixels`, and descriptors (K, 128) or None where there are none."""
        if self.large is None:
            return np.empty((0, 2), np.float32), None
        points, descriptors = cv2.SIFT_create(nfeatures=FEATURES).detectAndCompute(self.large, None)
        scale = np.array(self.size) / self.large.shape[1::-1]
        return np.float32([point.pt for point in points]).reshape(-1, 2) * scale, descriptors


def same_picture(first: Picture, second: Picture) -> bool:
    """Return whether the two are copies of one picture, seen the same way round.

    Faint pictures align from one side and not from the other, so both are tried.
    """
    return any(_laid_over(here, there) for here, there in ((first, second), (second, first)))


def _laid_over(first: Picture, second: Picture) -> bool:
    if any(_explains(fit, first, second) for fit in _fits(first, second)):
        return True
    matched = _matched_features(first, second)
    return matched is not None and any(
        _explains_uncovered(fit, first, second) for fit in (matched, *_refined(matched, first, second))
    )


def _scaled(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _fits(first: Picture, second: Picture) -> Iterator[np.ndarray]:
    """Yield fits worth a comparison, the cheap ones first."""
    yield _whole(first, second)
    for start in (_whole, _matched_features):
        fit = start(first, second)
        if fit is not None:
            yield from _refined(fit, first, second)


def _whole(first: Picture, second: Picture) -> np.ndarray:
    """The fit that lays one whole picture over the other."""
    scale = np.array(second.size) / first.size
    return np.float32([[scale[0], 0, 0], [0, scale[1], 0]])


def _matched_features(first: Picture, second: Picture) -> np.ndarray | None:
    """The fit that most local features agree on, or None."""
    (points, descriptors), (other_points, other_descriptors) = first.features, second.features
    if min(len(points), len(other_points)) < INLIERS:
        return None
    matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors, other_descriptors, k=2)
    good = [best for best, next_best in matches if best.distance < RATIO * next_best.distance]
    if len(good) < INLIERS:
        return None
    here = np.float32([points[match.queryIdx] for match in good])
    there = np.float32([other_points[match.trainIdx] for match in good])
    fit, inliers = cv2.estimateAffine2D(here, there, ransacReprojThreshold=1.5)
    return None if fit is None or inliers.sum() < INLIERS else fit.astype(np.float32)


def _refined(fit: np.ndarray, first: Picture, second: Picture) -> Iterator[np.ndarray]:
    """Move the fit to where the pictures correlate best: coarsely, then, if they are at all alike, finely."""
    pictures = (first.gray, second.gray)
    try:
        likeness, coarse = cv2.findTransformECC(*pictures, fit.copy(), cv2.MOTION_AFFINE, _COARSE, None, 7)
        yield coarse
        if likeness >= LIKENESS:
            yield cv2.findTransformECC(*pictures, coarse.copy(), cv2.MOTION_AFFINE, _FINE, None, 3)[1]
    except cv2.error:  # it diverged: nothing in common
        return


def _explains(fit: np.ndarray, first: Picture, second: Picture) -> bool:
    """Return whether `second` under the fit, recoloured, leaves next to nothing of `first` unexplained."""
    common = _common(fit, first, second)
    if common is None:
        return False
    target, laid_over = (pixels[common.covered] for pixels in (common.target, common.laid_over))
    recolouring = _recolouring(target, laid_over)
    if recolouring is None:
        return False
    residual = np.sqrt(np.square(target - recolouring(laid_over)).mean())
    return bool(residual < RESIDUAL and residual < UNEXPLAINED * ((target - target.mean(0)).std() + 0.01))


def _explains_uncovered(fit: np.ndarray, first: Picture, second: Picture) -> bool:
    """Return whether `second` under the fit, recoloured, explains all of `first` but a part that something covers."""
    common = _common(fit, first, second)
    if common is None:
        return False
    target, laid_over, covered = common.target, common.laid_over, common.covered
    mean, square = (cv2.blur(pixels, (5, 5)) for pixels in (first.gray, first.gray**2))
    textured = covered & (np.sqrt(np.maximum(square - mean**2, 0)) > TEXTURE)
    if textured.sum() < LEAST_SEEN * covered.sum():
        return False
    explained = covered
    for _ in range(ROUNDS):
        recolouring = _recolouring(target[explained], laid_over[explained])
        if recolouring is None:
            return False
        explained = covered & (np.abs(target - recolouring(laid_over)).max(2) < BLEND)
        if explained.sum() < UNCOVERED / 2 * covered.sum():
            return False
    return bool(explained[covered].mean() >= UNCOVERED and explained[textured].mean() >= SEEN)


@dataclass(frozen=True)
class _Common:
    """Two pictures in the first one's place: blurred (H, W, 3), and where the second one covers the first (H, W)."""

    target: np.ndarray
    laid_over: np.ndarray
    covered: np.ndarray


def _common(fit: np.ndarray, first: Picture, second: Picture) -> _Common | None:
    """Lay `second` over `first`; None if the fit scales too much or leaves too little in common."""
    covered = cv2.warpAffine(np.ones(second.gray.shape, np.float32), fit, first.size, flags=_WARP) > 0.99
    own_scale = np.linalg.det(_whole(first, second)[:, :2])
    if covered.mean() < OVERLAP or not _within(np.linalg.det(fit[:, :2]) / own_scale, AREA_RATIO):
        return None
    target, other = (cv2.GaussianBlur(it.pixels, (0, 0), 1.5) for it in (first, second))  # encoding changes fine grain
    return _Common(target, cv2.warpAffine(other, fit, first.size, flags=_WARP), covered)


def _recolouring(target: np.ndarray, laid_over: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
    """Fit brightness and contrast of each channel, pixels (K, 3); None if they would have to change too much."""
    goal, start = target.mean(0), laid_over.mean(0)
    gain = ((laid_over - start) * (target - goal)).sum(0) / (((laid_over - start) ** 2).sum(0) + 1e-6)
    if np.abs(goal - start).max() > SHIFT or not (_within(gain.min(), GAIN) and _within(gain.max(), GAIN)):
        return None
    return lambda pixels: goal + gain * (pixels - start)


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
