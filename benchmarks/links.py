"""Are true peak-gene links found, and does imputation help? On simulated data, where they are known.

    python benchmarks/links.py --methods truth raw knn metacells multiview --seeds 0 1 2 \
        --out results/links

Every method gives accessibility and expression of the same cells; ``tl.link_peaks_to_genes`` scores
the pairs. PEAKVI has no RNA: its accessibility is linked to the raw expression. ``truth`` links the
profiles from which the counts were drawn, the best that values can give with this score;
``distance`` is the score -|distance| without any data.

``auroc`` and ``average_precision``: links against all other pairs of a window, by the score; with
``_probability`` by the posterior, which weighs the distance too. ``auroc_varying``: by score, only
pairs whose peak truly varies (its log accessibility has a standard deviation of at least 0.1), since
a peak that does not vary shows no link. ``significant`` and ``precision``: pairs with positive score
and FDR up to 5 %; ``likely`` and ``precision_likely``: pairs with a probability of at least 0.8.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import _peers as peers
import _predict as models
import numpy as np
import pandas as pd
import scipy.sparse as sp

METHODS = ("truth", "distance", "raw", "knn", "metacells", "multiview", "peakvi", "multivi")
SCORES = (
    "auroc",
    "auroc_probability",
    "average_precision",
    "average_precision_probability",
    "auroc_varying",
    "significant",
    "precision",
    "likely",
    "precision_likely",
)
_VARIES = 0.1
_LIKELY = 0.8


def simulate(path: str, seed: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """Simulate and write one data set (runs in a process of its own)."""
    from atacvi.datasets import simulate_multiome

    mdata = simulate_multiome(**sizes, random_state=seed)
    mdata.write_h5mu(path)
    return {"cells": mdata.n_obs}


def smoothed(counts: sp.csr_matrix, embedding: np.ndarray, n_neighbors: int) -> sp.csr_matrix:
    """Mean of the counts of each cell and its nearest others."""
    from sklearn.neighbors import NearestNeighbors

    graph = NearestNeighbors(n_neighbors=n_neighbors).fit(embedding).kneighbors_graph()
    weights = (graph + sp.identity(len(embedding), format="csr")) / (n_neighbors + 1)
    return sp.csr_matrix(weights @ counts, dtype=np.float32)


def link(
    data: str, method: str, seed: int, link_method: str, window: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Impute, link and score (runs in a process of its own)."""
    import mudata as md

    from atacvi import datasets
    from atacvi.tl import link_peaks_to_genes

    md.set_options(pull_on_update=False)
    mdata = md.read_h5mu(data)
    for name in ("rna", "atac"):
        mdata[name].X = sp.csr_matrix(mdata[name].X, dtype=np.float32)
    if method in peers.PEERS:
        peers.load_imports(peers.PEERS[method].imports)
    values: dict[str, Any] = {}
    every = np.arange(mdata.n_obs)
    with harness.stopwatch() as training:
        if method == "truth":
            values["expression"] = np.log1p(1e4 * datasets.true_expression(mdata))
            values["accessibility"] = datasets.true_accessibility(mdata)
        elif method in ("knn", "metacells"):
            embedding = peers.concat(mdata, seed, {})
            if method == "knn":
                for name in ("rna", "atac"):
                    smooth = smoothed(mdata[name].X, embedding, options.get("neighbors", 30))
                    mdata[name].layers["smoothed"] = smooth
                values = {"expression": "smoothed", "accessibility": "smoothed"}
            else:
                mdata.obsm["X_concat"] = embedding
                values = {"metacells": options.get("metacells", 100), "use_rep": "X_concat"}
        elif method in ("multiview", "multivi", "peakvi"):
            model = models.train(method, mdata, seed, options)
            values["accessibility"] = models.predict(method, model, None, "atac", "joint", every)
            if method != "peakvi":
                shares = models.predict(method, model, None, "rna", "joint", every)
                values["expression"] = np.log1p(1e4 * shares)
    with harness.stopwatch() as linking:
        table = link_peaks_to_genes(
            mdata, method=link_method, window=window, min_cells=0, random_state=seed, **values
        )
    if method == "distance":
        table["score"] = -table["distance"].abs()
        table[["fdr", "probability"]] = np.nan
    result = score(mdata, table)
    times = {"seconds_training": training.seconds, "seconds_linking": linking.seconds}
    return {**result, **times, "peak_mb": linking.peak_mb}


