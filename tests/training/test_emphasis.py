"""Weights of the latent directions, and their choice by held-out counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.training import EmbeddedCells, choose_exponent, emphasis_of


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


def cells_of(group, latent, rng, n_features=60) -> EmbeddedCells:
    """Features by group; nothing else of the latent is seen in them."""
    own = np.arange(n_features) % (group.max() + 1) == group[:, None]
    tokens = {
        name: sp.csr_matrix(rng.random(own.shape) < np.where(own, high, 0.05))
        for name, high in (("rna", 0.5), ("atac", 0.2))
    }
    return EmbeddedCells(latent, tokens)


def planted(kind: str, rng, n_cells: int) -> EmbeddedCells:
    if kind == "one wide direction":  # it alone separates; seven others hold as much noise each
        group = rng.integers(0, 3, n_cells)
        latent = rng.normal(size=(n_cells, 8))
        latent[:, 0] = 2.0 * (group - 1) + 0.5 * latent[:, 0]
    elif kind == "many narrow directions":  # two wide ones are noise
        group = rng.integers(0, 6, n_cells)
        latent = 0.15 * rng.normal(size=(n_cells, 8)) + 0.6 * np.eye(6, 8)[group]
        latent[:, 6:] = 3.0 * rng.normal(size=(n_cells, 2))
    else:
        group, latent = rng.integers(0, 3, n_cells), rng.normal(size=(n_cells, 8))
    return cells_of(group, latent, rng)


@pytest.mark.parametrize(
    ("kind", "sign"), [("one wide direction", 1), ("many narrow directions", -1), ("noise", 0)]
)
def test_what_neighbours_know_of_held_out_counts_decides(kind, sign):
    rng = np.random.default_rng(0)
    reference = planted(kind, rng, 1500)
    held_out = planted(kind, rng, 300)
    assert np.sign(choose_exponent(reference, [held_out, held_out])) == sign


def test_one_held_out_cell_decides_nothing(rng):
    reference, held_out = planted("one wide direction", rng, 300), planted("noise", rng, 1)
    assert choose_exponent(reference, [held_out]) == 0.0
