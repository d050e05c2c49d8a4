"""From a fragment file to the embedding of its cells: ours and SnapATAC2 on one simulated file.

    python benchmarks/end_to_end.py --threads 1 --out results/end_to_end

Cells have depths as in 10x data (log-normal) and types with regions of their own; half of the
fragments lie in regions. Each method runs in its own process, from the gzip file to the embedding:

- ``atacvi-checkpoint``: tokens, and the encoder of a checkpoint, which was trained a little before;
- ``atacvi-start``: tokens, and a new model with its spectral start on these cells;
- ``snapatac2-tiles``: import, 500 bp tiles, selection of features, spectral embedding;
- ``snapatac2-peaks``: import, counts in the same regions, spectral embedding.

SnapATAC2 also sorts the fragments by cell and writes them to disk. The accuracy of nearest neighbours
against the simulated types shows that all found the cells' structure.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd
from tokenization import pack, warm_up

METHODS = ("atacvi-checkpoint", "atacvi-start", "snapatac2-tiles", "snapatac2-peaks")
N_TYPES, N_COMPONENTS = 8, 30
_CHROMS = [*[f"chr{i}" for i in range(1, 23)], "chrX"]
_LENGTH = 120_000_000
_IN_REGIONS = 0.5
_OWN = 8.0  # how much more open the regions of its own type are in a cell
_SHARE_OWN = 0.05
_N_FEATURES = 250_000


def simulate(folder: str, n_fragments: int, n_cells: int, n_regions: int, seed: int) -> dict:
    """Write universe, sorted fragments and the types of the cells."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ACGT"))
    barcodes = np.array(["".join(row) + "-1" for row in letters[rng.integers(0, 4, (n_cells, 16))]])
    kind = rng.integers(0, N_TYPES, n_cells)
    depth = rng.lognormal(0, 0.5, n_cells)
    cell = rng.choice(n_cells, n_fragments, p=depth / depth.sum())
    per_chrom = n_regions // len(_CHROMS)
    total = per_chrom * len(_CHROMS)
    starts = np.concatenate(
        [np.sort(rng.choice(_LENGTH // 1000, per_chrom, replace=False)) * 1000 for _ in _CHROMS]
    )
    starts = starts + rng.integers(0, 200, total)
    ends = starts + rng.integers(300, 700, total)
    common = rng.lognormal(0, 1.0, total)
    region = np.empty(n_fragments, dtype=np.int64)
    for k in range(N_TYPES):
        weight = common * np.where(rng.random(total) < _SHARE_OWN, _OWN, 1.0)
        here = np.flatnonzero(kind[cell] == k)
        region[here] = rng.choice(total, len(here), p=weight / weight.sum())
    inside = rng.random(n_fragments) < _IN_REGIONS
    at = starts[region] + rng.integers(-80, 400, n_fragments)
    at = np.where(inside, at, rng.integers(0, _LENGTH - 1000, n_fragments)).clip(min=0)
    chrom = np.where(inside, region // per_chrom, rng.integers(0, len(_CHROMS), n_fragments))
    table = pd.DataFrame(
        {
            "chrom": np.array(_CHROMS)[chrom],
            "start": at,
            "end": at + rng.integers(40, 500, n_fragments),
            "cell": barcodes[cell],
            "count": rng.integers(1, 5, n_fragments),
            "order": chrom,
        }
    )
    table = table.sort_values(["order", "start"]).drop(columns="order")
    table = table.drop_duplicates(["chrom", "start", "end", "cell"])
    options: dict[str, Any] = {"sep": "\t", "header": False, "index": False}
    names = np.repeat(_CHROMS, per_chrom)
    regions = pd.DataFrame({"chrom": names, "start": starts, "end": ends})
    regions.to_csv(f"{folder}/universe.bed", **options)
    pd.DataFrame({"cell": barcodes, "type": kind}).to_csv(f"{folder}/types.csv", index=False)
    table.to_csv(f"{folder}/fragments.tsv", **options)
    pack(Path(folder) / "fragments.tsv")
    return {"n_fragments": len(table)}


def pretrained(cells: Any, max_epochs: int) -> Any:
    """Return a model pretrained on the cells; with no epochs it keeps its spectral start."""
    from atacvi.models import AtacformerModel

    AtacformerModel.setup_anndata(cells)
    model = AtacformerModel(cells)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    model.pretrain(max_epochs, early_stopping=False, limit_train_batches=4, **quiet)
    return model


def make_checkpoint(folder: str) -> dict[str, Any]:
    """Write the checkpoint that is used later: what it costs is no part of its use."""
    from atacvi.data import tokenize_fragments

    cells = tokenize_fragments(
        f"{folder}/fragments.tsv.gz", f"{folder}/universe.bed", progress=False
    )
    pretrained(cells, 1).save_pretrained(f"{folder}/checkpoint")
    return {}


def atacvi_embedding(folder: str, method: str) -> tuple[Any, np.ndarray, dict[str, float]]:
    """Tokenize and embed; returns barcodes, embedding and times."""
    import scvi

    from atacvi.data import tokenize_fragments
    from atacvi.models import AtacformerModel

    scvi.settings.seed = 0
    warm_up(folder)
    with harness.stopwatch() as watch:
        path = f"{folder}/fragments.tsv.gz"
        if method == "atacvi-checkpoint":
            model = AtacformerModel.from_pretrained(f"{folder}/checkpoint")
            cells = tokenize_fragments(path, model.universe, progress=False)
            embedding = model.get_latent_representation(cells, normalize=True)
        else:
            cells = tokenize_fragments(path, f"{folder}/universe.bed", progress=False)
            embedding = pretrained(cells, 0).get_latent_representation()
    return cells.obs_names, embedding, watch.result()


def snapatac2_embedding(folder: str, method: str) -> tuple[Any, np.ndarray, dict[str, float]]:
    """Import, count and embed; returns barcodes, embedding and times."""
    import snapatac2 as snap

    regions = pd.read_csv(
        f"{folder}/universe.bed", sep="\t", header=None, names=["chrom", "start", "end"]
    )
    names = [f"{c}:{s}-{e}" for c, s, e in regions.itertuples(index=False)]
    with tempfile.TemporaryDirectory() as scratch:
        with harness.stopwatch() as watch:
            data = snap.pp.import_fragments(
                Path(f"{folder}/fragments.tsv.gz"),
                dict.fromkeys(_CHROMS, _LENGTH + 1000),
                file=Path(scratch) / "cells.h5ad",
                sorted_by_barcode=False,
                min_num_fragments=0,
                tempdir=Path(scratch),
            )
            if method == "snapatac2-tiles":
                snap.pp.add_tile_matrix(data)
                snap.pp.select_features(data, n_features=_N_FEATURES)
                _, vectors = snap.tl.spectral(data, n_comps=N_COMPONENTS, inplace=False)
            else:
                peaks = snap.pp.make_peak_matrix(data, use_rep=names, counting_strategy="fragment")
                _, vectors = snap.tl.spectral(
                    peaks, n_comps=N_COMPONENTS, features=None, inplace=False
                )
            embedding = np.asarray(vectors)
        barcodes = pd.Index(list(data.obs_names))
        data.close()
    return barcodes, embedding, watch.result()


def run(folder: str, method: str) -> dict[str, Any]:
    """Time one method and score what it found (runs in a process of its own)."""
    from atacvi.metrics import knn_accuracy

    embed = atacvi_embedding if method.startswith("atacvi") else snapatac2_embedding
    barcodes, embedding, times = embed(folder, method)
    types = pd.read_csv(f"{folder}/types.csv", index_col=0)["type"]
    labels = types.loc[list(barcodes)].to_numpy().astype(str)
    return {"knn_accuracy": float(knn_accuracy(embedding, labels)), **times}


def main() -> None:
    """Simulate once, then run each method by turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-fragments", type=int, default=5_000_000)
    parser.add_argument("--n-cells", type=int, default=3000)
    parser.add_argument("--n-regions", type=int, default=200_000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=arguments.out.resolve()) as folder:
        size = {
            "n_fragments": arguments.n_fragments,
            "n_cells": arguments.n_cells,
            "n_regions": arguments.n_regions,
        }
        made = harness.run_isolated(
            "end_to_end.py:simulate", {"folder": folder, "seed": arguments.seed, **size}
        )
        if "error" in made:
            raise SystemExit(made["error"])
        harness.say(f"simulated {made['n_fragments']} fragments")
        if "atacvi-checkpoint" in arguments.methods:
            harness.run_isolated("end_to_end.py:make_checkpoint", {"folder": folder})
        for _ in range(arguments.repeats):
            for method in arguments.methods:
                job = {"folder": folder, "method": method}
                log = arguments.out / "logs" / f"{method}.log"
                found = harness.run_isolated(
                    "end_to_end.py:run", job, arguments.threads, arguments.timeout, log
                )
                rows.append({"method": method, **found})
                harness.say(f"{rows[-1]}")
    runs = pd.DataFrame(rows)
    runs.to_csv(arguments.out / "end_to_end_runs.csv", index=False)
    summary = harness.summarise(runs, ["method"])
    best = runs.groupby("method")[["seconds", "cpu_seconds"]].min()
    for column in best:
        slowest = best.loc[[m for m in best.index if m.startswith("snap")], column]
        if len(slowest):
            share = best[column] / slowest.min()
            summary[f"share_of_{column}"] = share.loc[summary["method"]].to_numpy()
    notes = (
        f"{made['n_fragments']} fragments of {arguments.n_cells} cells, {arguments.n_regions} "
        "regions, gzip. share_of: of the best time of SnapATAC2's faster way."
    )
    harness.write_table(summary, arguments.out, "end_to_end", notes)
    harness.write_figure(
        summary, ("seconds", "cpu_seconds", "peak_mb"), arguments.out, "end_to_end", "End to end"
    )


if __name__ == "__main__":
    main()
