"""Groups of alike cells, over which sparse profiles are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi.data import check_key

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray


def metacells(
    data: AnnData | MuData,
    n_metacells: int,
    use_rep: str,
    *,
    key_added: str = "metacell",
    random_state: int = 0,
) -> None:
    """Group cells that lie together in an embedding.

    The largest group is halved by 2-means until there are enough, so that groups are compact and
    of about the same size.

    Parameters
    ----------
    data
        Annotated data with the embedding in ``obsm``.
    n_metacells
        Number of groups.
    use_rep
        Entry of ``obsm``.
    key_added
        Column of ``obs`` for the result.
    random_state
        Seed.

    Returns
    -------
    ``None``; writes ``obs[key_added]``, integers from 0.

    Raises
    ------
    KeyError
        If the embedding does not exist.
    ValueError
        If there are fewer cells than groups, or coordinates are not finite.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.tl import metacells
    >>> adata = anndata.AnnData(np.zeros((40, 1)))
    >>> adata.obsm["X_latent"] = np.random.default_rng(0).normal(size=(40, 3))
    >>> metacells(adata, 8, "X_latent")
    >>> adata.obs["metacell"].nunique()
    8
    """
    z = check_key(data, "obsm", use_rep, "data", argument="use_rep")
    data.obs[key_added] = group_cells(z, n_metacells, random_state)


def group_cells(z: ArrayLike, n_groups: int, random_state: int) -> NDArray[np.int64]:
    """Return the group of each cell by bisecting 2-means, shape (cells,)."""
    from sklearn.cluster import BisectingKMeans

    z = np.asarray(z, dtype=np.float64)
    if not 1 <= n_groups <= len(z):
        msg = f"n_metacells={n_groups} for {len(z)} cells: it must lie between 1 and the cells"
        raise ValueError(msg)
    if not np.isfinite(z).all():
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        msg = f"{bad.size} cells have coordinates that are not finite (first: row {bad[0]})"
        raise ValueError(msg)
    if n_groups == len(z):
        return np.arange(len(z))
    if n_groups == 1:
        return np.zeros(len(z), dtype=np.int64)
    distinct = len(np.unique(z, axis=0))
    if distinct < n_groups:
        msg = f"n_metacells={n_groups}, but only {distinct} cells lie at different points"
        raise ValueError(msg)
    model = BisectingKMeans(
        n_groups, random_state=random_state, bisecting_strategy="largest_cluster"
    )
    return model.fit_predict(z).astype(np.int64)


def averaging_matrix(groups: ArrayLike) -> tuple[sp.csr_matrix, pd.Index]:
    """Return the matrix (groups, cells) that takes means, and the names of the groups.

    Cells without a group (NaN) are left out.
    """
    codes, names = pd.factorize(np.asarray(groups), sort=True)
    known = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[known], minlength=len(names))
    weights = (1.0 / counts[codes[known]]).astype(np.float32)
    shape = (len(names), len(codes))
    return sp.csr_matrix((weights, (codes[known], known)), shape=shape), pd.Index(names)
