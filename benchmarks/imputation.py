"""Hide 10 % of the non-zero entries and see how well models tell them from zeros.

    python benchmarks/imputation.py --data snareseq_adult_mouse_cortex.h5mu \
        --methods multiview multivi peakvi mean --seeds 0 1 2 --out results/imputation
    python benchmarks/imputation.py --data leukemia_corces2016.h5ad --seeds 0 1 2 \
        --peakvi-epochs 500 --poissonvi-epochs 500 --out results/imputation_leukemia

The data are paired (``.h5mu``) or accessibility alone (``.h5ad``).

AUROC and average precision of the hidden entries against three sets of as many zeros: any zeros of
the matrix, with the prediction as it is (``auroc``, ``ap``) and times the cell's remaining depth
(``auroc_depth``, ``ap_depth``); and, for each hidden entry, a zero of the same feature in another
cell (``auroc_same_feature``, ``ap_same_feature``), which the mean of the feature cannot tell apart.

With labels, ``metacell`` is the mean Pearson correlation of an imputed cell with the mean of the
other cells of its type, taken from the counts before any was hidden. That is high for every method
that knows which features are common; ``metacell_specific`` takes the mean over all cells from both
sides first, and keeps what is the cell's own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import _predict as models
import embedding
import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

_ROUNDS = 100
_SCORES = (
    *("auroc", "auroc_depth", "auroc_same_feature"),
    *("ap", "ap_depth", "ap_same_feature"),
    *("metacell", "metacell_specific"),
)


def zeros_of_same_feature(
    counts: sp.csr_matrix, cols: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each column one row where it is zero; columns without a zero found are left out."""
    rows = rng.integers(0, counts.shape[0], size=cols.size)
    wrong = np.arange(cols.size)
    for _ in range(_ROUNDS):
        wrong = wrong[np.asarray(counts[rows[wrong], cols[wrong]]).ravel() != 0]
        if not wrong.size:
            break
        rows[wrong] = rng.integers(0, counts.shape[0], size=wrong.size)
    keep = np.ones(cols.size, dtype=bool)
    keep[wrong] = False
    return rows[keep], cols[keep]


