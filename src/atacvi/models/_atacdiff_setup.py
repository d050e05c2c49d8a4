"""Registration of accessibility with scvi-tools for ATACDiffModel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scvi.data import fields

from atacvi._constants import (
    BATCH_KEY,
    CAT_COVS_KEY,
    CONDITION_KEY,
    CONT_COVS_KEY,
    LABELS_KEY,
    SIZE_FACTOR_KEY,
    X_KEY,
)
from atacvi.data import get_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

logger = logging.getLogger(__name__)

# Name of the null label where none was given
UNLABELED = "unlabeled"
# Rows from which it is seen whether counts are insertions
_ROWS_SEEN = 5_000


def peak_fields(
    *,
    layer: str | None,
    batch_key: str | None,
    labels_key: str | None,
    unlabeled_category: str | None,
    size_factor_key: str | None,
    categorical_covariate_keys: list[str] | None,
    continuous_covariate_keys: list[str] | None,
    condition_key: str | None,
    modalities: Mapping[str, str | None] | None = None,
) -> list[Any]:
    """Return the fields of peaks in an AnnData, or in the modality of a MuData.

    Parameters
    ----------
    modalities
        Modality of each argument (``None`` for the MuData itself), or ``None`` for an AnnData.
    """
    given = modalities is not None

    def field(name: str, argument: str, *args: Any, **kwargs: Any) -> Any:
        if not given:
            return getattr(fields, name)(*args, **kwargs)
        where = (modalities or {}).get(argument)
        return getattr(fields, f"MuData{name}")(*args, mod_key=where, **kwargs)

    if labels_key is None:
        labels = field("CategoricalObsField", "labels_key", LABELS_KEY, None)
    else:
        labels = field(
            "LabelsWithUnlabeledObsField",
            "labels_key",
            LABELS_KEY,
            labels_key,
            unlabeled_category=unlabeled_category or UNLABELED,
        )
    found = [
        field("LayerField", "layer", X_KEY, layer, is_count_data=True),
        field("CategoricalObsField", "batch_key", BATCH_KEY, batch_key),
        labels,
        field(
            "NumericalObsField", "size_factor_key", SIZE_FACTOR_KEY, size_factor_key, required=False
        ),
        field(
            "CategoricalJointObsField",
            "categorical_covariate_keys",
            CAT_COVS_KEY,
            categorical_covariate_keys,
        ),
        field(
            "NumericalJointObsField",
            "continuous_covariate_keys",
            CONT_COVS_KEY,
            continuous_covariate_keys,
        ),
    ]
    if condition_key is not None:
        found.append(field("ObsmField", "condition_key", CONDITION_KEY, condition_key))
    return found


def check_condition(obj: Any, key: str | None, where: str) -> None:
    """Raise unless ``obsm[key]`` is a finite matrix.

    Raises
    ------
    KeyError
        If it does not exist.
    ValueError
        If it is no matrix of finite numbers.
    """
    if key is None:
        return
    if key not in obj.obsm:
        msg = (
            f"condition_key={key!r} is not in {where}.obsm, which holds {list(obj.obsm)}. Compute "
            "the embedding first, or leave the argument out."
        )
        raise KeyError(msg)
    values = obj.obsm[key]
    values = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        msg = f"{where}.obsm[{key!r}] has shape {values.shape} and type {values.dtype}; a numeric "
        msg += "matrix of cells x dimensions is needed."
        raise ValueError(msg)
    if not np.isfinite(values).all():
        cell = obj.obs_names[int((~np.isfinite(values)).any(1).argmax())]
        msg = f"{where}.obsm[{key!r}] has values that are not finite, first in cell {cell!r}."
        raise ValueError(msg)


def are_insertions(adata: AnnData, layer: str | None, counts: str) -> bool:
    """Return whether counts are Tn5 insertions, of which a fragment has two.

    ``"auto"`` takes them for insertions where 2 is commoner than 1 (Martens et al., Nature Methods
    21:28, 2024).

    Raises
    ------
    ValueError
        If `counts` is none of ``"auto"``, ``"fragments"`` and ``"insertions"``.
    """
    if counts not in ("auto", "fragments", "insertions"):
        msg = f"counts={counts!r} is unknown; choose one of auto, fragments, insertions."
        raise ValueError(msg)
    if counts != "auto":
        return counts == "insertions"
    matrix = get_matrix(adata, layer, "adata")[: min(_ROWS_SEEN, adata.n_obs)]
    values = matrix.data if sp.issparse(matrix) else np.asarray(matrix).ravel()
    ones, twos = int((values == 1).sum()), int((values == 2).sum())
    if twos > ones:
        logger.info(
            "Counts of 2 (%d) are commoner than of 1 (%d): taken for insertions and halved, rounded "
            "up. Give counts='fragments' to keep them.",
            twos,
            ones,
        )
    return twos > ones
