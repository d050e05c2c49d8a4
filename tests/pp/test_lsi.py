"""LSI: the SVD itself, muon's slots, what it refuses."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from atacvi import pp
from atacvi.datasets import simulate_multiome


@pytest.fixture
def atac() -> ad.AnnData:
    adata = simulate_multiome(200, 60, 600, 4, random_state=0)["atac"]
    pp.tfidf(adata)
    return adata


def test_equals_the_exact_svd(atac):
    pp.lsi(atac, 5, scale_embeddings=False, drop_first=False, n_iter=15)
    left, singular, right = np.linalg.svd(atac.X.toarray(), full_matrices=False)
    np.testing.assert_allclose(atac.uns["lsi"]["singular_values"], singular[:5], rtol=1e-3)
    ours, exact = atac.obsm["X_lsi"], left[:, :5] * singular[:5]
    # Equal up to the sign of each component.
    cosine = (ours * exact).sum(0) / np.linalg.norm(ours, axis=0) / np.linalg.norm(exact, axis=0)
    assert (np.abs(cosine) > 0.99).all()
    np.testing.assert_allclose(np.abs((atac.varm["LSI"] * right[:5].T).sum(0)), 1, atol=0.01)


@pytest.mark.slow  # the import of muon alone takes seconds
def test_matches_muon(atac):
    import muon

    theirs = atac.copy()
    muon.atac.tl.lsi(theirs, n_comps=4)
    pp.lsi(atac, 4, drop_first=False, n_iter=15)
    correlation = (atac.obsm["X_lsi"] * theirs.obsm["X_lsi"]).mean(0)
    np.testing.assert_allclose(np.abs(correlation), 1, atol=0.01)
    np.testing.assert_allclose(atac.uns["lsi"]["stdev"], theirs.uns["lsi"]["stdev"], rtol=1e-3)
    assert atac.varm["LSI"].shape == theirs.varm["LSI"].shape


def test_drop_first_is_a_shift(atac):
    kept = pp.lsi(atac, 6, drop_first=False, n_iter=10, copy=True)
    dropped = pp.lsi(atac, 5, n_iter=10, copy=True)
    np.testing.assert_allclose(
        dropped.obsm["X_lsi"], kept.obsm["X_lsi"][:, 1:], rtol=1e-3, atol=1e-3
    )
    assert "X_lsi" not in atac.obsm


def test_same_seed_same_result(atac):
    first, second = (pp.lsi(atac, 8, random_state=3, copy=True) for _ in range(2))
    np.testing.assert_array_equal(first.obsm["X_lsi"], second.obsm["X_lsi"])


def test_slots_of_a_second_run_stay_apart(atac):
    pp.lsi(atac, 4)
    pp.lsi(atac, 3, key_added="X_other")
    assert atac.varm["LSI"].shape[1] == 4
    assert atac.varm["X_other"].shape[1] == 3
    assert atac.uns["X_other"]["params"]["n_comps"] == 3


def test_types_are_told_apart(atac):
    pp.lsi(atac, 6)
    types = atac.obs["cell_type"].to_numpy()
    embedding = atac.obsm["X_lsi"]
    centres = np.stack([embedding[types == t].mean(0) for t in np.unique(types)])
    nearest = ((embedding[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (np.unique(types)[nearest] == types).mean() > 0.8


@pytest.mark.parametrize("n_comps", [0, 200, 1000])
def test_refuses_impossible_sizes(atac, n_comps):
    with pytest.raises(ValueError, match="gives 1 to 199 components"):
        pp.lsi(atac, n_comps)


def test_refuses_nan():
    matrix = np.ones((5, 6))
    matrix[1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        pp.lsi(ad.AnnData(sp.csr_matrix(matrix)), 2)


def test_integers_negative_values_and_constant_components():
    pp.lsi(ad.AnnData(sp.csr_matrix(np.eye(6, 8, dtype=np.int32))), 2)
    adata = ad.AnnData(-np.ones((6, 8), dtype=np.float32))
    pp.lsi(adata, 2, drop_first=False)
    assert np.isfinite(adata.obsm["X_lsi"]).all()
