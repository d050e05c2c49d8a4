"""Seconds an epoch, peak memory, and seconds to a converged embedding.

    python benchmarks/speed.py --methods multiview multivi peakvi --max-steps 20 --out results/speed
    python benchmarks/speed.py --methods peakvi atacdiff-autoencoder atacdiff-auxiliary \
        --max-steps 20 --generate 10000 --out results/speed_atacdiff
    python benchmarks/speed.py --converged snareseq_adult_mouse_cortex.h5mu --methods multiview \
        multivi --out results/converged

The data are simulated: 10,000 cells x (2,000 genes + 100,000 peaks), 2.6 % of the peaks open,
unless ``--data`` names a file. With ``--max-steps`` a fixed number of optimiser steps is timed
after some warm-up steps, and the epoch is extrapolated from their mean; the table says so. Without
it whole epochs are timed. Batch sizes are the methods' own unless ``--batch-size`` is given.

Converged: the latent is taken every few epochs while the clock stands still; an embedding has
converged at the first one whose 10-NN accuracy is within 0.01 of the best of the run.

``atacdiff-autoencoder`` and ``atacdiff-auxiliary`` are the stages of ATACDiffModel that read peaks;
its third learns from stored latents. ``of_peakvi`` is an epoch's share of PEAKVI's in seconds,
``cpu_of_peakvi`` in processor seconds (asked of either stage: at most 1/15).

``--generate N`` adds a table: ATACDiffModel is trained for a few batches a stage, which is enough
for its speed, and in a process of its own, without the data, draws N cells into a sparse AnnData.
``start_mb`` is the memory before that, with libraries and the model (asked for 10,000 cells x
100,000 peaks: under 60 s and 2 GB).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import _harness as harness
import _peers as peers
import numpy as np
import pandas as pd

CONVERGING = ("multiview", "multivi", "peakvi")
METHODS = (*CONVERGING, "atacdiff-autoencoder", "atacdiff-auxiliary")
_TOLERANCE = 0.01
_WARM_UP = 3
#: A model is loaded with a few cells, since the names of its features come with data
_CELLS_BESIDE_MODEL = 10


def simulate(path: str, cells: int, genes: int, peaks: int, density: float) -> dict[str, Any]:
    """Simulate and write the data (runs in a process of its own)."""
    from atacvi.datasets import simulate_multiome

    with harness.stopwatch() as watch:
        mdata = simulate_multiome(
            cells, genes, peaks, median_peaks_per_cell=density * peaks, random_state=0
        )
    mdata.write_h5mu(path)
    found = mdata["atac"].X.nnz / np.prod(mdata["atac"].shape)
    return {"density": float(found), **watch.result()}


def _build(method: str, mdata: Any, options: dict[str, Any]) -> Any:
    import scvi

    scvi.settings.seed = 0
    modalities = {"rna_layer": "rna", "atac_layer": "atac"}
    if method == "multiview":
        import atacvi

        atacvi.MultiViewModel.setup_mudata(mdata, modalities=modalities)
        return atacvi.MultiViewModel(mdata, **options.get("multiview_model", {}))
    if method == "multivi":
        scvi.model.MULTIVI.setup_mudata(mdata, modalities=modalities)
        return scvi.model.MULTIVI(mdata)
    adata = mdata["atac"].copy()
    if method.startswith("atacdiff"):
        import atacvi

        atacvi.ATACDiffModel.setup_anndata(adata)
        return atacvi.ATACDiffModel(adata, **options.get("atacdiff_model", {}))
    scvi.model.PEAKVI.setup_anndata(adata)
    return scvi.model.PEAKVI(adata)


def _step_timer() -> Any:
    from lightning.pytorch.callbacks import Callback

    class StepTimer(Callback):
        """Note the time of the first batch, the end of each and how many an epoch has."""

        def __init__(self) -> None:
            self.ends: list[float] = []
            self.cpu_ends: list[float] = []
            self.first: float | None = None
            self.batches = 0

        def on_train_batch_start(self, *_: Any) -> None:
            self.first = self.first or time.perf_counter()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.ends.append(time.perf_counter())
            self.cpu_ends.append(time.process_time())
            self.batches = int(trainer.num_training_batches)

        def state_dict(self) -> dict[str, Any]:
            return {}

    return StepTimer()


def _snapshots(model: Any, every: int) -> Any:
    from lightning.pytorch.callbacks import Callback

    class Snapshots(Callback):
        """Take the latent every few epochs; the time that this costs is not counted."""

        def __init__(self) -> None:
            self.taken: list[tuple[int, float, np.ndarray]] = []
            self.begin = time.perf_counter()
            self.paused = 0.0
            self.epoch = 0

        def take(self) -> None:
            now = time.perf_counter()
            trained = model.is_trained_
            model.is_trained_ = True
            model.module.eval()  # the getters rely on `train` having left it so
            latent = model.get_latent_representation()
            model.is_trained_ = trained
            model.module.train()
            self.taken.append((self.epoch, now - self.begin - self.paused, latent))
            self.paused += time.perf_counter() - now

        def on_train_epoch_end(self, *_: Any) -> None:
            self.epoch += 1
            if self.epoch % every == 0:
                self.take()

        def state_dict(self) -> dict[str, Any]:
            return {}

    return Snapshots()


def time_epoch(
    data: str, method: str, max_steps: int, epochs: int, batch_size: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Time training steps or whole epochs (runs in a process of its own)."""
    name, _, stage = method.partition("-")
    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS[name].imports)
    timer = _step_timer()
    keywords: dict[str, Any] = {"max_epochs": epochs, "callbacks": [timer]}
    keywords |= {"batch_size": batch_size} if batch_size else {}
    if max_steps:
        # MULTIVI steps two optimisers a batch, so batches, not optimiser steps, are limited.
        keywords |= {"max_epochs": 1, "limit_train_batches": _WARM_UP + max_steps}
    keywords |= {} if method == "multiview" else {"early_stopping": False}
    keywords |= {"stages": [stage]} if stage else {}
    keywords |= options.get(f"{name}_train", {})
    with harness.stopwatch() as watch:
        model = _build(method, mdata, options)
        begin = time.perf_counter()
        model.train(**keywords)
        training = time.perf_counter() - begin
    parameters = sum(p.numel() for p in model.module.parameters())
    result = {"million_parameters": parameters / 1e6, "timed_batches": len(timer.ends)}
    result["seconds_before"] = timer.first - begin
    timed = timer.ends[_WARM_UP:]
    per_batch = (timed[-1] - timed[0]) / (len(timed) - 1)
    cpu = timer.cpu_ends[_WARM_UP:]
    cpu_per_batch = (cpu[-1] - cpu[0]) / (len(cpu) - 1)
    if max_steps:
        size = batch_size or _own_batch_size(model)
        n_train = int(np.ceil(0.9 * mdata.n_obs))
        result["batches_an_epoch"] = int(np.ceil(n_train / size))
        result["seconds_an_epoch"] = per_batch * result["batches_an_epoch"]
        result["extrapolated"] = "yes"
    else:
        result["batches_an_epoch"] = timer.batches
        result["seconds_an_epoch"] = training / epochs
        result["extrapolated"] = "no"
    result["cpu_seconds_an_epoch"] = cpu_per_batch * result["batches_an_epoch"]
    return {**result, "seconds_a_batch": per_batch, **watch.result()}


