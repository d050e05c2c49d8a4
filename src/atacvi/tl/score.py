"""Score cells by the accessibility of a set of regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC
from atacvi.data._messages import examples
from atacvi.tl._matching import strata
from atacvi.tl._values import Values, get_modality, normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

_BINS = 25


def score_regions(
    data: AnnData | MuData,
    regions: Sequence[str],
    *,
    key_added: str = "region_score",
    values: Any = None,
    normalize: bool = True,
    standardize: bool = True,
    n_backgrounds: int = 50,
    modality: str = ATAC,
    random_state: int | np.random.Generator = 0,
) -> None:
    """Write the mean accessibility of a set of regions, less that of regions as accessible.

    Parameters
    ----------
    data
        Accessibility (cells, regions).
    regions
        Names of the regions.
    key_added
        Column of ``obs`` for the score.
    values
        Layer, array, sparse matrix, table or fitted model to take instead of ``X``.
    normalize
        Scale stored counts of each cell to the median depth.
    standardize
        Divide by the standard deviation over the background sets, which makes the score of a cell
        a deviation in the sense of chromVAR; otherwise differences of means are written.
    n_backgrounds
        Background sets, each with one region in place of every region of the set, drawn from
        those of about the same mean accessibility.
    modality
        Modality of a MuData.
    random_state
        Seed or generator.

    Returns
    -------
    ``None``; writes ``obs[key_added]`` of the modality. A cell whose background does not vary
    scores zero if standardised.

    Raises
    ------
    KeyError
        If regions are unknown.
    ValueError
        If the set is empty, or no other region is left, or values are unsuitable.

    References
    ----------
    Schep et al., Nature Methods 14, 975 (2017).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.tl import score_regions
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> score_regions(mdata, mdata["atac"].var_names[:10], key_added="program")
    >>> mdata["atac"].obs["program"].notna().all().item()
    True
    """
    adata = get_modality(data, modality)
    wanted = pd.Index(list(dict.fromkeys(regions)))
    chosen = adata.var_names.get_indexer(wanted)
    if (chosen < 0).any():
        missing = wanted[chosen < 0]
        msg = (
            f"{len(missing)} of {len(wanted)} regions are not in the data: "
            f"{examples(missing[:5], len(missing))}"
        )
        raise KeyError(msg)
    if not 0 < len(chosen) < adata.n_vars or n_backgrounds < 2:
        msg = (
            f"{len(chosen)} of {adata.n_vars} regions and n_backgrounds={n_backgrounds}: at least "
            "one region must be chosen and one left, and 2 background sets drawn"
        )
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    source = Values(values, adata, ATAC, "values")
    matrix = None
    if source.model is None:
        matrix = normalized(source) if source.stored and normalize else source.matrix
    mean = _column_means(source, matrix)
    weights = _weights(chosen, mean, n_backgrounds, rng)
    scores = np.empty((adata.n_obs, n_backgrounds + 1))
    if matrix is not None:
        product = matrix @ weights
        scores[:] = product.toarray() if sp.issparse(product) else product
    else:
        for rows, block in source.batches():
            scores[rows] = block @ weights
    background = scores[:, 1:]
    difference = scores[:, 0] - background.mean(axis=1)
    if standardize:
        sd = background.std(axis=1)
        difference = np.divide(difference, sd, out=np.zeros_like(difference), where=sd > 0)
    adata.obs[key_added] = difference


def _column_means(source: Values, matrix: Any) -> NDArray[np.float64]:
    if matrix is not None:
        return np.asarray(matrix.mean(axis=0), dtype=np.float64).ravel()
    total = np.zeros(source.shape[1])
    for _, block in source.batches():
        total += block.sum(axis=0, dtype=np.float64)
    return total / source.shape[0]


def _weights(
    chosen: NDArray[np.int64],
    mean: NDArray[np.float64],
    n_backgrounds: int,
    rng: np.random.Generator,
) -> sp.csc_matrix:
    """Return the matrix (regions, 1 + backgrounds) whose product takes the means of the sets."""
    stratum = strata([mean], _BINS, min_size=2)
    free = np.ones(len(mean), dtype=bool)
    free[chosen] = False
    drawn = np.empty((len(chosen), n_backgrounds), dtype=np.int64)
    for s in np.unique(stratum[chosen]):
        mine = np.flatnonzero(stratum[chosen] == s)
        pool = np.flatnonzero(free & (stratum == s))
        if not pool.size:  # the set fills its stratum: take the regions of nearest mean
            others = np.flatnonzero(free)
            gap = np.abs(mean[others] - mean[chosen[mine]].mean())
            pool = others[np.argsort(gap, kind="stable")[: max(2, len(mine))]]
        drawn[mine] = rng.choice(pool, (len(mine), n_backgrounds))
    rows = np.concatenate([chosen, drawn.T.ravel()])
    columns = np.repeat(np.arange(n_backgrounds + 1), len(chosen))
    value = np.full(len(rows), 1.0 / len(chosen), dtype=np.float32)
    return sp.csc_matrix((value, (rows, columns)), shape=(len(mean), n_backgrounds + 1))
