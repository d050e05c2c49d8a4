"""Candidate promoters: planted ones, and real ones whose annotation is hidden on a chromosome.

    python benchmarks/promoters.py --folder bed --labels bed/bed_labels.tsv \
        --tss annotation/RefSeqTSS.hg19.bed.gz --cells GM12878 --hide chr1 --out results/promoters

AtacformerModel is pretrained without labels on random parts of the BED files of the chosen cells. TSS
on the hidden chromosome are taken out of the annotation; of the candidates there (at least 10 kb from
any TSS that is left, but those of the hidden chromosome count as unknown), the best ranked are compared
with candidates matched on frequency and width: how many lie within 1 kb of a hidden TSS.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import _harness as harness
import bulk
import numpy as np
import pandas as pd

NEAR = 1000


def run(
    folder: str,
    labels: str,
    tss: str,
    cells: list[str],
    hide: str,
    top: float,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Rank candidates on the hidden chromosome (runs in a process of its own)."""
    import scvi
    from sklearn.metrics import roc_auc_score

    from atacvi.metrics import matched_enrichment, matched_regions
    from atacvi.models import AtacformerModel
    from atacvi.regions import nearest, parse_regions, read_bed

    table = bulk.read_labels(Path(labels), "hg19", Path(folder))
    table = table[table["cell_type"].isin(cells)]
    files = bulk.tokenize(table, 2)
    sites = read_bed(tss)[["chrom", "start", "end"]]
    hidden, known = sites[sites["chrom"] == hide], sites[sites["chrom"] != hide]
    # one site at the far end stands for the annotation of the hidden chromosome, so that distances
    # exist there and every region of it is a candidate
    far = pd.DataFrame({"chrom": [hide], "start": [400_000_000], "end": [400_000_001]})
    scvi.settings.seed = seed
    rows = []
    with harness.stopwatch() as watch:
        parts = bulk.parts_of(files, seed)
        AtacformerModel.setup_anndata(parts)
        model = AtacformerModel(parts)
        model.pretrain(epochs, replaced_share=0.25, accelerator="cpu", enable_progress_bar=False)
        for score in ("centroid", "classifier"):
            for mode in ("static", "contextual"):
                found = model.find_promoters(
                    pd.concat([known, far]), score=score, mode=mode, min_cells=3, seed=seed
                )
                found = found[found["chrom"] == hide].sort_values("score", ascending=False)
                regions = parse_regions(found)
                distance = nearest(regions, hidden)[1]
                truth = (distance >= 0) & (distance <= NEAR)
                width = (found["end"] - found["start"]).to_numpy(dtype=float)
                covariates = np.column_stack([found["frequency"], width])
                chosen = np.arange(max(10, round(top * len(found))))
                matches = matched_regions(covariates, chosen, np.arange(len(found)), 200)
                enrichment = matched_enrichment(truth, chosen, matches, random_state=seed)
                rows.append(
                    {
                        "method": f"{score}-{mode}",
                        "candidates": len(found),
                        "chosen": len(chosen),
                        "auroc": float(roc_auc_score(truth, found["score"])),
                        "auroc_frequency": float(roc_auc_score(truth, found["frequency"])),
                        **enrichment._asdict(),
                    }
                )
    return {"rows": rows, **watch.result()}


def planted(seed: int) -> dict[str, Any]:
    """Find planted promoters (runs in a process of its own)."""
    import anndata
    import scipy.sparse as sp
    import scvi
    from sklearn.metrics import roc_auc_score

    from atacvi.models import AtacformerModel

    rng = np.random.default_rng(seed)
    n_cells, n_regions, n_modules = 600, 600, 6
    own = np.arange(n_regions) % n_modules == rng.integers(0, n_modules, n_cells)[:, None]
    frequency = np.clip(rng.lognormal(-0.2, 0.4, n_regions), 0.2, 2.0)
    is_open = rng.random((n_cells, n_regions)) < np.clip(frequency * np.where(own, 0.3, 0.04), 0, 1)
    start = np.arange(n_regions) * 60_000
    var = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})
    var.index = [f"chr1:{s}-{s + 500}" for s in start]
    data = anndata.AnnData(sp.csr_matrix(is_open, dtype=np.float32), var=var)
    truth = np.arange(n_regions) % n_modules == 0
    known = np.flatnonzero(truth)[::2]
    tss = pd.DataFrame({"chrom": "chr1", "start": start[known], "end": start[known] + 1})
    scvi.settings.seed = seed
    rows = []
    with harness.stopwatch() as watch:
        AtacformerModel.setup_anndata(data)
        model = AtacformerModel(data)
        model.pretrain(5, accelerator="cpu", enable_progress_bar=False)
        place = pd.Series(np.arange(n_regions), index=model.universe.names)
        for score in ("centroid", "classifier"):
            for mode in ("static", "contextual"):
                found = model.find_promoters(tss, score=score, mode=mode)
                right = truth[place.loc[found.index].to_numpy()]
                rows.append(
                    {
                        "method": f"planted-{score}-{mode}",
                        "candidates": len(found),
                        "auroc": float(roc_auc_score(right, found["score"])),
                        "auroc_pvalue": float(roc_auc_score(right, -found["pvalue"])),
                        "auroc_frequency": float(roc_auc_score(right, found["frequency"])),
                    }
                )
    return {"rows": rows, **watch.result()}


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=harness.data_file, help="folder of the BED files")
    parser.add_argument("--labels", type=harness.data_file, help="table: file, cell_type, assay")
    parser.add_argument("--tss", type=Path, help="BED file of transcription start sites")
    parser.add_argument("--cells", nargs="+", default=["GM12878"], help="cell types to take")
    parser.add_argument("--hide", nargs="+", default=["chr1"], help="chromosomes to hide")
    parser.add_argument("--top", type=float, default=0.02, help="share of the candidates chosen")
    parser.add_argument("--epochs", type=int, default=1, help="0 keeps the spectral start")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    jobs: list[tuple[str, dict[str, Any]]] = [("planted", {"seed": s}) for s in arguments.seeds]
    if arguments.folder is not None:
        shared = {
            "folder": str(arguments.folder.resolve()),
            "labels": str(arguments.labels.resolve()),
            "tss": str(arguments.tss.resolve()),
            "cells": arguments.cells,
            "top": arguments.top,
            "epochs": arguments.epochs,
        }
        jobs += [
            ("run", {**shared, "hide": hide, "seed": seed})
            for hide in arguments.hide
            for seed in arguments.seeds
        ]
    rows: list[dict[str, Any]] = []
    for name, job in jobs:
        part = job.get("hide", "planted")
        log = arguments.out / "logs" / f"{name}_{part}_seed{job['seed']}.log"
        found = harness.run_isolated(
            f"promoters.py:{name}", job, arguments.threads, arguments.timeout, log
        )
        parts = found.pop("rows", [{"method": name}])
        rows += [{**row, "hidden": part, "seed": job["seed"], **found} for row in parts]
        harness.say(str(rows[-len(parts) :]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = pd.DataFrame(rows)
    runs.to_csv(arguments.out / "promoters_runs.csv", index=False)
    summary = harness.summarise(runs, ["method", "hidden"])
    notes = (
        f"Best {arguments.top:.0%} of the candidates; hits lie within {NEAR} bp of a hidden TSS."
    )
    harness.write_table(summary, arguments.out, "promoters", notes)
    columns = ("auroc", "auroc_frequency", "ratio")
    harness.write_figure(summary, columns, arguments.out, "promoters", "Candidate promoters")


if __name__ == "__main__":
    main()
