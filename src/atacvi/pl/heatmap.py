"""Means of features in groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from atacvi.pl._style import CMAP, integer_axis, new_axes, shorten
from atacvi.pl._values import as_categories, cell_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["heatmap"]

# Purple to orange over white: told apart by the colour-blind, which red and green are not.
_DIVERGING = "PuOr_r"


def heatmap(
    adata: AnnData,
    features: Sequence[str],
    groupby: str,
    *,
    values: Any = None,
    scale: Literal["feature", "none"] = "feature",
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean of each feature in each group.

    Parameters
    ----------
    adata
        Cells and features.
    features
        Names of features, from top to bottom.
    groupby
        Column of ``obs``.
    values
        Layer, array or sparse matrix like ``X`` to take instead.
    scale
        ``"feature"``: z scores of each feature over the groups. ``"none"``: the means.
    ax
        Axes to draw into.

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        If a feature, layer or column is unknown.
    ValueError
        If no feature is given or `scale` is unknown.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.pl import heatmap
    >>> adata = anndata.AnnData(np.eye(4))
    >>> adata.obs["type"] = ["a", "a", "b", "b"]
    >>> heatmap(adata, adata.var_names, "type").get_xlabel()
    'type'
    """
    if scale not in ("feature", "none"):
        msg = f"scale={scale!r}; use 'feature' or 'none'"
        raise ValueError(msg)
    wanted = pd.Index(features)
    columns = adata.var_names.get_indexer(wanted)
    if not len(wanted) or (columns < 0).any():
        msg = f"{len(wanted)} features, unknown among them: {list(wanted[columns < 0][:5])}"
        raise (KeyError if len(wanted) else ValueError)(msg)
    category = as_categories(cell_values(adata, groupby))
    names = [str(name) for name in category.categories]
    means = _means(adata, columns, values, category).T  # (features, groups)
    ax = new_axes(ax, (1.6 + 0.3 * len(names), 1.2 + 0.2 * min(len(wanted), 40)))
    if scale == "feature":
        spread = means.std(axis=1, keepdims=True)
        shown = (means - means.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
        limit = min(3.0, float(np.abs(shown).max()) or 1.0)
        style: dict[str, Any] = {"cmap": _DIVERGING, "vmin": -limit, "vmax": limit}
        label = "z score of means"
    else:
        shown, style, label = means, {"cmap": CMAP, "vmin": min(0.0, float(means.min()))}, "mean"
    image = ax.imshow(shown, aspect="auto", interpolation="nearest", **style)
    integer_axis(ax.yaxis, len(wanted), [shorten(name, 24) for name in wanted])
    integer_axis(ax.xaxis, len(names), [shorten(name, 18) for name in names])
    ax.tick_params(axis="x", rotation=90 if max(map(len, names)) > 3 else 0, length=0)
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_xlabel(groupby)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.7, aspect=16)
    return ax


def _means(
    adata: AnnData, columns: np.ndarray, values: Any, category: pd.Categorical
) -> np.ndarray:
    """Mean of some features in each group, (groups, features)."""
    matrix = values
    if values is None or isinstance(values, str):
        from atacvi.data import get_matrix

        matrix = get_matrix(adata, values, "adata")
    if np.shape(matrix) != adata.shape:
        msg = f"values has shape {np.shape(matrix)}, the data {adata.shape}"
        raise ValueError(msg)
    codes = category.codes
    known = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[known], minlength=len(category.categories))
    member = sparse.csr_matrix(
        (1.0 / np.maximum(counts, 1)[codes[known]], (codes[known], known)),
        (len(counts), len(codes)),
    )
    part = matrix[:, columns]
    means = member @ (part if sparse.issparse(part) else np.asarray(part, dtype=float))
    return np.asarray(means.toarray() if sparse.issparse(means) else means, dtype=float)
