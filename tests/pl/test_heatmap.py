from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from atacvi.pl import heatmap


def test_means_and_z_scores_of_the_groups(cells, tmp_path):
    means = np.stack([cells.X[20 * k : 20 * k + 20].mean(0) for k in range(3)], axis=1)
    ax = heatmap(cells, ["g2", "g0"], "group", scale="none")
    np.testing.assert_allclose(ax.images[0].get_array(), means[[2, 0]], rtol=1e-5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["g2", "g0"]
    ax = heatmap(cells, ["g2", "g0"], "group")
    z = (means - means.mean(1, keepdims=True)) / means.std(1, keepdims=True)
    np.testing.assert_allclose(ax.images[0].get_array(), z[[2, 0]], rtol=1e-4)
    low, high = ax.images[0].get_clim()
    assert low == -high
    ax.figure.savefig(tmp_path / "heatmap.png")


def test_layers_arrays_and_sparse_matrices(cells):
    cells.layers["double"] = sp.csr_matrix(2 * cells.X)
    expected = heatmap(cells, ["g1"], "group", scale="none").images[0].get_array() * 2
    for values in ("double", 2 * cells.X, sp.csc_matrix(2 * cells.X)):
        ax = heatmap(cells, ["g1"], "group", values=values, scale="none")
        np.testing.assert_allclose(ax.images[0].get_array(), expected, rtol=1e-6)


def test_what_does_not_fit_is_refused(cells):
    with pytest.raises(KeyError, match="unknown among them: \\['g9'\\]"):
        heatmap(cells, ["g0", "g9"], "group")
    with pytest.raises(ValueError, match="0 features"):
        heatmap(cells, [], "group")
    with pytest.raises(ValueError, match="scale='row'"):
        heatmap(cells, ["g0"], "group", scale="row")
    with pytest.raises(ValueError, match="values has shape"):
        heatmap(cells, ["g0"], "group", values=np.zeros((2, 2)))
