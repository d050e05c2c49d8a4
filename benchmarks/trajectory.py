"""Is the order of time points recovered along pseudotime? RNA alone, ATAC alone, and jointly.

    python benchmarks/trajectory.py --data scicar_a549.h5mu --seeds 0 1 2 \
        --methods rna_pca lsi concat multiview --out results/trajectory

Each latent gets a diffusion pseudotime (scanpy) from a root among the cells of the first time
point; Spearman's and Kendall's correlation with the known time. One MultiView model a seed gives
three latents: joint, RNA alone, ATAC alone. Time points were treated apart, so that effects of the
plate would help too: compare methods, not absolute values.
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
SCORES = ("spearman", "kendall", "unreached", "seconds")


def embed_views(data: str, seed: int, out: dict[str, str], options: dict) -> dict[str, Any]:
    """Train MultiView once and save its three latents (runs in a process of its own)."""
    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS["multiview"].imports)
    with harness.stopwatch() as watch:
        model = peers.multiview_model(mdata, seed, options)
        latents = {m: model.get_latent_representation(modality=v) for m, v in VIEWS.items()}
    for method, path in out.items():
        np.save(path, latents[method])
    return watch.result()


def order(path: Path, labels: np.ndarray, times: list[str], n_neighbors: int) -> dict[str, Any]:
    """Order the cells of a saved latent and compare with the known time."""
    import anndata as ad

    from atacvi.tl import trajectory

    latent = np.load(path)
    kept = np.isin(labels, times)
    adata = ad.AnnData(np.zeros((int(kept.sum()), 1), dtype=np.float32))
    adata.obs["time"] = pd.Categorical(labels[kept], categories=times, ordered=True)
    adata.obsm["X_latent"] = latent[kept]
    try:
        found = trajectory(
            adata,
            "X_latent",
            root_group=("time", times[0]),
            known_time="time",
            n_neighbors=n_neighbors,
        )
    except ValueError as error:
        return {"error": f"ordering: {error}"}
    return {
        "spearman": found["spearman"],
        "kendall": found["kendall"],
        "unreached": int(found["n_unreached"]),
    }


def run(
    arguments: argparse.Namespace, labels: np.ndarray, method: str, seed: int
) -> list[dict[str, Any]]:
    """Embed with one method and seed, and order its latents."""
    names = list(VIEWS) if method == "multiview" else [method]
    paths = {m: arguments.out / f"{m}_seed{seed}.npy" for m in names}
    job: dict[str, Any] = {
        "data": str(arguments.data.resolve()),
        "seed": seed,
        "options": arguments.options,
    }
    if method == "multiview":
        job["out"] = {m: str(path) for m, path in paths.items()}
        target = "trajectory.py:embed_views"
    else:
        job |= {"method": method, "out": str(paths[method])}
        target = "embedding.py:embed"
    log = arguments.out / "logs" / f"{method}_seed{seed}.log"
    found = harness.run_isolated(target, job, arguments.threads, arguments.timeout, log)
    head = {"seed": seed, **found}
    if "error" in found:
        return [{"method": method, **head}]
    return [
        {"method": m, **head, **order(path, labels, arguments.times, arguments.neighbors)}
        for m, path in paths.items()
    ]


def main() -> None:
    """Run every method with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=harness.data_file, required=True, help=".h5mu with rna and atac"
    )
    default = ["rna_pca", "lsi", "concat", "multiview"]
    parser.add_argument("--methods", nargs="+", default=default, choices=sorted(peers.PEERS))
    parser.add_argument("--time-key", default="cell_type")
    parser.add_argument("--times", nargs="+", default=["0h", "1h", "3h"], help="in order")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--neighbors", type=int, default=15)
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    arguments.options = {"multivi_epochs": arguments.multivi_epochs, **arguments.multiview_options}
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    labels = embedding.read_labels(str(arguments.data), arguments.time_key)
    rows: list[dict[str, Any]] = []
    for method in arguments.methods:
        for seed in arguments.seeds if peers.PEERS[method].seeded else arguments.seeds[:1]:
            rows += run(arguments, labels, method, seed)
            harness.say(str(rows[-1]))
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "trajectory_runs.csv", index=False)
    summary = harness.summarise(table, ["method"])
    shown = ["method", "runs", *SCORES, "spearman_sd", "error"]
    notes = f"Data: {arguments.data.name}; order of {' < '.join(arguments.times)}."
    view = summary[[c for c in shown if c in summary]]
    harness.write_table(view, arguments.out, "trajectory", notes)
    title = f"{arguments.data.stem}: pseudotime against time"
    harness.write_figure(summary, SCORES[:2], arguments.out, "trajectory", title)


if __name__ == "__main__":
    main()
