"""What the neighbours of a held-out cell tell of its open regions that were not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_N_NEIGHBOURS = 15
_N_ITERATIONS = 50


def neighbour_gain(
    reference: NDArray[np.floating],
    reference_tokens: sp.csr_matrix,
    query: NDArray[np.floating],
    hidden_tokens: sp.csr_matrix,
    n_neighbours: int = _N_NEIGHBOURS,
) -> float:
    r"""Score an embedding without labels, by what neighbours know of tokens that were hidden.

    A query cell is embedded by a part of its tokens. With :math:`q_c` the share of each region
    among the tokens of its nearest reference cells and :math:`f` that among the tokens of all of
    them, the score is the mean over hidden tokens of

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
    from sklearn.neighbors import NearestNeighbors

    known = reference_tokens.astype(bool).astype(np.float64)
    share = np.asarray(known.sum(axis=0)).ravel()
    share /= max(share.sum(), 1.0)
    hidden = hidden_tokens.tocoo()
    seen = share[hidden.col] > 0
    rows, columns = hidden.row[seen], hidden.col[seen]
    if not len(rows):
        return 0.0
    k = min(n_neighbours, len(reference))
    found = NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(query, return_distance=False)
    starts = np.arange(0, found.size + 1, k)
    near = sp.csr_matrix((np.ones(found.size), found.ravel(), starts), (len(query), len(reference)))
    profile = near @ known
    total = np.maximum(np.asarray(profile.sum(axis=1)).ravel(), 1.0)
    ratio = np.asarray(profile[rows, columns]).ravel() / total[rows] / share[columns]
    weight = 0.5
    for _ in range(_N_ITERATIONS):  # EM of a mixture of two known parts: concave in the weight
        weight = float(np.mean(weight * ratio / (weight * ratio + 1.0 - weight + 1e-300)))
    # not below 0, which the weight 0 gives and EM reaches slowly
    return max(0.0, float(np.mean(np.log(np.maximum(weight * ratio + 1.0 - weight, 1e-300)))))
