"""Cells of three types with peaks of their own, and ATACDiffModels trained on them."""

from __future__ import annotations

from functools import cache
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi

import atacvi

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY = {
    "n_latent": 5,
    "n_latent_ae": 6,
    "n_hidden": 16,
    "n_embed": 8,
    "n_hidden_denoiser": 32,
    "n_blocks": 1,
    "loading_precision": 1.0,
}
TYPES = ("B cell", "T cell", "monocyte")
N_CELLS, N_PEAKS = 240, 240


def planted(n_cells: int = N_CELLS, seed: int = 0) -> anndata.AnnData:
    """Counts; one peak in four is mostly a type's own. Every sixth cell has no label."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_cells) % len(TYPES))
    rates = np.full((len(TYPES), N_PEAKS), 0.03)
    for k in range(len(TYPES)):
        rates[k, 80 * k : 80 * k + 60] = 0.6
    depth = rng.uniform(0.7, 1.3, n_cells)
    counts = rng.poisson(rates[codes] * depth[:, None]).astype(np.float32)
    types = np.asarray(TYPES)[codes]
    peaks = np.arange(N_PEAKS)
    counts[peaks % n_cells, peaks] += 1  # none is empty
    batch = np.arange(n_cells) % 2
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(types),
            "label": np.where(np.arange(n_cells) % 6 == 5, "unlabeled", types),
            "batch": np.asarray(["one", "two"])[batch],
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    start = 1000 * np.arange(N_PEAKS)
    names = [f"chr1:{s}-{s + 500}" for s in start]
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500}, index=names)
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


def marker_shares(counts: Any) -> np.ndarray:
    """Share of a cell's open peaks among the peaks of each type, shape (cells, types)."""
    opened = np.asarray((sp.csr_matrix(counts) > 0).todense())
    sums = np.stack([opened[:, 80 * k : 80 * k + 60].sum(1) for k in range(len(TYPES))], axis=1)
    return sums / np.maximum(opened.sum(1, keepdims=True), 1)


def recovered(counts: Any, types: Any) -> float:
    """Fraction of cells whose commonest markers are those of the type asked for."""
    found = np.asarray(TYPES)[marker_shares(counts).argmax(1)]
    return float((found == np.asarray(types)).mean())


def build(adata: anndata.AnnData, setup: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    setup = {"labels_key": "label", "batch_key": "batch"} if setup is None else setup
    atacvi.ATACDiffModel.setup_anndata(adata, **setup)
    scvi.settings.seed = 0
    return atacvi.ATACDiffModel(adata, **{**TINY, **kwargs})


def train(model: Any, max_epochs: int = 4, **kwargs: Any) -> Any:
    options = {"batch_size": 32, "plan_kwargs": {"lr": 5e-3}, **QUIET}
    model.train(max_epochs, **{**options, **kwargs})
    return model


def trained(likelihood: str = "bernoulli", preset: str = "default") -> Any:
    """A model on all cells, with labels and batches; not to be changed."""
    return _trained(likelihood, preset)


@cache
def _trained(likelihood: str, preset: str) -> Any:
    model = build(planted(), likelihood=likelihood, preset=preset)
    return train(model, 4, max_epochs_autoencoder=10)


@cache
def without_labels() -> Any:
    """A model that was told neither labels nor batches; not to be changed."""
    return train(build(planted(), {}, n_clusters=3), 1)
