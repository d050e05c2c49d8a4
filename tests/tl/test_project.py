"""Projection of a MuData."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atacvi.tl import project_regions


def test_projection_of_a_mudata_keeps_the_rest(mdata):
    mdata.obsm["X_latent"] = np.zeros((mdata.n_obs, 2))
    reference = mdata["atac"][:, ::2].copy()
    found = project_regions(mdata, reference)
    assert found["atac"].var_names.equals(reference.var_names)
    assert found["rna"] is mdata["rna"]
    assert found.obsm["X_latent"].shape == (mdata.n_obs, 2)
    pd.testing.assert_series_equal(found.obs["cell_type"], mdata.obs["cell_type"])
    assert (found["atac"].X != reference.X).nnz == 0
    alone = project_regions(mdata["atac"], mdata)
    assert alone.shape == mdata["atac"].shape
