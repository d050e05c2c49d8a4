"""What the neighbours of a held-out cell tell of its features that were not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_NEIGHBOURS = 15
_N_ITERATIONS = 50
# Entries of queries x regions that are counted at once.
_ENTRIES_AT_ONCE = 1_000_000


def neighbour_gain(
    reference: NDArray[np.floating],
    reference_tokens: sp.csr_matrix,
    query: NDArray[np.floating],
    hidden_tokens: sp.csr_matrix,
    n_neighbours: int = _N_NEIGHBOURS,
) -> float:
    r"""Score an embedding without labels, by what neighbours know of tokens that were hidden.

    A query cell is embedded by a part of its tokens (open regions, or expressed genes). With
    :math:`q_c` the share of each token among those of its nearest reference cells and :math:`f`
    that among the tokens of all of them, the score is the mean over hidden tokens of

    .. math::

        \log \frac{\pi q_c(t) + (1 - \pi) f(t)}{f(t)}

    at the best :math:`\pi` within [0, 1]: nats a token, and 0 if neighbours are no better than any
    cells. An embedding that tells every cell apart gains nothing by it, unlike in a contrast.

    Parameters
    ----------
    reference
        Embedding of the reference cells, shape (cells, width).
    reference_tokens
        Their token sets, CSR of shape (cells, regions).
    query
        Embedding of the other cells, shape (queries, width).
    hidden_tokens
        Tokens of these that were not shown, CSR of shape (queries, regions).
    n_neighbours
        Neighbours of a query, by Euclidean distance.

    Returns
    -------
    The score; 0 where there are no hidden tokens that the reference knows.

    References
    ----------
    Jelinek & Mercer, "Interpolated estimation of Markov source parameters from sparse data",
    Pattern Recognition in Practice (1980), for the mixture with the frequencies.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from atacvi.training import neighbour_gain
    >>> group = np.arange(40) % 2
    >>> tokens = sp.csr_matrix(np.where(np.arange(10) % 2 == group[:, None], 1, 0))
    >>> where = group[:, None].astype(float)
    >>> round(neighbour_gain(where[4:], tokens[4:], where[:4], tokens[:4]), 3)  # log 2
    0.693
    >>> round(neighbour_gain(0 * where[4:], tokens[4:], 0 * where[:4], tokens[:4], 36), 3)
    0.0
    """
    near = nearest(reference, query, n_neighbours)
    _, gains = _gains(near, reference_tokens, hidden_tokens)
    # not below 0, which the weight 0 gives and EM reaches slowly
    return max(0.0, float(np.mean(gains))) if len(gains) else 0.0


def nearest(
    reference: NDArray[np.floating], query: NDArray[np.floating], n_neighbours: int = _N_NEIGHBOURS
) -> NDArray[np.int64]:
    """Return the nearest reference cells of each query, by Euclidean distance, (queries, k)."""
    from sklearn.neighbors import NearestNeighbors

    k = min(n_neighbours, len(reference))
    return NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(query, return_distance=False)


def gain_by_cell(
    near: NDArray[np.int64], reference_tokens: sp.csr_matrix, hidden_tokens: sp.csr_matrix
) -> NDArray[np.float64]:
    """Return what `neighbour_gain` averages, summed over the hidden tokens of a query.

    Parameters
    ----------
    near
        Neighbours of each query among the reference cells, shape (queries, k), see `nearest`.
    reference_tokens, hidden_tokens
        As for `neighbour_gain`.

    Returns
    -------
    Nats of each query, shape (queries,).
    """
    rows, gains = _gains(near, reference_tokens, hidden_tokens)
    return np.asarray(np.bincount(rows, gains, len(near)), dtype=np.float64)


def _gains(
    near: NDArray[np.int64], reference_tokens: sp.csr_matrix, hidden_tokens: sp.csr_matrix
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return the query of each hidden token that the reference knows, and its gain in nats."""
    known = reference_tokens.astype(bool).astype(np.float64)
    share = np.asarray(known.sum(axis=0)).ravel()
    share /= max(share.sum(), 1.0)
    hidden = hidden_tokens.tocsr().tocoo()  # in the order of the queries
    seen = share[hidden.col] > 0
    rows, columns = hidden.row[seen], hidden.col[seen]
    if not len(rows):
        return rows, np.zeros(0)
    sizes = np.asarray(known.sum(axis=1)).ravel()
    total = np.maximum(sizes[near].sum(axis=1), 1.0)
    ratio = _counts_among(near, known, rows, columns) / total[rows] / share[columns]
    weight = 0.5
    for _ in range(_N_ITERATIONS):  # EM of a mixture of two known parts: concave in the weight
        weight = float(np.mean(weight * ratio / (weight * ratio + 1.0 - weight + 1e-300)))
    return rows, np.log(np.maximum(weight * ratio + 1.0 - weight, 1e-300))


def _counts_among(
    near: NDArray[np.int64],
    known: sp.csr_matrix,
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return how many neighbours of query `rows[i]` have the token `columns[i]`; rows rise."""
    starts = np.arange(0, near.size + 1, near.shape[1])
    of_near = sp.csr_matrix((np.ones(near.size), near.ravel(), starts), (len(near), known.shape[0]))
    counts = np.empty(len(rows))
    step = max(1, _ENTRIES_AT_ONCE // known.shape[1])
    for low in range(0, len(near), step):
        # Dense: to look an entry up in a sparse row takes a walk along it.
        profile = (of_near[low : low + step] @ known).toarray()
        here = slice(*np.searchsorted(rows, [low, low + step]))
        counts[here] = profile[rows[here] - low, columns[here]]
    return counts
