"""Does a joint latent beat either modality alone where each knows types that the other does not?

    python benchmarks/simulated.py --methods multi_spectral concat rna_pca lsi --seeds 0 1 2 \
        --out results/simulated

Data: ``atacvi.datasets.simulate_multiome`` with splits of the tree of types hidden from the RNA
and others from the ATAC, at three levels of noise (share of each profile that is ambient). One
MultiView model a run gives three latents: joint, RNA alone, ATAC alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import _harness as harness
import _peers as peers
import embedding
import numpy as np
import pandas as pd

VIEWS = {"multiview": "joint", "multiview_rna": "rna", "multiview_atac": "atac"}


def simulate(path: str, noise: float, seed: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """Simulate and write one data set (runs in a process of its own)."""
    from atacvi.datasets import simulate_multiome

    with harness.stopwatch() as watch:
        mdata = simulate_multiome(**sizes, rna_noise=noise, atac_noise=noise, random_state=seed)
    mdata.write_h5mu(path)
    return watch.result()


def embed_views(data: str, seed: int, out: dict[str, str], options: dict) -> dict[str, Any]:
    """Train MultiView once and save its three latents (runs in a process of its own)."""
    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS["multiview"].imports)
    with harness.stopwatch() as watch:
        model = peers.multiview_model(mdata, seed, options)
        latents = {m: model.get_latent_representation(modality=v) for m, v in VIEWS.items()}
    for method, path in out.items():
        np.save(path, latents[method])
    return {"dimensions": int(latents["multiview"].shape[1]), **watch.result()}


def run_views(arguments: argparse.Namespace, data: Path, seed: int) -> list[dict[str, Any]]:
    """Run MultiView and score its three latents."""
    labels = embedding.read_labels(str(data), "cell_type")
    paths = {m: data.with_name(f"{data.stem}_{m}.npy") for m in VIEWS}
    job = {
        "data": str(data),
        "seed": seed,
        "out": {m: str(path) for m, path in paths.items()},
        "options": arguments.options,
    }
    log = arguments.out / "logs" / f"{data.stem}_multiview.log"
    found = harness.run_isolated(
        "simulated.py:embed_views", job, arguments.threads, arguments.timeout, log
    )
    if "error" in found:
        return [{"method": "multiview", **found}]
    return [{"method": m, **found, **embedding.score(p, labels)} for m, p in paths.items()]


def run_peer(arguments: argparse.Namespace, data: Path, method: str, seed: int) -> dict[str, Any]:
    """Run and score one peer."""
    labels = embedding.read_labels(str(data), "cell_type")
    path = data.with_name(f"{data.stem}_{method}.npy")
    job = {
        "data": str(data),
        "method": method,
        "seed": seed,
        "out": str(path),
        "options": arguments.options,
    }
    log = arguments.out / "logs" / f"{data.stem}_{method}.log"
    found = harness.run_isolated(
        "embedding.py:embed", job, arguments.threads, arguments.timeout, log
    )
    if "error" in found:
        return {"method": method, **found}
    return {"method": method, **found, **embedding.score(path, labels)}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ["multi_spectral", "concat", "rna_pca", "lsi", "spectral_rna", "spectral_atac"]
    # MultiViewModel runs anyway, once for its three latents.
    others = sorted(set(peers.PEERS) - {"multiview"})
    parser.add_argument("--methods", nargs="*", default=default, choices=others)
    parser.add_argument("--no-multiview", action="store_true", help="run the peers alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.2, 0.4, 0.6])
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--peaks", type=int, default=10000)
    parser.add_argument("--types", type=int, default=10)
    parser.add_argument("--rna-hidden", type=int, default=3, help="splits that RNA does not show")
    parser.add_argument("--atac-hidden", type=int, default=2, help="splits not seen in the ATAC")
    parser.add_argument("--effect-size", type=float, default=1.0)
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.options = {
        "multivi_epochs": arguments.multivi_epochs,
        **arguments.multiview_options,
    }
    arguments.out = arguments.out.resolve()
    return arguments


def main() -> None:
    """Run all noise levels, seeds and methods."""
    arguments = parse()
    (arguments.out / "data").mkdir(parents=True, exist_ok=True)
    sizes = {
        "n_cells": arguments.cells,
        "n_genes": arguments.genes,
        "n_peaks": arguments.peaks,
        "n_cell_types": arguments.types,
        "rna_hidden_types": arguments.rna_hidden,
        "atac_hidden_types": arguments.atac_hidden,
        "effect_size": arguments.effect_size,
        "trajectory": False,
    }
    rows = []
    for noise in arguments.noise:
        for seed in arguments.seeds:
            data = arguments.out / "data" / f"noise{noise}_seed{seed}.h5mu"
            job = {"path": str(data), "noise": noise, "seed": seed, "sizes": sizes}
            made = harness.run_isolated("simulated.py:simulate", job, arguments.threads)
            if "error" in made:
                rows.append({"noise": noise, "seed": seed, "method": "simulation", **made})
                continue
            found = [] if arguments.no_multiview else run_views(arguments, data, seed)
            found += [run_peer(arguments, data, m, seed) for m in arguments.methods]
            rows += [{"noise": noise, "seed": seed, **row} for row in found]
            for row in found:
                harness.say(f"noise {noise}, seed {seed}: {row}")
    report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write runs, summary and figure."""
    table = pd.DataFrame(rows)
    for column in ("error", *embedding.SCORES):
        if column not in table:
            table[column] = None if column == "error" else np.nan
    table.to_csv(arguments.out / "simulated_runs.csv", index=False)
    summary = harness.summarise(table, ["noise", "method"])
    shown = ["noise", "method", "runs", *embedding.SCORES, "leiden_ari_sd", "error"]
    notes = (
        f"{arguments.cells} cells x ({arguments.genes} genes + {arguments.peaks} peaks), "
        f"{arguments.types} types, {arguments.rna_hidden} splits hidden from the RNA and "
        f"{arguments.atac_hidden} from the ATAC, effect size {arguments.effect_size}; means "
        f"over seeds {arguments.seeds}."
    )
    view = summary[[c for c in shown if c in summary]]
    harness.write_table(view, arguments.out, "simulated", notes)
    labelled = summary.assign(
        run=[f"{m} ({n})" for m, n in zip(summary.method, summary.noise, strict=True)]
    )
    columns = ("leiden_ari", "leiden_nmi", "best_ari", "knn_accuracy")
    title = "Simulated data, share of noise in brackets"
    harness.write_figure(labelled, columns, arguments.out, "simulated", title, label="run")


if __name__ == "__main__":
    main()
