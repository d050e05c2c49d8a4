"""Predictions of the models that impute, on one footing for all of them.

RNA is returned as shares of a cell's transcripts (rows sum to one), ATAC as the probability or
rate of a peak without the cell's depth (region factors included where a model has them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import _peers as peers
import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

MODELS = ("multiview", "multivi", "peakvi", "mean")
_BLOCK = 512


class MeanModel:
    """The trivial baseline: every cell gets the mean profile of the training cells."""

    def __init__(self, mdata: MuData) -> None:
        self.means = {name: _mean_share(mdata[name].X, name) for name in ("rna", "atac")}

    def predict(self, name: str, n_cells: int) -> np.ndarray:
        """Repeat the mean profile."""
        return np.broadcast_to(self.means[name], (n_cells, self.means[name].size))


def _mean_share(counts: sp.csr_matrix, name: str) -> np.ndarray:
    if name == "atac":
        return np.asarray((counts > 0).mean(axis=0), dtype=np.float32).ravel()
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return np.asarray((sp.diags(1 / depth) @ counts).mean(axis=0), dtype=np.float32).ravel()


def train(method: str, mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train one of :data:`MODELS`."""
    if method == "mean":
        return MeanModel(mdata)
    builders = {
        "multiview": peers.multiview_model,
        "multivi": peers.multivi_model,
        "peakvi": peers.peakvi_model,
    }
    return builders[method](mdata, seed, options)


def shares(values: np.ndarray) -> np.ndarray:
    """Scale each row to sum to one."""
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)


def predict(
    method: str, model: Any, mdata: MuData | None, name: str, source: str, indices: np.ndarray
) -> np.ndarray:
    """Predict one modality of some cells from ``source`` (``"joint"``, ``"rna"``, ``"atac"``).

    ``mdata`` is None for the training data. MULTIVI takes what is not zero, whatever the source.
    """
    if method == "mean":
        return model.predict(name, len(indices))
    if method == "peakvi" and name == "rna":
        msg = "PEAKVI has no RNA"
        raise ValueError(msg)
    common: dict[str, Any] = {"indices": indices, "return_numpy": True}
    if mdata is not None:
        common["adata"] = mdata
    if method == "multiview":
        common["from_modality"] = source
    else:
        common |= {} if name == "rna" else {"normalize_regions": True}
    if name == "rna":
        return shares(np.asarray(model.get_normalized_expression(**common)))
    return np.asarray(model.get_normalized_accessibility(**common))


def predicted_entries(
    method: str, model: Any, name: str, rows: np.ndarray, cols: np.ndarray, n_cells: int
) -> np.ndarray:
    """Predict single entries of the training data, a block of cells at a time."""
    found = np.empty(rows.size, dtype=np.float32)
    for cells in _blocks(n_cells):
        here = np.flatnonzero((rows >= cells[0]) & (rows <= cells[-1]))
        if here.size:
            block = predict(method, model, None, name, "joint", cells)
            found[here] = block[rows[here] - cells[0], cols[here]]
    return found


def _blocks(n_cells: int) -> Iterator[np.ndarray]:
    for start in range(0, n_cells, _BLOCK):
        yield np.arange(start, min(start + _BLOCK, n_cells))
