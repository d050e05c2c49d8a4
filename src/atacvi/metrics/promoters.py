"""Are regions nearer to promoters than matched regions are: scores, matched null, false discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MATRIX_DIMENSIONS = 2


class Enrichment(NamedTuple):
    """How often chosen regions are hits, against matched regions.

    Parameters
    ----------
    observed
        Share of hits among the chosen regions.
    expected
        Mean share of hits among the matched sets.
    ratio
        ``observed / expected``.
    low, high
        Interval of the ratio that holds 95 % of the matched sets and of resampled choices.
    pvalue
        ``(1 + sets with at least as many hits) / (1 + sets)``.

    Examples
    --------
    >>> from atacvi.metrics import Enrichment
    >>> found = Enrichment(observed=0.4, expected=0.2, ratio=2.0, low=1.5, high=2.6, pvalue=0.01)
    >>> found.ratio == found.observed / found.expected
    True
    """

    observed: float
    expected: float
    ratio: float
    low: float
    high: float
    pvalue: float


def tss_score(distance: ArrayLike, tss_distance: ArrayLike) -> float:
    """Rank correlation of the distance to the promoters' centroid with that to the nearest TSS.

    Parameters
    ----------
    distance
        Distance of each region to the centroid in embedding space, shape (regions,).
    tss_distance
        Distance of each region to the nearest TSS in base pairs, shape (regions,).

    Returns
    -------
    Spearman's correlation over the regions where both are finite, between -1 and 1.

    Raises
    ------
    ValueError
        If the shapes differ, fewer than three regions are left, or one of the two is constant.

    References
    ----------
    LeRoy et al., "Atacformer: A transformer-based foundation model for analysis and interpretation
    of ATAC-seq data", bioRxiv (2025).

    Examples
    --------
    >>> from atacvi.metrics import tss_score
    >>> tss_score([0.1, 0.2, 0.9], [10, 2_000, 50_000])
    1.0
    """
    from scipy.stats import spearmanr

    one, two = np.asarray(distance, dtype=np.float64), np.asarray(tss_distance, dtype=np.float64)
    if one.shape != two.shape:
        msg = f"distance has shape {one.shape} and tss_distance {two.shape}; they must be equal."
        raise ValueError(msg)
    kept = np.isfinite(one) & np.isfinite(two)
    if kept.sum() < 3 or np.ptp(one[kept]) == 0 or np.ptp(two[kept]) == 0:
        msg = (
            f"{int(kept.sum())} regions have two finite distances; at least three that differ are "
            "needed for a rank correlation."
        )
        raise ValueError(msg)
    return float(spearmanr(one[kept], two[kept]).statistic)


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for the false discovery rate.

    Parameters
    ----------
    pvalues
        Shape (tests,); NaN stays NaN and is not counted.

    Returns
    -------
    Adjusted p-values, shape (tests,).

    Raises
    ------
    ValueError
        If a value lies outside 0 ... 1.

    References
    ----------
    Benjamini & Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical
    Society B 57:289 (1995).

    Examples
    --------
    >>> from atacvi.metrics import benjamini_hochberg
    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(pvalues, dtype=np.float64).ravel()
    known = np.isfinite(values)
    if ((values[known] < 0) | (values[known] > 1)).any():
        msg = "p-values lie between 0 and 1; found values outside."
        raise ValueError(msg)
    adjusted = np.full(values.shape, np.nan)
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def matched_regions(
    covariates: ArrayLike,
    chosen: ArrayLike,
    pool: ArrayLike,
    n_matches: int = 200,
) -> NDArray[np.int64]:
    """Find for each chosen region the regions of a pool that are most like it.

    Covariates are turned into ranks, so that skewed ones (distances, frequencies) weigh alike.

    Parameters
    ----------
    covariates
        What has to match (frequency, width, GC content, distance to a TSS, ...), shape
        (regions, covariates).
    chosen
        Positions of the regions to match, shape (chosen,).
    pool
        Positions from which matches are taken, shape (pool,); the region itself is left out.
    n_matches
        Matches of each region; fewer where the pool is smaller.

    Returns
    -------
    Positions of the matches, int64 of shape (chosen, matches), the nearest first.

    Raises
    ------
    ValueError
        If covariates are not finite or the pool has fewer than two regions.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import matched_regions
    >>> matched_regions(np.array([[1.0], [2.0], [2.1], [9.0]]), [0], np.arange(4), n_matches=2)
    array([[1, 2]])
    """
    from scipy.spatial import cKDTree
    from scipy.stats import rankdata

    values = np.asarray(covariates, dtype=np.float64)
    values = values[:, None] if values.ndim < _MATRIX_DIMENSIONS else values
    if not np.isfinite(values).all():
        msg = "covariates hold values that are not finite; leave these regions out."
        raise ValueError(msg)
    pool, chosen = np.asarray(pool, dtype=np.int64), np.asarray(chosen, dtype=np.int64)
    if len(pool) < 2:
        msg = f"The pool holds {len(pool)} regions; a null needs at least two."
        raise ValueError(msg)
    ranks = rankdata(values, axis=0) / len(values)
    n_found = min(n_matches + 1, len(pool))
    found = pool[cKDTree(ranks[pool]).query(ranks[chosen], k=n_found)[1]]
    found = found.reshape(len(chosen), n_found)
    # a region is no match of itself: move it to the end of its row, and cut that off
    itself = found == chosen[:, None]
    order = np.argsort(itself, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, : min(n_matches, len(pool) - 1)]


def matched_pvalues(score: ArrayLike, chosen: ArrayLike, matches: ArrayLike) -> NDArray[np.float64]:
    """Return the share of matched regions whose score is at least as high.

    Parameters
    ----------
    score
        Score of each region, higher for more promoter-like, shape (regions,).
    chosen
        Positions of the regions tested, shape (chosen,).
    matches
        Positions of their matched regions, shape (chosen, matches).

    Returns
    -------
    ``(1 + k) / (1 + n)`` with k of n matches at least as high, shape (chosen,).

    Examples
    --------
    >>> from atacvi.metrics import matched_pvalues
    >>> matched_pvalues([3.0, 1.0, 2.0, 5.0], [0], [[1, 2, 3]])
    array([0.5])
    """
    values = np.asarray(score, dtype=np.float64)
    chosen, matches = np.asarray(chosen), np.asarray(matches)
    higher = (values[matches] >= values[chosen][:, None]).sum(axis=1)
    return (1.0 + higher) / (1.0 + matches.shape[1])


def matched_enrichment(
    hits: ArrayLike,
    chosen: ArrayLike,
    matches: ArrayLike,
    n_sets: int = 1000,
    random_state: int = 0,
) -> Enrichment:
    """Compare the hits among chosen regions with those among sets of matched regions.

    Parameters
    ----------
    hits
        Whether each region is a hit, bool of shape (regions,).
    chosen
        Positions of the chosen regions, shape (chosen,).
    matches
        Positions of their matched regions, shape (chosen, matches).
    n_sets
        Matched sets drawn, each with one match of every chosen region.
    random_state
        Seed.

    Returns
    -------
    Shares, ratio with interval, and p-value.

    Raises
    ------
    ValueError
        If no region was chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import matched_enrichment
    >>> hits = np.arange(100) < 10
    >>> matches = np.tile(np.arange(100), (10, 1))
    >>> round(matched_enrichment(hits, np.arange(10), matches).expected, 1)
    0.1
    """
    found, chosen, matches = np.asarray(hits, dtype=bool), np.asarray(chosen), np.asarray(matches)
    if len(chosen) == 0:
        msg = "No region was chosen; there is nothing to compare."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    rows = np.arange(len(chosen))
    columns = rng.integers(0, matches.shape[1], (n_sets, len(chosen)))
    sets = found[matches[rows, columns]].mean(axis=1)
    observed = float(found[chosen].mean())
    resampled = found[chosen[rng.integers(0, len(chosen), (n_sets, len(chosen)))]].mean(axis=1)
    # half a hit keeps the ratio finite where no match is a hit
    floor = 0.5 / len(chosen)
    ratios = resampled / np.maximum(sets, floor)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Enrichment(
        observed=observed,
        expected=float(sets.mean()),
        ratio=observed / max(float(sets.mean()), floor / n_sets),
        low=float(low),
        high=float(high),
        pvalue=float((1 + (sets >= observed).sum()) / (1 + n_sets)),
    )