def _own_batch_size(model: Any) -> int:
    loader = model.trainer.train_dataloader
    sampler = getattr(loader, "sampler", None)
    return int(getattr(sampler, "batch_size", None) or getattr(loader, "batch_size", None) or 128)


def converge(
    data: str, method: str, epochs: int, every: int, drop: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    """Train and find when the embedding stopped getting better (runs in its own process)."""
    import embedding as bench

    from atacvi.metrics import knn_accuracy, leiden_ari_nmi

    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS[method].imports)
    with harness.stopwatch() as watch:
        model = _build(method, mdata, options)
        snapshots = _snapshots(model, every)
        keywords: dict[str, Any] = {"callbacks": [snapshots]}
        if method == "multiview":
            keywords |= options.get("multiview_train", {})
        else:
            keywords |= {"max_epochs": epochs}
        model.train(**keywords)
        snapshots.take()
    labels = bench.read_labels(data, "cell_type")
    kept = ~np.isin(labels, drop)
    accuracy = np.array([knn_accuracy(z[kept], labels[kept]) for _, _, z in snapshots.taken])
    first = int(np.flatnonzero(accuracy >= accuracy.max() - _TOLERANCE)[0])
    epoch, seconds, latent = snapshots.taken[first]
    return {
        "converged_seconds": seconds,
        "converged_epoch": epoch,
        "knn_accuracy": float(accuracy[first]),
        "best_knn_accuracy": float(accuracy.max()),
        "leiden_ari": leiden_ari_nmi(latent[kept], labels[kept])["leiden_ari"],
        "epochs": snapshots.epoch,
        "curve": [
            [e, round(s, 2), float(a)]
            for (e, s, _), a in zip(snapshots.taken, accuracy, strict=True)
        ],
        **watch.result(),
    }


