"""Starting values from the training cells: statistics of the inputs, offsets, peak embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

from atacvi.training.cell_parts import at_most, cell_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

    GetCounts = Callable[[np.ndarray], sp.csr_matrix]

# Statistics of this many cells are as good as those of all, and bound time and memory.
_MAX_CELLS = 20_000
_MAX_CELLS_SPECTRAL = 4_000


class StartFromData(Callback):
    """Set the module's starting values from the training cells, before the first step.

    Parameters
    ----------
    get_counts
        Function of sorted cell indices that returns the counts (rna, atac) of those cells as CSR.
    random_state
        Seed of the choice of cells and of the decomposition.
    """

    def __init__(
        self, get_counts: Callable[[np.ndarray], tuple[Any, Any]], random_state: int = 0
    ) -> None:
        self.get_counts = get_counts
        self.random_state = random_state
        self.done = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether the start lies behind."""
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a stopped run."""
        self.done = state_dict["done"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the starting values, once."""
        if self.done or trainer.ckpt_path is not None:
            return
        rng = np.random.default_rng(self.random_state)
        cells = np.asarray(trainer.datamodule.train_idx)  # type: ignore[attr-defined]
        module: Any = pl_module.module
        module.n_train.fill_(float(len(cells)))
        cells = np.sort(at_most(cells, _MAX_CELLS, rng))
        start_rna(module, lambda part: self.get_counts(cells[part])[0], len(cells))
        start_atac(module, lambda part: self.get_counts(cells[part])[1], len(cells), rng)
        self.done = True


@torch.no_grad()
def start_rna(module: Any, get_counts: GetCounts, n_cells: int) -> None:
    """Set input statistics and offsets of expression, from `get_counts(rows)` of `n_cells` rows."""
    depth, total, _ = _sums(get_counts, n_cells)
    n_present = int((depth > 0).sum())
    if n_present == 0:
        return
    median = float(np.median(depth[depth > 0]))
    first, second = np.zeros(len(total)), np.zeros(len(total))
    for rows in cell_blocks(n_cells):
        counts = get_counts(rows)
        scale = median / np.maximum(depth[rows], 1.0)
        logged = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
        first += np.bincount(counts.indices, logged, len(total))
        second += np.bincount(counts.indices, logged**2, len(total))
    mean = first / n_present
    deviation = np.sqrt(np.maximum(second / n_present - mean**2, 0.0))
    module.rna_encoder.set_statistics(median, torch.as_tensor(mean), torch.as_tensor(deviation))
    # Half a count for each gene keeps the offset of an unseen gene finite.
    module.rna_head.offset.copy_(torch.as_tensor(np.log((total + 0.5) / (total.sum() + 0.5))))


@torch.no_grad()
def start_atac(module: Any, get_counts: GetCounts, n_cells: int, rng: np.random.Generator) -> None:
    """Set input statistics, offsets and embeddings of peaks, as `start_rna` does."""
    depth, total, n_open = _sums(get_counts, n_cells)
    present = np.flatnonzero(depth > 0)
    if len(present) == 0:
        return
    module.atac_median_depth.fill_(float(np.median(depth[present])))
    idf = np.log1p(len(present) / (1.0 + n_open))
    module.atac_encoder.set_statistics(torch.as_tensor(idf))
    module.atac_head.offset.copy_(torch.as_tensor(np.log((total + 0.5) / (total.sum() + 0.5))))
    present = at_most(present, _MAX_CELLS_SPECTRAL, rng)
    table = spectral_peak_embeddings(get_counts(present), idf, module.peak_table.shape[1], rng)
    module.peak_table.copy_(torch.as_tensor(table))


def _sums(get_counts: GetCounts, n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the counts of each cell and of each feature, and in how many cells it has some."""
    depth = np.zeros(n_cells)
    total: np.ndarray | float = 0.0
    n_open: np.ndarray | float = 0.0
    for rows in cell_blocks(n_cells):
        counts = get_counts(rows)
        depth[rows] = np.asarray(counts.sum(1, dtype=np.float64)).ravel()
        n_features = counts.shape[1]
        total = total + np.bincount(counts.indices, counts.data, n_features)
        n_open = n_open + np.bincount(counts.indices, counts.data > 0, n_features)
    return depth, np.asarray(total), np.asarray(n_open)


def spectral_peak_embeddings(
    counts: sp.csr_matrix, idf: np.ndarray, width: int, rng: np.random.Generator
) -> np.ndarray:
    """Return embeddings of peaks that put co-accessible peaks side by side.

    They are the leading right singular vectors of the weighted, normalised accessibility of the
    cells, so that the first layer of the encoder starts as a latent semantic indexing.

    Parameters
    ----------
    counts
        Counts of some cells, shape (cells, peaks).
    idf
        Weight of each peak.
    width
        Number of dimensions.
    rng
        Generator.

    Returns
    -------
    float32 of shape (peaks, width), of unit mean square.
    """
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    values = idf.astype(np.float32)[counts.indices]
    weighted = sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
    weighted = normalize(weighted, copy=False)
    n_spectral = max(1, min(width // 2, *(n - 1 for n in weighted.shape)))
    seed = int(rng.integers(2**31 - 1))
    vectors = randomized_svd(weighted, n_spectral, n_iter=3, random_state=seed)[2].T
    # Unit mean square per dimension; what is left starts at random, small.
    vectors = vectors / np.sqrt((vectors**2).mean(0, keepdims=True)).clip(1e-12)
    table = 0.1 * rng.standard_normal((counts.shape[1], width))
    table[:, :n_spectral] = vectors.clip(-10.0, 10.0)
    return (table / width**0.5).astype(np.float32)
