"""TF-IDF: closed forms, parity with muon, what it refuses."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi import pp
from atacvi.datasets import simulate_multiome

COUNTS = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]])


def make(matrix=COUNTS, kind=sp.csr_matrix) -> ad.AnnData:
    adata = ad.AnnData(kind(matrix))
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.var_names = [f"peak{i}" for i in range(adata.n_vars)]
    return adata


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def expected(counts, *, log_tf=True, log_idf=True, log_tfidf=False, scale_factor=1e4):
    counts = np.asarray(counts, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        tf = counts / counts.sum(1, keepdims=True) * (scale_factor or 1)
        idf = counts.shape[0] / counts.sum(0)
    tf = np.log1p(tf) if log_tf else tf
    idf = np.log1p(idf) if log_idf else idf
    with np.errstate(invalid="ignore"):
        result = np.log1p(tf * idf) if log_tfidf else tf * idf
    return np.nan_to_num(result, nan=0.0)


OPTIONS = [
    {},
    {"log_tf": False},
    {"log_idf": False},
    {"log_tf": False, "log_idf": False},
    {"log_tf": False, "log_idf": False, "log_tfidf": True},
    {"scale_factor": None},
    {"scale_factor": 0},
    {"scale_factor": 1},
    {"scale_factor": 123.0},
]


def test_signac_values():
    adata = make()
    pp.tfidf(adata, log_tf=False, log_idf=False, log_tfidf=True)
    known = [[8.9228, 0, 8.9228, 0], [8.9228, 8.9228, 0, 0], [0, 8.5174, 8.5174, 9.2104]]
    np.testing.assert_allclose(adata.X.toarray(), known, atol=5e-5)
    np.testing.assert_allclose(adata.var["idf"], [1.5, 1.5, 1.5, 3.0])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.array])
def test_closed_form(options, kind):
    adata = make(kind=kind)
    pp.tfidf(adata, dtype=np.float64, **options)
    np.testing.assert_allclose(dense(adata.X), expected(COUNTS, **options), rtol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_parity_with_muon(options):
    import muon

    ours = simulate_multiome(150, 60, 800, 4, random_state=1)["atac"]
    ours.X = ours.X.astype(np.float64)
    theirs = ours.copy()
    pp.tfidf(ours, dtype=np.float64, **options)
    muon.atac.pp.tfidf(theirs, **options)
    np.testing.assert_allclose(ours.X.toarray(), theirs.X.toarray(), rtol=1e-10)


def test_writes_where_asked():
    adata = make()
    assert pp.tfidf(adata, key_added="tfidf") is None
    assert (adata.X.toarray() == COUNTS).all()
    assert not np.shares_memory(adata.layers["tfidf"].indices, adata.X.indices)
    adata.layers["counts"] = adata.X.copy()
    pp.tfidf(adata, layer="counts")
    assert (adata.X.toarray() == COUNTS).all()
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), adata.layers["tfidf"].toarray())


def test_layer_that_shares_memory_with_x_is_left_alone():
    adata = make()
    adata.layers["counts"] = adata.X
    pp.tfidf(adata)
    assert (adata.layers["counts"].toarray() == COUNTS).all()


def test_copy_and_view_leave_the_original():
    adata = make()
    changed = pp.tfidf(adata, copy=True)
    assert (adata.X.toarray() == COUNTS).all()
    assert "idf" not in adata.var
    assert changed.X.dtype == np.float32
    part = adata[:2]
    pp.tfidf(part)
    assert (adata.X.toarray() == COUNTS).all()
    np.testing.assert_allclose(dense(part.X), expected(COUNTS[:2]), rtol=1e-5)


def test_mudata():
    mdata = simulate_multiome(50, 60, 200, 2, random_state=0)
    copied = pp.tfidf(mdata, copy=True)
    assert mdata["atac"].X.dtype == np.int32
    pp.tfidf(mdata)
    np.testing.assert_array_equal(mdata["atac"].X.toarray(), copied["atac"].X.toarray())
    with pytest.raises(KeyError, match="no modality 'peaks'"):
        pp.tfidf(mdata, modality="peaks")


def test_query_with_the_idf_of_a_reference():
    reference, query = make(), make(COUNTS[:2])
    pp.tfidf(reference)
    pp.tfidf(query, idf=reference.var["idf"].to_numpy())
    np.testing.assert_allclose(query.X.toarray(), reference.X.toarray()[:2], rtol=1e-6)


def test_duplicate_entries_are_summed():
    twice = sp.csr_matrix(
        (np.ones(3), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2)
    )  # [[2, 1]] in three parts
    adata = ad.AnnData(twice)
    pp.tfidf(adata, dtype=np.float64)
    np.testing.assert_allclose(adata.X.toarray(), expected([[2, 1]]))


def test_empty_cells_and_features_are_named(caplog):
    counts = COUNTS.copy()
    counts[1] = 0
    counts[:, 3] = 0
    adata = make(counts)
    with caplog.at_level(logging.WARNING, logger="atacvi.pp"):
        pp.tfidf(adata)
    assert "'cell1'" in caplog.text
    assert "'peak3'" in caplog.text
    assert np.isfinite(adata.X.data).all()
    assert adata.X[1].nnz == 0


@pytest.mark.parametrize("kind", [sp.csr_matrix, np.array])
@pytest.mark.parametrize(("value", "match"), [(-1.0, "negative"), (np.nan, "NaN"), (np.inf, "inf")])
def test_refuses_bad_values(kind, value, match):
    counts = COUNTS.astype(float)
    counts[0, 0] = value
    adata = make(counts, kind)
    with pytest.raises(ValueError, match=match):
        pp.tfidf(adata)
    np.testing.assert_array_equal(dense(adata.X), counts)


def test_refuses_bad_arguments():
    adata = make()
    with pytest.raises(ValueError, match="log_tfidf"):
        pp.tfidf(adata, log_tfidf=True)
    with pytest.raises(KeyError, match="'counts' is not in"):
        pp.tfidf(adata, layer="counts")
    with pytest.raises(ValueError, match="one value for each of 4"):
        pp.tfidf(adata, idf=np.ones(3))
    with pytest.raises(ValueError, match="negative, NaN"):
        pp.tfidf(adata, idf=np.array([1, np.nan, 1, 1]))
    with pytest.raises(ValueError, match="floating type"):
        pp.tfidf(adata, dtype=int)
    with pytest.raises(TypeError, match="AnnData or a MuData"):
        pp.tfidf(COUNTS)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_cells=st.integers(1, 12),
    n_peaks=st.integers(1, 15),
    density=st.floats(0, 1),
)
def test_sparsity_and_cell_order_hold(seed, n_cells, n_peaks, density):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, (n_cells, n_peaks)) * (rng.random((n_cells, n_peaks)) < density)
    adata = make(counts)
    pp.tfidf(adata)
    result = adata.X.toarray()
    np.testing.assert_array_equal(result > 0, counts > 0)
    order = rng.permutation(n_cells)
    shuffled = make(counts[order])
    pp.tfidf(shuffled)
    np.testing.assert_allclose(shuffled.X.toarray(), result[order], rtol=1e-6)


def test_blocks_do_not_show(monkeypatch):
    whole = simulate_multiome(60, 60, 300, 3, random_state=0)["atac"]
    blocks = whole.copy()
    pp.tfidf(whole)
    monkeypatch.setattr("atacvi.pp._matrix.BLOCK", 17)
    pp.tfidf(blocks)
    np.testing.assert_array_equal(blocks.X.toarray(), whole.X.toarray())