def fit_generator(
    data: str, folder: str, batches: int, epochs: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train ATACDiffModel for a few batches a stage and save it (runs in its own process)."""
    mdata = peers.load_data(data)
    peers.load_imports(peers.PEERS["atacdiff"].imports)
    with harness.stopwatch() as watch:
        model = _build("atacdiff", mdata, options)
        model.train(max_epochs=epochs, limit_train_batches=batches)
    model.save(f"{folder}/model", overwrite=True)
    model.adata[:_CELLS_BESIDE_MODEL].copy().write_h5ad(f"{folder}/cells.h5ad")
    return watch.result()


def generate(folder: str, cells: int, options: dict[str, Any]) -> dict[str, Any]:
    """Load the model and draw cells (runs in a process of its own)."""
    import anndata as ad
    import scipy.sparse as sp

    import atacvi

    beside = ad.read_h5ad(f"{folder}/cells.h5ad")
    model = atacvi.ATACDiffModel.load(f"{folder}/model", adata=beside)
    with harness.stopwatch() as watch:
        made = model.generate(cells, **options.get("atacdiff_generate", {}))
    if not sp.issparse(made.X):
        msg = f"generate gave {type(made.X).__name__}, which is not sparse"
        raise TypeError(msg)
    size = {"cells": made.n_obs, "peaks": made.n_vars, "density": made.X.nnz / np.prod(made.shape)}
    return {**size, **watch.result()}


def run_generation(arguments: argparse.Namespace, data: Path, text: str) -> None:
    """Train and save in one process, draw in another, and write the table."""
    folder = (arguments.out / "generation").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    options = arguments.options

    def isolated(target: str, job: dict[str, Any]) -> dict[str, Any]:
        log = arguments.out / "logs" / f"{target}.log"
        return harness.run_isolated(
            f"speed.py:{target}", job, arguments.threads, arguments.timeout, log
        )

    fit = {"data": str(data), "folder": str(folder), "options": options}
    fit |= {"batches": arguments.generate_batches, "epochs": 1}
    found = isolated("fit_generator", fit)
    if "error" not in found:
        job = {"folder": str(folder), "cells": arguments.generate, "options": options}
        found = isolated("generate", job)
    table = pd.DataFrame([{"method": "atacdiff", **found}])
    notes = (
        f"Data: {text}. Trained for {arguments.generate_batches} batches a stage. `start_mb`: "
        "libraries and model, before cells are drawn; `peak_mb`: at most while they are."
    )
    harness.write_table(table, arguments.out, "speed_generation", notes)


def add_share_of_peakvi(table: pd.DataFrame) -> pd.DataFrame:
    """Say what share of an epoch of PEAKVI each method's epoch takes, where PEAKVI was timed."""
    for column in ("seconds_an_epoch", "cpu_seconds_an_epoch"):
        if column in table and "peakvi" in set(table["method"]):
            reference = table.set_index("method").at["peakvi", column]
            share = column.replace("seconds_an_epoch", "of_peakvi")
            table = table.assign(**{share: table[column] / reference})
    return table


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=None, choices=METHODS)
    parser.add_argument(
        "--data", type=harness.data_file, default=None, help="a file instead of simulating"
    )
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--density", type=float, default=0.026, help="share of open peaks")
    parser.add_argument("--max-steps", type=int, default=0, help="batches to time; 0: epochs")
    parser.add_argument("--epochs", type=int, default=1, help="epochs to time")
    parser.add_argument("--batch-size", type=int, default=0, help="0: each method's own")
    parser.add_argument("--converged", type=harness.data_file, default=None, help="labelled .h5mu")
    parser.add_argument("--peer-epochs", type=int, default=100, help="at most, for --converged")
    parser.add_argument("--every", type=int, default=5, help="epochs between two latents")
    parser.add_argument("--drop-label", nargs="*", default=["Mis"])
    parser.add_argument("--generate", type=int, default=0, help="cells that ATACDiff draws")
    parser.add_argument("--generate-batches", type=int, default=5, help="trained on a stage")
    parser.add_argument("--multiview-options", type=json.loads, default={}, help="JSON")
    parser.add_argument(
        "--atacdiff-options",
        type=json.loads,
        default={},
        help='JSON: {"atacdiff_model": {}, "atacdiff_train": {}, "atacdiff_generate": {}}',
    )
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    if 0 < arguments.max_steps < 2:
        parser.error("--max-steps needs at least 2 batches to time")
    methods = CONVERGING if arguments.converged else METHODS
    arguments.methods = methods if arguments.methods is None else arguments.methods
    if arguments.converged and (arguments.generate or set(arguments.methods) - set(methods)):
        parser.error(f"--converged takes the methods {', '.join(methods)}, and no --generate")
    arguments.options = {**arguments.multiview_options, **arguments.atacdiff_options}
    return arguments


