"""The border of the models: all checks of one object, before anything is registered or written."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atacvi._constants import ATAC, RNA
from atacvi.data._messages import N_EXAMPLES, examples, suggestion
from atacvi.data.checks import (
    check_categories,
    check_continuous,
    check_key,
    check_modalities,
    check_names,
    check_paired,
    get_matrix,
)
from atacvi.data.counts import Presence, check_counts, check_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

__all__ = ["MultiomePresence", "validate_anndata", "validate_multiome"]

logger = logging.getLogger(__name__)

_LAYERS = ("rna_layer", "atac_layer")


@dataclass(frozen=True)
class MultiomePresence:
    """Which cells have counts in which modality.

    Parameters
    ----------
    rna, atac
        bool of shape (cells,).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.data import MultiomePresence
    >>> MultiomePresence(rna=np.array([True, True]), atac=np.array([True, False])).complete
    False
    """

    rna: np.ndarray
    atac: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether every cell has both modalities."""
        return bool(self.rna.all() and self.atac.all())


@dataclass(frozen=True)
class _Keys:
    batch_key: str | None = None
    labels_key: str | None = None
    size_factor_key: str | None = None
    categorical_covariate_keys: Sequence[str] | None = None
    continuous_covariate_keys: Sequence[str] | None = None


def validate_multiome(
    mdata: MuData,
    *,
    rna_layer: str | None = None,
    atac_layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    modalities: Mapping[str, str] | None = None,
    integer_rna: bool = True,
    integer_atac: bool = True,
    allow_missing: bool = False,
    allow_empty_features: bool = False,
) -> MultiomePresence:
    """Check a MuData of RNA and ATAC counts before a model registers it.

    Parameters
    ----------
    mdata
        Multimodal data.
    rna_layer, atac_layer
        Layers that hold the counts; ``None`` takes ``X``.
    batch_key, labels_key
        Columns of ``obs`` with batches and labels.
    size_factor_key
        Column of ``obs`` with size factors, above 0.
    categorical_covariate_keys, continuous_covariate_keys
        Columns of ``obs`` with further covariates.
    modalities
        Modality by name of the argument. ``rna_layer`` and ``atac_layer`` default to ``"rna"`` and
        ``"atac"``; keys that are not named are searched in ``mdata.obs``.
    integer_rna, integer_atac
        Whether fractional values are refused.
    allow_missing
        Take cells without any count in one modality as not measured there (mosaic data).
    allow_empty_features
        Let features without counts pass, as needed for a query.

    Returns
    -------
    Which cells have counts in which modality.

    Raises
    ------
    KeyError
        If a modality, a layer or a key is missing.
    TypeError
        If the object, a matrix or a covariate has an unsuitable type.
    ValueError
        If names, cells, counts or covariates are not as they must be.

    Examples
    --------
    >>> import anndata, mudata, numpy as np
    >>> from atacvi.data import validate_multiome
    >>> adata = anndata.AnnData(np.ones((2, 3)))
    >>> validate_multiome(mudata.MuData({"rna": adata, "atac": adata.copy()})).complete
    True
    """
    keys = _Keys(
        batch_key,
        labels_key,
        size_factor_key,
        categorical_covariate_keys,
        continuous_covariate_keys,
    )
    where_of = _resolve_modalities(mdata, modalities, keys)
    names = [where_of["rna_layer"], where_of["atac_layer"]]
    for name in names:
        check_names(mdata.mod[name], _label(name))
    check_paired(mdata, names)
    _check_keys(mdata, keys, where_of)
    options = {"rna_layer": (rna_layer, integer_rna), "atac_layer": (atac_layer, integer_atac)}
    found = {}
    for argument, (layer, integer) in options.items():
        found[argument] = _check_matrix(
            mdata.mod[where_of[argument]],
            layer,
            _label(where_of[argument]),
            argument,
            integer=integer,
            allow_empty_cells=allow_missing,
            allow_empty_features=allow_empty_features,
        )
    presence = MultiomePresence(found["rna_layer"].cells, found["atac_layer"].cells)
    nowhere = np.flatnonzero(~presence.rna & ~presence.atac)
    if len(nowhere):
        cells = mdata.mod[names[0]].obs_names[nowhere[:N_EXAMPLES]]
        msg = (
            f"{len(nowhere)} of {len(presence.rna)} cells ({examples(cells, len(nowhere))}) have "
            "no "
            f"counts in any of the modalities {names}; drop them"
        )
        raise ValueError(msg)
    return presence


