"""Overlap of two sets within a universe."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class OverlapTest(NamedTuple):
    """Odds ratio of an overlap with its interval, and the p value of as large an overlap.

    Parameters
    ----------
    odds_ratio
        Odds ratio of the two-by-two table, each cell raised by one half.
    lower, upper
        Limits of its confidence interval.
    p_value
        One-sided hypergeometric p value (Fisher's exact test, alternative "greater").

    Examples
    --------
    >>> from atacvi.metrics import overlap_enrichment
    >>> test = overlap_enrichment(20, 50, 100, 1000)
    >>> bool(test.lower < test.odds_ratio < test.upper)
    True
    """

    odds_ratio: float
    lower: float
    upper: float
    p_value: float


def overlap_enrichment(
    n_both: int, n_first: int, n_second: int, n_all: int, confidence: float = 0.95
) -> OverlapTest:
    """Odds ratio, interval and hypergeometric p value of the overlap of two sets.

    One half is added to each cell of the table (Haldane, Ann. Hum. Genet. 20, 309, 1956), so that
    ratio and interval are finite; the interval is that of Woolf (Ann. Hum. Genet. 19, 251, 1955).

    Parameters
    ----------
    n_both
        Items in both sets.
    n_first, n_second
        Items in each set.
    n_all
        Items of the universe.
    confidence
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Ratio, limits and p value.

    Raises
    ------
    ValueError
        If no such sets exist or the confidence is out of range.

    Examples
    --------
    >>> from atacvi.metrics import overlap_enrichment
    >>> found = overlap_enrichment(8, 10, 20, 100)
    >>> round(found.odds_ratio, 1), found.p_value < 1e-4
    (21.4, True)
    """
    from scipy.stats import hypergeom, norm

    table = np.array(
        [n_both, n_first - n_both, n_second - n_both, n_all - n_first - n_second + n_both]
    )
    if (table < 0).any():
        msg = (
            f"no sets of {n_first} and {n_second} of {n_all} items share {n_both}; give the "
            "overlap, both sizes and the size of the universe that holds both"
        )
        raise ValueError(msg)
    if not 0 < confidence < 1:
        msg = f"confidence={confidence} must lie between 0 and 1"
        raise ValueError(msg)
    both, first, second, neither = table + 0.5
    log_ratio = np.log(both * neither / (first * second))
    margin = norm.ppf(0.5 + confidence / 2) * np.sqrt((1 / (table + 0.5)).sum())
    return OverlapTest(
        float(np.exp(log_ratio)),
        float(np.exp(log_ratio - margin)),
        float(np.exp(log_ratio + margin)),
        float(hypergeom.sf(n_both - 1, n_all, n_second, n_first)),
    )
