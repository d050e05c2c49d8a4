"""Distances between the distributions of real and of generated cells in one space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.metrics._generation_checks import at_most, check_spaces

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_N_KERNELS = 5


def rbf_mmd(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    unbiased: bool = True,
    bandwidth: float | None = None,
    max_cells: int = 2000,
    random_state: int | np.random.Generator = 0,
) -> float:
    r"""Squared maximum mean discrepancy with a sum of five Gaussian kernels.

    The kernel is :math:`k(x, y) = \sum_{i=0}^{4} \exp(-\lVert x-y \rVert^2 / (b\,2^{i-2}))`, with
    :math:`b` the mean squared distance of two different cells.

    Parameters
    ----------
    real, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.
    unbiased
        Leave out each cell's kernel with itself (Eq. 3 of the reference; 0 on average for equal
        distributions, sometimes below), or keep it (Eq. 5; never below 0).
    bandwidth
        The mean squared distance :math:`b`, by default over all pairs of both sets. Give that of
        the real cells to compare several generators with one kernel.
    max_cells
        Cells of each set that are compared; more are sampled.
    random_state
        Seed or generator of that sample.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, the bandwidth is not positive, or no
        bandwidth is given and all cells are the same.

    References
    ----------
    Gretton et al., "A kernel two-sample test", JMLR 13, 723-773 (2012).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import rbf_mmd
    >>> cells = np.random.default_rng(0).normal(size=(200, 2))
    >>> rbf_mmd(cells, cells, unbiased=False)
    0.0
    >>> bool(rbf_mmd(cells, cells + 3) > 1)
    True
    """
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(random_state)
    x, y = (at_most(cells, max_cells, rng) for cells in check_spaces(real, generated))
    within_x, within_y, between = (cdist(*p, "sqeuclidean") for p in ((x, x), (y, y), (x, y)))
    if bandwidth is None:
        n_all = x.shape[0] + y.shape[0]
        total = within_x.sum() + within_y.sum() + 2 * between.sum()
        bandwidth = float(total / (n_all * (n_all - 1)))
    if not bandwidth > 0:
        msg = f"The bandwidth is {bandwidth}; give a positive one, or cells that differ."
        raise ValueError(msg)
    if unbiased:
        same = _off_diagonal_mean(within_x, bandwidth) + _off_diagonal_mean(within_y, bandwidth)
    else:
        same = float(_kernel(within_x, bandwidth).mean() + _kernel(within_y, bandwidth).mean())
    return same - 2 * float(_kernel(between, bandwidth).mean())


def wasserstein(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    max_cells: int = 2000,
    random_state: int | np.random.Generator = 0,
) -> float:
    """Exact 2-Wasserstein distance of two sets of equally many cells.

    Square root of the mean squared Euclidean distance under the best one-to-one assignment. Of
    the larger set a sample as large as the smaller one is used. Between two samples of one
    distribution it is above 0, and falls slowly with their size: compare with what two real sets
    of the same size give.

    Parameters
    ----------
    real, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.
    max_cells
        Cells of each set that are compared; the time grows with the third power.
    random_state
        Seed or generator of the samples.

    Raises
    ------
    ValueError
        If dimensions differ or values are not finite.

    References
    ----------
    Peyré & Cuturi, "Computational optimal transport", Found. Trends Mach. Learn. 11 (2019), 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import wasserstein
    >>> cells = np.random.default_rng(0).normal(size=(50, 2))
    >>> round(wasserstein(cells, cells[::-1] + [3, 4]), 5)
    5.0
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(random_state)
    x, y = check_spaces(real, generated)
    n_cells = min(x.shape[0], y.shape[0], max_cells)
    cost = cdist(at_most(x, n_cells, rng), at_most(y, n_cells, rng), "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def _kernel(squared: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    total = np.zeros_like(squared)
    for i in range(_N_KERNELS):
        total += np.exp(squared / (-bandwidth * 2.0 ** (i - _N_KERNELS // 2)))
    return total


def _off_diagonal_mean(squared: NDArray[np.float64], bandwidth: float) -> float:
    n_cells = squared.shape[0]
    kernel = _kernel(squared, bandwidth)
    return float((kernel.sum() - np.trace(kernel)) / (n_cells * (n_cells - 1)))
