"""Does imputing one half of the cells bring it nearer to the other half? Profiles of cell types.

    python benchmarks/split_half.py --data snareseq_adult_mouse_cortex.h5mu --drop-label Mis \
        --methods raw knn multiview --seeds 0 1 2 --out results/split_half

Cells of each type are dealt into two halves. One half is imputed without seeing the labels; the raw
counts of the other, summed over each type and scaled to a common depth, are the held-out profile.

``pseudobulk_*``: correlation over the features of the type's mean in the first half with the
held-out profile; mean over types, and over those of at most 100 cells (``rare``). ``cell_*``:
correlation of single cells with the held-out profile of their type. Spearman's.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import _peers as peers
import _predict as models
import embedding
import links
import numpy as np
import pandas as pd
import scipy.sparse as sp

METHODS = ("raw", "knn", "multiview", "multivi", "peakvi")
_KINDS = ("pseudobulk", "pseudobulk_rare", "cell")
SCORES = tuple(f"{name}_{kind}" for name in ("atac", "rna") for kind in _KINDS)
_RARE = 100
_BLOCK = 512


def halves(labels: np.ndarray, seed: int) -> np.ndarray:
    """Deal the cells of each type into two halves; True for the first."""
    rng = np.random.default_rng(seed)
    first = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        cells = rng.permutation(np.flatnonzero(labels == label))
        first[cells[: -(-len(cells) // 2)]] = True
    return first


def profiles(counts: sp.csr_matrix, codes: np.ndarray, n_types: int) -> np.ndarray:
    """Sum of the counts of each type, as shares."""
    member = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    total = np.asarray((member @ counts).todense(), dtype=np.float64)
    return models.shares(total[:n_types])


def split_half(
    data: str,
    method: str,
    seed: int,
    label_key: str,
    dropped: list[str],
    max_cells: int,
    options: dict,
) -> dict[str, Any]:
    """Impute one half and compare with the other (runs in a process of its own)."""
    mdata = peers.load_data(data)
    labels = embedding.read_labels(data, label_key)
    kept = np.flatnonzero(~np.isin(labels, dropped))
    kept = np.random.default_rng(seed).permutation(kept)[:max_cells]
    first = halves(labels[kept], seed)
    train, test = np.sort(kept[first]), np.sort(kept[~first])
    names = np.intersect1d(labels[train], labels[test])
    train = train[np.isin(labels[train], names)]
    test = test[np.isin(labels[test], names)]
    codes = np.searchsorted(names, labels[train])
    half = peers.filter_features(mdata[train].copy())
    held_out = {
        m: profiles(
            mdata[m][test, half[m].var_names].X,
            np.searchsorted(names, labels[test]),
            len(names),
        )
        for m in ("rna", "atac")
    }
    if method in peers.PEERS:
        peers.load_imports(peers.PEERS[method].imports)
    with harness.stopwatch() as watch:
        model, smooth = None, {}
        if method == "knn":
            latent = peers.concat(half.copy(), seed, {})
            n_neighbors = options.get("neighbors", 30)
            smooth = {m: links.smoothed(half[m].X, latent, n_neighbors) for m in ("rna", "atac")}
        elif method != "raw":
            model = models.train(method, half, seed, options)
    result: dict[str, Any] = {"cells": len(train), "types": len(names)}
    sizes = np.bincount(codes)
    for name in ("atac", "rna"):
        if method == "peakvi" and name == "rna":
            continue
        matrix = smooth.get(name, half[name].X)
        scores = compare(matrix, held_out[name], codes, sizes, method, model, name)
        result |= {f"{name}_{key}": value for key, value in scores.items()}
    return {**result, **watch.result()}


def compare(
    matrix: sp.csr_matrix,
    held_out: np.ndarray,
    codes: np.ndarray,
    sizes: np.ndarray,
    method: str,
    model: Any,
    name: str,
) -> dict[str, float]:
    """Correlate types and cells of the first half with the held-out profiles."""
    from atacvi.metrics import per_cell_correlation

    total = np.zeros(held_out.shape)
    of_cell = np.empty(len(codes))
    for start in range(0, len(codes), _BLOCK):
        cells = np.arange(start, min(start + _BLOCK, len(codes)))
        if model is None:
            block = models.shares(np.asarray(matrix[cells].todense(), dtype=np.float64))
        else:
            predicted = models.predict(method, model, None, name, "joint", cells)
            block = models.shares(np.asarray(predicted, dtype=np.float64))
        np.add.at(total, codes[cells], block)
        of_cell[cells] = per_cell_correlation(held_out[codes[cells]], block, "spearman")
    mean = total / sizes[:, None]
    of_type = per_cell_correlation(held_out, mean, "spearman")
    rare = sizes <= _RARE
    return {
        "pseudobulk": float(np.nanmean(of_type)),
        "pseudobulk_rare": float(np.nanmean(of_type[rare])) if rare.any() else float("nan"),
        "cell": float(np.nanmean(of_cell)),
    }


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help="labelled .h5mu with rna, atac"
    )
    parser.add_argument("--methods", nargs="+", default=METHODS[:3], choices=METHODS)
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--drop-label", nargs="*", default=["Mis"], help="labels left out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--max-cells", type=int, default=1_000_000, help="drawn at random")
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
    rows: list[dict[str, Any]] = []
    for method in arguments.methods:
        for seed in arguments.seeds:
            job = {
                "data": str(arguments.data.resolve()),
                "method": method,
                "seed": seed,
                "label_key": arguments.label_key,
                "dropped": arguments.drop_label,
                "max_cells": arguments.max_cells,
                "options": options,
            }
            log = arguments.out / "logs" / f"{method}_seed{seed}.log"
            found = harness.run_isolated(
                "split_half.py:split_half", job, arguments.threads, arguments.timeout, log
            )
            rows.append({"method": method, "seed": seed, **found})
            harness.say(str(rows[-1]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "split_half_runs.csv", index=False)
    summary = harness.summarise(table, ["method"])
    shown = ["method", "runs", "cells", *SCORES, "seconds", "error"]
    notes = f"Data: {arguments.data.name}; Spearman's correlation with the held-out half of cells."
    view = summary[[c for c in shown if c in summary]]
    harness.write_table(view, arguments.out, "split_half", notes)
    harness.write_figure(summary, SCORES, arguments.out, "split_half", arguments.data.stem)


if __name__ == "__main__":
    main()
