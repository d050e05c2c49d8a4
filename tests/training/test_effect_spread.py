"""Generated cells lie as far apart as cells that nothing was fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.pp import fit_spectral, map_spectral
from atacvi.training import match_spread, unseen_components

N_CELLS, N_PEAKS, DEPTH = 500, 600, 60
# How far three directions part the cells
STRENGTH = np.array([1.2, 0.9, 0.7])


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    """Loadings of the peaks, and vectors of cells of four kinds."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(N_PEAKS, 3))
    kinds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)
    return loadings, kinds[rng.integers(0, 4, N_CELLS)] * STRENGTH


def counts_of(vectors: np.ndarray, loadings: np.ndarray, seed: int) -> sp.csr_matrix:
    rate = np.exp(vectors @ loadings.T)
    rate *= DEPTH / rate.sum(1, keepdims=True)
    drawn = np.random.default_rng(seed).poisson(rate)
    return sp.csr_matrix(drawn.astype(np.float32))


def matched(world, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors that a generator with effects `wrong` times the true ones is given, and its matrix."""
    loadings, vectors = world
    components = unseen_components(counts_of(vectors, loadings, 1), 0)
    given = vectors[np.random.default_rng(2).permutation(N_CELLS)] * wrong
    centre = given.mean(0)

    def draw(matrix: np.ndarray, seed: int) -> sp.csr_matrix:
        return counts_of(centre + (given - centre) @ matrix.T, loadings, 10 + seed)

    matrix = match_spread(given, draw, components)
    return np.diag(matrix), matrix


def test_what_is_too_near_is_stretched_and_what_is_too_far_is_not(world):
    wrong = np.array([0.6, 1.0, 1.5])
    factors, matrix = matched(world, wrong)
    np.testing.assert_allclose(factors * wrong, 1.0, atol=0.2)
    assert np.abs(matrix - np.diag(factors)).max() < 0.2


def test_a_faithful_generator_stays_as_it_is(world):
    _, matrix = matched(world, np.ones(3))
    np.testing.assert_allclose(matrix, np.eye(3), atol=0.12)


def test_what_no_component_sees_stays_as_it_was(world):
    loadings, vectors = world
    components = unseen_components(counts_of(vectors, loadings, 1), 0)
    # a fourth direction that no peak follows
    given = np.column_stack([0.6 * vectors, np.random.default_rng(3).normal(size=N_CELLS)])
    blind = np.column_stack([loadings, np.zeros(N_PEAKS)])
    centre = given.mean(0)

    def draw(matrix: np.ndarray, seed: int) -> sp.csr_matrix:
        return counts_of(centre + (given - centre) @ matrix.T, blind, 10 + seed)

    matrix = match_spread(given, draw, components)
    assert matrix[3, 3] == pytest.approx(1.0, abs=0.05)
    assert np.abs(matrix[3, :3]).max() < 0.15
    assert np.diag(matrix)[:3].min() > 1.3


def test_components_do_not_follow_the_noise_of_the_cells_they_show():
    rng = np.random.default_rng(4)
    rate = np.full((200, N_PEAKS), 30 / N_PEAKS)
    noise = sp.csr_matrix(rng.poisson(rate).astype(np.float32))  # cells that differ in nothing
    (first, *_) = unseen_components(noise, 0)
    fit = fit_spectral(noise, first.fit.table.shape[1], random_state=0)
    seen = map_spectral(noise, fit, scaled=False)
    assert (first.observed**2).mean() < 0.5 * seen[:, 0].var()


def test_folds_leave_no_cell_out(world):
    loadings, vectors = world
    components = unseen_components(counts_of(vectors, loadings, 1), 0)
    assert len(components) == 5
    assert sum(len(part.observed) for part in components) == N_CELLS
    assert {part.observed.shape[1] for part in components} == {components[0].rotation.shape[1]}
    for part in components:
        np.testing.assert_allclose(part.observed.mean(0), 0.0, atol=1e-6)


def test_few_cells_leave_all_as_it_is(world):
    loadings, vectors = world
    components = unseen_components(counts_of(vectors[:40], loadings, 1), 0)
    assert components == []

    def draw(matrix: np.ndarray, seed: int) -> sp.csr_matrix:
        raise AssertionError

    np.testing.assert_array_equal(match_spread(vectors[:40], draw, components), np.eye(3))
