"""Differential accessibility: time, memory, and the same regions as scvi-tools' PEAKVI?

    python benchmarks/differential.py --cells 1000 --peaks 100000 --out results/differential

Two groups of cells of simulated data are compared, each method in a process of its own; only the
comparison is timed, not the training of a model. ``wilcoxon`` and ``logistic`` are those of
``tl.differential``, without a model. PEAKVI holds all samples of all peaks at once: give it a machine
with 16 GB, or fewer samples by ``--samples``. The overlap is the share of regions that the best
``--top`` of both methods have in common, and of each with the regions that truly differ. Models rank
by the absolute effect size, tests by p value.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd

TESTS = ("wilcoxon", "logistic")
METHODS = (*TESTS, "multiview", "peakvi")


def simulate(path: str, cells: int, peaks: int) -> dict[str, Any]:
    """Simulate and write two types of cells (runs in a process of its own)."""
    from atacvi.datasets import simulate_multiome

    mdata = simulate_multiome(
        cells,
        500,
        peaks,
        n_cell_types=2,
        median_peaks_per_cell=0.026 * peaks,
        trajectory=False,
        random_state=0,
    )
    mdata.write_h5mu(path)
    return {"peaks": mdata["atac"].n_vars}


def compare(method: str, path: str, samples: int, epochs: int, table: str) -> dict[str, Any]:
    """Train and compare the two types; writes the table of regions."""
    import mudata

    mudata.set_options(pull_on_update=False)
    mdata = mudata.read_h5mu(path)
    one, two = sorted(mdata.obs["cell_type"].astype(str).unique())
    groups = {"groupby": "cell_type", "group1": one, "group2": two}
    if method in TESTS:
        from atacvi.tl import differential

        with harness.stopwatch() as watch:
            result = differential(mdata["atac"], method=method, **groups)
        result.to_csv(table)
        return watch.result()
    import scvi

    scvi.settings.seed = 0
    options = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": epochs}
    if method == "multiview":
        import atacvi

        atacvi.MultiViewModel.setup_mudata(mdata)
        model = atacvi.MultiViewModel(mdata, n_clusters=2)
        model.train(**options)
    else:
        adata = mdata["atac"].copy()
        adata.obs["cell_type"] = mdata.obs["cell_type"].to_numpy()
        scvi.model.PEAKVI.setup_anndata(adata)
        model = scvi.model.PEAKVI(adata)
        model.train(**options)
    with harness.stopwatch() as watch:
        result = model.differential_accessibility(**groups, n_samples_overall=samples, silent=True)
    result.to_csv(table)
    return watch.result()


def overlap(tables: dict[str, pd.DataFrame], truth: pd.Series, top: int) -> pd.DataFrame:
    """Share of the best regions in common, with those of the bare counts and with the truth."""
    best = {}
    for name, table in tables.items():
        size = -table["pvalue"] if name in TESTS else table["effect_size"].abs()
        best[name] = set(size.nlargest(top).index)
        if name not in TESTS:
            best["counts"] = set(table["emp_effect"].abs().nlargest(top).index)
    best["truth"] = set(truth.nlargest(top).index)
    return pd.DataFrame({a: {b: len(best[a] & best[b]) / top for b in best} for a in best}).round(3)


def true_effects(path: str) -> pd.Series:
    """Largest difference of the log-rate between the two types by region."""
    import mudata

    atac = mudata.read_h5mu(path)["atac"]
    effects = np.abs(np.asarray(atac.varm["simulation_effect"])).max(1)
    return pd.Series(effects * np.exp(atac.var["true_log_baseline"]), index=atac.var_names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--peer-epochs", type=int, default=200)
    parser.add_argument("--top", type=int, default=500)
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = str(arguments.out / "data.h5mu")
    job = "differential.py"
    sizes = {"path": path, "cells": arguments.cells, "peaks": arguments.peaks}
    harness.run_isolated(f"{job}:simulate", sizes, arguments.threads)
    rows, tables = [], {}
    for method in arguments.methods:
        harness.say(method)
        table = str(arguments.out / f"{method}.csv")
        answer = harness.run_isolated(
            f"{job}:compare",
            {
                "method": method,
                "path": path,
                "samples": arguments.samples,
                "epochs": arguments.epochs if method == "multiview" else arguments.peer_epochs,
                "table": table,
            },
            arguments.threads,
            arguments.timeout,
            arguments.out / "logs" / f"{method}.log",
        )
        rows.append({"method": method, **answer})
        if "error" in answer:
            harness.say(f"{method}: {answer['error']}")
        if Path(table).exists():
            tables[method] = pd.read_csv(table, index_col=0)
    frame = pd.DataFrame(rows)
    shares = overlap(tables, true_effects(path), arguments.top)
    shares.to_csv(arguments.out / "overlap.csv")
    harness.write_table(frame, arguments.out, "differential", f"Overlap:\n\n{shares}")


if __name__ == "__main__":
    main()
