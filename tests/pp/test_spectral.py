"""The spectral embedding: planted groups, noise, eigenvectors and the map of other cells."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import eigh

import atacvi
from atacvi.pp import fit_spectral, map_spectral


def planted(
    n_cells: int = 150, n_groups: int = 3, seed: int = 0
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts of groups of cells with peaks of their own, at varying depth."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n_cells) % n_groups
    rates = np.full((n_groups, 100 * n_groups), 0.05)
    for k in range(n_groups):
        rates[k, 100 * k : 100 * k + 60] = 0.3
    depth = rng.uniform(0.6, 1.4, n_cells)
    return sp.csr_matrix(rng.poisson(rates[groups] * depth[:, None])), groups


def noise(n_cells: int = 150, n_peaks: int = 300, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2.0, 0.06, n_peaks) * rng.uniform(0.5, 1.5, n_cells)[:, None]
    return sp.csr_matrix(rng.poisson(rates))


def by_hand(counts: sp.csr_matrix, n_comps: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors of the dense matrix, the first left out."""
    opened = (counts.toarray() > 0).astype(float)
    weighted = opened * np.log(len(opened) / (1 + opened.sum(0))).clip(min=0)
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    similar = weighted @ weighted.T - np.eye(len(opened))
    root = np.sqrt(similar.sum(1))
    values, vectors = eigh(similar / root[:, None] / root[None])
    order = np.argsort(-values)[1 : n_comps + 1]
    return values[order], vectors[:, order]


def test_eigenvectors_against_the_dense_matrix():
    counts, _ = planted()
    values, vectors = by_hand(counts, 4)
    fit = fit_spectral(counts, 4, above_noise=False)
    np.testing.assert_allclose(fit.eigenvalues, values, rtol=1e-3, atol=1e-5)
    for k in range(2):  # the two that part the three groups; further ones are close to each other
        cosine = fit.embedding[:, k] @ vectors[:, k] / np.linalg.norm(fit.embedding[:, k])
        assert abs(cosine) > 0.999


def test_groups_are_found_and_noise_is_cut():
    counts, groups = planted()
    fit = fit_spectral(counts, 10)
    assert (fit.eigenvalues[:2] > 2 * fit.noise_eigenvalue).all()
    assert (fit.eigenvalues[3:] < 1.3 * fit.noise_eigenvalue).all()
    centres = np.stack([fit.embedding[groups == k].mean(0) for k in range(3)])
    distance = ((fit.embedding[:, None] - centres[None]) ** 2).sum(-1)
    assert (distance.argmin(1) == groups).mean() > 0.98
    spread = fit.embedding.std(0)
    assert spread[0] == pytest.approx(1.0, abs=0.05)
    assert (spread[4:] < 0.3).all()


def test_nothing_stands_out_of_noise():
    """A matrix without structure has no eigenvalue far above that of its shuffle."""
    for seed in range(3):
        fit = fit_spectral(noise(seed=seed), 5, random_state=seed)
        # A noise eigenvalue of 0 says that no component was above it
        stands_out = 0 < 1.15 * fit.noise_eigenvalue < fit.eigenvalues[0]
        assert not stands_out


def test_map_of_the_training_cells_follows_the_eigenvectors():
    counts, _ = planted()
    fit = fit_spectral(counts, 2)
    mapped = map_spectral(counts, fit)
    for k in range(2):
        assert np.corrcoef(mapped[:, k], fit.embedding[:, k])[0, 1] > 0.98


def test_other_cells_fall_on_their_groups():
    counts, groups = planted(240)
    fit = fit_spectral(counts[:150], 2)
    mapped = map_spectral(counts[150:], fit)
    centres = np.stack([fit.embedding[groups[:150] == k].mean(0) for k in range(3)])
    distance = ((mapped[:, None] - centres[None]) ** 2).sum(-1)
    assert (distance.argmin(1) == groups[150:]).mean() > 0.95


def test_the_map_does_not_see_depth_but_what_is_open():
    counts, _ = planted()
    fit = fit_spectral(counts, 2)
    np.testing.assert_allclose(map_spectral(counts * 3, fit), map_spectral(counts, fit), rtol=1e-5)
    empty = sp.csr_matrix((2, counts.shape[1]))
    np.testing.assert_array_equal(map_spectral(empty, fit), 0.0)


