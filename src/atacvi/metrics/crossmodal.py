"""Scores of two modalities in one space, and of one modality predicted from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from atacvi.metrics._checks import check_embedding, check_labels
from atacvi.metrics.agreement import (
    per_cell_correlation,
    per_feature_auroc,
    per_feature_correlation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from atacvi.metrics.agreement import Matrix

Metric = Literal["cosine", "euclidean"]

#: Cells whose distances to all others are held at once
_BLOCK = 512
# Distances that differ by less than rounding are ties
_TOLERANCE = 1e-9


def foscttm(first: ArrayLike, second: ArrayLike, metric: Metric = "cosine") -> float:
    """Return the fraction of samples that are closer than the true match.

    Row i of both embeddings is the same cell. For each cell of either modality it is the share of
    the other cells, in the other modality, that are closer than the cell itself; ties count one
    half. The mean over both directions is returned.

    Parameters
    ----------
    first, second
        Embeddings of the two modalities, each of shape ``(n_cells, n_dimensions)``.
    metric
        ``"cosine"`` or ``"euclidean"`` distance.

    Returns
    -------
    A number between 0 (every cell is its own nearest) and 1; 0.5 for no information.

    Raises
    ------
    ValueError
        If shapes disagree, values are not finite, or the metric is unknown.

    References
    ----------
    Liu et al., "Jointly embedding multiple single-cell omics measurements", WABI (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import foscttm
    >>> cells = np.random.default_rng(0).normal(size=(50, 4))
    >>> foscttm(cells, cells), foscttm(cells, np.ones((50, 4)))
    (0.0, 0.5)
    """
    ranks = [np.concatenate(pair) for pair in _match_ranks(first, second, metric)]
    return float(np.concatenate(ranks).mean() / (np.shape(first)[0] - 1))


def recall_at_k(
    query: ArrayLike, target: ArrayLike, k: Sequence[int] = (1, 5, 10), metric: Metric = "cosine"
) -> dict[int, float]:
    """Return the share of cells whose match is among their nearest in the other modality.

    Parameters
    ----------
    query, target
        Embeddings of the modality searched from and of that searched in, each of shape
        ``(n_cells, n_dimensions)``; row i of both is the same cell.
    k
        Numbers of neighbours.
    metric
        ``"cosine"`` or ``"euclidean"`` distance.

    Returns
    -------
    Recall for each `k`. Without information it is ``k / n_cells``. Of targets at the same distance
    half are taken to be closer than the match.

    Raises
    ------
    ValueError
        If shapes disagree, values are not finite, `k` is below 1 or the metric is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import recall_at_k
    >>> cells = np.eye(6)
    >>> recall_at_k(cells, cells[[1, 0, 2, 3, 4, 5]], k=[1, 4])
    {1: 0.6666666666666666, 4: 1.0}
    """
    wanted = [int(number) for number in k]
    if not wanted or min(wanted) < 1:
        msg = f"k={list(k)} was found; give numbers of neighbours, each at least 1."
        raise ValueError(msg)
    ranks = np.concatenate([forth for forth, _ in _match_ranks(query, target, metric)])
    return {number: float((ranks < number).mean()) for number in wanted}


def modality_gap(first: ArrayLike, second: ArrayLike) -> float:
    """Return the distance between the mean unit vectors of two modalities.

    Parameters
    ----------
    first, second
        Embeddings, shapes ``(n_cells, n_dimensions)``; they need not be of the same cells.

    Returns
    -------
    Between 0 (the modalities have the same centre) and 2.

    Raises
    ------
    ValueError
        If dimensions disagree or values are not finite.

    References
    ----------
    Liang et al., "Mind the gap: understanding the modality gap in multi-modal contrastive
    representation learning", NeurIPS (2022), section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import modality_gap
    >>> cells = np.eye(3)
    >>> modality_gap(cells, cells), round(modality_gap(cells, -cells), 3)
    (0.0, 1.155)
    """
    one, two = check_embedding(first), check_embedding(second)
    if one.shape[1] != two.shape[1]:
        msg = f"Dimensions disagree: {one.shape[1]} and {two.shape[1]}."
        raise ValueError(msg)
    return float(np.linalg.norm(_unit(one).mean(axis=0) - _unit(two).mean(axis=0)))


def label_transfer_accuracy(
    reference: ArrayLike,
    reference_labels: ArrayLike,
    query: ArrayLike,
    query_labels: ArrayLike,
    n_neighbors: int = 15,
    metric: Metric = "cosine",
) -> float:
    """Return how often the nearest reference cells vote for the true label of a query cell.

    Parameters
    ----------
    reference, query
        Embeddings in one space, of one modality each, shapes ``(n_cells, n_dimensions)``.
    reference_labels, query_labels
        Known group of each cell.
    n_neighbors
        Reference cells that vote, unweighted.
    metric
        ``"cosine"`` or ``"euclidean"`` distance.

    Returns
    -------
    Accuracy over the query cells, between 0 and 1.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing or of one group only, or there are fewer reference
        cells than neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import label_transfer_accuracy
    >>> labels = np.repeat(["a", "b"], 20)
    >>> rna = np.eye(2)[np.repeat([0, 1], 20)]
    >>> label_transfer_accuracy(rna, labels, rna + 0.1, labels)
    1.0
    """
    from sklearn.neighbors import KNeighborsClassifier

    _check_metric(metric)
    voters, asked = check_embedding(reference), check_embedding(query)
    if voters.shape[1] != asked.shape[1]:
        msg = f"Dimensions disagree: {voters.shape[1]} of the reference, {asked.shape[1]} of the query."
        raise ValueError(msg)
    if not 1 <= n_neighbors <= len(voters):
        msg = f"n_neighbors={n_neighbors} was found; it has to lie in 1 ... {len(voters)}, the reference cells."
        raise ValueError(msg)
    known = np.asarray(reference_labels).ravel()
    check_labels(known, len(voters))
    truth = np.asarray(query_labels).ravel()
    if len(truth) != len(asked):
        msg = f"{len(truth)} labels were given for {len(asked)} query cells; pass one label a cell."
        raise ValueError(msg)
    if metric == "cosine":
        voters, asked = _unit(voters), _unit(asked)
    vote = KNeighborsClassifier(n_neighbors).fit(voters, known.astype(str))
    return float((vote.predict(asked) == truth.astype(str)).mean())


def crossmodal_scores(truth: Matrix, prediction: Matrix, min_cells: int = 5) -> dict[str, float]:
    """Return the means of correlations and AUROC of a modality predicted from the other.

    Parameters
    ----------
    truth, prediction
        Observed and predicted values, shape ``(n_cells, n_features)``, dense or sparse.
    min_cells
        Features seen in fewer cells are not scored over the cells.

    Returns
    -------
    ``feature_pearson``, ``feature_spearman``, ``feature_auroc`` (seen above not seen), and
    ``cell_pearson``, ``cell_spearman``; means without what cannot be scored.

    Raises
    ------
    ValueError
        If shapes disagree, values are not finite, or no feature is seen in `min_cells` cells.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import crossmodal_scores
    >>> truth = np.random.default_rng(0).poisson(1.0, size=(40, 6))
    >>> crossmodal_scores(truth, 2 * truth)["feature_pearson"]
    1.0
    """
    import scipy.sparse as sp

    observed = sp.csr_matrix(truth) if sp.issparse(truth) else np.asarray(truth)
    seen = np.asarray((observed > 0).sum(axis=0)).ravel() >= min_cells
    if not seen.any():
        msg = f"No feature is seen in min_cells={min_cells} cells; there is nothing to score."
        raise ValueError(msg)
    predicted = sp.csr_matrix(prediction) if sp.issparse(prediction) else np.asarray(prediction)
    if observed.shape != predicted.shape:
        msg = f"Shapes disagree: {observed.shape} observed, {predicted.shape} predicted."
        raise ValueError(msg)
    one, two = observed[:, seen], predicted[:, seen]
    found = {
        "feature_pearson": per_feature_correlation(one, two),
        "feature_spearman": per_feature_correlation(one, two, "spearman"),
        "feature_auroc": per_feature_auroc(one > 0, two),
        "cell_pearson": per_cell_correlation(observed, predicted),
        "cell_spearman": per_cell_correlation(observed, predicted, "spearman"),
    }
    return {name: _mean(values) for name, values in found.items()}


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of what can be scored; NaN where nothing can."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 12) if known.size else float("nan")


def _match_ranks(
    first: ArrayLike, second: ArrayLike, metric: Metric
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield, by blocks of cells, how many are closer than the match, in both directions."""
    _check_metric(metric)
    one = check_embedding(first).astype(np.float64)
    two = check_embedding(second).astype(np.float64)
    if one.shape != two.shape:
        msg = f"Shapes disagree: {one.shape} and {two.shape}; rows of both are the same cells."
        raise ValueError(msg)
    if metric == "cosine":
        one, two = _unit(one), _unit(two)
    matched = ((one - two) ** 2).sum(axis=1)
    for start in range(0, len(one), _BLOCK):
        here = slice(start, start + _BLOCK)
        yield (
            _rank(one[here], two, matched[here], start),
            _rank(two[here], one, matched[here], start),
        )


def _rank(
    asked: NDArray[np.float64],
    others: NDArray[np.float64],
    matched: NDArray[np.float64],
    start: int,
) -> NDArray[np.float64]:
    distance = (asked**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * asked @ others.T
    scale = _TOLERANCE * max(float(np.abs(distance).max()), 1e-300)
    gap = distance - matched[:, None]
    # the match itself is no other cell
    gap[np.arange(len(asked)), start + np.arange(len(asked))] = np.inf
    return (gap < -scale).sum(axis=1) + 0.5 * (np.abs(gap) <= scale).sum(axis=1)


def _unit(matrix: NDArray) -> NDArray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def _check_metric(metric: str) -> None:
    if metric not in ("cosine", "euclidean"):
        msg = f"metric={metric!r} is unknown; choose 'cosine' or 'euclidean'."
        raise ValueError(msg)
