"""Peers of the benchmark of CRAFT: what predicts RNA from ATAC, or aligns both, in held-out cells.

Each is fitted to training cells and gives a `Prediction` for held-out ones, of whose RNA it sees
nothing but, for an alignment, what is to be found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import _peers as peers
import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_N_NEIGHBOURS = 50
_RIDGE = 1.0
_GENE_COLUMNS = ["chrom", "start", "end", "gene", "strand"]
# Length over which the weight of a peak outside a gene falls to 1/e (Granja et al. 2021)
_DECAY = 5_000.0


class Prediction(NamedTuple):
    """Log profiles (cells, genes), and vectors of RNA and ATAC, where a method gives them."""

    expression: np.ndarray | None = None
    vectors: tuple[np.ndarray, np.ndarray] | None = None


class Lsi:
    """LSI of training cells that other cells can be mapped into; the depth component is left out."""

    def __init__(self, counts: sp.csr_matrix, seed: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        self.idf = counts.shape[0] / np.maximum(np.asarray((counts > 0).sum(axis=0)).ravel(), 1)
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


def fit_cca(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """Canonical correlations of PCA and LSI."""
    return Prediction(vectors=cca(train, test, seed))


def _lsi_pair(train: MuData, test: MuData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    lsi = Lsi(train["atac"].X, seed)
    x, x_test = lsi(train["atac"].X), lsi(test["atac"].X)
    return x - x.mean(axis=0), x_test - x.mean(axis=0)


def ridge_lsi(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """Ridge regression of log profiles on LSI."""
    x, x_test = _lsi_pair(train, test, seed)
    y = log_profiles(train["rna"].X)
    mean = y.mean(axis=0)
    penalty = _RIDGE * len(x) * (x**2).mean() * np.eye(x.shape[1])
    return Prediction(x_test @ np.linalg.solve(x.T @ x + penalty, x.T @ (y - mean)) + mean)


def knn_lsi(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """Mean log profile of the nearest training cells by the cosine of LSI."""
    x, x_test = _lsi_pair(train, test, seed)
    y = log_profiles(train["rna"].X)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, x_test)]
    near = np.argpartition(-unit[1] @ unit[0].T, _N_NEIGHBOURS, axis=1)[:, :_N_NEIGHBOURS]
    return Prediction(np.stack([y[row].mean(axis=0) for row in near]))


def mean(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """Mean training profile."""
    y = log_profiles(train["rna"].X).mean(axis=0)
    return Prediction(np.broadcast_to(y, (test.n_obs, len(y))))


def gene_activity(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """Log share of the reads in and near each gene, by ``tl.gene_activity``; nothing is learnt."""
    import pandas as pd

    from atacvi.tl import gene_activity as activity

    names = test["rna"].var_names
    given = options.get("genes")
    if given:
        table = pd.read_csv(given, sep="\t", header=None, names=_GENE_COLUMNS)
        genes = table.drop_duplicates("gene").set_index("gene")
    elif {"chrom", "start", "end", "strand"} <= set(test["rna"].var):
        genes = test["rna"].var[["chrom", "start", "end", "strand"]]
    else:
        msg = (
            "gene activity needs coordinates of genes: --genes, or chrom, start, end, strand in var"
        )
        raise ValueError(msg)
    known = genes.loc[genes.index.intersection(names)]
    found = activity(test["atac"], known, decay=_DECAY)
    values = np.zeros(test["rna"].shape, dtype=np.float32)
    values[:, names.get_indexer(found.var_names)] = log_profiles(sp.csr_matrix(found.X))
    return Prediction(values)


def multiview(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """MultiView with ``from_modality="atac"``; the RNA of the held-out cells is exchanged first."""
    model = peers.multiview_model(train, seed, options)
    vectors = tuple(model.get_latent_representation(test, modality=n) for n in ("rna", "atac"))
    hidden = test.copy()
    order = np.random.default_rng(seed).permutation(test.n_obs)
    hidden["rna"].X = test["rna"].X[order].copy()
    found = model.get_normalized_expression(hidden, from_modality="atac", return_numpy=True)
    return Prediction(np.log1p(1e4 * found), vectors)


def multivi(train: MuData, test: MuData, seed: int, options: dict[str, Any]) -> Prediction:
    """MULTIVI, to which counts of zero are a modality that is missing."""
    model = peers.multivi_model(train, seed, options)

    def without(name: str) -> MuData:
        hidden = test.copy()
        hidden[name].X = sp.csr_matrix(test[name].shape, dtype=test[name].X.dtype)
        # MULTIVI writes this column in `setup_mudata` and looks for it in new data
        hidden.obs["_indices"] = np.arange(hidden.n_obs)
        return hidden

    only_atac = without("rna")
    vectors = tuple(
        model.get_latent_representation(hidden) for hidden in (without("atac"), only_atac)
    )
    found = np.asarray(model.get_normalized_expression(only_atac, return_numpy=True))
    shares = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12)
    return Prediction(np.log1p(1e4 * shares), vectors)


PEERS: dict[str, Callable[..., Prediction]] = {
    "cca": fit_cca,
    "ridge-lsi": ridge_lsi,
    "knn-lsi": knn_lsi,
    "gene-activity": gene_activity,
    "mean": mean,
    "multiview": multiview,
    "multivi": multivi,
}
