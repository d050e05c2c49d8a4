"""Features that differ between two groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC, RNA
from atacvi.data import check_key
from atacvi.data._messages import examples, suggestion
from atacvi.metrics import benjamini_hochberg
from atacvi.tl._logistic_test import logistic
from atacvi.tl._rank_test import wilcoxon
from atacvi.tl._values import Values, get_modality, normalized

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

_ENTRIES_PER_BLOCK = 4_000_000


def differential(
    data: AnnData | MuData,
    groupby: str,
    group1: str,
    group2: str | None = None,
    *,
    method: Literal["wilcoxon", "logistic"] = "wilcoxon",
    model: Any = None,
    values: Any = None,
    normalize: bool = True,
    modality: str = ATAC,
    key_added: str = "differential",
    **kwargs: Any,
) -> pd.DataFrame:
    """Compare two groups of cells, feature by feature, without making the matrix dense.

    Parameters
    ----------
    data
        Cells and features.
    groupby
        Column of ``obs`` with the groups.
    group1, group2
        Groups to compare; `group2` of ``None`` takes all other cells that have a group.
    method
        ``"wilcoxon"``: Mann-Whitney test with tie correction. ``"logistic"``: likelihood-ratio
        test of the feature in a logistic regression of the group on it and the log depth, which
        does not take a difference in depth for one of features.
    model
        Fitted model to which the comparison is left: its ``differential_accessibility``, or
        ``differential_expression`` for the RNA.
    values
        Layer, array or sparse matrix to take instead of ``X``.
    normalize
        Scale stored counts to a common depth first; RNA is then ``log1p``-ed.
    modality
        Modality of a MuData; ``"rna"`` names expression also for an AnnData.
    key_added
        Key of ``uns``.
    **kwargs
        Passed to the model.

    Returns
    -------
    One row a feature, the index being its name, sorted by p value: ``statistic`` (z, or the signed
    root of the likelihood ratio; positive where `group1` is higher), ``pvalue``, ``fdr``
    (Benjamini-Hochberg), ``log2_fold_change`` of the means, ``auroc`` (Wilcoxon only), ``mean1``,
    ``mean2``, ``share1`` and ``share2`` (cells above zero). With a model, its own table. Written to
    ``uns[key_added]`` of the modality too.

    Raises
    ------
    KeyError
        If the column, modality or layer does not exist.
    ValueError
        If a group is unknown or the method is, or values are unsuitable.

    References
    ----------
    Logistic regression: Ntranos et al., Nature Methods 16, 163 (2019); with depth for ATAC: Stuart
    et al., Nature Methods 18, 1333 (2021).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.tl import differential
    >>> mdata = atacvi.datasets.simulate_multiome(80, 60, 200, 2, random_state=0)
    >>> first = mdata.obs["cell_type"].iloc[0]
    >>> table = differential(mdata, "cell_type", first)
    >>> table.shape, table["pvalue"].is_monotonic_increasing
    ((200, 9), True)
    """
    adata = get_modality(data, modality)
    kind = RNA if modality == RNA else ATAC
    if model is not None:
        test = model.differential_expression if kind == RNA else model.differential_accessibility
        table = test(groupby=groupby, group1=group1, group2=group2, **kwargs)
        adata.uns[key_added] = table.copy()
        return table
    if kwargs:
        msg = f"unknown arguments {sorted(kwargs)}; further ones are passed to a model only"
        raise TypeError(msg)
    if method not in ("wilcoxon", "logistic"):
        msg = f"method={method!r}; use 'wilcoxon' or 'logistic'"
        raise ValueError(msg)
    owner = data if groupby in data.obs else adata
    column = check_key(owner, "obs", groupby, "data", argument="groupby")
    first, second = _masks(column.reindex(adata.obs_names), group1, group2)
    source = Values(values, adata, kind, "values")
    if source.model is not None:
        msg = "values is a model; pass it as model=, which runs its own test"
        raise TypeError(msg)
    depth = np.asarray(source.matrix.sum(axis=1), dtype=np.float64).ravel()
    matrix = normalized(source) if source.stored and normalize else source.matrix
    cells = np.flatnonzero(first | second)
    part = matrix[cells]
    part = sp.csc_matrix(part) if sp.issparse(part) else part
    log_depth = np.log(np.maximum(depth[cells], 1.0))
    table = _compare(part, first[cells], log_depth, method, logged=kind == RNA and normalize)
    table.index = pd.Index([str(name) for name in adata.var_names], dtype=object)
    table["fdr"] = benjamini_hochberg(table["pvalue"])
    order = ["statistic", "pvalue", "fdr", "log2_fold_change", "auroc"]
    table = table[[*order, "mean1", "mean2", "share1", "share2"]]
    # Stable, so that ties stay in the order of the features.
    table = table.sort_values("pvalue", kind="stable")
    adata.uns[key_added] = table
    return table.copy()


def _masks(
    column: pd.Series, group1: str, group2: str | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    known = [str(name) for name in column.dropna().unique()]
    for name in (group1, group2):
        if name is not None and str(name) not in known:
            msg = (
                f"group {name!r} is not in the column, which holds {examples(known, len(known))}"
                f"{suggestion(str(name), known)}"
            )
            raise ValueError(msg)
    labels = column.astype(object)
    first = (labels.astype(str) == str(group1)).to_numpy() & column.notna().to_numpy()
    if group2 is None:
        second = column.notna().to_numpy() & ~first
    else:
        second = (labels.astype(str) == str(group2)).to_numpy() & column.notna().to_numpy()
    if (first & second).any() or not second.any():
        msg = f"group1={group1!r} and group2={group2!r} must be two groups, both with cells"
        raise ValueError(msg)
    return first, second


def _compare(
    matrix: Any,
    first: NDArray[np.bool_],
    log_depth: NDArray[np.float64],
    method: str,
    *,
    logged: bool,
) -> pd.DataFrame:
    n_features = matrix.shape[1]
    step = max(1, _ENTRIES_PER_BLOCK // max(1, len(first)))
    blocks = []
    for start in range(0, n_features, step):
        part = sp.csc_matrix(matrix[:, start : start + step])
        part.sum_duplicates()
        part.eliminate_zeros()
        test = wilcoxon(part, first) if method == "wilcoxon" else logistic(part, first, log_depth)
        linear = part.astype(np.float64)
        if logged:
            linear.data = np.expm1(linear.data)
        means = [np.asarray(linear[rows].mean(axis=0)).ravel() for rows in (first, ~first)]
        shares = [part[rows].getnnz(axis=0) / rows.sum() for rows in (first, ~first)]
        blocks.append(
            pd.DataFrame(
                {
                    "statistic": test.statistic,
                    "pvalue": test.p_value,
                    "auroc": test.auroc,
                    "log2_fold_change": _fold_change(*means),
                    "mean1": means[0],
                    "mean2": means[1],
                    "share1": shares[0],
                    "share2": shares[1],
                }
            )
        )
    return pd.concat(blocks, ignore_index=True)


def _fold_change(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log2 of the ratio of means; a hundredth of the mean of both keeps it finite."""
    floor = np.maximum(0.01 * (one + two) / 2, 1e-12)
    return np.log2((np.maximum(one, 0) + floor) / (np.maximum(two, 0) + floor))
