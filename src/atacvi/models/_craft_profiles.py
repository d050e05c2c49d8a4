"""Profiles of expression, and the plain methods that predict them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

#: Counts to which a cell is scaled before the logarithm
TARGET_SUM = 1e4
#: Cells on which a choice is made
N_CHOICE = 1_000
_RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_RETRIEVAL_SCALES = (1.0, 2.0, 4.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0)


def cell_shares(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return each count's share of its cell's total."""
    depth = np.maximum(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(), 1.0)
    return sp.csr_matrix(sp.diags(1.0 / depth) @ counts)


def log_profiles(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return log(1 + 10,000 share)."""
    profiles = cell_shares(counts)
    profiles.data = np.log1p(TARGET_SUM * profiles.data)
    return profiles


def fit_ridge(
    vectors: np.ndarray, counts: sp.csr_matrix, training: np.ndarray, held_out: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the ridge regression of log profiles on vectors, its penalty chosen on held-out cells."""
    profiles = log_profiles(counts)
    y = profiles[training]
    centre, mean = vectors[training].mean(axis=0), np.asarray(y.mean(axis=0)).ravel()
    x = (vectors[training] - centre).astype(np.float64)
    # the mean of x is zero: that of the profiles need not be taken off
    cross, square = np.asarray(y.T @ x).T, x.T @ x
    unit = np.trace(square) / len(square)
    chosen = held_out[:N_CHOICE] if len(held_out) else training[:N_CHOICE]
    truth = profiles[chosen]
    best: tuple[float, np.ndarray] | None = None
    for ridge in _RIDGES:
        weights = np.linalg.solve(square + ridge * unit * np.eye(len(square)), cross)
        fitted = (vectors[chosen] - centre) @ weights + mean
        # sum of squares up to that of the truth, which does not depend on the penalty
        loss = float((fitted**2).sum() - 2 * truth.multiply(fitted).sum())
        if best is None or loss < best[0]:
            best = (loss, weights)
    assert best is not None
    return {
        "centre": centre.astype(np.float32),
        "mean": mean.astype(np.float32),
        "weights": best[1].astype(np.float32),
    }


def apply_ridge(ridge: dict[str, np.ndarray], vectors: np.ndarray) -> np.ndarray:
    fitted = (vectors - ridge["centre"]) @ ridge["weights"] + ridge["mean"]
    return np.maximum(fitted, 0.0)


def fit_retrieval_scale(
    rna: np.ndarray,
    atac: np.ndarray,
    counts: sp.csr_matrix,
    training: np.ndarray,
    held_out: np.ndarray,
    log_scale: float,
) -> float:
    """Return the inverse temperature with which held-out profiles are retrieved best.

    The contrast's own temperature tells a cell from all others; a profile is estimated best as the
    mean over more of its neighbours. Without held-out cells the contrast's is taken.
    """
    if not len(held_out):
        return float(np.exp(log_scale))
    profiles = log_profiles(counts)
    chosen = held_out[:N_CHOICE]
    truth, reference = profiles[chosen], profiles[training]
    similarity = atac[chosen] @ rna[training].T
    losses = []
    for scale in _RETRIEVAL_SCALES:
        fitted = np.asarray(reference.T @ softmax(scale * similarity).T).T
        losses.append(float((fitted**2).sum() - 2 * truth.multiply(fitted).sum()))
    return _RETRIEVAL_SCALES[int(np.argmin(losses))]


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
