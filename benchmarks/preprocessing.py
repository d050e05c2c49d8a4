"""TF-IDF and LSI on one simulated matrix: seconds, memory and agreement with muon's.

The default is 10,000 cells x 100,000 peaks, 2.6 % dense. Each method runs in its own process on
the same file; the ratio in the table is muon's time over ours.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd

STEPS = ("tfidf", "lsi")
_COLUMNS = ["step", "method", "seed", "seconds", "cpu_seconds", "start_mb", "peak_mb"]


def simulate(path: str, n_cells: int, n_peaks: int, median_peaks: float) -> dict[str, Any]:
    """Write the ATAC modality of simulated data as float32 counts."""
    from atacvi.datasets import simulate_multiome

    with harness.stopwatch() as watch:
        mdata = simulate_multiome(n_cells, 200, n_peaks, median_peaks_per_cell=median_peaks)
    atac = mdata["atac"]
    atac.X = atac.X.astype(np.float32)  # both methods take the same matrix
    density = atac.X.nnz / (n_cells * n_peaks)
    atac.write_h5ad(path)
    return {**watch.result(), "density": density}


def run(path: str, step: str, method: str, n_comps: int, seed: int) -> dict[str, Any]:
    """Time one step of one method, and describe its result by a few numbers."""
    import anndata
    import muon

    from atacvi import pp

    adata = anndata.read_h5ad(path)
    if step == "lsi":
        pp.tfidf(adata)  # the same values whoever computes them
    with harness.stopwatch() as watch:
        if step == "tfidf":
            pp.tfidf(adata) if method == "atacvi" else muon.atac.pp.tfidf(adata)
        elif method == "atacvi":
            pp.lsi(adata, n_comps, drop_first=False, random_state=seed)
        else:
            muon.atac.tl.lsi(adata, n_comps=n_comps)
    if step == "tfidf":
        return {**watch.result(), "result": [float(adata.X.sum(dtype=np.float64))]}
    return {**watch.result(), "result": np.asarray(adata.uns["lsi"]["stdev"], float).tolist()}


def compare(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean seconds by step and method, muon's time over ours, and the relative difference."""
    table = pd.DataFrame(rows)
    summary = harness.summarise(table.drop(columns="result", errors="ignore"), ["step", "method"])
    for step in table["step"].unique():
        part = table[table["step"] == step]
        found = {m: p["result"].iloc[0] for m, p in part.groupby("method") if "result" in p}
        seconds = part.groupby("method")["seconds"].median()
        ours = (summary["step"] == step) & (summary["method"] == "atacvi")
        if set(found) == {"atacvi", "muon"} and all(isinstance(v, list) for v in found.values()):
            a, b = np.array(found["atacvi"]), np.array(found["muon"])
            summary.loc[ours, "times_faster"] = seconds["muon"] / seconds["atacvi"]
            summary.loc[ours, "largest_relative_difference"] = np.max(np.abs(a / b - 1))
    return summary


def main() -> None:
    """Simulate once, then run each step with each method, by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-cells", type=int, default=10_000)
    parser.add_argument("--n-peaks", type=int, default=100_000)
    parser.add_argument("--density", type=float, default=0.026)
    parser.add_argument("--n-comps", type=int, default=50)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path: Path = (arguments.out / "simulated_atac.h5ad").resolve()
    size = {
        "n_cells": arguments.n_cells,
        "n_peaks": arguments.n_peaks,
        "median_peaks": arguments.density * arguments.n_peaks,
    }
    simulated = harness.run_isolated("preprocessing.py:simulate", {"path": str(path), **size})
    if "error" in simulated:
        raise SystemExit(simulated["error"])
    harness.say(f"simulated: {simulated}")
    rows: list[dict[str, Any]] = []
    for step in arguments.steps:
        # muon's SVD starts from a random vector, but takes no seed and long: once is enough.
        for seed in arguments.seeds if step == "tfidf" else arguments.seeds[:1]:
            for method in ("muon", "atacvi"):
                job = {"path": str(path), "step": step, "method": method, "seed": seed}
                job["n_comps"] = arguments.n_comps
                found = harness.run_isolated(
                    "preprocessing.py:run", job, arguments.threads, arguments.timeout
                )
                rows.append({"step": step, "method": method, "seed": seed, **found})
                harness.say(f"{step}, {method}: {found.get('seconds', found.get('error'))} s")
    path.unlink()
    runs = pd.DataFrame(rows).reindex(columns=[*_COLUMNS, "error"])
    runs.to_csv(arguments.out / "preprocessing_runs.csv", index=False)
    summary = compare(rows)
    notes = (
        f"{arguments.n_cells} cells x {arguments.n_peaks} peaks, density "
        f"{simulated['density']:.4f}, simulated in {simulated['seconds']} s with a peak of "
        f"{simulated['peak_mb']} MB. times_faster: median of muon's seconds over ours. "
        f"LSI with {arguments.n_comps} components."
    )
    harness.write_table(summary, arguments.out, "preprocessing", notes)
    summary["name"] = summary["step"] + ", " + summary["method"]
    harness.write_figure(
        summary, ["seconds", "peak_mb"], arguments.out, "preprocessing", "Preprocessing", "name"
    )


if __name__ == "__main__":
    main()
