"""Strata of alike items, within which a background is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def strata(covariates: Sequence[ArrayLike], n_bins: int, min_size: int) -> NDArray[np.int64]:
    """Cut items into strata of equal size, one covariate nested in the other.

    Within each stratum of the covariates before, the next one is cut at its quantiles; equal
    values may fall on either side of a cut. With few items there are fewer bins.

    Parameters
    ----------
    covariates
        One value an item each, shape (items,).
    n_bins
        Bins of each covariate, at most.
    min_size
        Items that a stratum has at least, where there are so many.

    Returns
    -------
    Stratum of each item from 0, shape (items,).
    """
    n_items = len(np.asarray(covariates[0])) if covariates else 0
    stratum = np.zeros(n_items, dtype=np.int64)
    if n_items == 0:
        return stratum
    affordable = int((n_items / min_size) ** (1 / len(covariates)))
    n_bins = max(1, min(n_bins, affordable))
    for values in covariates:
        order = np.lexsort((np.asarray(values), stratum))
        size = np.bincount(stratum)
        first = np.cumsum(size) - size
        rank = np.arange(n_items) - first[stratum[order]]
        stratum[order] = stratum[order] * n_bins + rank * n_bins // size[stratum[order]]
    return np.unique(stratum, return_inverse=True)[1].astype(np.int64)
