"""Bring a query onto the regions of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atacvi import data as _data
from atacvi._constants import ATAC
from atacvi.data.align import build_mudata
from atacvi.tl._values import get_modality

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def project_regions(
    data: AnnData | MuData,
    reference: AnnData | MuData | pd.DataFrame | Iterable[str],
    *,
    modality: str = ATAC,
    **kwargs: Any,
) -> AnnData | MuData:
    """Count the peaks of a query in the peaks of a reference, also for MuData.

    Parameters
    ----------
    data
        Query; not changed.
    reference
        AnnData, MuData, table or names with the regions of the reference.
    modality
        Modality of a MuData.
    **kwargs
        Further arguments of :func:`atacvi.data.project_regions`.

    Returns
    -------
    An object of the query's kind; a MuData keeps its other modalities, ``obs``, ``obsm`` and
    ``uns``.

    Raises
    ------
    KeyError
        If there is no such modality.
    ValueError
        As :func:`atacvi.data.project_regions`.

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.tl import project_regions
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> project_regions(mdata, mdata["atac"].var_names[:100])["atac"].shape
    (60, 100)
    """
    target = get_modality(reference, modality) if hasattr(reference, "mod") else reference
    projected = _data.project_regions(get_modality(data, modality), target, **kwargs)
    if not hasattr(data, "mod"):
        return projected
    parts = {name: projected if name == modality else part for name, part in data.mod.items()}
    out = build_mudata(parts)
    for name in data.obs.columns:
        out.obs[name] = data.obs[name]
    for name, value in data.obsm.items():
        if name not in data.mod:  # mudata keeps a mask of each modality there
            out.obsm[name] = value
    out.uns.update(data.uns)
    return out
