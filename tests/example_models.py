"""What the examples in the docstrings of methods start from: a small trained model and its data.

In such an example ``model`` is trained, ``adata`` or ``mdata`` is what it was set up with (60 cells of
three types and two batches, 20 genes, 100 peaks), and ``atacvi`` is imported. docs/api.md says so.
"""

from __future__ import annotations

from typing import Any

import scvi

import atacvi
from atacvi._compat import without_pull

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SIZES = {"n_embed": 8, "n_layers": 1, "n_heads": 1, "n_feedforward": 8}


def _simulate() -> Any:
    with without_pull():
        return atacvi.datasets.simulate_multiome(
            60,
            n_genes=20,
            n_peaks=100,
            n_cell_types=3,
            n_batches=2,
            median_peaks_per_cell=25,
            random_state=0,
        )


def _peaks() -> Any:
    return _simulate()["atac"].copy()


def _multiview() -> dict[str, Any]:
    mdata = _simulate()
    atacvi.MultiViewModel.setup_mudata(mdata, batch_key="batch")
    model = atacvi.MultiViewModel(mdata, n_clusters=3, n_latent=4, n_hidden=8, n_embed=8)
    model.train(max_epochs=3, mixture_start=1, **QUIET)
    return {"model": model, "mdata": mdata}


def _atacdiff() -> dict[str, Any]:
    adata = _peaks()
    atacvi.ATACDiffModel.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    sizes = {"n_latent": 4, "n_latent_ae": 4, "n_hidden": 8, "n_embed": 4}
    model = atacvi.ATACDiffModel(adata, **sizes, n_hidden_denoiser=8, n_blocks=1)
    model.train(max_epochs=2, **QUIET)
    return {"model": model, "adata": adata}


def _atacformer() -> dict[str, Any]:
    adata = _peaks()
    atacvi.AtacformerModel.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    model = atacvi.AtacformerModel(adata, **SIZES)
    model.pretrain(max_epochs=1, **QUIET)
    return {"model": model, "adata": adata}


def _craft() -> dict[str, Any]:
    mdata = _simulate()
    atacvi.CRAFTModel.setup_mudata(mdata, labels_key="cell_type")
    model = atacvi.CRAFTModel(mdata, n_latent=8, n_rna_embed=8, n_rna_hidden=8, **SIZES)
    model.train(max_epochs=1, imputation_epochs=2, **QUIET)
    return {"model": model, "mdata": mdata}


# first words of the files of atacvi.models -> whose methods they hold
_FAMILIES = {
    "_atacdiff": _atacdiff,
    "atacdiff": _atacdiff,
    "_generation": _atacdiff,
    "_atacformer": _atacformer,
    "atacformer": _atacformer,
    "_without_data": _atacformer,
    "_craft": _craft,
    "craft": _craft,
}


def example_names(module: str) -> dict[str, Any]:
    """Names that the examples of a file may use; nothing outside of ``atacvi.models``.

    Made anew for each file: an example may train the model or set its data up once more.
    """
    room, _, file = module.removeprefix("atacvi.").partition(".")
    if room != "models":
        return {}
    scvi.settings.seed = 0
    family = next((f for start, f in _FAMILIES.items() if file.startswith(start)), _multiview)
    return {"atacvi": atacvi, **family()}
