"""Mixing of batches and purity of types among the neighbours of each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.metrics._checks import check_embedding, check_labels
from atacvi.metrics.generation_mixing import _perplexity_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CELLS_PER_BLOCK = 4096


def lisi(
    embedding: ArrayLike, labels: ArrayLike, perplexity: float = 30, n_neighbors: int | None = None
) -> NDArray[np.float64]:
    """Local inverse Simpson's index: how many groups the neighbours of a cell come from.

    Neighbours are weighted by a Gaussian of the given perplexity; the index is one over the sum of
    the squared shares of the groups (Korsunsky et al., Nature Methods 16, 1289, 2019).

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Group of each cell, shape ``(n_cells,)``.
    perplexity
        Effective number of neighbours.
    n_neighbors
        Neighbours that are looked at; three times the perplexity by default, at most all cells.

    Returns
    -------
    Index of each cell, between 1 and the number of groups, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing or are of one group, or the perplexity is not below
        the number of neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import lisi
    >>> z = np.random.default_rng(0).normal(size=(200, 2))
    >>> bool(lisi(z, np.arange(200) % 2).mean() > 1.8)
    True
    """
    from sklearn.neighbors import NearestNeighbors

    matrix = check_embedding(embedding).astype(np.float64)
    codes, n_groups = check_labels(labels, matrix.shape[0])
    wanted = int(3 * perplexity) if n_neighbors is None else n_neighbors
    n_neighbors = min(wanted, len(matrix) - 1)
    if not 1 <= perplexity < n_neighbors:
        msg = (
            f"perplexity={perplexity} with {n_neighbors} neighbours of {len(matrix)} cells: it must "
            "lie between 1 and the number of neighbours"
        )
        raise ValueError(msg)
    distance, neighbour = NearestNeighbors(n_neighbors=n_neighbors).fit(matrix).kneighbors()
    out = np.empty(len(matrix))
    for start in range(0, len(matrix), _CELLS_PER_BLOCK):
        part = slice(start, start + _CELLS_PER_BLOCK)
        weight = _perplexity_weights(distance[part], float(perplexity))
        group = codes[neighbour[part]]
        shares = np.stack([(weight * (group == k)).sum(axis=1) for k in range(n_groups)])
        out[part] = 1.0 / (shares**2).sum(axis=0)
    return out


def batch_ilisi(embedding: ArrayLike, batches: ArrayLike, perplexity: float = 30) -> float:
    """Mixing of batches: the median index scaled to 0 (apart) ... 1 (evenly mixed).

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    batches
        Batch of each cell.
    perplexity
        Effective number of neighbours.

    Returns
    -------
    ``(median - 1) / (batches - 1)``, as in Luecken et al., Nature Methods 19, 41 (2022).

    Raises
    ------
    ValueError
        As :func:`lisi`.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import batch_ilisi
    >>> z = np.random.default_rng(0).normal(size=(200, 2))
    >>> batch_ilisi(z, np.arange(200) % 2) > 0.8
    True
    """
    _, n_groups = check_labels(batches, len(np.asarray(embedding)))
    return float((np.median(lisi(embedding, batches, perplexity)) - 1) / (n_groups - 1))


def label_clisi(embedding: ArrayLike, labels: ArrayLike, perplexity: float = 30) -> float:
    """Purity of types: the median index scaled to 0 (evenly mixed) ... 1 (apart).

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Type of each cell.
    perplexity
        Effective number of neighbours.

    Returns
    -------
    ``(types - median) / (types - 1)``, as in Luecken et al., Nature Methods 19, 41 (2022).

    Raises
    ------
    ValueError
        As :func:`lisi`.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import label_clisi
    >>> labels = np.arange(200) % 2
    >>> z = np.random.default_rng(0).normal(size=(200, 2)) + 20 * labels[:, None]
    >>> label_clisi(z, labels) > 0.99
    True
    """
    _, n_groups = check_labels(labels, len(np.asarray(embedding)))
    return float((n_groups - np.median(lisi(embedding, labels, perplexity))) / (n_groups - 1))
