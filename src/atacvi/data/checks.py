"""Checks of AnnData and MuData objects, each a small function with an error that helps.

A message says what was found (up to five examples by name), what is allowed, and how to fix it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi._compat import layer_names
from atacvi.data._messages import N_EXAMPLES, examples, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

__all__ = [
    "check_categories",
    "check_continuous",
    "check_key",
    "check_modalities",
    "check_names",
    "check_paired",
    "get_matrix",
]


def check_names(adata: AnnData, where: str) -> None:
    """Refuse names of cells or features that occur more than once.

    Parameters
    ----------
    adata
        Annotated matrix.
    where
        What it is called in messages, such as ``mdata["rna"]``.

    Raises
    ------
    ValueError
        If names are duplicated.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.data import check_names
    >>> check_names(anndata.AnnData(np.zeros((2, 3))), "adata")
    """
    for axis, what, names in (
        ("obs", "cells", adata.obs_names),
        ("var", "features", adata.var_names),
    ):
        if names.is_unique:
            continue
        twice = names[names.duplicated()].unique()
        # A MuData must hear of new names, else it fails when features are dropped later.
        owner = where.partition("[")[0]
        msg = (
            f"{len(twice)} names of {what} occur more than once in {where}.{axis}_names: "
            f"{examples(twice[:N_EXAMPLES], len(twice))}; make them unique: "
            f"{owner}.{axis}_names_make_unique()"
        )
        raise ValueError(msg)


def check_modalities(mdata: MuData, modalities: Mapping[str, str]) -> None:
    """Refuse names of modalities that do not exist.

    Parameters
    ----------
    mdata
        Multimodal data.
    modalities
        Names of modalities by the argument that they stand for, as in ``setup_mudata``.

    Raises
    ------
    TypeError
        If `mdata` is not a MuData.
    KeyError
        If it lacks a modality.

    Examples
    --------
    >>> import anndata, mudata, numpy as np
    >>> from atacvi.data import check_modalities
    >>> mdata = mudata.MuData({"rna": anndata.AnnData(np.zeros((2, 3)))})
    >>> check_modalities(mdata, {"rna_layer": "rna"})
    """
    if not hasattr(mdata, "mod"):
        msg = (
            f"a MuData is needed, this is {type(mdata).__name__}; for one AnnData with both kinds "
            "of "
            "features call setup_anndata, or split it: mdata = atacvi.data.split_modalities(adata)"
        )
        raise TypeError(msg)
    present = list(mdata.mod)
    for argument, name in modalities.items():
        if name is not None and name not in mdata.mod:
            msg = (
                f"modality {name!r} (for {argument!r}) is not in mdata.mod, which holds "
                f"{present}{suggestion(str(name), present)}; name yours: "
                f"modalities={{{argument!r}: {present[0] if present else '...'!r}, ...}}"
            )
            raise KeyError(msg)


def check_paired(mdata: MuData, modalities: Sequence[str]) -> None:
    """Refuse modalities whose rows are not the same cells in the same order.

    scvi-tools pairs modalities by row: it would train on wrong pairs without a word.

    Parameters
    ----------
    mdata
        Multimodal data.
    modalities
        Names of the modalities to compare.

    Raises
    ------
    ValueError
        If cells or their order differ.

    Examples
    --------
    >>> import anndata, mudata, numpy as np
    >>> from atacvi.data import check_paired
    >>> adata = anndata.AnnData(np.zeros((2, 3)))
    >>> check_paired(mudata.MuData({"rna": adata, "atac": adata.copy()}), ["rna", "atac"])
    """
    first = modalities[0]
    names = mdata.mod[first].obs_names
    for other in modalities[1:]:
        other_names = mdata.mod[other].obs_names
        if len(names) == len(other_names) and (names == other_names).all():
            continue
        only_first, only_other = names.difference(other_names), other_names.difference(names)
        if len(only_first) == 0 and len(only_other) == 0:
            at = int(np.argmax(np.asarray(names != other_names)))
            msg = (
                f"modalities {first!r} and {other!r} hold the same {len(names)} cells in another "
                f"order: row {at} is {names[at]!r} in {first!r} and {other_names[at]!r} in "
                f"{other!r}; "
                "bring them into one order: mdata = atacvi.data.align_obs(mdata)"
            )
            raise ValueError(msg)
        n_shared = len(names) - len(only_first)
        msg = (
            f"modalities {first!r} ({len(names)} cells) and {other!r} ({len(other_names)} cells) "
            "hold "
            f"different cells: {n_shared} are shared, {len(only_first)} only in {first!r} "
            f"({examples(only_first[:N_EXAMPLES], len(only_first)) or 'none'}), {len(only_other)} "
            "only "
            f"in {other!r} ({examples(only_other[:N_EXAMPLES], len(only_other)) or 'none'}); keep "
            "the "
            "shared ones: mdata = atacvi.data.align_obs(mdata), or all of them as mosaic data: "
            "mdata = atacvi.data.align_obs(mdata, join='outer') with allow_missing=True"
        )
        raise ValueError(msg)
    # MuData keeps its own order of cells, which covariates in mdata.obs follow
    global_names = mdata.obs_names
    if len(global_names) != len(names) or not (global_names == names).all():
        msg = (
            f"mdata.obs_names ({len(global_names)} cells) are not those of modality {first!r} "
            f"({len(names)} cells) in the same order; call mdata = atacvi.data.align_obs(mdata)"
        )
        raise ValueError(msg)


def get_matrix(adata: AnnData, layer: str | None, where: str, argument: str = "layer") -> Any:
    """Return ``X`` or a layer, with an error that lists the layers there are.

    Parameters
    ----------
    adata
        Annotated matrix.
    layer
        Name of the layer; ``None`` takes ``X``.
    where
        What `adata` is called in messages.
    argument
        Name of the argument that gave `layer`, for messages.

    Returns
    -------
    The stored matrix (cells x features), not copied.

    Raises
    ------
    KeyError
        If there is no such layer.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.data import get_matrix
    >>> get_matrix(anndata.AnnData(np.zeros((2, 3))), None, "adata").shape
    (2, 3)
    """
    if layer is None:
        return adata.X
    layers = layer_names(adata)
    if layer not in layers:
        msg = (
            f"{argument}={layer!r} is not in {where}.layers, which holds {layers}"
            f"{suggestion(layer, layers)}; {argument}=None takes {where}.X"
        )
        raise KeyError(msg)
    return adata.layers[layer]


def check_key(
    obj: AnnData | MuData,
    attr: str,
    key: str,
    where: str,
    *,
    argument: str = "key",
    elsewhere: Mapping[str, AnnData | MuData] | None = None,
) -> Any:
    """Return an entry such as a column of ``obs``, or say where it was searched and where it is.

    Parameters
    ----------
    obj
        Object to search.
    attr
        Slot of the object: ``"obs"``, ``"var"``, ``"obsm"``, ...
    key
        Name searched for.
    where
        What `obj` is called in messages, such as ``mdata["rna"]``.
    argument
        Name of the argument that gave `key`, for messages.
    elsewhere
        Other objects by what they are called; named in the message if they hold the key. Names of
        modalities as ``mdata["rna"]``.

    Returns
    -------
    The entry.

    Raises
    ------
    KeyError
        If there is no such entry.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from atacvi.data import check_key
    >>> adata = anndata.AnnData(np.zeros((1, 1)), obs=pd.DataFrame({"batch": ["a"]}, index=["c"]))
    >>> check_key(adata, "obs", "batch", "adata").tolist()
    ['a']
    """
    slot = getattr(obj, attr)
    if key in slot:
        return slot[key]
    known = [str(k) for k in slot]
    msg = (
        f"{argument}={key!r} is not in {where}.{attr}, which holds {known}{suggestion(key, known)}"
    )
    found_in = [label for label, other in (elsewhere or {}).items() if key in getattr(other, attr)]
    if found_in:
        places = " and ".join(f"{label}.{attr}" for label in found_in)
        msg += f"; it is in {places}: {_how_to_point(found_in[0], argument)}"
    raise KeyError(msg)


def check_categories(column: pd.Series, where: str) -> None:
    """Refuse missing values in a column of batches or labels; warn of categories without a cell.

    scvi-tools registers every category of a column, those that no cell is left in as well, as after
    a selection of cells of a MuData. A model then has a batch or a label that it never learns.

    Parameters
    ----------
    column
        One value a cell, shape (cells,).
    where
        What the column is called in messages, such as ``mdata.obs["batch"]``.

    Raises
    ------
    ValueError
        If values are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.data import check_categories
    >>> check_categories(pd.Series(["a", "b"]), 'adata.obs["batch"]')
    """
    missing = column.isna().to_numpy()
    if missing.any():
        names = column.index[missing]
        msg = (
            f"{where} is missing (NaN) for {len(names)} of {len(column)} cells "
            f"({examples(names[:N_EXAMPLES], len(names))}); drop these cells or name a category "
            "for "
            f"them: {where} = {where}.astype(object).fillna('unknown')"
        )
        raise ValueError(msg)
    if isinstance(column.dtype, pd.CategoricalDtype):
        unused = column.cat.categories.difference(column.unique(), sort=False)
        if len(unused):
            logger.warning(
                "%s names categories that no cell has (%s); they would be registered. Drop them: "
                "%s = %s.cat.remove_unused_categories()",
                where,
                examples(unused[:N_EXAMPLES], len(unused)),
                where,
                where,
            )


def check_continuous(column: pd.Series, where: str, *, positive: bool = False) -> None:
    """Refuse a covariate that is not numeric and finite.

    Parameters
    ----------
    column
        One value a cell, shape (cells,).
    where
        What the column is called in messages.
    positive
        Whether values must be above 0, as for size factors.

    Raises
    ------
    TypeError
        If the column is not numeric.
    ValueError
        If values are NaN, infinite, or not positive where they must be.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.data import check_continuous
    >>> check_continuous(pd.Series([0.5, 2.0]), 'adata.obs["age"]', positive=True)
    """
    if not pd.api.types.is_numeric_dtype(column.dtype):
        msg = (
            f"{where} has dtype {column.dtype}, not numbers; convert it with pd.to_numeric, or "
            "give it "
            "as a categorical covariate"
        )
        raise TypeError(msg)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    bad, allowed = ~np.isfinite(values), "finite"
    if positive and not bad.any():
        bad, allowed = values <= 0, "above 0"
    if bad.any():
        names = column.index[bad]
        shown = ", ".join(map(str, values[bad][:N_EXAMPLES]))
        msg = (
            f"{where} must be {allowed}, but is {shown} for {len(names)} of {len(values)} cells "
            f"({examples(names[:N_EXAMPLES], len(names))}); fill these values or drop the cells"
        )
        raise ValueError(msg)


def _how_to_point(label: str, argument: str) -> str:
    if label.startswith("mdata["):
        modality = label.removeprefix("mdata[").removesuffix("]").strip("\"'")
        return f"point to it with modalities={{..., {argument!r}: {modality!r}}}"
    return f"leave {argument!r} out of modalities to search {label}"
