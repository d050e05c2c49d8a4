"""Hide 10 % of the open peaks of single-cell ATAC and see how well they are told from closed ones.

    python benchmarks/peak_imputation.py --data leukemia_corces2016.h5ad \
        --methods atacdiff peakvi poissonvi lsi_knn mean --seeds 0 1 --out results/peak_imputation

Models learn from what is left. Hidden ones are scored against as many peaks that are closed, as
they are and times the depth that is left (AUROC and AUPRC), and against the same peaks where they
are closed in other cells. ``metacell``: Spearman's correlation of the imputed profile of a cell
with the mean of the unmasked cells of its type, over all peaks; mean over cells. ``lsi_knn``
averages the 15 nearest cells in LSI. Files without a folder are read from $ATACVI_DATA_DIR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _generators as generators
import _harness as harness
import _peers as peers
import generation as bench
import numpy as np
import scipy.sparse as sp
from imputation import zeros_of_same_feature

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    Predict = Callable[[np.ndarray], np.ndarray]

_BLOCK, _NEIGHBORS = 256, 15


def atacdiff(adata: AnnData, seed: int, epochs: int) -> Predict:
    """Expected accessibility from the autoencoder of atacvi's ATACDiffModel."""
    import scvi

    import atacvi

    scvi.settings.seed = seed
    counts = generators.fragments(adata)
    atacvi.ATACDiffModel.setup_anndata(counts)
    model = atacvi.ATACDiffModel(counts)
    model.train(stages=["autoencoder"])
    return lambda cells: model.impute(indices=cells, return_numpy=True)


def peakvi(adata: AnnData, seed: int, epochs: int) -> Predict:
    """PEAKVI (Ashuach et al., Cell Rep. Methods 2022), probabilities with region factors."""
    import scvi

    scvi.settings.seed = seed
    scvi.model.PEAKVI.setup_anndata(adata)
    model = scvi.model.PEAKVI(adata)
    model.train(max_epochs=epochs)
    return lambda cells: model.get_accessibility_estimates(
        indices=cells, normalize_regions=True, return_numpy=True
    )


def poissonvi(adata: AnnData, seed: int, epochs: int) -> Predict:
    """POISSONVI (Martens et al., Nat. Methods 2024), rates on fragments."""
    import scvi

    scvi.settings.seed = seed
    counts = generators.fragments(adata)
    scvi.external.POISSONVI.setup_anndata(counts)
    model = scvi.external.POISSONVI(counts)
    model.train(max_epochs=epochs)
    return lambda cells: model.get_normalized_accessibility(
        indices=cells, normalize_regions=True, return_numpy=True
    )


def lsi_knn(adata: AnnData, seed: int, epochs: int) -> Predict:
    """Mean of the open peaks of the nearest cells in LSI, the cell among them."""
    from sklearn.neighbors import NearestNeighbors

    space = peers.lsi_components(adata.X, seed)
    nearest = NearestNeighbors(n_neighbors=_NEIGHBORS).fit(space).kneighbors(space)[1]
    rows = np.repeat(np.arange(adata.n_obs), _NEIGHBORS)
    weights = np.full(rows.size, 1.0 / _NEIGHBORS)
    smooth = sp.csr_matrix((weights, (rows, nearest.ravel())), shape=(adata.n_obs, adata.n_obs))
    binary = sp.csr_matrix(adata.X > 0, dtype=np.float64)
    return lambda cells: np.asarray((smooth[cells] @ binary).todense())


def mean(adata: AnnData, seed: int, epochs: int) -> Predict:
    """Share of cells in which the peak is open, the same for all cells."""
    share = np.asarray((adata.X > 0).mean(axis=0)).ravel()
    return lambda cells: np.broadcast_to(share, (len(cells), share.size))


METHODS: dict[str, Callable[[AnnData, int, int], Predict]] = {
    "atacdiff": atacdiff,
    "peakvi": peakvi,
    "poissonvi": poissonvi,
    "lsi_knn": lsi_knn,
    "mean": mean,
}
IMPORTS = {**generators.IMPORTS, "lsi_knn": ("sklearn.utils.extmath",)}


