"""The vote of neighbouring cells on a label."""

from __future__ import annotations

import numpy as np


def votes_of_neighbours(distance: np.ndarray, codes: np.ndarray, n_labels: int) -> np.ndarray:
    """Return probabilities of the labels from neighbours, nearest first.

    Weights fall over the scale of each cell's own neighbourhood, the distance of its last one.

    Parameters
    ----------
    distance
        Distances to the neighbours, rising, shape (cells, k).
    codes
        Label of each neighbour, shape (cells, k).
    n_labels
        Number of labels.

    Returns
    -------
    Shape (cells, n_labels); rows sum to one.
    """
    weight = np.exp(-((distance / np.maximum(distance[:, -1:], 1e-12)) ** 2))
    votes = np.zeros((len(codes), n_labels))
    for column in range(codes.shape[1]):
        np.add.at(votes, (np.arange(len(codes)), codes[:, column]), weight[:, column])
    return votes / votes.sum(axis=1, keepdims=True)
