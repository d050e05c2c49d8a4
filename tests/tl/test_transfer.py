"""Labels of the nearest reference cells."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from atacvi.tl import transfer_labels


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
