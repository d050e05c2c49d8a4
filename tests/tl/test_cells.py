"""Order, labels, clusters and calls of cells."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from atacvi.tl import binarize_accessibility, select_n_clusters, trajectory, transfer_labels


@pytest.fixture
def branch(rng):
    """200 cells along a curve in noise."""
    time = np.sort(rng.random(200))
    adata = anndata.AnnData(np.zeros((200, 1), dtype=np.float32))
    adata.obs["time"] = time
    adata.obs["step"] = pd.Categorical(
        np.digitize(time, [0.33, 0.66]).astype(str), categories=["0", "1", "2"], ordered=True
    )
    angle = np.pi * time
    adata.obsm["X_latent"] = np.c_[np.cos(angle), np.sin(angle)] + 0.03 * rng.normal(size=(200, 2))
    return adata


def test_order_along_a_curve_is_found(branch, tmp_path):
    found = trajectory(
        branch, "X_latent", root_group=("step", "0"), known_time="time", groups="step"
    )
    assert found["spearman"] > 0.97
    assert found["n_unreached"] == 0
    expected = spearmanr(branch.obs["pseudotime"], branch.obs["time"]).statistic
    assert found["spearman"] == pytest.approx(expected)
    paga = branch.uns["pseudotime_paga"].set_index(["group1", "group2"])["connectivity"]
    assert min(paga["0", "1"], paga["1", "2"]) > 3 * paga["0", "2"]
    branch.write_h5ad(tmp_path / "ordered.h5ad")
    again = anndata.read_h5ad(tmp_path / "ordered.h5ad")
    assert again.uns["atacvi"]["pseudotime"]["spearman"] == found["spearman"]
    pd.testing.assert_series_equal(again.obs["pseudotime"], branch.obs["pseudotime"])


def test_ordered_categories_are_times_and_the_root_may_be_a_cell(branch):
    found = trajectory(branch, "X_latent", root=branch.obs_names[-1], known_time="step")
    assert found["spearman"] < -0.9


def test_cells_apart_are_not_reached(branch):
    branch.obsm["X_latent"][-20:] += 1000
    found = trajectory(branch, "X_latent", root=branch.obs_names[0], known_time="time")
    assert found["n_unreached"] == 20
    assert branch.obs["pseudotime"].iloc[-20:].isna().all()
    assert found["spearman"] > 0.97


def test_trajectory_refuses_what_does_not_fit(branch):
    with pytest.raises(ValueError, match="either root="):
        trajectory(branch, "X_latent")
    with pytest.raises(KeyError, match="no cell of the data"):
        trajectory(branch, "X_latent", root="nobody")
    with pytest.raises(ValueError, match="0 cells of '9'"):
        trajectory(branch, "X_latent", root_group=("step", "9"))
    branch.obs["name"] = pd.Categorical(np.repeat(["early", "late"], 100))
    with pytest.raises(ValueError, match="have no order"):
        trajectory(branch, "X_latent", root="0", known_time="name")


def test_labels_are_transferred_and_strangers_rejected(rng):
    reference = anndata.AnnData(np.zeros((300, 1)))
    types = np.repeat(["a", "b", "c"], 100).astype(object)
    centres = np.repeat([[0, 0], [6, 0], [0, 6]], 100, axis=0)
    reference.obs["type"] = types
    reference.obs.loc[reference.obs_names[:5], "type"] = np.nan
    reference.obsm["X"] = centres + rng.normal(size=(300, 2))
    query = anndata.AnnData(np.zeros((310, 1)))
    query.obsm["X"] = np.r_[centres + rng.normal(size=(300, 2)), np.full((10, 2), 60.0)]
    table = transfer_labels(
        reference, query, "type", "X", max_distance_quantile=0.999, min_probability=0.5
    )
    label = query.obs["transferred"].astype(str).to_numpy()
    assert (label[:300] == types).mean() > 0.95
    assert (label[300:] == "unknown").all()
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(query.obs["transferred_probability"], table.max(axis=1))
    assert list(table.columns) == ["a", "b", "c"]


def test_vote_is_weighted_by_distance():
    reference = anndata.AnnData(np.zeros((4, 1)))
    reference.obs["type"] = ["near", "far", "far", "far"]
    reference.obsm["X"] = np.array([[0.1], [3.0], [-3.0], [30.0]])
    query = anndata.AnnData(np.zeros((1, 1)))
    query.obsm["X"] = np.zeros((1, 1))
    probability = transfer_labels(reference, query, "type", "X", n_neighbors=3)
    scale = 6.1 / 3
    weight = np.exp(-((np.array([0.1, 3, 3]) / scale) ** 2) / 2)
    assert probability["near"].item() == pytest.approx(weight[0] / weight.sum())


def test_transfer_refuses_what_does_not_fit():
    reference, query = anndata.AnnData(np.zeros((20, 1))), anndata.AnnData(np.zeros((3, 1)))
    reference.obs["type"] = "a"
    reference.obsm["X"], query.obsm["X"] = np.zeros((20, 2)), np.zeros((3, 4))
    with pytest.raises(ValueError, match="differs in dimensions"):
        transfer_labels(reference, query, "type", "X")
    query.obsm["X"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match="n_neighbors=40"):
        transfer_labels(reference, query, "type", "X", n_neighbors=40)
    with pytest.raises(ValueError, match="between 0 and 1"):
        transfer_labels(reference, query, "type", "X", min_probability=2)


def test_number_of_clusters_is_that_of_the_prior(rng):
    adata = anndata.AnnData(np.zeros((160, 1)))
    centres = np.repeat(np.eye(4) * 15, 40, axis=0)
    adata.obsm["X"] = centres + rng.normal(size=(160, 4))
    for method in ("leiden", "bic"):
        assert select_n_clusters(adata, "X", method=method, resolution=0.3) == 4
    with pytest.raises(KeyError, match="use_rep='Y'"):
        select_n_clusters(adata, "Y")


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
