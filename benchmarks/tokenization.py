"""Fragments to tokens: ours, gtars and SnapATAC2 on one simulated file; peaks to tokens; memory.

The default is 5 million fragments of 3,000 cells over 200,000 regions, gzip. Each method runs in
its own process on the same files. The work differs: gtars returns lists of Python numbers that
repeat and hold unknown tokens, SnapATAC2 also sorts the fragments by cell, writes them to disk and
computes quality, ours returns sets as a sparse matrix with quality. All three have to find the same
non-zeros, which the run checks.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = ("fragments", "peaks")
METHODS = ("atacvi", "gtars", "snapatac2")
_CHROMS = [*[f"chr{i}" for i in range(1, 23)], "chrX"]
_LENGTH = 120_000_000
_SHARE_IN_PEAKS = 0.5


def simulate(folder: str, n_fragments: int, n_cells: int, n_regions: int, seed: int) -> dict:
    """Write universe and sorted fragments, half of which start near a region's middle."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ACGT"))
    barcodes = ["".join(row) + "-1" for row in letters[rng.integers(0, 4, (n_cells, 16))]]
    regions, tables = [], []
    for chrom in _CHROMS:
        k, n = n_regions // len(_CHROMS), n_fragments // len(_CHROMS)
        start = np.sort(rng.choice(_LENGTH // 1000, k, replace=False)) * 1000
        start += rng.integers(0, 200, k)
        end = start + rng.integers(300, 700, k)
        regions.append(pd.DataFrame({"chrom": chrom, "start": start, "end": end}))
        row = rng.integers(0, k, n)
        at = start[row] + rng.integers(-80, 500, n)
        at = np.where(rng.random(n) < _SHARE_IN_PEAKS, at, rng.integers(0, _LENGTH - 1000, n))
        at = np.maximum(np.sort(at), 0)
        table = {"chrom": chrom, "start": at, "end": at + rng.integers(40, 500, n)}
        table |= {"cell": np.array(barcodes)[rng.integers(0, n_cells, n)]}
        tables.append(pd.DataFrame(table | {"count": rng.integers(1, 5, n)}))
    options = {"sep": "\t", "header": False, "index": False}
    pd.concat(regions).to_csv(f"{folder}/universe.bed", **options)
    fragments = pd.concat(tables)
    fragments = fragments.drop_duplicates(["chrom", "start", "end", "cell"])
    fragments.to_csv(f"{folder}/fragments.tsv", **options)
    pack(Path(folder) / "fragments.tsv")
    return {"n_fragments": len(fragments)}


def pack(path: Path) -> None:
    """Put a gzip file, with its ending added, in the place of a file."""
    with open(path, "rb") as plain:
        with gzip.open(f"{path}.gz", "wb", compresslevel=6) as packed:
            shutil.copyfileobj(plain, packed, 2**20)
    path.unlink()


def warm_up(folder: str) -> None:
    """Compile, or load compiled code, on a few lines."""
    from atacvi.data import tokenize_fragments

    path = Path(folder) / "warm.tsv"
    path.write_text("chr1\t1\t9\tA\t1\n")
    tokenize_fragments(path, ["chr1:0-5"], min_share=0)


def fragments(folder: str, method: str, file: str = "fragments.tsv.gz") -> dict[str, Any]:
    """Tokenize the file with one method, the universe's reading included."""
    path, bed = f"{folder}/{file}", f"{folder}/universe.bed"
    if method == "atacvi":
        from atacvi.data import tokenize_fragments

        warm_up(folder)
        with harness.stopwatch() as watch:
            cells = tokenize_fragments(path, bed, progress=False)
        nnz = cells.obsm["X_tokens"].nnz
    elif method == "gtars":
        from gtars.tokenizers import Tokenizer, tokenize_fragment_file

        with harness.stopwatch() as watch:
            tokenizer = Tokenizer.from_bed(bed)
            lists = tokenize_fragment_file(path, tokenizer)
        unknown = tokenizer.unk_token_id
        nnz = sum(len(set(tokens) - {unknown}) for tokens in lists.values())
    else:
        import snapatac2 as snap

        regions = pd.read_csv(bed, sep="\t", header=None, names=["chrom", "start", "end"])
        names = [f"{c}:{s}-{e}" for c, s, e in regions.itertuples(index=False)]
        with tempfile.TemporaryDirectory() as scratch:
            with harness.stopwatch() as watch:
                data = snap.pp.import_fragments(
                    Path(path),
                    dict.fromkeys(_CHROMS, _LENGTH + 1000),
                    file=Path(scratch) / "cells.h5ad",
                    sorted_by_barcode=False,
                    min_num_fragments=0,
                    tempdir=Path(scratch),
                )
                peaks = snap.pp.make_peak_matrix(data, use_rep=names, counting_strategy="fragment")
            nnz = int(peaks.X.nnz)
            data.close()
    return {**watch.result(), "nnz": int(nnz)}


def peaks(n_cells: int, n_open: int, n_peaks: int, n_regions: int, seed: int) -> dict[str, Any]:
    """Tokenize an AnnData whose peaks are another set than the universe."""
    import anndata
    import scipy.sparse as sp

    from atacvi.data import tokenize_anndata
    from atacvi.regions import Universe

    rng = np.random.default_rng(seed)
    start = np.arange(n_regions) * 1000 + rng.integers(0, 200, n_regions)
    chrom = np.array(_CHROMS, dtype=object)[np.arange(n_regions) * len(_CHROMS) // n_regions]
    universe = Universe(pd.DataFrame({"chrom": chrom, "start": start, "end": start + 500}))
    picked = np.sort(rng.choice(n_regions, n_peaks, replace=False))
    var = universe.regions.iloc[picked].copy()
    var["start"] += 37
    var.index = var.index.astype(str)
    # runs of peaks from a random place on: as sparse and as ordered as a draw, and quick to make
    step = n_peaks // n_open
    columns = rng.integers(0, step, (n_cells, n_open)) + np.arange(n_open) * step
    values = np.ones(n_cells * n_open, dtype=np.float32)
    indptr = np.arange(n_cells + 1) * n_open
    matrix = sp.csr_matrix((values, columns.ravel().astype(np.int32), indptr), (n_cells, n_peaks))
    adata = anndata.AnnData(matrix, var=var)
    # The first run compiles and pays for memory that the machine has not handed out before, which
    # on a virtual one takes longer than the work.
    nnz = tokenize_anndata(adata, universe).obsm["X_tokens"].nnz
    with harness.stopwatch() as watch:
        cells = tokenize_anndata(adata, universe)
    assert cells.obsm["X_tokens"].nnz == nnz
    return {**watch.result(), "nnz": int(cells.obsm["X_tokens"].nnz)}


def repeat(folder: str, times: int) -> dict[str, Any]:
    """Write a file that holds the fragments several times (gzip members follow each other)."""
    data = Path(f"{folder}/fragments.tsv.gz").read_bytes()
    path = Path(f"{folder}/fragments_{times}.tsv.gz")
    with path.open("wb") as file:
        for _ in range(times):
            file.write(data)
    return {"file": path.name, "size_mb": path.stat().st_size / 2**20}


def compare(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean of the runs, rates, and ours over each."""
    table = pd.DataFrame(rows)
    summary = harness.summarise(table, ["task", "method"])
    best = table.groupby(["task", "method"])[["seconds", "cpu_seconds"]].min()
    for column, name in (("seconds", "rate"), ("cpu_seconds", "cpu_rate")):
        keys = list(zip(summary["task"], summary["method"], strict=True))
        summary[name] = [
            n / best.loc[key, column] for n, key in zip(summary["n"], keys, strict=True)
        ]
        ours = summary.loc[summary["method"] == "atacvi"].set_index("task")[name]
        label = "ours_faster" if name == "rate" else "ours_faster_cpu"
        summary[label] = [
            ours.get(t, np.nan) / r for t, r in zip(summary["task"], summary[name], strict=True)
        ]
    return summary


def run_fragments(folder: str, arguments: argparse.Namespace, run: Callable[..., None]) -> int:
    """Simulate once, run each method by turns, then ours on the grown file; returns fragments."""
    size = {
        "n_fragments": arguments.n_fragments,
        "n_cells": arguments.n_cells,
        "n_regions": arguments.n_regions,
    }
    made = harness.run_isolated(
        "tokenization.py:simulate", {"folder": folder, "seed": arguments.seed, **size}
    )
    if "error" in made:
        raise SystemExit(made["error"])
    n = made["n_fragments"]
    harness.say(f"simulated {n} fragments")
    for _ in range(arguments.repeats):
        for method in arguments.methods:
            run("fragments", method, "fragments", {"folder": folder, "method": method}, n)
    grown = repeat(folder, arguments.times)
    job = {"folder": folder, "method": "atacvi", "file": grown["file"]}
    run(f"fragments x {arguments.times}", "atacvi", "fragments", job, n * arguments.times)
    return n


def main() -> None:
    """Simulate once, then run each method by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-fragments", type=int, default=5_000_000)
    parser.add_argument("--n-cells", type=int, default=3000)
    parser.add_argument("--n-regions", type=int, default=200_000)
    parser.add_argument("--n-peak-cells", type=int, default=20_000)
    parser.add_argument("--n-open", type=int, default=4000)
    parser.add_argument("--n-peaks", type=int, default=150_000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--times", type=int, default=10, help="growth of the file for the memory")
    parser.add_argument("--seed", type=int, default=0)
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []

    def run(task: str, method: str, target: str, job: dict[str, Any], n: int) -> None:
        found = harness.run_isolated(
            f"tokenization.py:{target}", job, arguments.threads, arguments.timeout
        )
        rows.append({"task": task, "method": method, "n": n, **found})
        harness.say(f"{task}, {method}: {found.get('seconds', found.get('error'))} s")

    n = 0
    with tempfile.TemporaryDirectory(dir=arguments.out.resolve()) as folder:
        if "fragments" in arguments.tasks:
            n = run_fragments(folder, arguments, run)
    job = {
        "n_cells": arguments.n_peak_cells,
        "n_open": arguments.n_open,
        "n_peaks": arguments.n_peaks,
        "n_regions": arguments.n_regions,
        "seed": arguments.seed,
    }
    for _ in range(arguments.repeats if "peaks" in arguments.tasks else 0):
        run("peaks", "atacvi", "peaks", job, arguments.n_peak_cells)
    pd.DataFrame(rows).to_csv(arguments.out / "tokenization_runs.csv", index=False)
    summary = compare(rows)
    found = {row["nnz"] for row in rows if row["task"].startswith("fragments") and "nnz" in row}
    notes = (
        f"{n} fragments, {arguments.n_cells} cells, {arguments.n_regions} regions, gzip; "
        f"{arguments.n_peak_cells} cells x {arguments.n_open} open of {arguments.n_peaks} peaks. "
        "rate: fragments or cells a second, of the best run; cpu_rate: of processor time. "
        f"Non-zeros of all methods {'agree' if len(found) < 2 else f'differ: {sorted(found)}'}."
    )
    harness.write_table(summary, arguments.out, "tokenization", notes)
    summary["name"] = summary["task"] + ", " + summary["method"]
    harness.write_figure(
        summary, ["seconds", "peak_mb"], arguments.out, "tokenization", "Tokenizing", "name"
    )
    if len(found) > 1:
        raise SystemExit("the methods do not agree")


if __name__ == "__main__":
    main()
