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

#: What each source of ATACDiffModel's imputation needs to be trained; None is all
ATACDIFF = {
    "atacdiff": ("ae", ["autoencoder"]),
    "atacdiff_aux": ("aux", ["auxiliary"]),
    "atacdiff_partial": ("partial", None),
    "atacdiff_diffusion": ("diffusion", None),
}
#: Methods that see accessibility alone
OF_ATAC = (*ATACDIFF, "peakvi", "poissonvi", "lsi_knn", "mean")
MODELS = ("multiview", "multivi", *OF_ATAC)
#: Methods that give the rate of a Poisson process at a depth, not the probability of being open
_RATES = ("multiview", *ATACDIFF, "poissonvi")
_BLOCK = 512
_NEIGHBOURS = 50
_DRAWS = 10


class MeanModel:
    """The trivial baseline: every cell gets the mean profile of the training cells."""

    def __init__(self, mdata: MuData) -> None:
        self.means = {name: _mean_share(adata.X, name) for name, adata in mdata.mod.items()}

    def predict(self, name: str, n_cells: int) -> np.ndarray:
        """Repeat the mean profile."""
        return np.broadcast_to(self.means[name], (n_cells, self.means[name].size))


def _mean_share(counts: sp.csr_matrix, name: str) -> np.ndarray:
    return np.asarray(profiles(counts, name).mean(axis=0), dtype=np.float32).ravel()


def profiles(counts: sp.csr_matrix, name: str) -> sp.csr_matrix:
    """Give what is averaged over cells: open peaks, or shares of the transcripts."""
    if name == "atac":
        return sp.csr_matrix(counts > 0, dtype=np.float64)
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return sp.csr_matrix(sp.diags(1 / depth) @ counts)


class NeighbourMean:
    """Smoothing: the share of the nearest cells on LSI, without the cell itself, that show a peak.

    Neighbours are about as deep as the cell, so the share is divided by their mean depth and
    multiplied by that of all cells: without the depth, as other methods give it.
    """

    def __init__(self, counts: sp.csr_matrix, seed: int, n_neighbours: int = _NEIGHBOURS) -> None:
        from sklearn.neighbors import NearestNeighbors

        n_neighbours = min(n_neighbours, counts.shape[0] - 1)
        found = NearestNeighbors(n_neighbors=n_neighbours).fit(peers.lsi_components(counts, seed))
        self.weights = sp.csr_matrix(found.kneighbors_graph() / n_neighbours)
        self.open = profiles(counts, "atac")
        depth = np.asarray(self.open.sum(axis=1)).ravel()
        self.scale = depth.mean() / np.maximum(self.weights @ depth, 1)

    def predict(self, cells: np.ndarray) -> np.ndarray:
        """Average over the neighbours of some cells."""
        return (sp.diags(self.scale[cells]) @ self.weights[cells] @ self.open).toarray()


def train(method: str, mdata: MuData, seed: int, options: dict[str, Any]) -> Any:
    """Train one of :data:`MODELS`."""
    if method == "mean":
        return MeanModel(mdata)
    if method == "lsi_knn":
        return NeighbourMean(mdata["atac"].X, seed)
    if method in ATACDIFF:
        return peers.atacdiff_model(mdata["atac"].copy(), seed, options, ATACDIFF[method][1])
    builders = {
        "multiview": peers.multiview_model,
        "multivi": peers.multivi_model,
        "peakvi": peers.peakvi_model,
        "poissonvi": peers.poissonvi_model,
    }
    return builders[method](mdata, seed, options)


def imports(method: str) -> tuple[str, ...]:
    """Libraries to import before the clock starts."""
    known = {"mean": (), "lsi_knn": (*peers.PEERS["lsi"].imports, "sklearn.neighbors")}
    return known[method] if method in known else peers.PEERS[method.partition("_")[0]].imports


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
    if method in OF_ATAC and name == "rna":
        msg = f"{method} has no RNA"
        raise ValueError(msg)
    if method == "lsi_knn":
        return model.predict(indices)
    common: dict[str, Any] = {"indices": indices, "return_numpy": True}
    if mdata is not None:
        common["adata"] = mdata
    if method in ATACDIFF:
        return model.impute(mode=ATACDIFF[method][0], n_samples=_DRAWS, **common)
    if method == "multiview":
        common["from_modality"] = source
    else:
        common |= {} if name == "rna" else {"normalize_regions": True}
    if method == "poissonvi":
        common["library_size"] = _median_depth(model)
    if name == "rna":
        return shares(np.asarray(model.get_normalized_expression(**common)))
    return np.asarray(model.get_normalized_accessibility(**common))


def _median_depth(model: Any) -> float:
    return float(np.median(np.asarray(model.adata.X.sum(axis=1)).ravel()))


def as_profiles(method: str, name: str, values: np.ndarray) -> np.ndarray:
    """Give predictions in the unit of :func:`profiles`: rates become probabilities of being open."""
    return -np.expm1(-values) if name == "atac" and method in _RATES else values


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
