"""Align RNA and ATAC on paired cells, and predict the RNA of held-out cells from their ATAC.

    python benchmarks/craft.py --data scicar_a549.h5mu --genes hg19_genes.bed.gz --folds 5 \\
        --run-folds 0 --methods craft craft-start cca ridge-lsi knn-lsi --out results/craft

Cells are split into folds (by cell, or by batch with ``--by batch``: a batch is never in two folds,
and there are no more folds than batches); a fold is predicted by what was trained on the others.
``craft`` gives the predictions of one training (decoder, retrieval, ridge, blend, and the one of them
that the model's own held-out cells prefer); ``craft-start`` is the same model without any epoch of
alignment. The peers are in ``_craft_peers.py``: canonical correlations of PCA and LSI (``cca``),
ridge regression and the mean of the 50 nearest cells on LSI, gene activity, the mean profile,
MultiView and MULTIVI with the RNA hidden. ``--data simulated:<noise>`` simulates 2,000 cells, a share
of whose ATAC reads is ambient. Truth: log(1 + 1e4 share); features seen in at least five held-out
cells. Chance: FOSCTTM 0.5, recall 10 / held-out cells (``chance_recall``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import numpy as np
from _craft_peers import PEERS, log_profiles

if TYPE_CHECKING:
    from mudata import MuData

_COLUMNS = (
    "foscttm",
    "recall_at_10",
    "chance_recall",
    "modality_gap",
    "label_transfer",
    "feature_pearson",
    "cell_pearson",
    "seconds",
)
_METHODS = ("craft", "craft-start", *PEERS)
_SIMULATED = "simulated:"


def load(data: str, seed: int) -> MuData:
    """Read a file, or simulate."""
    if not data.startswith(_SIMULATED):
        return peers.load_data(data)
    import atacvi

    noise = float(data.removeprefix(_SIMULATED))
    mdata = atacvi.datasets.simulate_multiome(
        2000,
        n_genes=800,
        n_peaks=6000,
        median_peaks_per_cell=300,
        n_batches=2,
        atac_noise=noise,
        random_state=seed,
    )
    return peers.filter_features(mdata)


def split(mdata: MuData, by: str, folds: int, fold: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return training and held-out cells."""
    if by == "cell":
        number = np.random.default_rng(seed).permutation(mdata.n_obs) % folds
    else:
        _, batch = np.unique(mdata.obs["batch"].astype(str), return_inverse=True)
        number = batch % folds
    return np.flatnonzero(number != fold), np.flatnonzero(number == fold)


def alignment_scores(
    rna: np.ndarray, atac: np.ndarray, labels: np.ndarray | None
) -> dict[str, float]:
    """Score the vectors of held-out cells; recall is the mean over both directions."""
    from atacvi import metrics

    recall = [metrics.recall_at_k(*pair, [10])[10] for pair in ((rna, atac), (atac, rna))]
    found = {
        "foscttm": metrics.foscttm(rna, atac),
        "recall_at_10": float(np.mean(recall)),
        "chance_recall": min(10 / len(rna), 1.0),
        "modality_gap": metrics.modality_gap(rna, atac),
    }
    if labels is not None and len(np.unique(labels)) > 1:
        found["label_transfer"] = metrics.label_transfer_accuracy(rna, labels, atac, labels)
    return found


def craft(
    train: MuData, test: MuData, seed: int, options: dict[str, Any], *, start_only: bool
) -> dict[str, dict[str, Any]]:
    """Train CRAFTModel; three predictions of one training."""
    import scvi

    from atacvi.models import CRAFTModel

    scvi.settings.seed = seed
    with harness.stopwatch() as watch:
        batch_key = "batch" if "batch" in train.obs else None
        CRAFTModel.setup_mudata(train, batch_key=batch_key)
        model = CRAFTModel(train, **options.get("craft_model", {}))
        training = {"enable_progress_bar": False, **options.get("craft_train", {})}
        if start_only:
            training |= {"max_epochs": 0, "imputation_epochs": 0}
        model.train(**training)
    rna, atac = (model.get_latent_representation(test, modality=name) for name in ("rna", "atac"))
    labels = test.obs["cell_type"].to_numpy(str) if "cell_type" in test.obs else None
    common = {**alignment_scores(rna, atac, labels), **watch.result()}
    if "probe_contrast" in model.history:
        common["epochs"] = len(model.history["probe_contrast"])
    truth = log_profiles(test["rna"].X)
    rows = {}
    for method in ("best", "decoder", "retrieval", "ridge", "blend"):
        found = model.impute_rna(test, method=method, return_numpy=True)
        rows[method] = {**common, **prediction_scores(truth, found)}
    return rows


def prediction_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    from atacvi.metrics import crossmodal_scores

    return crossmodal_scores(truth, np.asarray(prediction, dtype=np.float32))


