"""Scores of the neighbourhood of each cell in an embedding."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from atacvi.metrics._checks import check_embedding, check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def knn_accuracy(
    embedding: ArrayLike,
    labels: ArrayLike,
    n_neighbors: int = 10,
    n_folds: int = 5,
    random_state: int = 0,
) -> float:
    """Cross-validated accuracy of a vote of the nearest neighbours.

    Folds are stratified and shuffled; the vote is unweighted, in Euclidean distance.

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_cells, n_dimensions)``.
    labels
        Known group of each cell, shape ``(n_cells,)``. Groups with fewer cells than folds are
        absent from some folds, and scored where they occur.
    n_neighbors
        Neighbours that vote.
    n_folds
        Folds of the cross-validation.
    random_state
        Seed of the folds.

    Returns
    -------
    Mean accuracy over the folds, between 0 and 1.

    Raises
    ------
    ValueError
        If shapes disagree, labels are missing, or there are too few groups or training cells.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import knn_accuracy
    >>> labels = np.repeat(["a", "b"], 20)
    >>> knn_accuracy((labels == "a")[:, None] + np.arange(40)[:, None] * 1e-3, labels)
    1.0
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    matrix = check_embedding(embedding)
    codes, _ = check_labels(labels, matrix.shape[0])
    train_cells = matrix.shape[0] - -(-matrix.shape[0] // n_folds)
    if train_cells < n_neighbors:
        found = f"{matrix.shape[0]} cells in {n_folds} folds leave {train_cells} to vote"
        msg = f"{found}, but n_neighbors={n_neighbors}; pass fewer neighbours or more cells."
        raise ValueError(msg)
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    with warnings.catch_warnings():
        # A group smaller than the number of folds is legitimate here, see the docstring.
        warnings.filterwarnings("ignore", message="The least populated class")
        accuracy = cross_val_score(KNeighborsClassifier(n_neighbors), matrix, codes, cv=folds)
    return float(accuracy.mean())
