"""Small paired data and a CRAFTModel of them, shared by its tests."""

from __future__ import annotations

from typing import Any

import scvi
from mudata import MuData

import atacvi
from atacvi._compat import without_pull
from atacvi.models import CRAFTModel

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY = {"n_latent": 12, "n_embed": 16, "n_layers": 1, "n_heads": 2, "n_feedforward": 16,
        "n_rna_embed": 12, "n_rna_hidden": 16, "n_decoder_hidden": 8}  # fmt: skip
N_CELLS, N_QUERY, N_GENES, N_PEAKS = 240, 60, 60, 200


def simulate(n_cells: int = N_CELLS + N_QUERY, **kwargs: Any) -> MuData:
    """Cells of four types and two batches in one genome."""
    options: dict[str, Any] = {
        "n_genes": N_GENES,
        "n_peaks": N_PEAKS,
        "n_cell_types": 4,
        "n_batches": 2,
        "median_peaks_per_cell": 40,
        "median_genes_per_cell": 30,
        "effect_size": 2.5,
        "random_state": 0,
    }
    with without_pull():
        return atacvi.datasets.simulate_multiome(n_cells, **{**options, **kwargs})


def build(data: MuData, seed: int = 0, **kwargs: Any) -> CRAFTModel:
    scvi.settings.seed = seed
    return CRAFTModel(data, **{**TINY, **kwargs})


def train(model: CRAFTModel, max_epochs: int = 2, **kwargs: Any) -> CRAFTModel:
    options: dict[str, Any] = {"imputation_epochs": 2, "batch_size": 64, **QUIET, **kwargs}
    model.train(max_epochs, **options)
    return model
