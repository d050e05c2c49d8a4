"""Cells with planted modules of regions that open together, all with the same frequency."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi.models import AtacformerModel

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY = {"n_embed": 16, "n_layers": 1, "n_heads": 2, "n_feedforward": 32, "dropout": 0.0}
N_MODULES, N_REGIONS = 4, 80


def planted_cells(n_cells: int = 240, seed: int = 0, own: float = 0.45) -> anndata.AnnData:
    """Cells of one module each, with two batches; only the context of a region is informative."""
    rng = np.random.default_rng(seed)
    module = rng.permutation(np.arange(n_cells) % N_MODULES)
    is_own = np.arange(N_REGIONS) % N_MODULES == module[:, None]
    counts = sp.csr_matrix(rng.random((n_cells, N_REGIONS)) < np.where(is_own, own, 0.04))
    start = np.arange(N_REGIONS) * 5_000
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})
    var.index = [f"chr1:{s}-{s + 500}" for s in start]
    obs = pd.DataFrame(
        {
            "module": pd.Categorical([f"m{m}" for m in module]),
            "batch": pd.Categorical(rng.choice(["a", "b"], n_cells)),
        },
        index=[f"cell{seed}_{i}" for i in range(n_cells)],
    )
    return anndata.AnnData(counts.astype(np.float32), obs=obs, var=var)


def build(cells: anndata.AnnData, seed: int = 0, **kwargs: object) -> AtacformerModel:
    """A tiny model of these cells."""
    import scvi

    scvi.settings.seed = seed
    return AtacformerModel(cells, **{**TINY, **kwargs})
