"""Distances of sets: closed forms, brute force, properties, and intervals that cover what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import distances
from alchemist_hub.evaluation.distances import frechet_distance, precision_recall_density_coverage

SETS = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(1, 6), st.integers(0, 2**16))


def drawn(shape: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    count, other, width, seed = shape
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)), rng.normal(1, 2, (other, width))


def by_matrix_root(x: np.ndarray, y: np.ndarray) -> float:
    first, second = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = np.real(linalg.sqrtm(first @ second))
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)


def test_agrees_with_the_matrix_root_where_that_is_sound():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7)), rng.normal(1, 2, (200, 7))
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_has_the_closed_form_of_gaussians_that_differ_in_mean_and_scale():
    x = np.random.default_rng(1).normal(size=(50, 3))
    shift = np.array([1.0, -2.0, 0.5])
    variance = np.cov(x, rowvar=False).trace()
    assert frechet_distance(x, 3 * (x - x.mean(0)) + x.mean(0) + shift) == pytest.approx(
        (shift**2).sum() + 4 * variance
    )


def test_is_right_with_fewer_pictures_than_features():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 40)), rng.normal(size=(9, 40))
    ridge = 1e-7 * np.eye(40)
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    half = linalg.sqrtm(first + ridge)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ (second + ridge) @ half), 0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + first.trace() + second.trace() - 2 * shared
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-3)


@settings(deadline=None, max_examples=60)
@given(SETS)
def test_is_symmetric_and_blind_to_translation_rotation_and_order(shape):
    x, y = drawn(shape)
    value = frechet_distance(x, y)
    rotation, _ = np.linalg.qr(np.random.default_rng(shape[3]).normal(size=(shape[2], shape[2])))
    assert value >= 0
    assert frechet_distance(y, x) == pytest.approx(value, abs=1e-8)
    assert frechet_distance(x + 5, y + 5) == pytest.approx(value, abs=1e-8)
    assert frechet_distance(x[::-1] @ rotation, y @ rotation) == pytest.approx(value, abs=1e-8)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)


def by_loops(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def radius(points: np.ndarray, index: int) -> float:
        return sorted(np.linalg.norm(points[index] - other) for j, other in enumerate(points) if j != index)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, j) for j in range(len(fake))]
    near = [[np.linalg.norm(r - f) < real_radii[i] for f in fake] for i, r in enumerate(real)]
    recalled = [any(np.linalg.norm(r - f) < fake_radii[j] for j, f in enumerate(fake)) for r in real]
    return (
        np.mean([any(row[j] for row in near) for j in range(len(fake))]),
        np.mean(recalled),
        np.sum(near) / (k * len(fake)),
        np.mean([any(row) for row in near]),
    )


@pytest.mark.parametrize("block", [7, 1024])
def test_the_four_measures_are_those_of_plain_loops_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(distances, "BLOCK", block)
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(40, 4)), rng.normal(0.5, 0.8, (30, 4))
    found = precision_recall_density_coverage(real, fake, k=3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(by_loops(real, fake, 3))


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(7, 15), st.integers(7, 15), st.integers(1, 4), st.integers(0, 2**16)))
def test_the_four_measures_trade_places_with_the_sets_and_stay_in_bounds(shape):
    x, y = drawn(shape)
    there, back = precision_recall_density_coverage(x, y), precision_recall_density_coverage(y, x)
    assert there.precision == back.recall and there.recall == back.precision
    assert all(0 <= value <= 1 for value in (there.precision, there.recall, there.coverage))
    moved = precision_recall_density_coverage(4 * x + 1, 4 * y + 1)
    assert moved.density == pytest.approx(there.density)


def test_a_collapsed_model_is_precise_and_covers_little():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(300, 6))
    collapsed = precision_recall_density_coverage(real, 0.05 * rng.normal(size=(300, 6)))
    healthy = precision_recall_density_coverage(real, rng.normal(size=(300, 6)))
    assert collapsed.precision > 0.95 and collapsed.coverage < 0.3 and collapsed.recall < 0.05
    assert healthy.coverage > 0.9 and healthy.recall > 0.7


def test_what_cannot_be_measured_is_refused_in_words():
    x = np.zeros((3, 2))
    with pytest.raises(EvaluationError, match="with one D"):
        frechet_distance(x, np.zeros((3, 4)))
    with pytest.raises(EvaluationError, match="at least two"):
        frechet_distance(x, x[:1])
    with pytest.raises(EvaluationError, match="not finite"):
        frechet_distance(x, np.full((3, 2), np.nan))
    with pytest.raises(EvaluationError, match="need more than 5"):
        precision_recall_density_coverage(x, x)
    with pytest.raises(EvaluationError, match="at least two prompts"):
        distances.frechet_interval(x, x, np.zeros(3))


def test_the_jackknife_of_a_mean_is_its_textbook_error_over_prompts():
    values = np.random.default_rng(5).normal(size=(20, 3))
    means = values.mean(axis=1)
    found = distances.jackknife(lambda kept: values.reshape(-1)[kept].mean(), np.repeat(np.arange(20), 3))
    reach = 2.093024 * means.std(ddof=1) / np.sqrt(20)  # t with 19 degrees of freedom
    assert (found.low, found.high) == pytest.approx((means.mean() - reach, means.mean() + reach), rel=1e-5)


def test_pictures_of_one_prompt_are_left_out_together():
    seen = []
    units = np.repeat(["b", "a", "c"], 4)
    distances.jackknife(lambda kept: seen.append(kept) or 0.0, units)
    left_out = sorted({tuple(np.unique(units[~kept])) for kept in seen[1:]})
    assert left_out == [("a",), ("b",), ("c",)] and seen[0].all()


def test_a_difference_of_equal_models_is_zero_and_a_worse_one_is_seen():
    rng = np.random.default_rng(6)
    real, ours = rng.normal(size=(400, 5)), rng.normal(size=(200, 5))
    units = np.repeat(np.arange(100), 2)
    same = distances.frechet_difference(real, ours, ours, units)
    worse = distances.frechet_difference(real, ours + 1, ours, units)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert worse.above(0) and worse.value == pytest.approx(5, abs=1.5)


def test_intervals_of_differences_cover_and_seldom_cry_wolf():
    """Two models of equal quality, pictures that share their prompt: 95% intervals of FD differences miss zero 5%."""
    rng = np.random.default_rng(7)
    real = rng.normal(size=(300, 4))
    units = np.repeat(np.arange(60), 2)
    missed = 0
    for _ in range(200):
        prompts = np.repeat(rng.normal(size=(60, 4)), 2, axis=0)
        ours, theirs = (0.8 * prompts + 0.6 * rng.normal(size=(120, 4)) for _ in range(2))
        found = distances.frechet_difference(real, ours, theirs, units)
        missed += not found.low <= 0 <= found.high
    assert missed <= 16  # 8%: three standard errors above 5% of 200 would be 9.6%


def test_all_four_measures_come_with_intervals():
    rng = np.random.default_rng(8)
    real, fake = rng.normal(size=(80, 3)), rng.normal(0.5, 1.2, (60, 3))
    found = distances.manifold_intervals(real, fake, np.repeat(np.arange(30), 2))
    whole = precision_recall_density_coverage(real, fake)
    assert {name: value.value for name, value in found.items()} == {
        name: getattr(whole, name) for name in ("precision", "recall", "density", "coverage")
    }
    assert all(value.low < value.value < value.high for value in found.values())
