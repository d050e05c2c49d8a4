"""Are chosen regions, or linked ones, more often in an annotation than regions like them?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.data._messages import examples
from atacvi.metrics import benjamini_hochberg, matched_enrichment, matched_regions
from atacvi.regions import match_chromosome_names, nearest, overlap, parse_regions, read_bed
from atacvi.tl._windows import gene_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

# Matches of a region are the nearest 2 % of the pool: few enough to be alike, within these limits.
_MATCHED_SHARE = 0.02
_MIN_MATCHES, _MAX_MATCHES = 5, 200


def enrich(
    regions: pd.DataFrame | Sequence[str],
    annotation: Any,
    background: AnnData | pd.DataFrame,
    *,
    match: Sequence[str] | None = None,
    genes: pd.DataFrame | None = None,
    max_fdr: float = 0.05,
    n_matches: int | None = None,
    n_draws: int = 1000,
    key_added: str = "region_enrichment",
    random_state: int = 0,
) -> pd.DataFrame:
    """Compare the overlap of regions with an annotation to that of matched regions.

    Each chosen region is matched with the background regions that are most like it in
    accessibility, width and distance to a TSS; sets that take one match of each are the null.

    Parameters
    ----------
    regions
        Names of background regions, or a table of links (columns ``peak``, ``score``, ``distance``
        and ``fdr`` of :func:`link_peaks_to_genes`). Of links, pairs with a positive score and an
        ``fdr`` of at most `max_fdr` are compared with the other pairs, each with its own distance.
    annotation
        Regions: a BED file, a table, or names such as ``chr1:5-10``; or a dictionary of several.
    background
        AnnData of the accessibility, or its ``var``: all regions that could have been chosen.
    match
        What has to match: ``"accessibility"`` (share of open cells; of a table the column of this
        name), ``"width"``, ``"distance"`` and any columns of ``var``. By default the first two,
        and the distance where links or `genes` tell it.
    genes
        Annotation of genes, see :func:`link_peaks_to_genes`, for the distance to the nearest TSS.
    max_fdr
        Links up to this false discovery rate are chosen.
    n_matches
        Matches of each region from which sets are drawn; by default 2 % of the other regions, at
        least 5 and at most 200.
    n_draws
        Matched sets.
    key_added
        Key of ``uns``, where the background is an AnnData.
    random_state
        Seed.

    Returns
    -------
    One row an annotation: ``annotation``, ``n_regions``, ``observed`` and ``expected`` (shares that
    overlap it), ``fold`` with the limits ``low`` and ``high`` of its 95 % interval, ``pvalue``
    (one-sided, from the sets) and ``fdr``.

    Raises
    ------
    KeyError
        If regions or covariates are not in the background.
    ValueError
        If nothing is chosen, everything is, or regions cannot be read.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.tl import enrich
    >>> names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(200)]
    >>> background = pd.DataFrame({"accessibility": 0.1}, index=names)
    >>> table = enrich(names[:20], {"enhancers": names[10:40]}, background)
    >>> table[["observed"]].values.tolist()
    [[0.5]]
    """
    var = background if isinstance(background, pd.DataFrame) else background.var
    if var.index.has_duplicates:
        msg = "names of background regions occur more than once; make them unique first"
        raise ValueError(msg)
    universe = parse_regions(var)
    items, chosen, distance = _items(regions, var.index, max_fdr)
    if distance is None and genes is not None:
        distance = _tss_distance(universe, genes)[items]
    names = match
    if names is None:
        names = ["accessibility", "width"] + ([] if distance is None else ["distance"])
    covariates = np.column_stack(
        [_covariate(name, background, var, universe, items, distance) for name in names]
    )
    pool = np.setdiff1d(np.arange(len(items)), chosen)
    if n_matches is None:
        n_matches = int(np.clip(_MATCHED_SHARE * len(pool), _MIN_MATCHES, _MAX_MATCHES))
    matches = matched_regions(covariates, chosen, pool, n_matches)
    rows = []
    for name, source in _annotations(annotation).items():
        table = match_chromosome_names(_read(source), universe)
        hits = np.zeros(len(universe), dtype=bool)
        hits[overlap(universe, table)[0]] = True
        found = matched_enrichment(hits[items], chosen, matches, n_draws, random_state)
        rows.append(
            {
                "annotation": str(name),
                "n_regions": len(chosen),
                "observed": found.observed,
                "expected": found.expected,
                "fold": found.ratio,
                "low": found.low,
                "high": found.high,
                "pvalue": found.pvalue,
            }
        )
    result = pd.DataFrame(rows)
    result["fdr"] = benjamini_hochberg(result["pvalue"])
    result.index = result.index.astype(str)
    if background is not var:
        background.uns[key_added] = result
    return result.copy()


def _items(
    regions: pd.DataFrame | Sequence[str], names: pd.Index, max_fdr: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the background region of each item, the chosen items, and distances of links."""
    if isinstance(regions, pd.DataFrame) and "peak" in regions.columns:
        missing = {"score", "fdr", "distance"} - set(regions.columns)
        if missing:
            msg = f"the table of links lacks the columns {sorted(missing)}"
            raise KeyError(msg)
        items = _positions(names, pd.Index(regions["peak"]))
        chosen = np.flatnonzero((regions["fdr"] <= max_fdr) & (regions["score"] > 0))
        distance = np.abs(regions["distance"].to_numpy(dtype=np.float64))
        what = f"links with a positive score and an fdr up to {max_fdr}"
    else:
        named = regions.index if isinstance(regions, pd.DataFrame) else regions
        wanted = pd.Index(list(dict.fromkeys(named)))
        items, distance = np.arange(len(names)), None
        chosen = np.unique(_positions(names, wanted))
        what = "regions"
    if not 0 < len(chosen) < len(items) - 1:
        msg = (
            f"{len(chosen)} of {len(items)} {what} were chosen; at least one must be, and two left "
            "to compare with"
        )
        raise ValueError(msg)
    return items, chosen, distance


