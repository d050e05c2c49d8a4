"""The truth behind simulated data, recomputed from its low-rank factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

# Slots of each simulated modality.
UNS_KEY = "atacvi_simulation"
ACTIVITY_KEY = "simulation_activity"  # obsm, (cells, factors)
EFFECT_KEY = "simulation_effect"  # varm, (features, factors)
LOG_BASELINE = "true_log_baseline"  # var
AMBIENT = "true_ambient"  # var
DROPOUT = "true_dropout"  # var
LOG_DEPTH = "true_log_depth"  # obs
LOG_NORM = "true_log_norm"  # obs: log normaliser of the profile without batch effects
LOG_NORM_BATCH = "true_log_norm_batch"  # obs: the same with batch effects


def true_expression(
    mdata: MuData,
    cells: Sequence[str] | NDArray | slice | None = None,
    genes: Sequence[str] | NDArray | slice | None = None,
    *,
    kind: Literal["profile", "counts"] = "profile",
) -> NDArray[np.float32]:
    """Give the expression from which the RNA counts of simulated cells were drawn.

    Parameters
    ----------
    mdata
        Result of :func:`simulate_multiome`, or a part of it.
    cells
        Names, positions, a mask or a slice of the cells; all of them by default.
    genes
        Names, positions, a mask or a slice of the genes; all of them by default.
    kind
        `"profile"`: share of a gene in the cell's expression, without depth, noise and batch
        effects (sums to 1 over all simulated genes). `"counts"`: expected count, with all of them.

    Returns
    -------
    Array `(cells, genes)`.

    Raises
    ------
    KeyError
        If `mdata` carries no simulation truth, or does not hold a name asked for.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.datasets.true_expression(mdata, cells=slice(0, 5)).shape
    (5, 80)
    """
    return _truth(mdata["rna"], cells, genes, kind=kind, noise=_noise(mdata, "rna_noise"))


def true_accessibility(
    mdata: MuData,
    cells: Sequence[str] | NDArray | slice | None = None,
    regions: Sequence[str] | NDArray | slice | None = None,
    *,
    kind: Literal["profile", "counts"] = "profile",
) -> NDArray[np.float32]:
    """Give the accessibility from which the fragment counts of simulated cells were drawn.

    The result is dense: ask for some cells or some regions of large data.

    Parameters
    ----------
    mdata
        Result of :func:`simulate_multiome`, or a part of it.
    cells
        Names, positions, a mask or a slice of the cells; all of them by default.
    regions
        Names, positions, a mask or a slice of the peaks; all of them by default.
    kind
        `"profile"`: share of a peak in the cell's fragments, without depth, noise, dropout and
        batch effects (sums to 1 over all simulated peaks). `"counts"`: expected count, with them.

    Returns
    -------
    Array `(cells, regions)`.

    Raises
    ------
    KeyError
        If `mdata` carries no simulation truth, or does not hold a name asked for.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.datasets.true_accessibility(mdata, regions=[0, 1], kind="counts").shape
    (60, 2)
    """
    return _truth(mdata["atac"], cells, regions, kind=kind, noise=_noise(mdata, "atac_noise"))


def simulated_links(mdata: MuData) -> pd.DataFrame:
    """Give the true peak-gene links of simulated data as a table.

    Parameters
    ----------
    mdata
        Result of :func:`simulate_multiome`.

    Returns
    -------
    Columns `peak`, `gene`, `effect` (weight of the peak's log change in the gene's; a gene's
    weights sum to 1) and `distance` (peak centre minus TSS, base pairs).

    Raises
    ------
    KeyError
        If `mdata` carries no simulation truth.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> list(atacvi.datasets.simulated_links(mdata).columns)
    ['peak', 'gene', 'effect', 'distance']
    """
    links = _settings(mdata)["links"]
    return pd.DataFrame({key: links[key] for key in ("peak", "gene", "effect", "distance")})


def _settings(mdata: MuData) -> dict:
    if UNS_KEY not in mdata.uns:
        msg = (
            f"`mdata.uns` has no {UNS_KEY!r}: the truth is known only for data made by "
            "`atacvi.datasets.simulate_multiome`."
        )
        raise KeyError(msg)
    return mdata.uns[UNS_KEY]


def _noise(mdata: MuData, name: str) -> float:
    return float(_settings(mdata)["params"][name])


def _positions(names: pd.Index, selection: object, what: str) -> NDArray[np.int64]:
    """Positions of what the caller selected by name, position, mask or slice."""
    everything = np.arange(names.size)
    if selection is None:
        return everything
    if isinstance(selection, slice):
        return everything[selection]
    wanted = np.asarray(selection)
    if wanted.dtype == bool or np.issubdtype(wanted.dtype, np.integer):
        return everything[wanted]
    found = names.get_indexer(pd.Index(wanted))
    if (found < 0).any():
        msg = f"{what} {list(wanted[found < 0][:5])} are not in the data; see its names."
        raise KeyError(msg)
    return found


def _truth(
    adata: AnnData, cells: object, features: object, *, kind: str, noise: float
) -> NDArray[np.float32]:
    if kind not in ("profile", "counts"):
        msg = f"`kind` is {kind!r}; it must be 'profile' or 'counts'."
        raise ValueError(msg)
    rows = _positions(adata.obs_names, cells, "cells")
    columns = _positions(adata.var_names, features, "features")
    activity = np.asarray(adata.obsm[ACTIVITY_KEY])[rows].astype(np.float32)
    effect = np.asarray(adata.varm[EFFECT_KEY])[columns].astype(np.float32)
    baseline = adata.var[LOG_BASELINE].to_numpy(np.float32)[columns]
    if kind == "profile":
        is_batch = np.asarray(adata.uns[UNS_KEY]["is_batch_factor"], dtype=bool)
        activity = np.where(is_batch, np.float32(0), activity)
    norm = LOG_NORM if kind == "profile" else LOG_NORM_BATCH
    result = activity @ effect.T  # (cells, features)
    result += baseline
    result -= adata.obs[norm].to_numpy(np.float32)[rows, None]
    np.exp(result, out=result)
    if kind == "counts":
        ambient = adata.var[AMBIENT].to_numpy(np.float32)[columns]
        result *= 1.0 - noise
        result += noise * ambient
        result *= 1.0 - adata.var[DROPOUT].to_numpy(np.float32)[columns]
        result *= np.exp(adata.obs[LOG_DEPTH].to_numpy(np.float32)[rows, None])
    return result
