"""Compare embeddings on a labelled data set, paired or ATAC alone: quality, seconds, peak memory.

    python benchmarks/embedding.py --data snareseq_adult_mouse_cortex.h5mu --drop-label Mis \
        --methods multiview multivi multi_spectral concat wnn mofa rna_pca lsi --seeds 0 1 2 \
        --out results/snare
    python benchmarks/embedding.py --data leukemia_corces2016.h5ad \
        --methods atacdiff spectral_atac lsi peakvi poissonvi --seeds 0 1 2 --out results/leukemia

Features are kept if at least 0.1 % of the cells and five cells show them. Cells with a dropped
label are trained on but not scored. Methods without randomness run with the first seed only.
Each embedding is saved; ``--rescore`` reads those and trains nothing. One Leiden run at a given
number of clusters may lie .05 from the next on the same embedding, so each is scored with
several seeds; ``leiden_spread`` is the deviation between them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seeds of neighbours, Leiden and k-means with which an embedding is scored.
SCORE_SEEDS = (0, 1, 2, 3, 4)
SCORES = (
    "leiden_ari",
    "leiden_spread",
    "leiden_nmi",
    "best_ari",
    "kmeans_ari",
    "kmeans_nmi",
    "knn_accuracy",
    "seconds",
    "cpu_seconds",
    "peak_mb",
)
_SHOWN = tuple(score for score in SCORES if score != "leiden_spread")
_COLUMNS = ["method", "seed", "cells", "dimensions", *SCORES, "leiden_n_clusters", "error"]


def embed(data: str, method: str, seed: int, out: str, options: dict[str, Any]) -> dict[str, Any]:
    """Compute and save one embedding (runs in a process of its own)."""
    peer = peers.PEERS[method]
    mdata = peers.load_data(data)
    peers.load_imports(peer.imports)
    with harness.stopwatch() as watch:
        embedding = np.asarray(peer.embed(mdata, seed, options))
    if embedding.shape[0] != mdata.n_obs:
        msg = f"{method} gave {embedding.shape[0]} rows for {mdata.n_obs} cells"
        raise ValueError(msg)
    np.save(out, embedding)
    return {"cells": int(mdata.n_obs), "dimensions": int(embedding.shape[1]), **watch.result()}


def read_labels(data: str, label_key: str) -> np.ndarray:
    """Read one column of the observations, from MuData or from its modalities."""
    mdata = peers.load_data(data, min_cells=0, min_fraction=0)
    for frame in (mdata.obs, *(adata.obs for adata in mdata.mod.values())):
        if label_key in frame:
            return frame[label_key].astype(str).to_numpy()
    msg = f"{label_key!r} is in none of obs, rna.obs and atac.obs of {data}; see --label-key."
    raise KeyError(msg)


def score(
    path: Path, labels: np.ndarray, dropped: Sequence[str] = (), seeds: Sequence[int] = SCORE_SEEDS
) -> dict[str, Any]:
    """Score a saved embedding on the cells whose label is trusted: means over seeds of scoring."""
    from atacvi.metrics import clustering_scores

    kept = ~np.isin(labels, dropped)
    embedding, trusted = np.load(path)[kept], labels[kept]
    scores = pd.DataFrame(
        [clustering_scores(embedding, trusted, random_state=seed) for seed in seeds]
    )
    return {**scores.mean().to_dict(), "leiden_spread": scores["leiden_ari"].std(ddof=0)}


def run_method(
    arguments: argparse.Namespace, labels: np.ndarray, method: str, seed: int
) -> dict[str, Any]:
    """Embed, measure and score one method with one seed."""
    path = arguments.out / f"{method}_seed{seed}.npy"
    record = path.with_suffix(".json")
    row: dict[str, Any] = {"method": method, "seed": seed}
    if arguments.rescore:
        if not path.exists():
            return row | {"error": f"no saved embedding {path.name}"}
        row |= json.loads(record.read_text()) if record.exists() else {}
    else:
        job = {
            "data": str(arguments.data.resolve()),
            "method": method,
            "seed": seed,
            "out": str(path.resolve()),
            "options": arguments.options,
        }
        log = arguments.out / "logs" / f"{method}_seed{seed}.log"
        found = harness.run_isolated(
            "embedding.py:embed", job, arguments.threads, arguments.timeout, log
        )
        if "error" in found:
            return row | found
        record.write_text(json.dumps(found))
        row |= found
    try:
        return row | score(path, labels, arguments.drop_label, arguments.score_seeds)
    except (ValueError, RuntimeError) as error:
        return row | {"error": f"scoring: {error}"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help="labelled .h5mu with rna, atac"
    )
    parser.add_argument("--methods", nargs="+", required=True, choices=sorted(peers.PEERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--label-key", default="cell_type")
    parser.add_argument("--drop-label", nargs="*", default=["Mis"], help="labels not scored")
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--peakvi-epochs", type=int, default=40)
    parser.add_argument("--multiview-epochs", type=int, default=None)
    parser.add_argument("--mofa-iterations", type=int, default=50)
    parser.add_argument("--accelerator", default="auto", help="for MULTIVI and PEAKVI")
    parser.add_argument(
        "--multiview-options",
        type=json.loads,
        default={},
        help='JSON: {"multiview_setup": {}, "multiview_model": {}, "multiview_train": {}}',
    )
    parser.add_argument(
        "--score-seeds",
        type=int,
        nargs="+",
        default=list(SCORE_SEEDS),
        help="of neighbours, Leiden and k-means, on each embedding",
    )
    parser.add_argument("--rescore", action="store_true", help="score saved embeddings again")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.options = {
        "multivi_epochs": arguments.multivi_epochs,
        "peakvi_epochs": arguments.peakvi_epochs,
        "multiview_epochs": arguments.multiview_epochs,
        "mofa_iterations": arguments.mofa_iterations,
        "accelerator": arguments.accelerator,
        **arguments.multiview_options,
    }
    return arguments


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the summary of the runs and the figure."""
    table = pd.DataFrame(rows).reindex(columns=_COLUMNS)
    summary = harness.summarise(table, ["method"])
    shown = ["method", "runs", *SCORES, "leiden_ari_sd", "error"]
    summary_view = summary[[c for c in shown if c in summary]]
    notes = (
        f"Data: {arguments.data.name}; not scored: {', '.join(arguments.drop_label) or 'none'}; "
        f"MULTIVI {arguments.multivi_epochs}, PEAKVI and POISSONVI {arguments.peakvi_epochs} epochs, "
        f"MOFA {arguments.mofa_iterations} iterations. Means over seeds, each embedding scored "
        f"with {len(arguments.score_seeds)} seeds. Seconds without reading "
        "and imports; peak memory of the method's whole process, data and libraries included."
    )
    harness.write_table(summary_view, arguments.out, "embedding", notes)
    harness.write_figure(summary, _SHOWN, arguments.out, "embedding", arguments.data.stem)


def main() -> None:
    """Run every method with every seed."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels = read_labels(str(arguments.data), arguments.label_key)
    rows: list[dict[str, Any]] = []
    for method in arguments.methods:
        seeds = arguments.seeds if peers.PEERS[method].seeded else arguments.seeds[:1]
        for seed in seeds:
            harness.say(f"{method}, seed {seed} ...")
            rows.append(run_method(arguments, labels, method, seed))
            harness.say(f"{method}, seed {seed}: {rows[-1]}")
            # After each run, so that an interrupted benchmark keeps what it has.
            runs = pd.DataFrame(rows).reindex(columns=_COLUMNS)
            runs.to_csv(arguments.out / "embedding_runs.csv", index=False)
    report(rows, arguments)


if __name__ == "__main__":
    main()
