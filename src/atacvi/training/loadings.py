"""Loadings of peaks on latents by empirical Bayes: how far each is shrunk, the data tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp

# Peaks with fewer counts say too little about the prior of their loadings.
_MIN_COUNTS = 3.0
_EM_STEPS = 60
_MIN_VARIANCE = 1e-6
# Entries, cells times peaks, that are dense at once
_ENTRIES = 20_000_000
_NEWTON_STEPS = 5
_DAMPING = 0.8


class Loadings(NamedTuple):
    r"""A log-linear model of the rates of peaks.

    .. math::

        \log \rho_p(h) = b_p + w_p^\top h, \qquad h = (x - m) R

    Parameters
    ----------
    weights
        :math:`w`, shape (peaks, latents).
    offset
        :math:`b`, shape (peaks,).
    centre, rotation
        :math:`m` and :math:`R`; (components,), (components, latents). Over cells weighted by depth
        latents are uncorrelated; the one with the strongest loadings comes first.
    variance
        Variance of the latents of a cell of median depth given its peaks, (latents,). With it they
        have unit variance.
    """

    weights: np.ndarray
    offset: np.ndarray
    centre: np.ndarray
    rotation: np.ndarray
    variance: np.ndarray


def fit_loadings(
    counts: sp.csr_matrix, components: np.ndarray, own: np.ndarray, n_latent: int
) -> Loadings:
    """Fit a Poisson regression of every peak on the components, with an estimated prior.

    The loading of a peak has a Gaussian prior around zero. Its variance, one for each latent, is
    that under which the first estimates of all peaks, ``score / total`` with sampling variance
    ``1 / total``, are most probable (empirical Bayes, Efron & Morris, J. Am. Stat. Assoc. 68:117,
    1973; as in automatic relevance determination). So loadings on latents that
    tell nothing vanish, and those on strong ones are hardly shrunk.

    Parameters
    ----------
    counts
        Counts, shape (cells, peaks).
    components
        Shape (cells, components), from maps that did not see the cell.
    own
        What the counts of a peak add to the components of their own cells, (peaks, components).
        Left in, each peak would explain itself.
    n_latent
        Latents at most.
    """
    depth = np.asarray(counts.sum(1)).ravel().astype(np.float64)
    total = np.asarray(counts.sum(0)).ravel().astype(np.float64)
    offset = np.log((total + 0.5) / (total.sum() + 0.5 * len(total)))
    centre = (depth @ components) / depth.sum()
    rotation = _whitening(components - centre, depth)
    score = counts.T @ ((components - centre) @ rotation) - own @ rotation
    # The directions in which loadings vary most beyond their sampling noise
    seen = total >= min(_MIN_COUNTS, total.max())
    first = score[seen] / total[seen, None]
    excess = first.T @ score[seen] / seen.sum() - np.eye(rotation.shape[1])
    turn = np.linalg.eigh(excess)[1][:, ::-1][:, :n_latent]
    rotation, score = rotation @ turn, score @ turn
    latents = (components - centre) @ rotation
    precision = 1.0 / _most_probable(score[seen] / total[seen, None], 1.0 / total[seen])
    weights = score / (total[:, None] + precision)
    weights, offset = _newton(counts, latents, score, precision, weights, offset)
    variance = _posterior_variance(weights, offset, depth)
    scale = np.sqrt(1.0 + variance)  # what latents and their uncertainty spread together
    return Loadings(weights * scale, offset, centre, rotation / scale, variance / scale**2)


def _whitening(components: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return what makes components uncorrelated and of unit variance, weighted by depth."""
    covariance = (components * depth[:, None]).T @ components / depth.sum()
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-8 * values.max()
    return vectors[:, kept] / np.sqrt(values[kept])


def _most_probable(estimate: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the variance v of each column under ``estimate ~ N(0, v + noise)``, by EM."""
    squares, noise = estimate**2, noise[:, None]
    variance = np.maximum(squares.mean(0), _MIN_VARIANCE)
    for _ in range(_EM_STEPS):
        share = variance / (variance + noise)
        variance = np.maximum((share**2 * squares + variance * (1 - share)).mean(0), _MIN_VARIANCE)
    return variance


def _newton(
    counts: sp.csr_matrix,
    latents: np.ndarray,
    score: np.ndarray,
    precision: np.ndarray,
    weights: np.ndarray,
    offset: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Improve loadings and offsets by damped Newton steps with a diagonal Hessian."""
    depth = np.asarray(counts.sum(1)).ravel()
    log_depth = np.log(np.maximum(depth, 1.0)).astype(np.float32)[:, None]
    total = np.asarray(counts.sum(0)).ravel().astype(np.float64)
    z = latents.astype(np.float32)
    rows = max(1, _ENTRIES // counts.shape[1])
    for _ in range(_NEWTON_STEPS):
        expected, explained = np.zeros(len(total)), np.zeros(weights.shape)
        w, b = weights.T.astype(np.float32), offset.astype(np.float32)
        for start in range(0, len(z), rows):
            part = z[start : start + rows]
            rate = part @ w
            rate += b
            rate += log_depth[start : start + rows]
            np.exp(np.minimum(rate, 2.0, out=rate), out=rate)
            expected += rate.sum(0)
            explained += rate.T @ part
        curvature = np.maximum(expected, total)
        step = (score - explained - precision * weights) / (curvature[:, None] + precision)
        weights = weights + _DAMPING * step
        offset = offset + np.clip((total + 0.5 - expected) / (curvature + 0.5), -1.0, 1.0)
    return weights, offset


def _posterior_variance(weights: np.ndarray, offset: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the variance of the latents given the peaks of a cell of median depth.

    Latents as estimated from peaks have unit variance; what peaks leave open comes on top.
    """
    rate = np.exp(offset - offset.max())
    rate /= rate.sum()
    mean = rate @ weights
    information = np.median(depth) * ((weights * rate[:, None]).T @ weights - np.outer(mean, mean))
    identity = np.eye(len(information))
    variance = np.zeros_like(identity)
    for _ in range(_EM_STEPS):
        variance = np.linalg.inv(np.linalg.inv(identity + variance) + information)
    return np.diag(variance)
