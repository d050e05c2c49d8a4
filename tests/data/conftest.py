"""Small paired data whose parts a test can break."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

N_CELLS, N_GENES, N_PEAKS = 12, 5, 9


@pytest.fixture
def parts(rng) -> dict[str, anndata.AnnData]:
    """RNA and ATAC of the same cells, without empty cells or features."""
    cells = [f"cell{i}" for i in range(N_CELLS)]
    names = {
        "rna": [f"gene{i}" for i in range(N_GENES)],
        "atac": [f"chr1:{i}00-{i}50" for i in range(1, N_PEAKS + 1)],
    }
    out = {}
    for name, features in names.items():
        counts = rng.poisson(1.0, (N_CELLS, len(features))).astype(np.float32)
        counts[np.arange(N_CELLS), np.arange(N_CELLS) % len(features)] += 1
        adata = anndata.AnnData(
            sp.csr_matrix(counts),
            obs=pd.DataFrame({f"depth_{name}": counts.sum(axis=1)}, index=cells),
            var=pd.DataFrame({"score": np.arange(len(features))}, index=features),
            layers={"counts": sp.csr_matrix(counts)},
            obsm={"X_pca": rng.normal(size=(N_CELLS, 2))},
        )
        out[name] = adata
    return out


@pytest.fixture
def make_mdata():
    """Make a MuData whose own obs carries covariates."""

    def make(parts, **columns) -> mudata.MuData:
        from atacvi.data.align import build_mudata

        mdata = build_mudata(parts)
        mdata.obs["batch"] = pd.Categorical(np.where(np.arange(mdata.n_obs) % 2, "a", "b"))
        mdata.obs["age"] = np.linspace(0.0, 1.0, mdata.n_obs)
        for name, values in columns.items():
            mdata.obs[name] = values
        return mdata

    return make


@pytest.fixture
def mdata(parts, make_mdata) -> mudata.MuData:
    return make_mdata(parts)