def impute(
    data: str,
    method: str,
    seed: int,
    fraction: float,
    max_entries: int,
    max_cells: int,
    label_key: str,
    dropped: list[str],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Mask, train, and score each modality (runs in a process of its own)."""
    from atacvi.metrics import mask_nonzeros

    mdata = peers.load_data(data)
    full = {name: adata.X.copy() for name, adata in mdata.mod.items()}
    hidden = {}
    for name, counts in full.items():
        mdata[name].X, *hidden[name] = mask_nonzeros(counts, fraction, random_state=seed)
    peers.load_imports(models.imports(method))
    with harness.stopwatch() as watch:
        model = models.train(method, mdata, seed, options)
    labels = known_labels(data, label_key)
    result: dict[str, Any] = {}
    for name, counts in full.items():
        if name == "rna" and method in models.OF_ATAC and method != "mean":
            continue
        rows, cols = hidden[name]
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(rows.size)[:max_entries]
        depth = np.maximum(np.asarray(mdata[name].X.sum(axis=1)).ravel(), 1)
        entries = rows[drawn], cols[drawn]
        scores = score_entries(method, model, name, counts, entries, depth, rng)
        if labels is not None:
            kept = np.flatnonzero(~np.isin(labels, dropped))
            kept = np.sort(rng.permutation(kept)[:max_cells])
            scores |= score_metacells(method, model, name, counts, labels, kept)
        result |= {f"{name}_{key}": value for key, value in scores.items()}
    return {**result, **watch.result()}


def known_labels(data: str, label_key: str) -> np.ndarray | None:
    """Read the types of the cells, or None where the data have none."""
    try:
        return embedding.read_labels(data, label_key)
    except KeyError:
        return None


def score_entries(
    method: str,
    model: Any,
    name: str,
    counts: sp.csr_matrix,
    hidden: tuple[np.ndarray, np.ndarray],
    depth: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Score hidden entries against any zeros and against zeros of the same features."""
    from atacvi.metrics import sample_zeros

    rows, cols = hidden
    sets = {
        "hidden": hidden,
        "zeros": sample_zeros(counts, rows.size, rng),
        "same": zeros_of_same_feature(counts, cols, rng),
    }
    bounds = np.cumsum([0, *(pair[0].size for pair in sets.values())])
    all_rows, all_cols = (np.concatenate([pair[i] for pair in sets.values()]) for i in (0, 1))
    values = models.predicted_entries(method, model, name, all_rows, all_cols, counts.shape[0])
    scaled = values * depth[all_rows]
    parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return {
        **separation("", values[parts[0]], values[parts[1]]),
        **separation("_depth", scaled[parts[0]], scaled[parts[1]]),
        **separation("_same_feature", values[parts[0]], values[parts[2]]),
    }


def separation(suffix: str, hidden: np.ndarray, zeros: np.ndarray) -> dict[str, float]:
    """Say how well predictions tell hidden entries from zeros."""
    from sklearn.metrics import average_precision_score

    from atacvi.metrics import masked_auroc

    truth = np.repeat([1, 0], [hidden.size, zeros.size])
    precision = average_precision_score(truth, np.concatenate([hidden, zeros]))
    return {f"auroc{suffix}": masked_auroc(hidden, zeros), f"ap{suffix}": float(precision)}


def score_metacells(
    method: str,
    model: Any,
    name: str,
    counts: sp.csr_matrix,
    labels: np.ndarray,
    cells: np.ndarray,
) -> dict[str, float]:
    """Correlate imputed cells with the mean of the other cells of their types."""
    from atacvi.metrics import per_cell_correlation

    imputed = models.predict(method, model, None, name, "joint", cells)
    imputed = models.as_profiles(method, name, imputed)
    truth = models.profiles(counts, name)
    own_type = means_of_others(truth, labels, cells)
    everyone = means_of_others(truth, np.zeros(len(labels), dtype=int), cells)
    specific = imputed - imputed.mean(axis=0)
    found = {"metacell": per_cell_correlation(own_type, imputed)}
    if np.ptp(imputed, axis=0).any():  # a mean of the feature is the same for all cells
        found["metacell_specific"] = per_cell_correlation(own_type - everyone, specific)
    return {key: float(np.nanmean(values)) for key, values in found.items()}


def means_of_others(truth: sp.csr_matrix, labels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Average the cells of each cell's type, the cell itself left out; NaN where it is alone."""
    names, codes = np.unique(labels, return_inverse=True)
    sums = np.stack([np.asarray(truth[codes == k].sum(axis=0)).ravel() for k in range(names.size)])
    others = np.bincount(codes)[codes[cells]][:, None] - 1.0
    with np.errstate(invalid="ignore"):
        return (sums[codes[cells]] - truth[cells].toarray()) / np.where(others > 0, others, np.nan)


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help=".h5mu, or .h5ad of ATAC alone"
    )
    parser.add_argument("--methods", nargs="+", default=None, choices=models.MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--fraction", type=float, default=0.1, help="of the non-zeros, hidden")
    parser.add_argument("--max-entries", type=int, default=200_000, help="scored a modality")
    parser.add_argument("--max-cells", type=int, default=500, help="compared with meta-cells")
    parser.add_argument("--label-key", default="cell_type", help="where there is one")
    parser.add_argument("--drop-label", nargs="*", default=["Mis"], help="labels not scored")
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--peakvi-epochs", type=int, default=40)
    parser.add_argument("--poissonvi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    parser.add_argument(
        "--atacdiff-options",
        type=json.loads,
        default={},
        help='JSON: {"atacdiff_setup": {}, "atacdiff_model": {}, "atacdiff_train": {}}',
    )
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    data: Path = arguments.data
    methods = arguments.methods or (models.OF_ATAC if data.suffix == ".h5ad" else models.MODELS)
    options = {
        "multivi_epochs": arguments.multivi_epochs,
        "peakvi_epochs": arguments.peakvi_epochs,
        "poissonvi_epochs": arguments.poissonvi_epochs,
        **arguments.multiview_options,
        **arguments.atacdiff_options,
    }
    common = {
        "data": str(data.resolve()),
        "fraction": arguments.fraction,
        "max_entries": arguments.max_entries,
        "max_cells": arguments.max_cells,
        "label_key": arguments.label_key,
        "dropped": arguments.drop_label,
        "options": options,
    }
    runs = harness.run_methods("imputation.py:impute", methods, arguments, common)
    columns = [*(f"{name}_{kind}" for name in ("atac", "rna") for kind in _SCORES), "seconds"]
    notes = (
        f"Data: {data.name}; {arguments.fraction:.0%} of the non-zeros of each modality hidden, and "
        f"as many zeros; MULTIVI {arguments.multivi_epochs}, PEAKVI {arguments.peakvi_epochs} and "
        f"POISSONVI {arguments.poissonvi_epochs} epochs at most; 'mean' is the share of cells that "
        "show the feature, 'lsi_knn' that of the 50 nearest cells on LSI. Seconds of training."
    )
    harness.report_methods(runs, columns, arguments.out, "imputation", data.stem, notes)


if __name__ == "__main__":
    main()
