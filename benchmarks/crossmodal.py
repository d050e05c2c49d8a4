"""Predict each modality from the other alone, in cells held out of the training.

    python benchmarks/crossmodal.py --data snareseq_adult_mouse_cortex.h5mu \
        --methods multiview multivi mean --seeds 0 1 2 --out results/crossmodal

10 % of the cells are held out. No method sees the target modality of a held-out cell: MULTIVI
gets it as zeros, which it reads as missing; for MultiView its rows are exchanged among the
held-out cells, so that a leak would lower the score. Truth: log(1 + 1e4 share) of the RNA, open
or closed of the ATAC. Per-feature scores take features seen in at least five held-out cells. For RNA
from ATAC with CRAFT, linear peers and gene activity beside both, in folds, see ``craft.py``.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import _predict as models
import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from mudata import MuData

_SCALE = 1e4
_COLUMNS = (
    "rna_cell_pearson",
    "rna_feature_pearson",
    "rna_cell_spearman",
    "atac_cell_auroc",
    "atac_feature_auroc",
    "atac_cell_pearson",
    "atac_feature_pearson",
    "seconds",
)


def hide(mdata: MuData, name: str, method: str, seed: int) -> MuData:
    """Copy the cells with one modality made useless: zeros, or the rows of other cells."""
    hidden = mdata.copy()
    counts = hidden[name].X
    if method == "multiview":
        order = np.random.default_rng(seed).permutation(mdata.n_obs)
        hidden[name].X = counts[order].copy()
    else:
        hidden[name].X = sp.csr_matrix(counts.shape, dtype=counts.dtype)
        # MULTIVI writes this column in `setup_mudata` and looks for it in new data.
        hidden.obs["_indices"] = np.arange(hidden.n_obs)
    return hidden


def score_rna(truth: sp.csr_matrix, prediction: np.ndarray, min_cells: int) -> dict[str, float]:
    """Correlate log shares of the transcripts."""
    from atacvi.metrics import per_cell_correlation, per_feature_correlation

    depth = np.maximum(np.asarray(truth.sum(axis=1)).ravel(), 1)
    observed = np.log1p(_SCALE * (sp.diags(1 / depth) @ truth).toarray())
    predicted = np.log1p(_SCALE * prediction)
    seen = np.asarray((truth > 0).sum(axis=0)).ravel() >= min_cells
    features = per_feature_correlation(observed[:, seen], predicted[:, seen])
    return {
        "rna_cell_pearson": float(np.nanmean(per_cell_correlation(observed, predicted))),
        "rna_cell_spearman": float(
            np.nanmean(per_cell_correlation(observed, predicted, "spearman"))
        ),
        "rna_feature_pearson": float(np.nanmean(features)),
    }


def score_atac(truth: sp.csr_matrix, prediction: np.ndarray, min_cells: int) -> dict[str, float]:
    """Rank open above closed; also the correlation with open = 1, closed = 0."""
    from atacvi import metrics

    binary = (truth > 0).astype(np.float32)
    seen = np.asarray(binary.sum(axis=0)).ravel() >= min_cells
    kept, predicted = binary[:, seen], prediction[:, seen]
    return {
        "atac_cell_auroc": float(np.nanmean(metrics.per_cell_auroc(binary, prediction))),
        "atac_cell_pearson": float(np.nanmean(metrics.per_cell_correlation(binary, prediction))),
        "atac_feature_auroc": float(np.nanmean(metrics.per_feature_auroc(kept, predicted))),
        "atac_feature_pearson": float(np.nanmean(metrics.per_feature_correlation(kept, predicted))),
    }


def cross(
    data: str, method: str, seed: int, held_out: float, min_cells: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train without the held-out cells and predict them (runs in a process of its own)."""
    mdata = peers.load_data(data)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    n_test = max(1, round(held_out * mdata.n_obs))
    test, training = np.sort(order[:n_test]), np.sort(order[n_test:])
    train_data, test_data = mdata[training].copy(), mdata[test].copy()
    if method != "mean":
        peers.load_imports(peers.PEERS[method].imports)
    with harness.stopwatch() as watch:
        model = models.train(method, train_data, seed, options)
    scores: dict[str, float] = {}
    for target, source in (("rna", "atac"), ("atac", "rna")):
        query = hide(test_data, target, method, seed)
        cells = np.arange(n_test)
        prediction = models.predict(method, model, query, target, source, cells)
        score = score_rna if target == "rna" else score_atac
        scores |= score(sp.csr_matrix(test_data[target].X), prediction, min_cells)
    return {"held_out_cells": n_test, **scores, **watch.result()}


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help=".h5mu with rna and atac"
    )
    choices = ["multiview", "multivi", "mean"]
    parser.add_argument("--methods", nargs="+", default=choices, choices=choices)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the cells")
    parser.add_argument("--min-cells", type=int, default=5, help="for per-feature scores")
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    options = {"multivi_epochs": arguments.multivi_epochs, **arguments.multiview_options}
    common = {
        "data": str(arguments.data.resolve()),
        "held_out": arguments.held_out,
        "min_cells": arguments.min_cells,
        "options": options,
    }
    runs = harness.run_methods("crossmodal.py:cross", arguments.methods, arguments, common)
    notes = (
        f"Data: {arguments.data.name}; {arguments.held_out:.0%} of the cells held out; "
        f"MULTIVI {arguments.multivi_epochs} epochs; 'mean' is the mean training profile."
    )
    title = arguments.data.stem
    harness.report_methods(runs, _COLUMNS, arguments.out, "crossmodal", title, notes)


if __name__ == "__main__":
    main()