def impute(
    data: str, method: str, seed: int, label_key: str, fraction: float, max_cells: int, epochs: int
) -> dict[str, Any]:
    """Mask, train, and score (runs in a process of its own)."""
    from atacvi.metrics import mask_nonzeros, sample_zeros

    adata = generators.read(data)
    rng = np.random.default_rng(seed)
    if adata.n_obs > max_cells:
        adata = adata[np.sort(rng.choice(adata.n_obs, max_cells, replace=False))].copy()
    whole = sp.csr_matrix(adata.X)
    masked, rows, cols = mask_nonzeros(whole, fraction, random_state=seed)
    adata.X = sp.csr_matrix(masked, dtype=np.float32)
    seen = np.asarray((adata.X > 0).sum(axis=0)).ravel() > 0
    labels = adata.obs[label_key].astype(str).to_numpy()
    adata, whole = adata[:, seen].copy(), whole[:, np.flatnonzero(seen)]
    place = np.cumsum(seen) - 1
    kept = seen[cols]
    hidden = rows[kept], place[cols[kept]]
    pairs = [hidden, sample_zeros(whole, hidden[0].size, rng)]
    pairs.append(zeros_of_same_feature(whole, hidden[1], rng))
    depth = np.maximum(np.asarray((adata.X > 0).sum(axis=1)).ravel(), 1)
    types = {
        name: np.asarray((whole[labels == name] > 0).mean(axis=0)).ravel()
        for name in np.unique(labels)
    }
    peers.load_imports(IMPORTS.get(method, ()))
    with harness.stopwatch() as watch:
        predict = METHODS[method](adata, seed, epochs)
    values = [np.empty(pair[0].size) for pair in pairs]
    correlations = []
    for start in range(0, adata.n_obs, _BLOCK):
        cells = np.arange(start, min(start + _BLOCK, adata.n_obs))
        block = np.asarray(predict(cells))
        for pair, value in zip(pairs, values, strict=True):
            here = np.flatnonzero((pair[0] >= cells[0]) & (pair[0] <= cells[-1]))
            value[here] = block[pair[0][here] - start, pair[1][here]]
        correlations += [
            _spearman(row, types[labels[cell]])
            for row, cell in zip(block[::8], cells[::8], strict=True)
        ]
    return {
        **_scores(values, pairs, depth),
        "metacell": float(np.mean(correlations)),
        **watch.result(),
    }


def _scores(
    values: list[np.ndarray], pairs: list[tuple[np.ndarray, np.ndarray]], depth: np.ndarray
) -> dict[str, float]:
    from sklearn.metrics import average_precision_score

    from atacvi.metrics import masked_auroc

    ones, zeros, same = values
    scaled = [value * depth[pair[0]] for value, pair in zip(values, pairs, strict=True)]
    truth = np.repeat([1, 0], [ones.size, zeros.size])
    return {
        "auroc": masked_auroc(ones, zeros),
        "auprc": float(average_precision_score(truth, np.concatenate([ones, zeros]))),
        "auroc_depth": masked_auroc(scaled[0], scaled[1]),
        "auprc_depth": float(average_precision_score(truth, np.concatenate(scaled[:2]))),
        "auroc_same_peak": masked_auroc(ones, same),
    }


def _spearman(one: np.ndarray, two: np.ndarray) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(one), rankdata(two))[0, 1])


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled .h5ad")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--fraction", type=float, default=0.1, help="of the open peaks, hidden")
    parser.add_argument("--max-cells", type=int, default=100_000, help="a sample of larger sets")
    parser.add_argument("--epochs", type=int, default=200, help="of PEAKVI and POISSONVI, at most")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    path = bench.find(arguments.data)
    common = {
        "data": str(path.resolve()),
        "label_key": arguments.label_key,
        "fraction": arguments.fraction,
        "max_cells": arguments.max_cells,
        "epochs": arguments.epochs,
    }
    runs = harness.run_methods("peak_imputation.py:impute", arguments.methods, arguments, common)
    columns = ["auroc", "auprc", "auroc_depth", "auprc_depth", "auroc_same_peak", "metacell"]
    notes = (
        f"Data: {path.name}; {arguments.fraction:.0%} of the open peaks hidden; PEAKVI and "
        f"POISSONVI up to {arguments.epochs} epochs. Chance is 0.5 for both areas."
    )
    harness.report_methods(
        runs, [*columns, "seconds"], arguments.out, "peak_imputation", path.stem, notes
    )


if __name__ == "__main__":
    main()
