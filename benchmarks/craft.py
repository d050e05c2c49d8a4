"""Align RNA and ATAC on paired cells, and predict the RNA of held-out cells from their ATAC.

    python benchmarks/craft.py --data scicar_a549.h5mu --folds 5 --run-folds 0 \
        --methods craft craft-start cca ridge-lsi knn-lsi --out results/craft

Cells are split into folds (by cell, or by batch with ``--by batch``); a fold is predicted by what
was trained on the others. ``craft`` gives three predictions (decoder, retrieval, ridge) of one
training; ``craft-start`` is the same model without any epoch of alignment. The peers: canonical
correlations of PCA and LSI (``cca``), ridge regression and the mean of the 50 nearest cells on LSI,
all fitted to the training cells alone, and MultiView with ``from_modality="atac"``. ``--data
simulated:<noise>`` simulates 2,000 cells, a share of whose ATAC reads is ambient. Truth:
log(1 + 1e4 share); features seen in at least five held-out cells.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _harness as harness
import _peers as peers
import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from mudata import MuData

_COLUMNS = (
    "foscttm",
    "recall_at_10",
    "modality_gap",
    "label_transfer",
    "feature_pearson",
    "cell_pearson",
    "seconds",
)
_N_NEIGHBOURS = 50
_RIDGE = 1.0
_METHODS = ("craft", "craft-start", "cca", "ridge-lsi", "knn-lsi", "mean", "multiview")
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
        _, number = np.unique(mdata.obs["batch"].astype(str), return_inverse=True)
    return np.flatnonzero(number != fold), np.flatnonzero(number == fold)


class Lsi:
    """LSI of training cells that other cells can be mapped into; the depth component is left out."""

    def __init__(self, counts: sp.csr_matrix, seed: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        self.idf = len_of(counts) / np.maximum(np.asarray((counts > 0).sum(axis=0)).ravel(), 1)
        n_found = peers.N_COMPONENTS + 1
        self.directions = randomized_svd(self.weigh(counts), n_found, random_state=seed)[2][1:]

    def weigh(self, counts: sp.csr_matrix) -> sp.csr_matrix:
        binary = sp.csr_matrix(counts > 0, dtype=np.float32)
        depth = np.maximum(np.asarray(binary.sum(axis=1)).ravel(), 1)
        weighted = sp.csr_matrix(sp.diags(1e4 / depth) @ binary @ sp.diags(self.idf))
        weighted.data = np.log1p(weighted.data)
        return weighted

    def __call__(self, counts: sp.csr_matrix) -> np.ndarray:
        return self.weigh(counts) @ self.directions.T


class Pca:
    """PCA of log-normalised, standardised counts of training cells."""

    def __init__(self, counts: sp.csr_matrix, seed: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        logged = log_profiles(counts)
        self.mean, self.deviation = logged.mean(axis=0), np.maximum(logged.std(axis=0), 1e-2)
        scaled = self.scale(logged)
        self.directions = randomized_svd(scaled, peers.N_COMPONENTS, random_state=seed)[2]

    def scale(self, logged: np.ndarray) -> np.ndarray:
        return np.clip((logged - self.mean) / self.deviation, -10, 10)

    def __call__(self, counts: sp.csr_matrix) -> np.ndarray:
        return self.scale(log_profiles(counts)) @ self.directions.T


def len_of(counts: sp.csr_matrix) -> int:
    return counts.shape[0]


def log_profiles(counts: sp.csr_matrix) -> np.ndarray:
    """log(1 + 1e4 share), dense."""
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    return np.log1p(1e4 * (sp.diags(1 / depth) @ counts).toarray()).astype(np.float32)


def cca(train: MuData, test: MuData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Canonical coordinates of held-out cells, weighted by the root of their correlations."""
    parts = []
    for name, kind in (("rna", Pca), ("atac", Lsi)):
        fitted = kind(train[name].X, seed)
        x, y = fitted(train[name].X), fitted(test[name].X)
        parts.append((x - x.mean(axis=0), y - x.mean(axis=0)))
    (x, x_test), (y, y_test) = parts
    whiten = [np.linalg.inv(np.linalg.cholesky(a.T @ a / len(a))).T for a in (x, y)]
    left, values, right = np.linalg.svd(whiten[0].T @ (x.T @ y / len(x)) @ whiten[1])
    root = np.sqrt(values)
    return x_test @ whiten[0] @ left * root, y_test @ whiten[1] @ right.T * root


