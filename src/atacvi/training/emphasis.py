"""Weights of the principal directions of a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Directions of less than this share of the largest variance hold nothing; they would be blown up.
_LEAST_VARIANCE = 1e-3


def emphasis_of(mean: ArrayLike, exponent: float = 1.0) -> NDArray[np.float32]:
    r"""Return the symmetric matrix that weights each principal direction by its deviation.

    The prior pulls the directions that separate cells and those that hold little but noise to like
    widths, so that plain distances count them alike; or a few wide directions hide many that each
    tell one type apart. With :math:`C = \mathrm{cov}(m)` of the posterior means,
    :math:`m\,C^{e/2}` weights a direction by how far it spreads the cells to the power e: with
    e = 1 differences count more, with e < 0 less. The root is symmetric, so that axes keep their
    meaning.

    Parameters
    ----------
    mean
        Posterior means of the training cells, shape (cells, n_latent).
    exponent
        The power e.

    Returns
    -------
    Shape (n_latent, n_latent), of unit mean squared weight; the identity where the means are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import emphasis_of
    >>> emphasis_of([[3.0, 1.0], [-3.0, -1.0], [3.0, -1.0], [-3.0, 1.0]]).astype(float).round(
    ...     2
    ... ).tolist()
    [[1.34, 0.0], [0.0, 0.45]]
    """
    mean = np.asarray(mean, dtype=np.float64)
    n_latent = mean.shape[1]
    centred = mean - mean.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred / max(1, len(mean)))
    values = np.clip(values, 0.0, None)
    if exponent == 0 or values.sum() <= np.finfo(np.float64).tiny:
        return np.eye(n_latent, dtype=np.float32)
    if exponent < 0:
        kept = values > _LEAST_VARIANCE * values.max()
        values = np.where(kept, values, 1.0) ** exponent * kept
    else:
        values = values**exponent
    return symmetric_weights(values, axes)


def symmetric_weights(
    squares: NDArray[np.floating], axes: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return the symmetric matrix that weights orthonormal axes, of unit mean squared weight.

    Parameters
    ----------
    squares
        Square of each weight, up to a common factor, shape (n_latent,).
    axes
        Axes as columns, shape (n_latent, n_latent).

    Returns
    -------
    float32 of shape (n_latent, n_latent).
    """
    root = (axes * np.sqrt(squares * len(squares) / squares.sum())) @ axes.T
    return root.astype(np.float32)
