"""Weights of the latent directions when cells are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def emphasis_of(mean: ArrayLike) -> NDArray[np.float32]:
    r"""Return the symmetric matrix that weights each principal direction by its deviation.

    The standard normal prior pulls the directions that separate cells and those that hold little
    but noise to like widths, so that plain distances count them alike. With
    :math:`C = \mathrm{cov}(m)` of the posterior means, :math:`m\,C^{1/2}` weights a direction by
    how far it spreads the cells. The root is symmetric, so that axes keep their meaning.

    Parameters
    ----------
    mean
        Posterior means of the training cells, shape (cells, n_latent).

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
    if values.sum() <= np.finfo(np.float64).tiny:
        return np.eye(n_latent, dtype=np.float32)
    root = (axes * np.sqrt(values * n_latent / values.sum())) @ axes.T
    return root.astype(np.float32)