def alignment_scores(
    rna: np.ndarray, atac: np.ndarray, labels: np.ndarray | None
) -> dict[str, float]:
    """Score the vectors of held-out cells; recall is the mean over both directions."""
    from atacvi import metrics

    recall = [metrics.recall_at_k(*pair, [10])[10] for pair in ((rna, atac), (atac, rna))]
    found = {
        "foscttm": metrics.foscttm(rna, atac),
        "recall_at_10": float(np.mean(recall)),
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
        model.train(**(training | ({"max_epochs": 0} if start_only else {})))
    rna, atac = (model.get_latent_representation(test, modality=name) for name in ("rna", "atac"))
    labels = test.obs["cell_type"].to_numpy(str) if "cell_type" in test.obs else None
    common = {**alignment_scores(rna, atac, labels), **watch.result()}
    if "probe_contrast" in model.history:
        common["epochs"] = len(model.history["probe_contrast"])
    truth = log_profiles(test["rna"].X)
    rows = {}
    for method in ("decoder", "retrieval", "ridge"):
        found = model.impute_rna(test, method=method, return_numpy=True)
        rows[method] = {**common, **prediction_scores(truth, found)}
    return rows


def prediction_scores(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    from atacvi.metrics import crossmodal_scores

    return crossmodal_scores(truth, np.asarray(prediction, dtype=np.float32))


def multiview(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Train MultiView and impute from ATAC; the RNA of the held-out cells is exchanged first."""
    with harness.stopwatch() as watch:
        model = peers.multiview_model(train, seed, options)
    vectors = [model.get_latent_representation(test, modality=n) for n in ("rna", "atac")]
    hidden = test.copy()
    order = np.random.default_rng(seed).permutation(test.n_obs)
    hidden["rna"].X = test["rna"].X[order].copy()
    found = model.get_normalized_expression(hidden, from_modality="atac", return_numpy=True)
    labels = test.obs["cell_type"].to_numpy(str) if "cell_type" in test.obs else None
    return {
        **alignment_scores(*vectors, labels),
        **prediction_scores(log_profiles(test["rna"].X), np.log1p(1e4 * found)),
        **watch.result(),
    }


def simple(method: str, train: MuData, test: MuData, seed: int) -> dict[str, Any]:
    """Baselines without a network."""
    y, truth = log_profiles(train["rna"].X), log_profiles(test["rna"].X)
    labels = test.obs["cell_type"].to_numpy(str) if "cell_type" in test.obs else None
    with harness.stopwatch() as watch:
        if method == "cca":
            vectors = cca(train, test, seed)
        elif method != "mean":
            lsi = Lsi(train["atac"].X, seed)
            x, x_test = lsi(train["atac"].X), lsi(test["atac"].X)
            centre = x.mean(axis=0)
            x, x_test = x - centre, x_test - centre
            if method == "ridge-lsi":
                penalty = _RIDGE * len(x) * (x**2).mean() * np.eye(x.shape[1])
                prediction = x_test @ np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean(axis=0)))
                prediction += y.mean(axis=0)
            else:
                unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, x_test)]
                near = np.argpartition(-unit[1] @ unit[0].T, _N_NEIGHBOURS, axis=1)
                prediction = np.stack([y[row].mean(axis=0) for row in near[:, :_N_NEIGHBOURS]])
        else:
            prediction = np.broadcast_to(y.mean(axis=0), truth.shape)
    if method == "cca":
        return {**alignment_scores(*vectors, labels), **watch.result()}
    return {**prediction_scores(truth, prediction), **watch.result()}


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
    if method == "multiview":
        return {"rows": {"": multiview(train, test, seed, options)}}
    return {"rows": {"": simple(method, train, test, seed)}}


def _with_obs(mdata: MuData, source: MuData) -> MuData:
    mdata.obs = source.obs.loc[mdata.obs_names].copy()
    return mdata


def _both(mdata: MuData) -> np.ndarray:
    """Cells with counts in both modalities."""
    counts = [np.asarray(mdata[name].X.sum(axis=1)).ravel() for name in ("rna", "atac")]
    return np.flatnonzero((counts[0] > 0) & (counts[1] > 0))


def main() -> None:
    """Run every method on every fold."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help=".h5mu files, simulated:<noise>")
    parser.add_argument("--methods", nargs="+", default=_METHODS[:-1], choices=_METHODS)
    parser.add_argument("--by", default="cell", choices=["cell", "batch"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--run-folds", nargs="+", type=int, help="which of them; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-cells", type=int, default=None)
    parser.add_argument("--options", type=json.loads, default={}, help="JSON")
    harness.add_common_arguments(parser)
    arguments = parser.parse_args()
    options = {"max_cells": arguments.max_cells, **arguments.options}
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        path = data if data.startswith(_SIMULATED) else str(Path(data).resolve())
        for method in arguments.methods:
            for fold in arguments.run_folds or range(arguments.folds):
                job = {
                    "data": path,
                    "method": method,
                    "seed": arguments.seed,
                    "by": arguments.by,
                    "folds": arguments.folds,
                    "fold": fold,
                    "options": options,
                }
                log = arguments.out / "logs" / f"{Path(data).stem}_{method}_{fold}.log"
                found = harness.run_isolated(
                    "craft.py:run", job, arguments.threads, arguments.timeout, log
                )
                for name, scores in found.pop("rows", {"": found}).items():
                    label = f"{method} {name}".strip()
                    row = {"data": Path(data).stem, "method": label, "seed": fold, **scores}
                    rows.append(row)
                    harness.say(str(row))
                arguments.out.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_csv(arguments.out / "craft_runs.csv", index=False)
    summary = harness.summarise(pd.DataFrame(rows), ["data", "method"])
    shown = ["data", "method", "runs", *_COLUMNS, "peak_mb", "error"]
    notes = f"Folds by {arguments.by}: {arguments.run_folds or arguments.folds}."
    harness.write_table(summary[[c for c in shown if c in summary]], arguments.out, "craft", notes)
    summary["label"] = summary["data"].str.slice(0, 12) + " " + summary["method"]
    harness.write_figure(summary, _COLUMNS, arguments.out, "craft", "CRAFT", label="label")


if __name__ == "__main__":
    main()
