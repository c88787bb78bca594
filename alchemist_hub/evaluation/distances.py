"""Distances between two sets of pictures, from their features: Frechet distance; precision, recall, density, coverage.

Pure functions on numpy arrays. Shape legend: N real pictures, M generated ones, D features, U units that were drawn
independently (prompts, or pictures).

Every one of these depends on how many pictures there are (a Frechet distance falls as either set grows), so compare
models at equal N and M only, against the same real pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from scipy.stats import t as student_t

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.votes import CONFIDENCE, Interval

NEIGHBOURS = 5
GROUPS = 20  # left out one at a time for an interval
BLOCK = 1024  # rows whose distances are held at once


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """How two sets of pictures overlap, each in [0,1] but density, which may exceed 1 (Naeem et al. 2020)."""

    precision: float  # share of generated pictures that lie among the real ones
    recall: float  # share of real pictures that lie among the generated ones
    density: float  # how many real neighbourhoods a generated picture lies in, over what is expected
    coverage: float  # share of real pictures with a generated one in their neighbourhood


def frechet_distance(x_ND: np.ndarray, y_MD: np.ndarray) -> float:
    """Return |mean - mean|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared Frechet distance of two fitted Gaussians.

    With C = F'F, tr (C1 C2)^(1/2) is the sum of the singular values of F1 F2': real and exact where a matrix root of
    nearly singular covariances (fewer pictures than features) is neither. Raises EvaluationError for fewer than two
    pictures, for features of different lengths, or ones that are not finite.
    """
    x, y = _checked(x_ND, y_MD)
    gap = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    first, second = _covariance_factor(x), _covariance_factor(y)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(max(gap + (first**2).sum() + (second**2).sum() - 2 * shared, 0.0))


def precision_recall_density_coverage(real_ND: np.ndarray, fake_MD: np.ndarray, k: int = NEIGHBOURS) -> Manifold:
    """Return the four measures of Naeem et al. (2020) with balls that reach each picture's k-th neighbour.

    Distances are Euclidean; distance matrices are held a block at a time. Raises EvaluationError as
    `frechet_distance`, and unless both sets have more than k pictures.
    """
    real, fake = _checked(real_ND, fake_MD)
    return _manifold(real, _radii(real, k), fake, k)


def jackknife(
    statistic: Callable[[np.ndarray], float],
    units_M: np.ndarray,
    *,
    groups: int = GROUPS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return `statistic` of all M pictures with a grouped jackknife interval over the units they belong to.

    `statistic(kept_M)` sees a mask of the pictures to use; `units_M` names each picture's prompt, and all pictures of
    a prompt are left out together. The interval is value +- t * SE, SE^2 = (G-1)/G * sum (leave-one-out - mean)^2: how
    much the value moves with the prompts drawn, the real pictures being given. A bootstrap would not do here: drawing a
    picture twice makes nearest neighbours at distance zero and covariances of lower rank, which biases every resample.
    In two simulated settings (taken by hand, nominal 95%) the truth lay inside in 97 to 100% of cases for Frechet
    distances, recall and coverage, which are on the wide side, in 94 to 95% for density and 95% for precision.

    For a difference of two models return the difference from `statistic`: both leave out the same prompts. Raises
    EvaluationError for fewer than two units.
    """
    _, unit_M = np.unique(units_M, return_inverse=True)
    count = int(unit_M.max(initial=-1)) + 1
    if count < 2:
        raise EvaluationError(f"an interval needs pictures of at least two prompts; there is {count}")
    groups = min(groups, count)
    group_M = (np.random.default_rng(seed).permutation(count) % groups)[unit_M]
    value = statistic(np.ones(len(unit_M), dtype=bool))
    left_out = np.array([statistic(group_M != group) for group in range(groups)])
    error = np.sqrt((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())
    reach = float(student_t.ppf((1 + confidence) / 2, groups - 1) * error)
    return Interval(value=value, low=value - reach, high=value + reach)


def frechet_interval(real_ND: np.ndarray, fake_MD: np.ndarray, units_M: np.ndarray) -> Interval:
    """Return the Frechet distance to the real pictures with its interval over the generated ones' units."""
    return jackknife(lambda kept: frechet_distance(real_ND, fake_MD[kept]), units_M)


def frechet_difference(
    real_ND: np.ndarray, ours_MD: np.ndarray, theirs_MD: np.ndarray, units_M: np.ndarray
) -> Interval:
    """Return FD(real, ours) - FD(real, theirs); row m of both is one prompt and seed. Below 0, ours is nearer."""

    def difference(kept: np.ndarray) -> float:
        return frechet_distance(real_ND, ours_MD[kept]) - frechet_distance(real_ND, theirs_MD[kept])

    return jackknife(difference, units_M)


def manifold_intervals(
    real_ND: np.ndarray, fake_MD: np.ndarray, units_M: np.ndarray, k: int = NEIGHBOURS
) -> dict[str, Interval]:
    """Return precision, recall, density and coverage by name, each with its interval over the generated ones' units."""
    real, fake = _checked(real_ND, fake_MD)
    radius_N, names = _radii(real, k), [field.name for field in fields(Manifold)]
    known: dict[bytes, Manifold] = {}  # the four share their leave-one-out sets

    def measure(name: str, kept: np.ndarray) -> float:
        key = kept.tobytes()
        if key not in known:
            known[key] = _manifold(real, radius_N, fake[kept], k)
        return getattr(known[key], name)

    return {name: jackknife(lambda kept, name=name: measure(name, kept), units_M) for name in names}


def _manifold(real_ND: np.ndarray, radius_N: np.ndarray, fake_MD: np.ndarray, k: int) -> Manifold:
    fake_radius_M = _radii(fake_MD, k)
    balls_M = np.zeros(len(fake_MD), dtype=np.int64)  # real balls around each generated picture
    recalled, covered = [], []
    for rows, distance in _blocks(real_ND, fake_MD):
        inside = distance < radius_N[rows, None]
        balls_M += inside.sum(axis=0)
        covered.append(inside.any(axis=1))
        recalled.append((distance < fake_radius_M).any(axis=1))
    return Manifold(
        precision=float((balls_M > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(balls_M.mean() / k),
        coverage=float(np.concatenate(covered).mean()),
    )


def _checked(x_ND: np.ndarray, y_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x_ND, dtype=np.float64), np.asarray(y_MD, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise EvaluationError(f"features of shapes {x.shape} and {y.shape}: expected (N, D) and (M, D) with one D")
    if min(len(x), len(y)) < 2:
        raise EvaluationError(f"{len(x)} real and {len(y)} generated pictures: at least two of each are needed")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise EvaluationError("features that are not finite: a picture or the network is damaged")
    return x, y


def _covariance_factor(x_ND: np.ndarray) -> np.ndarray:
    """Return F (min(N,D), D) with F'F the unbiased covariance: the triangle of a QR, so of no more rows than needed."""
    return np.linalg.qr((x_ND - x_ND.mean(axis=0)) / np.sqrt(len(x_ND) - 1), mode="r")


def _radii(x_ND: np.ndarray, k: int) -> np.ndarray:
    """Return (N,) each picture's distance to its k-th nearest other; EvaluationError if there are no k others."""
    if len(x_ND) <= k:
        raise EvaluationError(f"{len(x_ND)} pictures: {k} neighbours need more than {k}")
    return np.concatenate([np.partition(distance, k, axis=1)[:, k] for _, distance in _blocks(x_ND, x_ND)])


def _blocks(x_ND: np.ndarray, y_MD: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of x with their (rows, M) Euclidean distances to all of y; a row's distance to itself is 0."""
    squares_M = (y_MD**2).sum(axis=1)
    for start in range(0, len(x_ND), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x_ND)))
        squared = (x_ND[rows] ** 2).sum(axis=1)[:, None] + squares_M - 2 * x_ND[rows] @ y_MD.T
        if y_MD is x_ND:
            squared[np.arange(rows.stop - start), np.arange(start, rows.stop)] = 0
        yield rows, np.sqrt(np.maximum(squared, 0))
