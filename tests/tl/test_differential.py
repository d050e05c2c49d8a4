"""Tests of many features against scipy, scikit-learn and scanpy."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, mannwhitneyu

from atacvi.tl import differential
from atacvi.tl._rank_test import wilcoxon


@given(
    st.lists(st.lists(st.integers(-2, 3), min_size=9, max_size=9), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_wilcoxon_is_that_of_scipy(columns, n_first):
    dense = np.array(columns, dtype=float).T
    first = np.arange(9) < n_first
    found = wilcoxon(sp.csc_matrix(dense), first)
    expected = [
        mannwhitneyu(c[first], c[~first], method="asymptotic", use_continuity=False)
        for c in dense.T
    ]
    u = np.array([test.statistic for test in expected])
    np.testing.assert_allclose(found.auroc * n_first * (9 - n_first), u)
    p = np.nan_to_num([test.pvalue for test in expected], nan=1.0)
    np.testing.assert_allclose(found.p_value, p, atol=1e-12)


def test_table_of_expression_is_that_of_log_normalised_counts(mdata):
    rna = mdata["rna"]
    name = rna.obs["cell_type"].cat.categories[0]
    table = differential(rna, "cell_type", name, modality="rna")
    shares = rna.X.toarray() / rna.X.toarray().sum(1, keepdims=True) * 1e4
    first = (rna.obs["cell_type"] == name).to_numpy()
    for row in table.iloc[::17].itertuples():
        column = shares[:, rna.var_names.get_loc(row.Index)]
        one, two = column[first], column[~first]
        test = mannwhitneyu(one, two, method="asymptotic", use_continuity=False)
        assert row.pvalue == pytest.approx(test.pvalue, rel=1e-6, abs=1e-12)
        assert (row.mean1, row.mean2) == pytest.approx((one.mean(), two.mean()), rel=1e-4)
        assert (row.share1, row.share2) == ((one > 0).mean(), (two > 0).mean())
        if min(one.mean(), two.mean()) > 1:
            change = np.log2(one.mean() / two.mean())
            assert row.log2_fold_change == pytest.approx(change, abs=0.03 + 0.1 * abs(change))


@pytest.mark.parametrize("method", ["wilcoxon", "logistic"])
def test_markers_are_found(mdata, method, tmp_path):
    atac = mdata["atac"]
    name = atac.obs["cell_type"].cat.categories[0]
    table = differential(mdata, "cell_type", name, method=method)
    assert table["pvalue"].is_monotonic_increasing
    np.testing.assert_allclose(table["fdr"], false_discovery_control(table["pvalue"]))
    marker = atac.var.loc[table.index, "marker_of"] == name
    top = marker[(table["statistic"] > 0).to_numpy()][:30]
    assert top.mean() > 2 * marker.mean()
    atac.write_h5ad(tmp_path / "compared.h5ad")
    again = anndata.read_h5ad(tmp_path / "compared.h5ad").uns["differential"]
    pd.testing.assert_frame_equal(again, table, check_index_type=False, check_dtype=False)


def test_sparse_and_dense_agree_in_small_blocks(mdata, monkeypatch):
    name = mdata.obs["cell_type"].cat.categories[1]
    expected = differential(mdata, "cell_type", name, normalize=False)
    monkeypatch.setattr("atacvi.tl.differential._ENTRIES_PER_BLOCK", 3000, raising=False)
    dense = mdata["atac"].X.toarray().astype(float)
    found = differential(mdata, "cell_type", name, values=dense)
    pd.testing.assert_frame_equal(found, expected, check_exact=False)


def test_a_model_runs_its_own_test(mdata, model):
    table = differential(mdata, "cell_type", "a", "b", model=model, delta=0.1)
    assert model.asked == [{"groupby": "cell_type", "group1": "a", "group2": "b", "delta": 0.1}]
    pd.testing.assert_frame_equal(mdata["atac"].uns["differential"], table)


def test_what_does_not_fit_is_refused(mdata):
    name = mdata.obs["cell_type"].cat.categories[0]
    with pytest.raises(ValueError, match="group 'nobody' is not in the column"):
        differential(mdata, "cell_type", "nobody")
    with pytest.raises(ValueError, match="must be two groups"):
        differential(mdata, "cell_type", name, name)
    with pytest.raises(KeyError, match="groupby='typ'"):
        differential(mdata, "typ", name)
    with pytest.raises(TypeError, match="unknown arguments"):
        differential(mdata, "cell_type", name, delta=1)
