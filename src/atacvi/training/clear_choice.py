"""The choice among candidates that held-out cells score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def clearly_best(scores: ArrayLike) -> int:
    """Return the candidate with the best mean score, or the first where none is clearly better.

    Clearly: by more than a standard error of the differences from the first over the cells.

    Parameters
    ----------
    scores
        Score of each cell under each candidate, shape (candidates, cells).

    Examples
    --------
    >>> from atacvi.training import clearly_best
    >>> clearly_best([[0.0, 0.0, 0.0], [1.0, 1.1, 0.9]]), clearly_best([[0.0, 0.0], [3.0, -2.0]])
    (1, 0)
    """
    scores = np.asarray(scores, dtype=np.float64)
    gain = scores - scores[0]
    best, n_cells = int(gain.mean(1).argmax()), gain.shape[1]
    error = gain[best].std(ddof=1) / n_cells**0.5 if n_cells > 1 else np.inf
    return best if gain[best].mean() > error else 0
