"""Call peaks of each cell open or closed from imputed accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from atacvi._constants import ATAC
from atacvi.tl._values import Values, get_modality

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

_QUANTILES = {"cell": 0.95, "global": 0.90, "cell_and_peak": 0.80}
_MAX_SAMPLE = 10_000_000


def binarize_accessibility(
    data: AnnData | MuData,
    values: Any = None,
    *,
    rule: Literal["cell", "global", "cell_and_peak"] = "cell",
    quantile: float | None = None,
    layer_added: str = "open",
    modality: str = ATAC,
    random_state: int | np.random.Generator = 0,
) -> None:
    """Call open what lies above a quantile, by one of the three rules published with scMVP.

    Parameters
    ----------
    data
        Cells and peaks.
    values
        Imputed accessibility: layer, array, sparse matrix, table or fitted model, which is read in
        minibatches; ``None`` takes ``X``.
    rule
        ``"cell"``: above the 95th percentile of the cell. ``"global"``: above the 90th percentile
        of all values. ``"cell_and_peak"``: above the 80th percentile of the cell, above the mean
        of the peak, and above zero.
    quantile
        Another quantile than the rule's, between 0 and 1.
    layer_added
        Layer for the calls.
    modality
        Modality of a MuData.
    random_state
        Seed or generator; of more than ten million values the global percentile is that of a
        random sample of cells with about so many.

    Returns
    -------
    ``None``; writes a CSR matrix of int8 ones to ``layers[layer_added]``.

    Raises
    ------
    ValueError
        If the rule is unknown, the quantile out of range, or values are unsuitable.

    References
    ----------
    Li et al., Genome Biology 23, 20 (2022).

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.tl import binarize_accessibility
    >>> adata = anndata.AnnData(np.zeros((2, 20)))
    >>> binarize_accessibility(adata, np.arange(40.0).reshape(2, 20))
    >>> adata.layers["open"].sum(axis=1).tolist()
    [[1], [1]]
    """
    if rule not in _QUANTILES:
        msg = f"rule={rule!r}; use one of {', '.join(map(repr, _QUANTILES))}"
        raise ValueError(msg)
    q = _QUANTILES[rule] if quantile is None else quantile
    if not 0 < q < 1:
        msg = f"quantile={q} must lie between 0 and 1"
        raise ValueError(msg)
    adata = get_modality(data, modality)
    source = Values(values, adata, ATAC, "values")
    threshold: float | None = None
    peak_mean: NDArray[np.float64] | None = None
    if rule == "global":
        threshold = _global_quantile(source, q, np.random.default_rng(random_state))
    elif rule == "cell_and_peak":
        total = np.zeros(adata.n_vars)
        for _, block in source.batches():
            total += block.sum(axis=0, dtype=np.float64)
        peak_mean = total / adata.n_obs
    calls = []
    for _, block in source.batches():
        if threshold is not None:
            is_open = block > threshold
        else:
            is_open = block > np.quantile(block, q, axis=1, keepdims=True)
        if peak_mean is not None:
            is_open &= (block > peak_mean) & (block > 0)
        calls.append(sp.csr_matrix(is_open, dtype=np.int8))
    adata.layers[layer_added] = sp.csr_matrix(sp.vstack(calls, format="csr"))


def _global_quantile(source: Values, q: float, rng: np.random.Generator) -> float:
    n_cells, n_peaks = source.shape
    share = min(1.0, _MAX_SAMPLE / (n_cells * n_peaks))
    chosen = rng.random(n_cells) < share if share < 1 else np.ones(n_cells, dtype=bool)
    chosen[rng.integers(n_cells)] = True
    parts = [block[chosen[rows]].ravel() for rows, block in source.batches() if chosen[rows].any()]
    return float(np.quantile(np.concatenate(parts), q))
