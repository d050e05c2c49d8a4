"""Components from maps without the cells, and the loadings that are learnt from them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.pp import fit_spectral, map_spectral, own_entry_weights
from atacvi.training import cross_fit, fit_loadings

N_PEAKS = 600


def planted(n_cells: int, seed: int, effect: float = 1.0) -> sp.csr_matrix:
    """Counts of two groups of cells: a third of the peaks is up, another down in the second."""
    rng = np.random.default_rng(seed)
    group = np.where(np.arange(n_cells) % 2 == 0, 1.0, -1.0)
    slope = effect * np.repeat([1.0, -1.0, 0.0], N_PEAKS // 3)
    return sp.csr_matrix(rng.poisson(0.1 * np.exp(group[:, None] * slope)).astype(np.float32))


def spread(counts: sp.csr_matrix, unseen: sp.csr_matrix) -> tuple[np.ndarray, ...]:
    """Standard deviation of training cells in the map, of the same without it, of unseen cells."""
    fit = fit_spectral(counts, 6)
    components = map_spectral(counts, fit, scaled=False).astype(np.float64)
    crossed = cross_fit(counts, components, np.ones(counts.shape[0], dtype=bool))
    other = map_spectral(unseen, fit, scaled=False)
    return components.std(0), crossed.components.std(0), other.std(0)


def test_cells_lie_where_unseen_cells_lie():
    """In the component of the groups all agree; in those of noise the map of all misleads."""
    within, crossed, unseen = spread(planted(160, 0), planted(400, 1))
    np.testing.assert_allclose(crossed[0], unseen[0], rtol=0.1)
    assert (within[1:] > 2 * unseen[1:]).all()
    np.testing.assert_allclose(crossed[1:], unseen[1:], rtol=0.5)


def test_few_cells_stay_where_they_are():
    components = np.random.default_rng(0).normal(size=(8, 3))
    crossed = cross_fit(planted(8, 0), components, np.ones(8, dtype=bool))
    assert np.array_equal(crossed.components, components)
    assert not crossed.own.any()


def test_entries_of_the_peaks_add_up_to_the_components():
    counts = planted(60, 0)
    counts.data[:] = 1
    fit = fit_spectral(counts, 4)
    whole = own_entry_weights(counts, fit) @ fit.table
    np.testing.assert_allclose(whole, map_spectral(counts, fit, scaled=False).sum(0), rtol=1e-3)
    twice = own_entry_weights(2 * counts, fit)
    np.testing.assert_allclose(twice, 2 * own_entry_weights(counts, fit), rtol=1e-5)


def test_own_entries_are_those_of_the_cells_that_learn():
    counts = planted(120, 0)
    components = map_spectral(counts, fit_spectral(counts, 4), scaled=False).astype(np.float64)
    learning = np.arange(120) < 60
    parts = [cross_fit(counts, components, cells) for cells in (learning, ~learning)]
    every = cross_fit(counts, components, np.ones(120, dtype=bool))
    np.testing.assert_allclose(parts[0].own + parts[1].own, every.own, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(parts[0].components, every.components)
    # A peak pulls its cells to its own side: it adds to the covariance with them.
    depth = np.asarray(counts.sum(1)).ravel()
    score = counts.T @ (every.components - depth @ every.components / depth.sum())
    assert (score * every.own).sum() > ((score - every.own) * every.own).sum() > 0


def test_loadings_of_signal_are_kept_and_those_of_noise_vanish():
    rng = np.random.default_rng(0)
    counts = planted(400, 0, effect=0.7)
    group = np.where(np.arange(400) % 2 == 0, 1.0, -1.0)
    components = np.column_stack([rng.normal(size=(400, 2)), 3.0 * group])
    fit = fit_loadings(counts, components, np.zeros((N_PEAKS, 3)), 3)
    effect = fit.weights @ (fit.rotation.T @ np.diag([1.0, 1.0, 3.0]))
    assert effect[: N_PEAKS // 3, 2].mean() == pytest.approx(0.65, abs=0.1)
    assert effect[2 * N_PEAKS // 3 :, 2].mean() == pytest.approx(0.0, abs=0.05)
    # The offset is that of a cell at zero, and the strongest latent comes first.
    middle = np.exp(fit.offset) * counts.sum(1).mean()
    assert middle.mean() == pytest.approx(0.1, rel=0.15)
    strength = (fit.weights**2).sum(0)
    assert strength[0] > 20 * strength[1:].max()


def test_latents_and_their_uncertainty_have_unit_variance():
    counts = planted(300, 0)
    components = map_spectral(counts, fit_spectral(counts, 5), scaled=False).astype(np.float64)
    crossed = cross_fit(counts, components, np.ones(300, dtype=bool))
    fit = fit_loadings(counts, crossed.components, crossed.own, 5)
    depth = np.asarray(counts.sum(1)).ravel()
    latents = (crossed.components - fit.centre) @ fit.rotation
    variance = (depth @ latents**2) / depth.sum()
    np.testing.assert_allclose(variance + fit.variance, 1.0, rtol=1e-4)
    # What peaks tell much of has the smaller uncertainty.
    assert fit.variance[0] == fit.variance.min()
