"""Directions of two spaces whose coordinates correlate, judged on held-out cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Shares of the mean variance that are added to each variance; the best of them is taken
_RIDGES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
_N_FOLDS = 3
_MAX_CORRELATION = 0.99
# Standard deviation, relative to all, below which a dimension is taken to be constant
_CONSTANT = 1e-9
# Directions that no held-out correlation speaks for keep a little weight, so that they can learn
_MIN_WEIGHT = 0.02
_LOGIT_SCALES = np.linspace(0.0, 4.6, 24)


class CanonicalDirections(NamedTuple):
    """Directions in two spaces whose coordinates correlate, best first.

    Parameters
    ----------
    first, second
        Directions as columns, shapes (width, directions); coordinates have variance about 1.
    correlation
        Held-out correlation of each pair of coordinates, shape (directions,), within [0, 1).
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray

    def weighted(self, n_directions: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the leading directions of both, times the root of their held-out correlation.

        The inner product of a cell's two vectors then adds up what both tell of each other.
        """
        weight = np.sqrt(np.maximum(self.correlation, _MIN_WEIGHT**2))
        used = slice(n_directions)
        return (self.first * weight)[:, used], (self.second * weight)[:, used]


def canonical_directions(
    first: np.ndarray, second: np.ndarray, random_state: int = 0
) -> CanonicalDirections:
    r"""Regularised canonical correlation analysis, judged on held-out cells.

    The ridge is the one of a few with the largest held-out information
    :math:`-\tfrac12 \sum_i \log(1 - \rho_i^2)`; the correlations returned are the held-out ones,
    since those of the training cells say little where cells are few.

    Parameters
    ----------
    first, second
        Centred coordinates of the same cells, shapes (cells, widths).
    random_state
        Seed of the folds.

    Returns
    -------
    As many directions as the narrower space has dimensions that vary.

    References
    ----------
    Vinod, "Canonical ridge and econometrics of joint production", J. Econometrics 4, 147 (1976).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import canonical_directions
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(300, 1))
    >>> one, two = (np.hstack([shared, rng.normal(size=(300, 2))]) for _ in range(2))
    >>> canonical_directions(one, two).correlation.round(1).tolist()
    [1.0, 0.1, 0.0]
    """
    if not min(first.shape[1], second.shape[1]):
        one, two = (np.zeros((x.shape[1], 0)) for x in (first, second))
        return CanonicalDirections(one, two, np.zeros(0))
    varies = [x.std(axis=0) > _CONSTANT * max(float(x.std()), 1e-300) for x in (first, second)]
    if not all(kept.all() for kept in varies):
        part = canonical_directions(first[:, varies[0]], second[:, varies[1]], random_state)
        one, two = (np.zeros((len(kept), len(part.correlation))) for kept in varies)
        one[varies[0]], two[varies[1]] = part.first, part.second
        return CanonicalDirections(one, two, part.correlation)
    fold = np.random.default_rng(random_state).permutation(len(first)) % _N_FOLDS
    best: tuple[float, float, np.ndarray] | None = None
    for ridge in _RIDGES:
        found = np.zeros(min(first.shape[1], second.shape[1]))
        for number in range(_N_FOLDS):
            train, test = fold != number, fold == number
            one, two = _solve(first[train], second[train], ridge)
            found += _correlations(first[test] @ one, second[test] @ two) / _N_FOLDS
        found = np.clip(found, 0.0, _MAX_CORRELATION)
        information = float(-0.5 * np.log1p(-(found**2)).sum())
        if best is None or information > best[0]:
            best = (information, ridge, found)
    assert best is not None
    return CanonicalDirections(*_solve(first, second, best[1]), best[2])


def _solve(first: np.ndarray, second: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return directions of both spaces, their coordinates scaled to variance 1."""
    whiten = [_inverse_root(x.T @ x / len(x), ridge) for x in (first, second)]
    cross = whiten[0] @ (first.T @ second / len(first)) @ whiten[1]
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    directions = []
    for coordinates, rotation in ((first, whiten[0] @ left), (second, whiten[1] @ right.T)):
        deviation = np.sqrt(((coordinates @ rotation) ** 2).mean(axis=0))
        directions.append(rotation / np.maximum(deviation, 1e-12))
    return directions[0], directions[1]


def _inverse_root(covariance: np.ndarray, ridge: float) -> np.ndarray:
    width = len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0) + ridge * max(np.trace(covariance) / width, 1e-12)
    return (vectors / np.sqrt(values)) @ vectors.T


def _correlations(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    norm = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return (one * two).sum(axis=0) / np.maximum(norm, 1e-12)


def best_logit_scale(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the logarithm of the inverse temperature at which the contrast is least, and it.

    Parameters
    ----------
    first, second
        Unit vectors of both modalities, shapes (cells, width).

    Returns
    -------
    Scale and loss.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import best_logit_scale
    >>> scale, loss = best_logit_scale(np.eye(4), np.eye(4))
    >>> scale > 3, loss < 1e-6
    (True, True)
    """
    from scipy.special import logsumexp

    cosine = first.astype(np.float64) @ second.T.astype(np.float64)
    matched = np.diag(cosine)
    losses = []
    for scale in np.exp(_LOGIT_SCALES):
        sums = logsumexp(scale * cosine, axis=1) + logsumexp(scale * cosine, axis=0)
        losses.append(float((sums / 2 - scale * matched).mean()))
    best = int(np.argmin(losses))
    return float(_LOGIT_SCALES[best]), losses[best]


def held_out_contrast(found: CanonicalDirections, first: np.ndarray, second: np.ndarray) -> float:
    """Return the contrast of held-out cells along weighted directions, at its best temperature.

    Parameters
    ----------
    found
        Directions.
    first, second
        Coordinates of the same held-out cells, centred as those of the training cells.

    Returns
    -------
    Mean cross-entropy of finding a cell's other side among these cells; lower is better, and the
    logarithm of their number is what guessing gives.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import canonical_directions, held_out_contrast
    >>> cells = np.random.default_rng(0).normal(size=(300, 3))
    >>> found = canonical_directions(cells[:200], cells[:200])
    >>> bool(held_out_contrast(found, cells[200:], cells[200:]) < 0.5 * np.log(100))
    True
    """
    pair = (x @ directions for x, directions in zip((first, second), found.weighted(), strict=True))
    one, two = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in pair)
    return best_logit_scale(one, two)[1]
