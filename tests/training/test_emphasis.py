"""Weights of the principal directions of a latent."""

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


@pytest.mark.parametrize("exponent", [-0.5, 0.25, 1.0])
def test_the_exponent_is_that_of_the_variance(mean, exponent):
    before = np.linalg.eigvalsh(np.cov(mean.T))
    after = np.linalg.eigvalsh(np.cov((mean @ emphasis_of(mean, exponent)).T))
    expected = np.sort(before ** (1 + exponent))
    np.testing.assert_allclose(after / after.sum(), expected / expected.sum(), rtol=1e-3)


def test_exponent_zero_leaves_the_latent_alone(mean):
    np.testing.assert_array_equal(emphasis_of(mean, 0.0), np.eye(3))


def test_directions_that_hold_nothing_are_not_blown_up():
    rng = np.random.default_rng(0)
    mean = np.column_stack([rng.normal(size=(500, 2)) * [2.0, 1.0], np.full(500, 3.0)])
    weights = emphasis_of(mean, -0.75)
    assert np.abs(weights[2]).max() < 1e-6
    assert np.linalg.matrix_rank(weights, tol=1e-3) == 2
