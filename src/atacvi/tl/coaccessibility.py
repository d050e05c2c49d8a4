"""Peaks that open together, within windows along the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC
from atacvi.data import check_key
from atacvi.regions import parse_regions, sort_order
from atacvi.tl._pairs import partial_correlations, shrunk, standardized
from atacvi.tl._values import Values, get_modality, normalized
from atacvi.tl.metacells import averaging_matrix, group_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

_MODEL_METACELLS = 500
_MIN_SHRINKAGE = 0.01
_COLUMNS = ["peak1", "peak2", "score", "distance"]


def co_accessibility(
    data: AnnData | MuData,
    *,
    method: Literal["correlation", "partial", "circe"] = "correlation",
    window: int = 500_000,
    values: Any = None,
    normalize: bool = True,
    metacells: int | str | None = None,
    use_rep: str | None = None,
    shrinkage: float | None = None,
    min_score: float = 0.0,
    modality: str = ATAC,
    key_added: str = "co_accessibility",
    random_state: int = 0,
    **kwargs: Any,
) -> pd.DataFrame:
    """Score pairs of neighbouring peaks by how they open together.

    Parameters
    ----------
    data
        Accessibility (cells, peaks).
    method
        ``"correlation"``: Pearson correlation, shrunk towards zero. ``"partial"``: partial
        correlation given the other peaks of a window, from the inverse of the shrunk matrix,
        averaged over the two windows (half overlapping) that hold a pair. ``"circe"``: the
        graphical lasso with a distance penalty of Cicero, by the package circe-py, which starts
        processes of its own: in a script, call it below ``if __name__ == "__main__":``.
    window
        Largest distance between the centres of two peaks, in base pairs.
    values
        Layer, array, sparse matrix, table or fitted model to take instead of ``X``.
    normalize
        Scale stored counts of each cell to the median depth.
    metacells
        Number of groups of alike cells over which values are averaged, or a column of ``obs``;
        ``None`` takes single cells, and 500 groups with a model.
    use_rep
        Entry of ``obsm`` that tells which cells are alike; by default the model's latent.
    shrinkage
        Weight of the identity in the correlation matrix, 0 to 1; by default estimated from the
        variance of the correlations, once for each chromosome.
    min_score
        Pairs below it in absolute value are left out.
    modality
        Modality of a MuData.
    key_added
        Key of ``uns``.
    random_state
        Seed.
    **kwargs
        Passed to ``circe.compute_atac_network``.

    Returns
    -------
    ``peak1``, ``peak2``, ``score`` and ``distance`` between the centres, in genome order. Written to
    ``uns[key_added]`` of the modality too.

    Raises
    ------
    ImportError
        If the method is ``"circe"`` and circe-py is not installed.
    KeyError
        If an embedding, column or layer does not exist.
    ValueError
        If an argument is out of range or values are unsuitable.

    References
    ----------
    Cicero: Pliner et al., Molecular Cell 71, 858 (2018). Shrinkage and partial correlations:
    Schäfer & Strimmer, Stat. Appl. Genet. Mol. Biol. 4, 32 (2005).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.tl import co_accessibility
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> list(co_accessibility(mdata).columns)
    ['peak1', 'peak2', 'score', 'distance']
    """
    if method not in ("correlation", "partial", "circe"):
        msg = f"method={method!r}; use 'correlation', 'partial' or 'circe'"
        raise ValueError(msg)
    if window < 1 or (shrinkage is not None and not 0 <= shrinkage <= 1):
        msg = f"window={window} must be at least 1 and shrinkage={shrinkage} within 0 and 1"
        raise ValueError(msg)
    if kwargs and method != "circe":
        msg = f"unknown arguments {sorted(kwargs)}; further ones are passed to circe only"
        raise TypeError(msg)
    adata = get_modality(data, modality)
    regions = parse_regions(adata.var)
    order = sort_order(regions)
    regions = regions.iloc[order]
    matrix = _observations(data, adata, values, normalize, metacells, use_rep, random_state)
    matrix = sp.csc_matrix(matrix)[:, order] if sp.issparse(matrix) else matrix[:, order]
    if method == "circe":
        found = _circe(matrix, regions, window, random_state, kwargs)
    else:
        parts = list(_chromosomes(matrix, regions, window, method, shrinkage))
        found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_COLUMNS)
    found = found[found["score"].abs() >= min_score].reset_index(drop=True)
    found.index = found.index.astype(str)
    adata.uns[key_added] = found
    return found.copy()


def _observations(
    data: AnnData | MuData,
    adata: AnnData,
    values: Any,
    normalize: bool,
    metacells: int | str | None,
    use_rep: str | None,
    random_state: int,
) -> sp.csr_matrix | NDArray[np.float32]:
    """Return accessibility over cells or averaged over metacells."""
    source = Values(values, adata, ATAC, "values")
    if metacells is None and source.model is not None:
        metacells = min(_MODEL_METACELLS, adata.n_obs)
    average = None
    if isinstance(metacells, str):
        owner = data if metacells in data.obs else adata
        average = averaging_matrix(check_key(owner, "obs", metacells, "data"))[0]
    elif metacells is not None:
        if use_rep is not None:
            owner = data if use_rep in data.obsm else adata
            z = check_key(owner, "obsm", use_rep, "data", argument="use_rep")
        elif source.model is not None:
            z = source.model.get_latent_representation()
        else:
            msg = f"metacells={metacells} needs an embedding: name it with use_rep="
            raise ValueError(msg)
        average = averaging_matrix(group_cells(z, metacells, random_state))[0]
    if source.model is None:
        matrix = normalized(source) if source.stored and normalize else source.matrix
        return matrix if average is None else average @ matrix
    if average is None:
        msg = "a model's values are averaged over metacells; cells have no group"
        raise ValueError(msg)
    total = np.zeros((average.shape[0], adata.n_vars), dtype=np.float32)
    for rows, block in source.batches():
        total += average[:, rows] @ block
    return total


def _chromosomes(
    matrix: Any, regions: pd.DataFrame, window: int, method: str, shrinkage: float | None
) -> Iterator[pd.DataFrame]:
    """Yield the pairs of each chromosome; one chromosome is made dense over the observations."""
    names = np.array(list(regions.index), dtype=object)
    chrom = np.asarray(list(regions["chrom"]), dtype=object)
    centre = ((regions["start"] + regions["end"]) // 2).to_numpy(np.int64)
    borders = np.flatnonzero(np.r_[True, chrom[1:] != chrom[:-1], True])
    for low, high in zip(borders[:-1], borders[1:], strict=True):
        order = low + np.argsort(centre[low:high], kind="stable")
        at = centre[order]
        reach = np.searchsorted(at, at + window, side="right")
        count = reach - np.arange(len(at)) - 1
        one = np.repeat(np.arange(len(at)), count)
        two = one + 1 + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        if not len(one):
            continue
        x = standardized(matrix, order)
        score, weight = shrunk(x, one, two, shrinkage)
        if method == "partial":
            score = partial_correlations(x, at, one, two, window, max(weight, _MIN_SHRINKAGE))
        yield pd.DataFrame(
            {
                "peak1": names[order[one]],
                "peak2": names[order[two]],
                "score": score,
                "distance": at[two] - at[one],
            }
        )


def _circe(
    matrix: Any, regions: pd.DataFrame, window: int, seed: int, kwargs: dict[str, Any]
) -> pd.DataFrame:
    try:
        import circe
    except ImportError as error:
        msg = "method='circe' needs the package circe-py: pip install 'atacvi[links]'"
        raise ImportError(msg) from error
    import anndata

    names = [f"{c}_{s}_{e}" for c, s, e in zip(*(regions[k] for k in regions), strict=True)]
    adata = anndata.AnnData(matrix.astype(np.float32), var=pd.DataFrame(index=names))
    adata = circe.add_region_infos(adata)
    options = {"window_size": window, "distance_constraint": window // 2, "s": 0.75, **kwargs}
    circe.compute_atac_network(adata, seed=seed, verbose=0, **options)
    network = sp.triu(sp.coo_matrix(adata.varp["atac_network"]), k=1, format="coo")
    original = dict(zip(names, regions.index, strict=True))
    centre = ((regions["start"] + regions["end"]) // 2).to_numpy(np.int64)
    position = pd.Series(centre, index=names)
    one, two = adata.var_names[network.row], adata.var_names[network.col]
    found = pd.DataFrame(
        {
            "peak1": np.array([original[name] for name in one], dtype=object),
            "peak2": np.array([original[name] for name in two], dtype=object),
            "score": network.data.astype(np.float64),
            "distance": position[two].to_numpy() - position[one].to_numpy(),
        }
    )
    return found[found["score"] != 0]
