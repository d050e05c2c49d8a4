"""Checks shared by the metrics: what comes in has to be what the score assumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MIN_CELLS = 3
_MIN_GROUPS = 2
_MATRIX_DIMENSIONS = 2


def check_embedding(embedding: ArrayLike) -> NDArray[np.float32]:
    """Return the embedding as a finite float32 matrix, or say what is wrong with it."""
    matrix = np.asarray(embedding, dtype=np.float32)
    if matrix.ndim != _MATRIX_DIMENSIONS or matrix.shape[0] < _MIN_CELLS or matrix.shape[1] == 0:
        msg = (
            f"An embedding of shape {matrix.shape} was found; a matrix (cells, dimensions) of at "
            f"least {_MIN_CELLS} cells and one dimension is needed."
        )
        raise ValueError(msg)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        msg = (
            f"{int((~finite).sum())} cells have NaN or infinite coordinates, the first in row "
            f"{int(np.flatnonzero(~finite)[0])}; leave these cells out or mend the embedding."
        )
        raise ValueError(msg)
    return matrix


def check_labels(labels: ArrayLike, n_cells: int) -> tuple[NDArray[np.int64], int]:
    """Return the labels as codes 0, 1, ... with the number of groups."""
    import pandas as pd

    values = pd.Series(np.asarray(labels).ravel())
    if values.size != n_cells:
        msg = f"{values.size} labels were given for {n_cells} cells; pass one label a cell."
        raise ValueError(msg)
    codes, groups = pd.factorize(values)
    if (codes < 0).any():
        msg = (
            f"{int((codes < 0).sum())} cells have no label; leave them out of both the embedding "
            "and the labels before scoring."
        )
        raise ValueError(msg)
    if len(groups) < _MIN_GROUPS:
        msg = f"One group was found ({groups[0]!r}); at least {_MIN_GROUPS} are needed to score."
        raise ValueError(msg)
    return np.asarray(codes, dtype=np.int64), len(groups)
