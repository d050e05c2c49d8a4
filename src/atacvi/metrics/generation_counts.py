"""Agreement of generated with real cells in the peaks themselves: means, depth, co-accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.metrics._generation_checks import (
    binarised,
    check_cell_labels,
    check_count_pair,
)
from atacvi.metrics.agreement import per_cell_correlation

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from numpy.typing import ArrayLike, NDArray

    from atacvi.metrics._generation_checks import Matrix


class PeakMeanCorrelation(NamedTuple):
    """Correlation over the peaks of the mean of generated with that of real cells.

    Attributes
    ----------
    scc, pcc
        Spearman's and Pearson's correlation over all cells.
    per_type
        One row a type with ``scc``, ``pcc``, ``n_real`` and ``n_generated``; NaN where one of the
        two sets lacks the type. Without labels, an empty table.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import peak_mean_correlation
    >>> cells = np.random.default_rng(0).poisson(np.linspace(0.1, 2, 20), (50, 20))
    >>> round(float(peak_mean_correlation(cells, cells).scc), 2)
    1.0
    """

    scc: float
    pcc: float
    per_type: pd.DataFrame


def peak_mean_correlation(
    real: Matrix,
    generated: Matrix,
    labels: ArrayLike | None = None,
    generated_labels: ArrayLike | None = None,
    *,
    binary: bool = True,
) -> PeakMeanCorrelation:
    """Correlate the mean of each peak in generated cells with that in real cells.

    The usual headline of generators, and a weak one: drawing each peak on its own with its
    observed frequency nearly saturates it. Read it beside :func:`real_fake_auc`.

    Parameters
    ----------
    real, generated
        Counts, shapes ``(n_cells, n_peaks)`` with the same peaks, dense or sparse; the numbers of
        cells may differ.
    labels, generated_labels
        Type of each real and of each generated cell; both or neither.
    binary
        Compare the shares of cells with an open peak, in place of mean counts: generators that
        draw counts and those that draw open / closed are then on one footing.

    Returns
    -------
    The two correlations over all cells, and a table of them per type.

    Raises
    ------
    ValueError
        If peaks differ, values are negative or not finite, or labels do not fit.

    References
    ----------
    Huang et al., "A versatile informative diffusion model for single-cell ATAC-seq data generation
    and analysis", arXiv:2408.14801 (2024).

    Examples
    --------
    >>> from atacvi.metrics import peak_mean_correlation
    >>> found = peak_mean_correlation([[1, 0, 0], [1, 1, 0]], [[3, 0, 0], [1, 1, 0]])
    >>> round(found.scc, 6), round(found.pcc, 6)
    (1.0, 1.0)
    """
    import pandas as pd

    first, second = check_count_pair(real, generated)
    if binary:
        first, second = binarised(first), binarised(second)
    rows: dict[str, dict[str, float]] = {}
    if (labels is None) != (generated_labels is None):
        msg = "Only one of `labels` and `generated_labels` was given; give both or neither."
        raise ValueError(msg)
    if labels is not None and generated_labels is not None:
        groups = check_cell_labels(labels, first.shape[0], "labels")
        drawn = check_cell_labels(generated_labels, second.shape[0], "generated_labels")
        for name in np.union1d(groups, drawn):
            pair = np.flatnonzero(groups == name), np.flatnonzero(drawn == name)
            scc, pcc = np.nan, np.nan
            if all(cells.size for cells in pair):
                scc, pcc = _mean_correlations(first[pair[0]], second[pair[1]])
            sizes = {"n_real": pair[0].size, "n_generated": pair[1].size}
            rows[str(name)] = {"scc": scc, "pcc": pcc, **sizes}
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["scc", "pcc", "n_real", "n_generated"]
    )
    return PeakMeanCorrelation(*_mean_correlations(first, second), table)


def depth_ks(real: Matrix, generated: Matrix) -> float:
    """Kolmogorov-Smirnov distance of the numbers of accessible peaks per cell.

    Parameters
    ----------
    real, generated
        Counts, shapes ``(n_cells, n_peaks)``, dense or sparse; a count above zero is accessible.

    Returns
    -------
    Largest difference of the two cumulative distributions, 0 (the same) to 1 (disjoint).

    Raises
    ------
    ValueError
        If peaks differ, or values are negative or not finite.

    Examples
    --------
    >>> from atacvi.metrics import depth_ks
    >>> depth_ks([[1, 0], [2, 0]], [[5, 0], [1, 1]])
    0.5
    """
    first, second = check_count_pair(real, generated)
    return _ks(np.diff(first.indptr), np.diff(second.indptr))


def peak_frequency_ks(real: Matrix, generated: Matrix) -> float:
    """Kolmogorov-Smirnov distance of the shares of cells in which peaks are accessible.

    The peaks' identity does not enter (:func:`peak_mean_correlation` has it): this asks whether
    there are as many rare and common peaks. Shares come in steps of one over the number of cells;
    compare equally many cells.

    Parameters
    ----------
    real, generated
        Counts, shapes ``(n_cells, n_peaks)``, dense or sparse; a count above zero is accessible.

    Returns
    -------
    Largest difference of the two cumulative distributions, 0 (the same) to 1 (disjoint).

    Raises
    ------
    ValueError
        If peaks differ, or values are negative or not finite.

    Examples
    --------
    >>> from atacvi.metrics import peak_frequency_ks
    >>> peak_frequency_ks([[1, 0], [1, 0]], [[0, 1], [0, 3]])
    0.0
    """
    first, second = check_count_pair(real, generated)
    return _ks(*(_mean(binarised(matrix)) for matrix in (first, second)))


def coaccessibility(
    real: Matrix, generated: Matrix, n_peaks: int = 1000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation over cells of all pairs of the peaks that vary most in the real cells.

    Parameters
    ----------
    real, generated
        Counts, shapes ``(n_cells, n_peaks)``, dense or sparse; compared as open / closed.
    n_peaks
        Peaks taken, by variance in `real` (all that vary when there are fewer).

    Returns
    -------
    Pearson's correlations in the real and in the generated cells, each of shape
    ``(n_peaks (n_peaks - 1) / 2,)`` in the same order; 0 for a generated peak that never varies.

    Raises
    ------
    ValueError
        If peaks differ, values are negative or not finite, or fewer than 3 real peaks vary.

    Examples
    --------
    >>> from atacvi.metrics import coaccessibility
    >>> real, drawn = coaccessibility([[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]])
    >>> real.round(6).tolist(), drawn.round(6).tolist()
    ([1.0, -1.0, -1.0], [-1.0, -1.0, 1.0])
    """
    first, second = (binarised(matrix) for matrix in check_count_pair(real, generated))
    share = _mean(first)
    variance = share * (1 - share)
    chosen = np.argsort(-variance, kind="stable")[:n_peaks]
    chosen = chosen[variance[chosen] > 0]
    if chosen.size < 3:
        msg = f"{chosen.size} peaks vary in `real`; at least 3 are needed for pairs to compare."
        raise ValueError(msg)
    upper = np.triu_indices(chosen.size, k=1)
    truth, drawn = (_correlations(matrix[:, chosen])[upper] for matrix in (first, second))
    return truth, drawn


