"""Filtering of features by the cells they are seen in."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from atacvi import pp
from atacvi.datasets import simulate_multiome

# Seen in 1, 2, 3, 4 and 0 of 4 cells.
COUNTS = np.array([[5, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 2, 1, 0], [0, 0, 0, 1, 0]])


def make(kind=sp.csr_matrix) -> ad.AnnData:
    return ad.AnnData(kind(COUNTS))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.array])
@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"min_cells": 2}, [1, 2, 3]),
        ({"min_cells": 2, "max_cells": 3}, [1, 2]),
        ({"min_fraction": 0.25, "max_fraction": 0.75}, [0, 1, 2]),
        ({"max_fraction": 0.1}, [4]),
        ({"min_counts": 4}, [0, 2, 3]),
        ({"min_counts": 4, "max_cells": 3}, [0, 2]),
    ],
)
def test_keeps_what_meets_all_limits(kind, limits, kept):
    adata = make(kind)
    assert pp.filter_features(adata, **limits) is None
    assert adata.var_names.tolist() == [str(i) for i in kept]
    np.testing.assert_array_equal(adata.var["n_cells"], np.array([1, 2, 3, 4, 0])[kept])
    np.testing.assert_array_equal(adata.var["total_counts"], COUNTS.sum(0)[kept])


def test_the_rule_of_scmvp():
    adata = simulate_multiome(300, 60, 900, 4, random_state=0)["atac"]
    share = (adata.X > 0).mean(0).A1
    pp.filter_features(adata, min_fraction=0.01, max_fraction=0.1)
    assert adata.n_vars == ((share >= 0.01) & (share <= 0.1)).sum()


def test_agrees_with_scanpy():
    import scanpy

    adata = simulate_multiome(100, 60, 400, 3, random_state=0)["atac"]
    other = adata.copy()
    pp.filter_features(adata, min_cells=20)
    scanpy.pp.filter_genes(other, min_cells=20)
    assert adata.var_names.equals(other.var_names)


def test_stored_zeros_do_not_count():
    matrix = sp.csr_matrix(COUNTS)
    matrix.data[0] = 0
    adata = ad.AnnData(matrix)
    pp.filter_features(adata, min_cells=0, subset=False)
    assert adata.var["n_cells"].tolist() == [0, 2, 3, 4, 0]


def test_mark_only_and_copy():
    adata = make()
    pp.filter_features(adata, min_cells=3, subset=False)
    assert adata.var["selected"].tolist() == [False, False, True, True, False]
    changed = pp.filter_features(adata, min_cells=3, copy=True)
    assert (changed.n_vars, adata.n_vars) == (2, 5)


def test_mudata_is_updated():
    mdata = simulate_multiome(80, 60, 300, 3, random_state=0)
    pp.filter_features(mdata, min_cells=30)
    assert mdata["atac"].n_vars < 300
    assert mdata.n_vars == 60 + mdata["atac"].n_vars
    assert list(mdata.obs.columns) == ["cell_type", "batch", "pseudotime"]


def test_layer():
    adata = make()
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(np.ones(COUNTS.shape))
    pp.filter_features(adata, min_cells=4, layer="counts")
    assert adata.var_names.tolist() == ["3"]


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({}, "No limit"),
        ({"max_fraction": 10}, "must lie in"),
        ({"min_cells": -1}, "must lie in"),
        ({"min_cells": 3, "max_cells": 2}, "no feature can meet both"),
        ({"min_cells": 5}, "seen in 0 to 4 of 4 cells"),
    ],
)
def test_refuses(limits, match):
    adata = make()
    with pytest.raises(ValueError, match=match):
        pp.filter_features(adata, **limits)
    assert adata.n_vars == 5


def test_refuses_backed_and_missing_matrices(tmp_path):
    make().write_h5ad(tmp_path / "backed.h5ad")
    backed = ad.read_h5ad(tmp_path / "backed.h5ad", backed="r")
    with pytest.raises(TypeError, match="to_memory"):
        pp.filter_features(backed, min_cells=1)
    backed.file.close()
    with pytest.raises(TypeError, match="NoneType.*`layer=`"):
        pp.filter_features(ad.AnnData(obs=make().obs, var=make().var), min_cells=1)


@given(seed=st.integers(0, 2**32 - 1), low=st.integers(0, 6))
def test_filtering_twice_changes_nothing(seed, low):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, (10, 12))
    counts[:, 0] = 1  # so that something is left
    adata = ad.AnnData(sp.csr_matrix(counts))
    pp.filter_features(adata, min_cells=low)
    names = adata.var_names
    pp.filter_features(adata, min_cells=low)
    assert adata.var_names.equals(names)
    assert adata.n_vars == ((counts > 0).sum(0) >= low).sum()
