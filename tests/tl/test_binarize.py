"""The published rules, on arrays and streamed."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.tl import binarize_accessibility


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_published_rules(kind, rng):
    values = rng.gamma(0.5, size=(50, 40)).astype(np.float32)
    values[values < 0.1] = 0
    adata = anndata.AnnData(np.zeros((50, 40), dtype=np.float32))
    by_cell = [np.quantile(values, q, axis=1, keepdims=True) for q in (0.95, 0.80)]
    expected = {
        "cell": values > by_cell[0],
        "global": values > np.quantile(values, 0.90),
        "cell_and_peak": (values > by_cell[1]) & (values > values.mean(0)) & (values > 0),
    }
    for rule, calls in expected.items():
        binarize_accessibility(adata, kind(values), rule=rule, layer_added=rule)
        found = adata.layers[rule]
        assert sp.issparse(found)
        np.testing.assert_array_equal(found.toarray().astype(bool), calls)


def test_calls_of_a_model_are_streamed(mdata, model, monkeypatch):
    binarize_accessibility(mdata, model, rule="cell_and_peak")
    binarize_accessibility(mdata, model.values["atac"], rule="cell_and_peak", layer_added="array")
    layers = mdata["atac"].layers
    assert (layers["open"] != layers["array"]).nnz == 0
    assert model.largest <= 512
    binarize_accessibility(mdata, model, rule="global", layer_added="all")
    monkeypatch.setattr("atacvi.tl.binarize._MAX_SAMPLE", 80_000)
    binarize_accessibility(mdata, model, rule="global", layer_added="sampled")
    assert layers["sampled"].nnz == pytest.approx(layers["all"].nnz, rel=0.05)
    with pytest.raises(ValueError, match="rule='top'"):
        binarize_accessibility(mdata, model, rule="top")
    with pytest.raises(ValueError, match="quantile=1.5"):
        binarize_accessibility(mdata, model, quantile=1.5)
