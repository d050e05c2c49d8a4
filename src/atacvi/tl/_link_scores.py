"""Scores of the peaks in a gene's window, from cross-products that sparse matrices give cheaply.

With standardised peaks X and expression y over n observations, every method needs only the Gram
matrix G = X'X / n and the correlations b = X'y / n; cells by peaks are never made dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["correlation", "lasso", "pls"]
_N_PENALTIES = 30
_MIN_PENALTY = 1e-2  # as a share of the smallest penalty that leaves no peak
_RIDGE = 1e-3  # of a variance of one: imputed peaks of one profile make G singular


class Design:
    """Accessibility of the candidate peaks over the observations, with means and deviations.

    Parameters
    ----------
    matrix
        Shape (observations, peaks), sparse or dense.
    n_folds
        Folds of the cross-validation.
    rng
        Generator that deals the observations into the folds.
    """

    def __init__(self, matrix: Any, n_folds: int, rng: np.random.Generator) -> None:
        self.n = matrix.shape[0]
        self.sparse = sp.issparse(matrix)
        self.matrix = sp.csc_matrix(matrix) if self.sparse else np.asfortranarray(matrix)
        if self.sparse:
            square = self.matrix.multiply(self.matrix)
            mean = np.asarray(self.matrix.mean(axis=0, dtype=np.float64)).ravel()
            variance = np.asarray(square.mean(axis=0, dtype=np.float64)).ravel() - mean**2
        else:
            mean = self.matrix.mean(axis=0, dtype=np.float64)
            variance = self.matrix.var(axis=0, dtype=np.float64)
        self.mean = mean
        # A peak that does not vary has no correlation: its scores are zero.
        constant = variance <= 1e-10 * np.maximum(mean**2, 1e-30)
        self.sd = np.where(constant, np.inf, np.sqrt(np.maximum(variance, 0.0)))
        self.fold = rng.permutation(self.n) % n_folds
        self.n_folds = n_folds

    def cross(self, peaks: NDArray[np.int64], y: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the correlations with standardised `y` (observations, genes): (peaks, genes)."""
        product = self.matrix[:, peaks].T @ y  # y is centred: the means of the peaks drop out
        return np.asarray(product, dtype=np.float64) / self.n / self.sd[peaks, None]

    def gram(
        self, peaks: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return the mean products of standardised peaks over all or some observations."""
        part = self.matrix[:, peaks]
        part = part if rows is None else part[rows]
        n_rows = part.shape[0]
        product = part.T @ part
        product = product.toarray() if self.sparse else product
        total = np.asarray(part.sum(axis=0), dtype=np.float64).ravel()
        mean = self.mean[peaks]
        centred = np.asarray(product, dtype=np.float64) - np.outer(total, mean)
        centred += np.outer(mean, n_rows * mean - total)
        out = centred / n_rows / np.outer(self.sd[peaks], self.sd[peaks])
        if rows is None:
            np.fill_diagonal(out, 1.0)
        return out

    def fold_products(
        self, peaks: NDArray[np.int64], y: NDArray[np.float32]
    ) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64], float]]:
        """Return size, Gram matrix, cross-products and squared norm of each fold, as sums."""
        out = []
        for k in range(self.n_folds):
            rows = np.flatnonzero(self.fold == k)
            part, target = self.matrix[:, peaks][rows], y[rows].astype(np.float64)
            product = np.asarray(part.T @ target, dtype=np.float64).ravel()
            product = (product - self.mean[peaks] * target.sum()) / self.sd[peaks]
            gram = self.gram(peaks, rows) * len(rows)
            out.append((float(len(rows)), gram, product, float(target @ target)))
        return out


def pls_coefficients(
    gram: NDArray[np.float64], cross: NDArray[np.float64], n_components: int
) -> NDArray[np.float64]:
    """Return the coefficients of PLS1 regression on standardised peaks.

    The improved kernel algorithm of Dayal and MacGregor (J. Chemometrics 11, 73, 1997), which
    needs X'X and X'y only.
    """
    n_peaks = len(cross)
    remaining = cross.copy()
    rotations: list[NDArray] = []
    loadings: list[NDArray] = []
    coefficients = np.zeros(n_peaks)
    first = float(np.linalg.norm(cross))
    for _ in range(min(n_components, n_peaks)):
        norm = float(np.linalg.norm(remaining))
        if norm <= 1e-8 * first or norm == 0.0:
            break
        weight = remaining / norm
        rotation = weight.copy()
        for r, p in zip(rotations, loadings, strict=True):
            rotation -= (p @ weight) * r
        score_norm = float(rotation @ gram @ rotation)
        if score_norm <= 1e-10:
            break
        loading = gram @ rotation / score_norm
        share = float(rotation @ cross) / score_norm
        remaining = remaining - loading * share * score_norm
        coefficients += rotation * share
        rotations.append(rotation)
        loadings.append(loading)
    return coefficients


def lasso_path(
    gram: NDArray[np.float64], cross: NDArray[np.float64], penalties: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return lasso coefficients at each penalty, shape (peaks, penalties).

    Minimises b'Gb / 2 - c'b + penalty |b|, with a small ridge on G. The square root R of G turns
    this into the least squares of R^-1 c on R, which is as small as the window and solved by
    coordinate descent.
    """
    from sklearn.linear_model import lasso_path as path

    n_peaks = len(cross)
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0.0) + _RIDGE)
    factor = (vectors * root) @ vectors.T
    target = vectors @ ((vectors.T @ cross) / root)
    scale = np.sqrt(n_peaks)  # scikit-learn divides the squares by the number of rows
    _, coefficients, _ = path(
        np.asfortranarray(factor * scale),
        np.ascontiguousarray(target * scale),
        alphas=penalties,
        precompute=False,
        check_input=False,  # as long as the fit itself, for a window of few peaks
        max_iter=5000,
        tol=1e-4,
    )
    return coefficients


def lasso_coefficients(
    gram: NDArray[np.float64],
    cross: NDArray[np.float64],
    folds: list[tuple[float, NDArray[np.float64], NDArray[np.float64], float]],
) -> tuple[NDArray[np.float64], float]:
    """Return lasso coefficients at the penalty of lowest cross-validated error, and the penalty."""
    top = float(np.abs(cross).max(initial=0.0))
    if top <= 1e-8:
        return np.zeros(len(cross)), 1.0
    penalties = np.geomspace(top, top * _MIN_PENALTY, _N_PENALTIES)
    n_all = sum(fold[0] for fold in folds)
    gram_all, cross_all = gram * n_all, cross * n_all
    error = np.zeros(len(penalties))
    for size, fold_gram, fold_cross, norm in folds:
        rest = n_all - size
        path = lasso_path((gram_all - fold_gram) / rest, (cross_all - fold_cross) / rest, penalties)
        error += norm - 2 * fold_cross @ path + np.einsum("ik,ij,jk->k", path, fold_gram, path)
    best = float(penalties[int(error.argmin())])
    chosen = penalties[penalties >= best]
    return lasso_path(gram, cross, chosen)[:, -1], best
