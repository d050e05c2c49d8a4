"""Order along a curve."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from atacvi.tl import trajectory


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
