"""Bring a clustering to a given number of clusters by splitting the widest."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def split_to_number(
    z: ArrayLike, labels: ArrayLike, n_clusters: int, random_state: int = 0
) -> NDArray[np.int64]:
    """Split clusters in two until there are `n_clusters`, each time that of the largest scatter.

    A mixture fitted by EM can hold components that are the most probable one of no cell. Taken by
    its cells, it would then have fewer components than were asked for.

    Parameters
    ----------
    z
        Latents, shape (cells, dimensions).
    labels
        Cluster of each cell, shape (cells,); any integers.
    n_clusters
        Number of clusters to reach.
    random_state
        Seed of the 2-means that split.

    Returns
    -------
    Labels from 0 without a gap, shape (cells,).

    Warns
    -----
    UserWarning
        If there are fewer different latents than clusters asked for; says how many there are.

    Examples
    --------
    >>> from atacvi.priors import split_to_number
    >>> z = [[0.0], [0.1], [9.0], [9.1], [40.0]]
    >>> split_to_number(z, [0, 0, 0, 0, 3], n_clusters=3).tolist()
    [0, 0, 2, 2, 1]
    """
    from sklearn.cluster import KMeans

    z = np.asarray(z, dtype=np.float64)
    labels = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    n_found = int(labels.max()) + 1
    scatter = np.array([_scatter(z[labels == k]) for k in range(n_found)])
    while n_found < n_clusters:
        widest = int(scatter.argmax())
        if scatter[widest] <= 0:
            msg = (
                f"n_clusters={n_clusters} was asked for, but the {len(z)} training cells have only "
                f"{n_found} different latents: the mixture gets {n_found} components. Train the "
                "warm-up for longer, or ask for fewer."
            )
            warnings.warn(msg, UserWarning, stacklevel=2)
            break
        cells = np.flatnonzero(labels == widest)
        halves = KMeans(2, n_init=5, random_state=random_state).fit_predict(z[cells])
        # The larger half keeps the number, so that a label changes for as few cells as possible.
        smaller = np.bincount(halves, minlength=2).argmin()
        labels[cells[halves == smaller]] = n_found
        scatter = np.append(scatter, _scatter(z[labels == n_found]))
        scatter[widest] = _scatter(z[labels == widest])
        n_found += 1
    return labels


def _scatter(z: NDArray[np.float64]) -> float:
    """Return the sum of squared distances to the mean; exactly zero for equal rows."""
    if (z == z[:1]).all():
        return 0.0
    return float(((z - z.mean(0)) ** 2).sum())
