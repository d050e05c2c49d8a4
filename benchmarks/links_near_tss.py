"""Do the best peak-gene links of real data lie near TSS? Distance has no part in the score.

    python benchmarks/links_near_tss.py --data snareseq_adult_mouse_cortex.h5mu \
        --genes annotation/mm10_genes_simba.bed.gz --methods raw metacells multiview \
        --out results/links_near_tss

Every method gives accessibility and expression of the same cells; ``tl.link_peaks_to_genes`` scores
the pairs. ``near``: share of the best ``--top`` pairs by p value, of positive score, within
``--near`` base pairs of the TSS; ``near_all``: that of all pairs; ``enrichment``: their ratio, with
the p value of a hypergeometric test. ``negative``: the same ratio for the best negative pairs, which
share all that makes peaks near TSS special but the sign. ``mean_near`` and ``mean_far``: mean
probability of a link within ``--near``, and beyond 100 kb. ``significant``: pairs with FDR up to 5 %; ``likely``: with a probability of at least 0.8.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import _harness as harness
import _peers as peers
import _predict as models
import links
import numpy as np
import pandas as pd

METHODS = ("raw", "knn", "metacells", "multiview")
SCORES = ("near", "near_all", "enrichment", "p_value", "negative", "mean_near", "mean_far")
_FAR = 100_000


def link(
    data: str, genes: str, method: str, seed: int, max_cells: int, sizes: dict, options: dict
) -> dict[str, Any]:
    """Impute, link and compare with the distance (runs in a process of its own)."""
    import mudata as md

    from atacvi.tl import link_peaks_to_genes

    md.set_options(pull_on_update=False)
    mdata = peers.load_data(data)
    cells = np.random.default_rng(seed).permutation(mdata.n_obs)[:max_cells]
    # The same pairs for all: imputation leaves no feature with few cells.
    mdata = peers.filter_features(mdata[np.sort(cells)].copy(), min_cells=10)
    values: dict[str, Any] = {}
    with harness.stopwatch() as watch:
        if method == "knn":
            embedding = peers.concat(mdata, seed, {})
            for name in ("rna", "atac"):
                smooth = links.smoothed(mdata[name].X, embedding, options.get("neighbors", 30))
                mdata[name].layers["smoothed"] = smooth
            values = {"expression": "smoothed", "accessibility": "smoothed"}
        elif method == "metacells":
            mdata.obsm["X_concat"] = peers.concat(mdata, seed, {})
            values = {"metacells": options.get("metacells", 100), "use_rep": "X_concat"}
        elif method == "multiview":
            values = {"model": models.train(method, mdata, seed, options)}
        table = link_peaks_to_genes(
            mdata,
            annotation=read_genes(genes),
            window=sizes["window"],
            min_cells=0,
            random_state=seed,
            **values,
        )
    return {"cells": mdata.n_obs, **compare(table, sizes["top"], sizes["near"]), **watch.result()}


def read_genes(path: str) -> pd.DataFrame:
    """Read a BED file of genes: chromosome, start, end, name and strand."""
    columns = ["chrom", "start", "end", "gene", "strand"]
    return pd.read_csv(path, sep="\t", header=None, names=columns, usecols=range(5))


def compare(table: pd.DataFrame, top: int, near: int) -> dict[str, Any]:
    """Relate the best pairs to their distances."""
    from scipy.stats import hypergeom

    close = (table["distance"].abs() <= near).to_numpy()
    far = (table["distance"].abs() > _FAR).to_numpy()
    positive = (table["score"] > 0).to_numpy()
    shares = {}
    for name, sign in (("positive", positive), ("negative", ~positive)):
        best = table["pvalue"].where(sign).nsmallest(top).index
        shares[name] = close[table.index.get_indexer(best)]
    chance = table["probability"].to_numpy()
    hits = int(shares["positive"].sum())
    drawn = len(shares["positive"])
    return {
        "pairs": len(table),
        "near": float(shares["positive"].mean()),
        "near_all": float(close.mean()),
        "enrichment": float(shares["positive"].mean() / close.mean()),
        "p_value": float(hypergeom.sf(hits - 1, len(table), int(close.sum()), drawn)),
        "negative": float(shares["negative"].mean() / close.mean()),
        "mean_near": float(np.nanmean(chance[close])),
        "mean_far": float(np.nanmean(chance[far])),
        "significant": int((table["fdr"] <= 0.05).sum()),
        "likely": int((chance >= 0.8).sum()),
    }


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help=".h5mu with rna and atac"
    )
    parser.add_argument(
        "--genes", type=harness.data_file, required=True, help="BED of genes, with strand"
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--max-cells", type=int, default=1_000_000, help="drawn at random")
    parser.add_argument("--window", type=int, default=250_000)
    parser.add_argument("--near", type=int, default=5_000, help="base pairs")
    parser.add_argument("--top", type=int, default=500)
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, of the methods")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for method in arguments.methods:
        for seed in arguments.seeds:
            job = {
                "data": str(arguments.data.resolve()),
                "genes": str(arguments.genes.resolve()),
                "method": method,
                "seed": seed,
                "max_cells": arguments.max_cells,
                "sizes": {k: getattr(arguments, k) for k in ("window", "top", "near")},
                "options": arguments.options,
            }
            log = arguments.out / "logs" / f"{method}_seed{seed}.log"
            found = harness.run_isolated(
                "links_near_tss.py:link", job, arguments.threads, arguments.timeout, log
            )
            rows.append({"method": method, "seed": seed, **found})
            harness.say(str(rows[-1]))
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "links_near_tss_runs.csv", index=False)
    summary = harness.summarise(table, ["method"])
    shown = ["method", "runs", "cells", "pairs", *SCORES, "significant", "likely", "cpu_seconds"]
    notes = (
        f"Data: {arguments.data.name}; best {arguments.top} pairs within {arguments.window:,} bp; "
        f"near: {arguments.near:,} bp."
    )
    view = summary[[c for c in [*shown, "error"] if c in summary]]
    harness.write_table(view, arguments.out, "links_near_tss", notes)
    harness.write_figure(
        summary, ("enrichment", "negative"), arguments.out, "links_near_tss", arguments.data.stem
    )


if __name__ == "__main__":
    main()
