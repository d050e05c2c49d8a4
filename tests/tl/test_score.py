"""Scores of sets of regions."""

from __future__ import annotations

import numpy as np
import pytest

from atacvi.tl import score_regions


def test_score_finds_the_cells_of_a_program(mdata, model):
    atac = mdata["atac"]
    name = atac.obs["cell_type"].cat.categories[0]
    markers = atac.var_names[atac.var["marker_of"] == name]
    mine = atac.obs["cell_type"] == name
    score_regions(mdata, markers, key_added="raw")
    score_regions(mdata, markers, key_added="model", values=model)
    score_regions(atac, markers, key_added="dense", values=model.values["atac"])
    for key in ("raw", "model"):
        score = atac.obs[key]
        assert score[mine].mean() > score[~mine].mean() + score[~mine].std()
    np.testing.assert_allclose(atac.obs["model"], atac.obs["dense"], rtol=1e-3, atol=1e-3)


def test_score_is_free_of_depth_and_of_accessibility(mdata, rng):
    atac = mdata["atac"]
    mean = np.asarray(atac.X.mean(axis=0)).ravel()
    top = atac.var_names[np.argsort(-mean)[:200]]
    chosen = rng.choice(np.asarray(top), 40, replace=False)
    score_regions(mdata, chosen, n_backgrounds=200)
    score = atac.obs["region_score"]
    assert abs(score.mean()) < 1
    depth = np.log(np.asarray(atac.X.sum(axis=1)).ravel())
    assert abs(np.corrcoef(score, depth)[0, 1]) < 0.25


def test_score_refuses_what_does_not_fit(mdata):
    with pytest.raises(KeyError, match="1 of 1 regions are not in the data"):
        score_regions(mdata, ["chr9:1-5"])
    with pytest.raises(ValueError, match="0 of 800 regions"):
        score_regions(mdata, [])