def validate_anndata(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    integer: bool = True,
    allow_empty_cells: bool = False,
    allow_empty_features: bool = False,
    where: str = "adata",
) -> Presence:
    """Check one AnnData of counts before a model registers it.

    Parameters
    ----------
    adata
        Annotated matrix.
    layer
        Layer that holds the counts; ``None`` takes ``X``.
    batch_key, labels_key
        Columns of ``obs`` with batches and labels.
    size_factor_key
        Column of ``obs`` with size factors, above 0.
    categorical_covariate_keys, continuous_covariate_keys
        Columns of ``obs`` with further covariates.
    integer
        Whether fractional values are refused.
    allow_empty_cells, allow_empty_features
        Let cells or features without counts pass.
    where
        What `adata` is called in messages.

    Returns
    -------
    Masks of the cells and of the features with counts.

    Raises
    ------
    KeyError
        If a layer or a key is missing.
    TypeError
        If the object, a matrix or a covariate has an unsuitable type.
    ValueError
        If names, counts or covariates are not as they must be.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.data import validate_anndata
    >>> validate_anndata(anndata.AnnData(np.ones((2, 3)))).features.all()
    np.True_
    """
    if hasattr(adata, "mod") or not hasattr(adata, "layers"):
        msg = (
            f"an AnnData is needed, this is {type(adata).__name__}; for a MuData call "
            "setup_mudata, or "
            "take one modality: mdata['atac']"
        )
        raise TypeError(msg)
    keys = _Keys(
        batch_key,
        labels_key,
        size_factor_key,
        categorical_covariate_keys,
        continuous_covariate_keys,
    )
    check_names(adata, where)
    for argument, key in _each_key(keys):
        _check_column(check_key(adata, "obs", key, where, argument=argument), argument, key, where)
    return _check_matrix(
        adata,
        layer,
        where,
        "layer",
        integer=integer,
        allow_empty_cells=allow_empty_cells,
        allow_empty_features=allow_empty_features,
    )


def _resolve_modalities(
    mdata: MuData, modalities: Mapping[str, str] | None, keys: _Keys
) -> dict[str, str]:
    given = {k: v for k, v in (modalities or {}).items() if v is not None}
    allowed = [*_LAYERS, *vars(keys)]
    for argument in given:
        if argument not in allowed:
            msg = (
                f"modalities names {argument!r}, which is no argument with a modality"
                f"{suggestion(argument, allowed)}; these are {allowed}"
            )
            raise ValueError(msg)
    resolved = {"rna_layer": RNA, "atac_layer": ATAC, **given}
    check_modalities(mdata, resolved)
    if resolved["rna_layer"] == resolved["atac_layer"]:
        msg = (
            f"'rna_layer' and 'atac_layer' both point to the modality {resolved['rna_layer']!r}; "
            f"mdata.mod holds {list(mdata.mod)}"
        )
        raise ValueError(msg)
    return resolved


def _check_keys(mdata: MuData, keys: _Keys, where_of: Mapping[str, str]) -> None:
    objects = {"mdata": mdata, **{_label(name): adata for name, adata in mdata.mod.items()}}
    for argument, key in _each_key(keys):
        where = _label(where_of[argument]) if argument in where_of else "mdata"
        obj = objects[where]
        if where != "mdata":
            reference = mdata.mod[where_of["rna_layer"]].obs_names
            if not obj.obs_names.equals(reference):
                check_paired(mdata, [where_of["rna_layer"], where_of[argument]])
        elsewhere = {label: other for label, other in objects.items() if label != where}
        column = check_key(obj, "obs", key, where, argument=argument, elsewhere=elsewhere)
        _check_column(column, argument, key, where)


def _each_key(keys: _Keys) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for argument, value in vars(keys).items():
        if value is None:
            continue
        if argument.endswith("_keys"):
            if isinstance(value, str):
                msg = f"{argument} is the string {value!r}; give a list: [{value!r}]"
                raise TypeError(msg)
            pairs += [(argument, key) for key in value]
        else:
            pairs.append((argument, value))
    return pairs


def _check_column(column: pd.Series, argument: str, key: str, where: str) -> None:
    label = f'{where}.obs["{key}"]'
    if argument in ("continuous_covariate_keys", "size_factor_key"):
        check_continuous(column, label, positive=argument == "size_factor_key")
    else:
        check_categories(column, label)


def _check_matrix(
    adata: AnnData,
    layer: str | None,
    where: str,
    argument: str,
    *,
    integer: bool,
    allow_empty_cells: bool,
    allow_empty_features: bool,
) -> Presence:
    matrix = get_matrix(adata, layer, where, argument)
    name = f"{where}.X" if layer is None else f'{where}.layers["{layer}"]'
    names = {"obs_names": adata.obs_names, "var_names": adata.var_names}
    if 0 in adata.shape:
        msg = (
            f"{where} has {adata.n_obs} cells and {adata.n_vars} features; both must be at least 1"
        )
        raise ValueError(msg)
    check_counts(matrix, name, integer=integer, **names)
    if getattr(matrix, "format", None) == "csc":
        # every minibatch of a model reads rows
        logger.warning("%s is a csc_matrix, slow to read; use atacvi.data.to_csr_matrix", name)
    return check_empty(
        matrix,
        name,
        allow_empty_cells=allow_empty_cells,
        allow_empty_features=allow_empty_features,
        **names,
    )


def _label(modality: str) -> str:
    return f'mdata["{modality}"]'