def coaccessibility_correlation(real: Matrix, generated: Matrix, n_peaks: int = 1000) -> float:
    """Correlate the co-accessibility of peak pairs in generated with that in real cells.

    Pearson's correlation of the two vectors of :func:`coaccessibility`. Peaks drawn on their own
    have none: about 0. With few real cells the truth itself is noisy; a second real set shows what
    can be reached.

    Parameters
    ----------
    real, generated
        Counts, shapes ``(n_cells, n_peaks)``, dense or sparse; compared as open / closed.
    n_peaks
        Peaks taken, by variance in `real`.

    Returns
    -------
    A number between -1 and 1.

    Raises
    ------
    ValueError
        As :func:`coaccessibility`.

    Examples
    --------
    >>> from atacvi.metrics import coaccessibility_correlation
    >>> cells = [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0]]
    >>> round(coaccessibility_correlation(cells, cells), 6)
    1.0
    """
    truth, drawn = coaccessibility(real, generated, n_peaks)
    return float(per_cell_correlation(truth[None], drawn[None])[0])


def _mean(matrix: sp.csr_matrix) -> NDArray[np.float64]:
    # Sums of counts are exact and divided once: equal means stay ties for the ranks.
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel() / matrix.shape[0]


def _mean_correlations(first: sp.csr_matrix, second: sp.csr_matrix) -> tuple[float, float]:
    x, y = _mean(first)[None], _mean(second)[None]
    spearman = per_cell_correlation(x, y, method="spearman")
    return float(spearman[0]), float(per_cell_correlation(x, y)[0])


def _ks(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    from scipy.stats import ks_2samp

    # The distance alone: an exact p-value of large samples takes long.
    return float(ks_2samp(first, second, method="asymp").statistic)


def _correlations(matrix: sp.csr_matrix) -> NDArray[np.float64]:
    """Pearson's correlations of the columns, from sparse products."""
    n_cells = matrix.shape[0]
    share = _mean(matrix)
    covariance = (matrix.T @ matrix).toarray() / n_cells - np.outer(share, share)
    spread = np.sqrt(np.maximum(share * (1 - share), 0))
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    return covariance * scale[:, None] * scale
