"""Distances of distributions against closed forms of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from atacvi.metrics import rbf_mmd, wasserstein


def _gaussian_mmd(shift: np.ndarray, bandwidth: float) -> float:
    """Squared MMD of N(0, I) and N(shift, I) under the sum of five Gaussian kernels."""
    total = 0.0
    for i in range(5):
        b = bandwidth * 2.0 ** (i - 2)
        same = (b / (b + 4)) ** (shift.size / 2)
        total += 2 * same * (1 - np.exp(-(shift @ shift) / (b + 4)))
    return total


@pytest.mark.parametrize("unbiased", [True, False])
def test_mmd_of_shifted_gaussians(rng, unbiased):
    shift = np.array([1.0, -0.5, 0.0])
    x, y = rng.normal(size=(1000, 3)), rng.normal(size=(1000, 3))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0) + shift
    # The pooled mean squared distance: 2 d within, plus the squared shift between (half the pairs)
    expected = _gaussian_mmd(shift, 6 + shift @ shift / 2)
    assert rbf_mmd(x, y, unbiased=unbiased) == pytest.approx(expected, rel=0.05)
    expected = _gaussian_mmd(shift, 2.0)
    assert rbf_mmd(x, y, unbiased=unbiased, bandwidth=2.0) == pytest.approx(expected, rel=0.05)


def test_mmd_matches_a_direct_sum(rng):
    x, y = rng.normal(size=(12, 4)), rng.normal(size=(9, 4)) + 0.5

    def kernel(a, b):
        return sum(np.exp(-(cdist(a, b) ** 2) / (3.0 * 2.0**i)) for i in range(-2, 3))

    same = [(k.sum() - 5 * len(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    expected = sum(same) - 2 * kernel(x, y).mean()
    assert rbf_mmd(x, y, bandwidth=3.0) == pytest.approx(expected, abs=1e-6)
    expected = kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()
    assert rbf_mmd(x, y, bandwidth=3.0, unbiased=False) == pytest.approx(expected, abs=1e-6)


def test_unbiased_mmd_of_equal_distributions_is_zero_on_average(rng):
    found = [rbf_mmd(rng.normal(size=(40, 5)), rng.normal(size=(40, 5))) for _ in range(60)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(60)
    assert min(found) < 0
    biased = [
        rbf_mmd(rng.normal(size=(40, 5)), rng.normal(size=(40, 5)), unbiased=False)
        for _ in range(10)
    ]
    assert min(biased) > 0


@given(st.floats(0.01, 100), st.integers(0, 5))
def test_mmd_knows_no_units_and_no_order(scale, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(25, 3)) + 1
    assert rbf_mmd(scale * x, scale * y) == pytest.approx(rbf_mmd(y, x), abs=1e-5)


def test_wasserstein_of_a_shift_and_of_a_line(rng):
    x = rng.normal(size=(80, 6))
    shift = rng.normal(size=6)
    assert wasserstein(x, rng.permutation(x) + shift) == pytest.approx(np.linalg.norm(shift), 1e-5)
    line, other = rng.normal(size=(50, 1)), 2 * rng.normal(size=(50, 1)) + 1
    sorted_pairs = np.sort(line.ravel()) - np.sort(other.ravel())
    assert wasserstein(line, other) == pytest.approx(np.sqrt((sorted_pairs**2).mean()), 1e-5)
    assert wasserstein(line, other) >= wasserstein_distance(line.ravel(), other.ravel()) - 1e-6


def test_wasserstein_of_gaussians_of_different_width(rng):
    x, y = rng.normal(size=(600, 1)), 3 * rng.normal(size=(600, 1)) + 1
    assert wasserstein(x, y) == pytest.approx(np.sqrt(1 + (3 - 1) ** 2), rel=0.15)


def test_large_sets_are_sampled_with_the_seed(rng):
    x, y = rng.normal(size=(90, 2)), rng.normal(size=(60, 2)) + 1
    for score in (rbf_mmd, wasserstein):
        first = score(x, y, max_cells=30, random_state=3)
        assert first == score(x, y, max_cells=30, random_state=3)
        assert first != score(x, y, max_cells=30, random_state=4)
        assert score(x, y, max_cells=60) > 0


def test_what_does_not_fit_is_refused(rng):
    x = rng.normal(size=(20, 3))
    for score in (rbf_mmd, wasserstein):
        with pytest.raises(ValueError, match=r"have \[3, 2\] dimensions"):
            score(x, x[:, :2])
        with pytest.raises(ValueError, match="NaN or infinite"):
            score(x, np.full_like(x, np.nan))
    with pytest.raises(ValueError, match="bandwidth is 0"):
        rbf_mmd(np.ones((5, 2)), np.ones((5, 2)))
