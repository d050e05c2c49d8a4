"""Hide 10 % of the non-zero entries and see how well models tell them from zeros.

    python benchmarks/imputation.py --data snareseq_adult_mouse_cortex.h5mu \
        --methods multiview multivi peakvi mean --seeds 0 1 2 --out results/imputation

AUROC of the hidden entries against three sets of zeros: any zeros of the matrix, with the
prediction as it is (``auroc``) and times the cell's remaining depth (``auroc_depth``); and, for
each hidden entry, a zero of the same feature in another cell (``auroc_same_feature``), which the
mean of the feature cannot tell apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import _predict as models
import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

_ROUNDS = 100


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
    data: str, method: str, seed: int, fraction: float, max_entries: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Mask, train, and score both modalities (runs in a process of its own)."""
    from atacvi.metrics import mask_nonzeros

    mdata = peers.load_data(data)
    full = {name: mdata[name].X.copy() for name in ("rna", "atac")}
    hidden = {}
    for name, counts in full.items():
        mdata[name].X, *hidden[name] = mask_nonzeros(counts, fraction, random_state=seed)
    if method != "mean":
        peers.load_imports(peers.PEERS[method].imports)
    with harness.stopwatch() as watch:
        model = models.train(method, mdata, seed, options)
    result: dict[str, Any] = {}
    for name, counts in full.items():
        if method == "peakvi" and name == "rna":
            continue
        rows, cols = hidden[name]
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(rows.size)[:max_entries]
        depth = np.maximum(np.asarray(mdata[name].X.sum(axis=1)).ravel(), 1)
        entries = rows[drawn], cols[drawn]
        scores = score_entries(method, model, name, counts, entries, depth, rng)
        result |= {f"{name}_{key}": value for key, value in scores.items()}
    return {**result, **watch.result()}


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
    from atacvi.metrics import masked_auroc, sample_zeros

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
        "auroc": masked_auroc(values[parts[0]], values[parts[1]]),
        "auroc_depth": masked_auroc(scaled[parts[0]], scaled[parts[1]]),
        "auroc_same_feature": masked_auroc(values[parts[0]], values[parts[2]]),
    }


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=".h5mu with rna and atac")
    parser.add_argument("--methods", nargs="+", default=models.MODELS, choices=models.MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--fraction", type=float, default=0.1, help="of the non-zeros, hidden")
    parser.add_argument("--max-entries", type=int, default=200_000, help="scored a modality")
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--peakvi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    options = {
        "multivi_epochs": arguments.multivi_epochs,
        "peakvi_epochs": arguments.peakvi_epochs,
        **arguments.multiview_options,
    }
    common = {
        "data": str(arguments.data.resolve()),
        "fraction": arguments.fraction,
        "max_entries": arguments.max_entries,
        "options": options,
    }
    runs = harness.run_methods("imputation.py:impute", arguments.methods, arguments, common)
    kinds = ("auroc", "auroc_depth", "auroc_same_feature")
    columns = [*(f"{name}_{kind}" for name in ("atac", "rna") for kind in kinds), "seconds"]
    notes = (
        f"Data: {arguments.data.name}; {arguments.fraction:.0%} of the non-zeros of both "
        f"modalities hidden; MULTIVI {arguments.multivi_epochs} and PEAKVI "
        f"{arguments.peakvi_epochs} epochs; 'mean' is the share of cells that show the feature."
    )
    title = arguments.data.stem
    harness.report_methods(runs, columns, arguments.out, "imputation", title, notes)


if __name__ == "__main__":
    main()
