"""Find the values by which cells are coloured or grouped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def cell_values(data: AnnData | MuData, key: str) -> pd.Series:
    """Give one value a cell: a column of ``obs``, or the values in ``X`` of a feature.

    Of a MuData its own ``obs`` is searched first, then ``obs`` of the modalities, then features.
    """
    if key in data.obs:
        return data.obs[key]
    parts: dict[str, AnnData] = dict(getattr(data, "mod", {}))
    for part in parts.values():
        if key in part.obs:
            return part.obs[key].reindex(data.obs_names)
    for part in parts.values() if parts else [data]:
        if key in part.var_names:
            column = part[:, [key]].X
            values = column.toarray() if sparse.issparse(column) else np.asarray(column)
            return pd.Series(values[:, 0], part.obs_names, name=key).reindex(data.obs_names)
    columns = [str(name) for name in data.obs.columns]
    msg = (
        f"{key!r} is neither a column of obs nor the name of a feature; obs has "
        f"{columns[:20]}{' ...' if len(columns) > 20 else ''}"
    )
    raise KeyError(msg)


def is_categorical(values: pd.Series) -> bool:
    """Whether values are drawn as groups: everything but numbers."""
    return not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)


def as_categories(values: pd.Series) -> pd.Categorical:
    """Give values as categories that occur; names that are numbers are put in their order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return pd.Categorical(values.cat.remove_unused_categories())
    present = values.dropna().unique()
    try:
        order = sorted(present, key=float)
    except (TypeError, ValueError):
        order = sorted(present, key=str)
    return pd.Categorical(values, categories=order)
