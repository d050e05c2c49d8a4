"""Binarisation: idempotent, type-preserving, without stored zeros."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi import pp

COUNTS = np.array([[0, 1, 2], [3, 0, 0]])


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.array])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("threshold", [0, 1, 2, 5])
def test_values_and_dtype(kind, dtype, threshold):
    adata = ad.AnnData(kind(COUNTS.astype(dtype)))
    assert pp.binarize(adata, threshold=threshold) is None
    np.testing.assert_array_equal(dense(adata.X), COUNTS > threshold)
    assert adata.X.dtype == dtype
    if sp.issparse(adata.X):
        assert adata.X.nnz == (COUNTS > threshold).sum()


def test_to_a_layer_and_copy():
    adata = ad.AnnData(sp.csr_matrix(COUNTS))
    pp.binarize(adata, key_added="binary")
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    np.testing.assert_array_equal(adata.layers["binary"].toarray(), COUNTS > 0)
    assert not np.shares_memory(adata.layers["binary"].indices, adata.X.indices)
    changed = pp.binarize(adata, layer="binary", copy=True)
    assert changed is not adata


def test_duplicates_and_stored_zeros():
    matrix = sp.csr_matrix(
        (np.array([1, 1, 0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2)
    )
    adata = ad.AnnData(matrix)
    pp.binarize(adata)
    assert adata.X.toarray().tolist() == [[1, 0]]
    assert adata.X.nnz == 1


@pytest.mark.parametrize("threshold", [-1, np.nan])
def test_refuses_a_threshold_that_opens_zeros(threshold):
    with pytest.raises(ValueError, match="threshold"):
        pp.binarize(ad.AnnData(sp.csr_matrix(COUNTS)), threshold=threshold)


@pytest.mark.parametrize(("value", "kind"), [(-1.0, "negative"), (np.nan, "NaN or infinite")])
def test_refuses_bad_values(value, kind):
    with pytest.raises(ValueError, match=f"adata.X holds 1 {kind} value"):
        pp.binarize(ad.AnnData(np.array([[value, 1.0]])))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    threshold=st.integers(0, 2),
)
def test_idempotent(seed, shape, threshold):
    counts = np.random.default_rng(seed).poisson(0.8, shape)
    adata = ad.AnnData(sp.csr_matrix(counts))
    pp.binarize(adata, threshold=threshold)
    first = adata.X.toarray()
    np.testing.assert_array_equal(first, counts > threshold)
    pp.binarize(adata)
    np.testing.assert_array_equal(adata.X.toarray(), first)