def prepare(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Name the data, simulating them if need be, and describe them."""
    if arguments.data is not None:
        return arguments.data.resolve(), arguments.data.name
    data = (arguments.out / "simulated.h5mu").resolve()
    sizes = {k: getattr(arguments, k) for k in ("cells", "genes", "peaks", "density")}
    made = harness.run_isolated("speed.py:simulate", {"path": str(data), **sizes})
    if "error" in made:
        raise SystemExit(f"The simulation failed: {made['error']}")
    text = (
        f"{arguments.cells} cells x ({arguments.genes} genes + {arguments.peaks} peaks), "
        f"{made['density']:.1%} of the peaks open, simulated in {made['seconds']:.0f} s"
    )
    harness.say(text)
    return data, text


def main() -> None:
    """Time every method."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = arguments.options
    if arguments.converged is not None:
        name, target, text = "converged", "speed.py:converge", arguments.converged.name
        job = {
            "data": str(arguments.converged.resolve()),
            "epochs": arguments.peer_epochs,
            "every": arguments.every,
            "drop": arguments.drop_label,
            "options": options,
        }
        columns = ["converged_seconds", "knn_accuracy", "leiden_ari", "seconds", "peak_mb"]
    else:
        name, target = "speed", "speed.py:time_epoch"
        data, text = prepare(arguments)
        job = {
            "data": str(data),
            "max_steps": arguments.max_steps,
            "epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "options": options,
        }
        columns = ["seconds_an_epoch", "peak_mb", "million_parameters"]
    rows = []
    for method in arguments.methods:
        harness.say(f"{method} ...")
        log = arguments.out / "logs" / f"{method}.log"
        found = harness.run_isolated(
            target, {"method": method, **job}, arguments.threads, arguments.timeout, log
        )
        rows.append({"method": method, **found})
        harness.say(str(rows[-1]))
    if rows:
        report(pd.DataFrame(rows), arguments, name, text, columns)
    if arguments.generate:
        run_generation(arguments, data, text)


def report(
    table: pd.DataFrame, arguments: argparse.Namespace, name: str, text: str, columns: list[str]
) -> None:
    """Write table and figure of one kind of run."""
    notes = f"Data: {text}."
    if name == "speed":
        table = add_share_of_peakvi(table)
        if arguments.max_steps:
            notes += f" Epochs extrapolated from {arguments.max_steps} batches after {_WARM_UP}."
        notes += " `seconds_before`: from the call of `train` to the first batch."
    table.to_csv(arguments.out / f"{name}_runs.csv", index=False)
    view = table.drop(columns="curve", errors="ignore").dropna(axis=1, how="all")
    harness.write_table(view, arguments.out, name, notes)
    harness.write_figure(table, columns, arguments.out, name, text)


if __name__ == "__main__":
    main()
