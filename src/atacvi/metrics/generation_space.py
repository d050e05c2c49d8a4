"""The space in which real and generated cells are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from atacvi.metrics._generation_checks import binarised, check_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atacvi.metrics._generation_checks import Matrix

_SCALE = 1e4


def lsi_space(
    reference: Matrix, *others: Matrix, n_components: int = 30, random_state: int = 0
) -> list[NDArray[np.float32]]:
    """Project cells onto the LSI of a reference, so that what is scored does not shape the space.

    Counts are binarised and weighted as ``log(1 + 1e4 tf idf)``, with the inverse document
    frequency (cells over cells with the peak) and the singular vectors of the reference alone. The
    first component, which follows depth, is left out: components 2 to ``n_components + 1``.

    Parameters
    ----------
    reference
        Counts, shape ``(n_cells, n_peaks)``, dense or sparse: real training cells.
    *others
        Counts of further cells over the same peaks. A peak closed in the reference has no weight.
    n_components
        Components; less when the reference is small.
    random_state
        Seed of the randomised decomposition.

    Returns
    -------
    Coordinates of the reference and of each of the others, shapes ``(n_cells, n_components)``.

    Raises
    ------
    ValueError
        If peaks differ, values are negative or not finite, or the reference is too small.

    References
    ----------
    Stuart et al., "Single-cell chromatin state analysis with Signac", Nat. Methods 18, 1333-1341
    (2021), for the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import lsi_space
    >>> cells = np.random.default_rng(0).poisson(1.0, (50, 80))
    >>> [space.shape for space in lsi_space(cells[:40], cells[40:], n_components=5)]
    [(40, 5), (10, 5)]
    """
    from sklearn.utils.extmath import randomized_svd

    fitted = binarised(check_counts(reference, "reference"))
    rest = [binarised(check_counts(matrix, f"others[{i}]")) for i, matrix in enumerate(others)]
    for i, matrix in enumerate(rest):
        if matrix.shape[1] != fitted.shape[1]:
            found = f"`reference` has {fitted.shape[1]} peaks and `others[{i}]` {matrix.shape[1]}"
            msg = f"{found}; pass the same peaks in the same order."
            raise ValueError(msg)
    n_kept = min(n_components, min(fitted.shape) - 1)
    if n_kept < 1:
        msg = f"n_components={n_components} of a reference of shape {fitted.shape}: at least one "
        msg += "component is needed, and two cells and two peaks."
        raise ValueError(msg)
    seen = np.bincount(fitted.indices, minlength=fitted.shape[1])
    idf = np.divide(fitted.shape[0], seen, out=np.zeros(seen.size), where=seen > 0)
    weighted = _weighted(fitted, idf)
    _, _, right = randomized_svd(weighted, n_kept + 1, random_state=random_state)
    axes = right[1:].T
    return [matrix @ axes for matrix in (weighted, *(_weighted(other, idf) for other in rest))]


def _weighted(binary: sp.csr_matrix, idf: NDArray[np.float64]) -> sp.csr_matrix:
    depth = np.diff(binary.indptr)
    per_entry = np.repeat(_SCALE / np.maximum(depth, 1), depth)
    values = np.log1p(per_entry * idf[binary.indices]).astype(np.float32)
    return sp.csr_matrix((values, binary.indices, binary.indptr), shape=binary.shape)
