"""Turn counts into open (1) and closed (0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ._matrix import checked_matrix, get_modality, set_matrix, values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray


def binarize(
    data: AnnData | MuData,
    *,
    layer: str | None = None,
    key_added: str | None = None,
    threshold: float = 0,
    modality: str = "atac",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Set values above a threshold to 1 and drop the others.

    Parameters
    ----------
    data
        Annotated data, or a MuData of which `modality` is used.
    layer
        Layer with the counts; `X` by default.
    key_added
        Layer for the result; by default the matrix that was read is replaced.
    threshold
        Values greater than this count as open. At least 0, so that zeros stay zeros.
    modality
        Modality of a MuData.
    copy
        Return a changed copy and leave `data` alone.

    Returns
    -------
    `None`, or the changed copy with `copy=True`. The result has the type (dense, CSR or CSC) and
    the dtype of the input and stores no zeros.

    Raises
    ------
    KeyError
        If the layer or the modality does not exist.
    ValueError
        If a value is negative or not finite, or the threshold is negative.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.pp.binarize(mdata, key_added="binary")
    >>> int(mdata["atac"].layers["binary"].max())
    1
    """
    if not threshold >= 0:
        msg = f"`threshold` is {threshold}; it must be at least 0, or zeros would become 1."
        raise ValueError(msg)
    data = data.copy() if copy else data
    adata = get_modality(data, modality)
    matrix = checked_matrix(adata, layer)
    set_matrix(adata, _binary(matrix, threshold), layer if key_added is None else key_added)
    return data if copy else None


def _binary(matrix: sp.spmatrix | NDArray, threshold: float) -> sp.spmatrix | NDArray:
    if not sp.issparse(matrix):
        return (matrix > threshold).astype(matrix.dtype)
    open_ = values(matrix) > threshold
    one = np.ones(int(open_.sum()), dtype=matrix.dtype)
    if open_.all():
        # The index arrays are copied: layers that share them would change together.
        indices, indptr = matrix.indices.copy(), matrix.indptr.copy()
    else:
        indices = matrix.indices[open_]
        indptr = np.concatenate([[0], np.cumsum(open_)])[matrix.indptr]
    kind = sp.csc_matrix if matrix.format == "csc" else sp.csr_matrix
    return kind((one, indices, indptr), shape=matrix.shape)
