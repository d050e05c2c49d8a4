"""How far guidance must go until generated cells are as well told by their label as real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp
    from sklearn.naive_bayes import MultinomialNB

# Where the search ends: beyond, cells of a label are more alike than real ones.
GUIDANCE_SCALES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)

_FOLDS = 5
_SMOOTHING = (1.0, 0.1)
# Cells to draw for each scale: enough for an accuracy to two per cent.
_CELLS_DRAWN = 500


class LabelReader:
    """Naive Bayes classifiers of the label, of which each has not seen a fold of the cells.

    Real cells are read by the classifier that has not seen them, drawn cells by all: the two
    accuracies are those of classifiers with the same number of training cells.

    Parameters
    ----------
    counts
        Counts of real cells, shape (cells, peaks).
    labels
        Their codes, shape (cells,). Each is of at least as many cells as there are folds.
    random_state
        Seed of the folds.
    """

    def __init__(self, counts: sp.csr_matrix, labels: np.ndarray, random_state: int) -> None:
        fits = [_fit_folds(counts, labels, smoothing, random_state) for smoothing in _SMOOTHING]
        self.accuracy, self._classifiers = max(fits, key=lambda fit: fit[0])
        self.n_cells = len(labels)

    def read(self, counts: sp.csr_matrix, labels: np.ndarray) -> float:
        """Return the share of cells that are told to be of the label they were drawn for."""
        return float(np.mean([c.score(counts, labels) for c in self._classifiers]))

    def standard_error(self, n_drawn: int) -> float:
        """Return that of the difference between the accuracies of real and of drawn cells."""
        variance = self.accuracy * (1.0 - self.accuracy)
        return float(np.sqrt(variance * (1.0 / self.n_cells + 1.0 / n_drawn)))


def _fit_folds(
    counts: sp.csr_matrix, labels: np.ndarray, smoothing: float, random_state: int
) -> tuple[float, list[MultinomialNB]]:
    """Return the accuracy on held-out folds, and the classifiers."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.naive_bayes import MultinomialNB

    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=random_state)
    classifiers, right = [], 0.0
    for seen, held_out in folds.split(counts, labels):
        classifier = MultinomialNB(alpha=smoothing).fit(counts[seen], labels[seen])
        right += len(held_out) * classifier.score(counts[held_out], labels[held_out])
        classifiers.append(classifier)
    return right / len(labels), classifiers


def calibrate_guidance(
    counts: sp.csr_matrix,
    labels: np.ndarray,
    draw: Callable[[np.ndarray, float], sp.csr_matrix],
    random_state: int,
) -> float:
    """Return the smallest scale at which the labels of drawn cells are told like those of real cells.

    What an encoder and a decoder lose makes drawn cells less typical of their label than real ones.
    Guidance (Ho & Salimans, 2022) makes up for it, and too much of it makes them all alike: so no
    more is taken than is needed for an accuracy within a standard error of that of real cells, and
    1.5 at most.

    Parameters
    ----------
    counts
        Counts of real cells, shape (cells, peaks).
    labels
        Codes of their labels, -1 for none, shape (cells,).
    draw
        Function that gives the counts of cells of given labels, drawn with a given scale.
    random_state
        Seed.

    Returns
    -------
    One of ``GUIDANCE_SCALES``; 1 where fewer than two labels are of five cells or more.
    """
    codes, size = np.unique(labels[labels >= 0], return_counts=True)
    kept = np.isin(labels, codes[size >= _FOLDS])
    if len(np.unique(labels[kept])) < 2:
        return 1.0
    counts, labels = counts[kept], labels[kept]
    reader = LabelReader(counts, labels, random_state)
    rng = np.random.default_rng(random_state)
    asked = rng.choice(labels, _CELLS_DRAWN)
    enough = reader.accuracy - reader.standard_error(_CELLS_DRAWN)
    for scale in GUIDANCE_SCALES:
        if reader.read(draw(asked, scale), asked) >= enough:
            break
    return scale
