"""Number of clusters."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from atacvi.tl import select_n_clusters


def test_number_of_clusters_is_that_of_the_prior(rng):
    adata = anndata.AnnData(np.zeros((160, 1)))
    centres = np.repeat(np.eye(4) * 15, 40, axis=0)
    adata.obsm["X"] = centres + rng.normal(size=(160, 4))
    for method in ("leiden", "bic"):
        assert select_n_clusters(adata, "X", method=method, max_clusters=6, resolution=0.3) == 4
    with pytest.raises(KeyError, match="use_rep='Y'"):
        select_n_clusters(adata, "Y")