def test_same_seed_same_bits_and_the_input_is_left_alone():
    counts, _ = planted()
    before = counts.copy()
    one, two = fit_spectral(counts, 3, random_state=1), fit_spectral(counts, 3, random_state=1)
    np.testing.assert_array_equal(one.embedding, two.embedding)
    np.testing.assert_array_equal(one.table, two.table)
    assert (counts != before).nnz == 0


def test_blocks_of_cells_and_stored_zeros_change_nothing(monkeypatch):
    from atacvi.pp import _spectral

    counts, _ = planted()
    fit, mapped = fit_spectral(counts, 3), map_spectral(counts, fit_spectral(counts, 3))
    closed = np.flatnonzero(counts[[4]].toarray().ravel() == 0)
    stored = counts.tocoo()
    rows = np.append(stored.row, np.full(len(closed), 4))
    entries = (rows, np.append(stored.col, closed))
    values = np.append(stored.data, np.zeros(len(closed)))
    padded = sp.csr_matrix((values, entries), shape=(152, 300))  # and two empty cells
    assert padded.nnz == counts.nnz + len(closed)
    again = fit_spectral(padded, 3)
    np.testing.assert_allclose(again.embedding, fit.embedding, atol=1e-5)
    monkeypatch.setattr(_spectral, "_CELLS_A_BLOCK", 32)
    np.testing.assert_allclose(map_spectral(counts, fit), mapped, rtol=1e-6)


def test_components_out_of_noise_are_exact():
    """The coarser tolerance with `above_noise` is felt within the noise alone."""
    counts, _ = planted(400, 4)
    values, vectors = by_hand(counts, 12)
    fit = fit_spectral(counts, 12)
    live = values > 1.2 * fit.noise_eigenvalue
    assert live.sum() == 3
    np.testing.assert_allclose(fit.eigenvalues[live], values[live], rtol=1e-5)
    found, expected = np.linalg.qr(fit.embedding[:, live])[0], vectors[:, live]
    assert np.linalg.svd(found.T @ expected)[1].min() > 1 - 1e-6


def test_landmarks_extend_to_all_cells(monkeypatch):
    from atacvi.pp import _spectral, spectral

    assert callable(spectral)
    monkeypatch.setattr(_spectral, "MAX_LANDMARKS", 90)
    counts, groups = planted()
    fit = fit_spectral(counts, 2)
    assert len(fit.embedding) == 90
    mapped = map_spectral(counts, fit)
    centres = np.stack([mapped[groups == k].mean(0) for k in range(3)])
    distance = ((mapped[:, None] - centres[None]) ** 2).sum(-1)
    assert (distance.argmin(1) == groups).mean() > 0.95


# ---- the step on AnnData --------------------------------------------------------------------


def adata() -> anndata.AnnData:
    return anndata.AnnData(planted()[0].astype(np.float32))


def test_embedding_is_written():
    data = adata()
    assert atacvi.pp.spectral(data, n_comps=4) is None
    assert data.obsm["X_spectral"].shape == (150, 4)
    assert data.obsm["X_spectral"].dtype == np.float32
    np.testing.assert_array_equal(data.obsm["X_spectral"], fit_spectral(data.X, 4).embedding)
    assert len(data.uns["X_spectral"]["eigenvalues"]) == 4


def test_copy_key_and_layer():
    data = adata()
    data.layers["counts"] = data.X.copy()
    data.X = None
    changed = atacvi.pp.spectral(data, 3, layer="counts", key_added="here", copy=True)
    assert "here" in changed.obsm
    assert "here" not in data.obsm


def test_a_cell_of_stored_zeros_is_empty():
    data = adata()
    matrix = data.X.copy()
    matrix.data[matrix.indptr[3] : matrix.indptr[4]] = 0
    data.X = matrix
    atacvi.pp.spectral(data, n_comps=3)
    np.testing.assert_array_equal(data.obsm["X_spectral"][3], 0)
    assert (np.abs(data.obsm["X_spectral"][4:7]).sum(1) > 0).all()


@pytest.mark.parametrize("n_comps", [0, 148, 500])
def test_numbers_of_components_that_cannot_be(n_comps):
    with pytest.raises(ValueError, match=r"150 cells x 300 peaks give 1 to 147"):
        atacvi.pp.spectral(adata(), n_comps=n_comps)


def test_missing_layer_and_negative_counts():
    with pytest.raises(KeyError, match="nothing"):
        atacvi.pp.spectral(adata(), 3, layer="nothing")
    data = adata()
    data.X[0, 0] = -1
    with pytest.raises(ValueError, match="negative"):
        atacvi.pp.spectral(data, 3)