def score(mdata: Any, table: pd.DataFrame) -> dict[str, Any]:
    """Compare a table of links with the truth."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    from atacvi import datasets

    links = datasets.simulated_links(mdata)
    pairs = pd.MultiIndex.from_frame(table[["peak", "gene"]])
    true = pairs.isin(pd.MultiIndex.from_frame(links[["peak", "gene"]]))
    peaks = table["peak"].unique()
    spread = np.log(datasets.true_accessibility(mdata, regions=peaks)).std(axis=0)
    varies = table["peak"].map(dict(zip(peaks, spread, strict=True))).to_numpy() >= _VARIES
    called = (table["fdr"] <= 0.05).to_numpy() & (table["score"] > 0).to_numpy()
    values = table["score"].to_numpy()
    # Expression that does not vary is no evidence of a link.
    chance = table["probability"].fillna(0.0).to_numpy()
    likely = chance >= _LIKELY
    of_chance = {}
    if chance.any():
        of_chance = {
            "auroc_probability": float(roc_auc_score(true, chance)),
            "average_precision_probability": float(average_precision_score(true, chance)),
            "likely": int(likely.sum()),
            "precision_likely": float(true[likely].mean()) if likely.any() else None,
        }
    return {
        "pairs": len(table),
        "links": int(true.sum()),
        "auroc": float(roc_auc_score(true, values)),
        "average_precision": float(average_precision_score(true, values)),
        "auroc_varying": float(roc_auc_score(true[varies], values[varies])),
        "significant": int(called.sum()),
        "precision": float(true[called].mean()) if called.any() else None,
        **of_chance,
    }


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS[:6], choices=METHODS)
    parser.add_argument("--link-methods", nargs="+", default=["correlation"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--peaks", type=int, default=10000)
    parser.add_argument("--types", type=int, default=8)
    parser.add_argument("--preset", default=None, choices=["snare", "10x"])
    parser.add_argument("--window", type=int, default=250_000)
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--peakvi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    (arguments.out / "data").mkdir(parents=True, exist_ok=True)
    sizes = {
        "n_cells": arguments.cells,
        "n_genes": arguments.genes,
        "n_peaks": arguments.peaks,
        "n_cell_types": arguments.types,
        "preset": arguments.preset,
    }
    options = {
        "multivi_epochs": arguments.multivi_epochs,
        "peakvi_epochs": arguments.peakvi_epochs,
        **arguments.multiview_options,
    }
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        data = arguments.out / "data" / f"seed{seed}.h5mu"
        job: dict[str, Any] = {"path": str(data), "seed": seed, "sizes": sizes}
        made = harness.run_isolated("links.py:simulate", job, arguments.threads)
        if "error" in made:
            rows.append({"method": "simulation", "seed": seed, **made})
            continue
        for method in arguments.methods:
            for link_method in arguments.link_methods:
                job = {"data": str(data), "method": method, "seed": seed, "options": options}
                job |= {"link_method": link_method, "window": arguments.window}
                log = arguments.out / "logs" / f"{method}_{link_method}_seed{seed}.log"
                found = harness.run_isolated(
                    "links.py:link", job, arguments.threads, arguments.timeout, log
                )
                row = {"method": method, "score": link_method, "seed": seed, **found}
                rows.append(row)
                harness.say(str(row))
    report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write runs, summary and figure."""
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "links_runs.csv", index=False)
    summary = harness.summarise(table, ["method", "score"])
    shown = ["method", "score", "runs", *SCORES, "seconds_training", "seconds_linking", "peak_mb"]
    notes = (
        f"{arguments.cells} simulated cells x ({arguments.genes} genes + {arguments.peaks} peaks), "
        f"preset {arguments.preset}, window {arguments.window:,} bp; means over seeds "
        f"{arguments.seeds}."
    )
    view = summary[[c for c in [*shown, "auroc_sd", "error"] if c in summary]]
    harness.write_table(view, arguments.out, "links", notes)
    labelled = summary.assign(
        run=[f"{m} ({s})" for m, s in zip(summary["method"], summary["score"], strict=True)]
    )
    columns = ("auroc", "auroc_probability", "auroc_varying", "average_precision")
    goals = {"auroc": 0.9, "auroc_probability": 0.9}
    harness.write_figure(labelled, columns, arguments.out, "links", "Peak-gene links", "run", goals)


if __name__ == "__main__":
    main()