def _positions(names: pd.Index, wanted: pd.Index) -> NDArray[np.int64]:
    found = names.get_indexer(wanted)
    if (found < 0).any():
        missing = wanted[found < 0]
        msg = (
            f"{len(missing)} regions are not in the background: "
            f"{examples(missing[:5], len(missing))}; its names look like {names[0]!r}"
        )
        raise KeyError(msg)
    return found.astype(np.int64)


def _tss_distance(universe: pd.DataFrame, genes: pd.DataFrame) -> NDArray[np.float64]:
    named = genes.set_index("gene") if "gene" in genes.columns else genes
    table = gene_table(genes, named.index.unique(), "genes")
    tss = table.assign(start=table["tss"], end=table["tss"] + 1)
    distance = nearest(universe, match_chromosome_names(tss, universe))[1].astype(np.float64)
    # No TSS on the chromosome: further than any that has one.
    return np.where(distance < 0, distance.max() + 1e9, distance)


def _covariate(
    name: str,
    background: AnnData | pd.DataFrame,
    var: pd.DataFrame,
    universe: pd.DataFrame,
    items: NDArray[np.int64],
    distance: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    if name == "distance" and distance is not None:
        return distance
    if name == "width":
        return (universe["end"] - universe["start"]).to_numpy(dtype=np.float64)[items]
    if name == "accessibility" and background is not var and name not in var:
        matrix = background.X
        is_open = matrix > 0
        n_open = is_open.sum(axis=0)
        return np.asarray(n_open, dtype=np.float64).ravel()[items] / matrix.shape[0]
    if name not in var:
        msg = (
            f"match has {name!r}, which is neither 'width' nor a column of the background "
            f"({list(map(str, var.columns))}); distances need links or genes=, accessibility an "
            "AnnData or a column of that name"
        )
        raise KeyError(msg)
    return var[name].to_numpy(dtype=np.float64)[items]


def _annotations(annotation: Any) -> Mapping[str, Any]:
    if isinstance(annotation, dict):
        return annotation
    if isinstance(annotation, str | Path):
        return {Path(annotation).name.split(".bed")[0]: annotation}
    return {"annotation": annotation}


def _read(source: Any) -> pd.DataFrame:
    if isinstance(source, str | Path):
        table = read_bed(source)
        return table[table["end"] > table["start"]]
    return parse_regions(source)
