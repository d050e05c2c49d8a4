"""Weights of the latent directions."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.training import emphasis_of


@pytest.fixture
def mean() -> np.ndarray:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return (rng.normal(size=(4000, 3)) * [3.0, 1.0, 0.2]) @ rotation + 5.0


def test_variance_along_principal_axes_is_squared(mean):
    before = np.linalg.eigvalsh(np.cov(mean.T))
    weights = emphasis_of(mean)
    after = np.linalg.eigvalsh(np.cov((mean @ weights).T))
    np.testing.assert_allclose(after / after.sum(), before**2 / (before**2).sum(), rtol=1e-3)


def test_weights_are_symmetric_and_of_unit_mean_square(mean):
    weights = emphasis_of(mean)
    np.testing.assert_allclose(weights, weights.T, atol=1e-6)
    assert (weights**2).sum() == pytest.approx(3.0, rel=1e-5)


def test_a_rotated_latent_gives_the_same_distances(mean):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = mean @ rotation

    def distance(z: np.ndarray) -> float:
        return float(np.linalg.norm((z[0] - z[1]) @ emphasis_of(z)))

    assert distance(turned) == pytest.approx(distance(mean), rel=1e-4)


@pytest.mark.parametrize("shape", [(5, 4), (1, 3)])
def test_equal_means_are_left_alone(shape):
    np.testing.assert_array_equal(emphasis_of(np.full(shape, 2.0)), np.eye(shape[1]))


def test_one_dimension_is_left_alone():
    assert emphasis_of([[1.0], [4.0]]).tolist() == [[1.0]]