def peer(
    method: str, train: MuData, test: MuData, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train one of the peers and score what it gives."""
    with harness.stopwatch() as watch:
        found = PEERS[method](train, test, seed, options)
    scores: dict[str, Any] = {}
    if found.vectors is not None:
        labels = test.obs["cell_type"].to_numpy(str) if "cell_type" in test.obs else None
        scores |= alignment_scores(*found.vectors, labels)
    if found.expression is not None:
        scores |= prediction_scores(log_profiles(test["rna"].X), found.expression)
    return {**scores, **watch.result()}


def run(
    data: str, method: str, seed: int, by: str, folds: int, fold: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train on all folds but one and score that one (runs in a process of its own)."""
    mdata = load(data, seed)
    if "cell_type" in mdata.obs:
        mdata = mdata[mdata.obs["cell_type"].astype(str).to_numpy() != "Mis"].copy()
    if options.get("max_cells") and mdata.n_obs > options["max_cells"]:
        chosen = np.random.default_rng(seed).choice(
            mdata.n_obs, options["max_cells"], replace=False
        )
        mdata = mdata[np.sort(chosen)].copy()
    training, held_out = split(mdata, by, folds, fold, seed)
    if not len(held_out):
        return {"rows": {}}  # fewer batches than folds
    train, test = mdata[training].copy(), mdata[held_out].copy()
    # features that no training cell shows cannot be learnt
    for name in ("rna", "atac"):
        seen = np.asarray((train[name].X > 0).sum(axis=0)).ravel() > 0
        for part in (train, test):
            part.mod[name] = part[name][:, seen].copy()
    import mudata as md

    train, test = (
        _with_obs(md.MuData({n: p[n] for n in ("rna", "atac")}), p) for p in (train, test)
    )
    filled = _both(train)
    train, test = train[filled].copy(), test[_both(test)].copy()
    if method.startswith("craft"):
        return {"rows": craft(train, test, seed, options, start_only=method == "craft-start")}
    return {"rows": {"": peer(method, train, test, seed, options)}}


def _with_obs(mdata: MuData, source: MuData) -> MuData:
    mdata.obs = source.obs.loc[mdata.obs_names].copy()
    return mdata


def _both(mdata: MuData) -> np.ndarray:
    """Cells with counts in both modalities."""
    counts = [np.asarray(mdata[name].X.sum(axis=1)).ravel() for name in ("rna", "atac")]
    return np.flatnonzero((counts[0] > 0) & (counts[1] > 0))


def data_set(name: str) -> str:
    """Give the path of a file, or what names simulated cells (a type for argparse)."""
    return name if name.startswith(_SIMULATED) else str(harness.data_file(name).resolve())


def main() -> None:
    """Run every method on every fold."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=data_set, nargs="+", required=True, help=".h5mu files, simulated:<noise>"
    )
    parser.add_argument("--methods", nargs="+", default=_METHODS[:-2], choices=_METHODS)
    parser.add_argument("--by", default="cell", choices=["cell", "batch"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--run-folds", nargs="+", type=int, help="which of them; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-cells", type=int, default=None)
    parser.add_argument(
        "--genes", type=harness.data_file, help="BED of genes for gene activity: 5 columns"
    )
    parser.add_argument("--multivi-epochs", type=int, default=40)
    parser.add_argument("--options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    options = {
        "max_cells": arguments.max_cells,
        "multivi_epochs": arguments.multivi_epochs,
        "genes": None if arguments.genes is None else str(arguments.genes.resolve()),
        **arguments.options,
    }
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        is_simulated = data.startswith(_SIMULATED)
        name_of_data = data if is_simulated else Path(data).stem
        for method in arguments.methods:
            for fold in arguments.run_folds or range(arguments.folds):
                job = {
                    "data": data,
                    "method": method,
                    "seed": arguments.seed,
                    "by": arguments.by,
                    "folds": arguments.folds,
                    "fold": fold,
                    "options": options,
                }
                log = arguments.out / "logs" / f"{name_of_data}_{method}_{fold}.log"
                found = harness.run_isolated(
                    "craft.py:run", job, arguments.threads, arguments.timeout, log
                )
                for name, scores in found.pop("rows", {"": found}).items():
                    label = f"{method} {name}".strip()
                    row = {"data": name_of_data, "method": label, "seed": fold, **scores}
                    rows.append(row)
                    harness.say(str(row))
                arguments.out.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_csv(arguments.out / "craft_runs.csv", index=False)
    summary = harness.summarise(pd.DataFrame(rows), ["data", "method"])
    shown = ["data", "method", "runs", *_COLUMNS, "cpu_seconds", "start_mb", "peak_mb", "error"]
    notes = (
        f"Folds by {arguments.by}: {arguments.run_folds or arguments.folds}. Chance: FOSCTTM 0.5, "
        f"recall as in chance_recall. MULTIVI {arguments.multivi_epochs} epochs."
    )
    harness.write_table(summary[[c for c in shown if c in summary]], arguments.out, "craft", notes)
    summary["label"] = summary["data"].str.slice(0, 12) + " " + summary["method"]
    harness.write_figure(summary, _COLUMNS, arguments.out, "craft", "CRAFT", label="label")


if __name__ == "__main__":
    main()
