"""Read regions from names or tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["format_regions", "has_regions", "parse_regions"]

# The chromosome is greedy: its own name may hold all three separators (chr1_KI270706v1_random). It
# must not end in one, or a negative start (chr1:-5-9) would be read as a positive one.
_NAME = re.compile(r"^([^\n]*[^\n:_-])[:_-](\d+)[_-](\d+)$", flags=re.MULTILINE)
_CHROM_COLUMNS = ("chrom", "chr", "chromosome", "seqnames", "seqname", "Chromosome")
_START_COLUMNS = ("start", "chromStart", "Start")
_END_COLUMNS = ("end", "stop", "chromEnd", "End")
_INTERVAL_COLUMNS = ("interval",)
_N_EXAMPLES = 5
_ALLOWED = (
    "a region is written chr1:100-200, chr1-100-200 or chr1_100_200, or stands in the columns "
    "chrom, start, end (0-based, half-open, start < end)"
)


def parse_regions(regions: pd.DataFrame | Iterable[str]) -> pd.DataFrame:
    """Read regions from their names or from a table.

    A table is read from its columns (``chrom``, ``chr``, ``chromosome``, ``seqnames``; ``start``,
    ``chromStart``; ``end``, ``stop``, ``chromEnd``), else from the column ``interval`` (10x), else
    from its index.

    Parameters
    ----------
    regions
        Names such as ``chr1:100-200``, ``chr1-100-200``, ``chr1_100_200``, or a table such as
        ``adata.var``.

    Returns
    -------
    Table with ``chrom`` (str), ``start`` and ``end`` (int64; 0-based, half-open), one row a region
    in the given order. Its index is the names, or the index of the table.

    Raises
    ------
    ValueError
        If regions cannot be read, are empty or are reversed (start not below end).

    Examples
    --------
    >>> from atacvi.regions import parse_regions
    >>> parse_regions(["chr1:100-200", "chrX_5_9"]).values.tolist()
    [['chr1', 100, 200], ['chrX', 5, 9]]
    """
    if isinstance(regions, pd.DataFrame):
        columns = _coordinate_columns(regions)
        if columns is not None:
            return _from_columns(regions, columns)
        interval = _first(regions, _INTERVAL_COLUMNS)
        names = regions.index if interval is None else regions[interval]
        return _from_names(names.astype(str).tolist(), regions.index)
    if isinstance(regions, str):
        msg = f"regions is one string, {regions!r}; give a list of names: [{regions!r}]"
        raise TypeError(msg)
    names = [str(name) for name in regions]
    return _from_names(names, pd.Index(names, dtype=object))


def has_regions(table: pd.DataFrame) -> bool:
    """Whether a table of features tells where all of them lie in the genome.

    Parameters
    ----------
    table
        Table of features, such as ``adata.var``.

    Returns
    -------
    ``True`` if :func:`parse_regions` reads it.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.regions import has_regions
    >>> has_regions(pd.DataFrame(index=["chr1:1-5"])), has_regions(pd.DataFrame(index=["CD4"]))
    (True, False)
    """
    try:
        parse_regions(table)
    except ValueError:
        return False
    return True


def format_regions(regions: pd.DataFrame) -> pd.Index:
    """Write regions as ``chrom:start-end``.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``.

    Returns
    -------
    One name a region.

    Examples
    --------
    >>> from atacvi.regions import format_regions, parse_regions
    >>> format_regions(parse_regions(["chr1_100_200"])).tolist()
    ['chr1:100-200']
    """
    triples = zip(regions["chrom"], regions["start"], regions["end"], strict=True)
    return pd.Index([f"{chrom}:{start}-{end}" for chrom, start, end in triples], dtype=object)


def _first(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _coordinate_columns(table: pd.DataFrame) -> tuple[str, str, str] | None:
    chrom = _first(table, _CHROM_COLUMNS)
    start = _first(table, _START_COLUMNS)
    end = _first(table, _END_COLUMNS)
    if chrom is None or start is None or end is None:
        return None
    return chrom, start, end


def var_of(regions: Any) -> Any:
    """Return the ``var`` of an AnnData, and anything else as it is.

    Arrays and Series of names have a ``var``, too: a method.
    """
    table = getattr(regions, "var", None)
    return table if isinstance(table, pd.DataFrame) else regions


def _from_names(names: list[str], index: pd.Index) -> pd.DataFrame:
    # One pass of the regular expression over all names is several times faster than one call each.
    joined = "\n".join(names)
    found = _NAME.findall(joined)
    if len(found) != len(names) or joined.count("\n") >= max(1, len(names)):
        bad = [name for name in names if _NAME.fullmatch(name) is None]
        msg = f"{len(bad)} of {len(names)} names are not regions: {_examples(bad)}; {_ALLOWED}"
        raise ValueError(msg)
    chrom, start, end = zip(*found, strict=True) if found else ((), (), ())
    return _checked(_object_array(chrom), _integers(start), _integers(end), index)


def _from_columns(table: pd.DataFrame, columns: tuple[str, str, str]) -> pd.DataFrame:
    chrom, start, end = (table[column] for column in columns)
    missing = chrom.isna().to_numpy()
    positions = []
    for column in (start, end):
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        missing = missing | ~np.isfinite(numbers) | (numbers != np.floor(numbers))
        positions.append(numbers)
    if missing.any():
        bad = [
            f"{name} ({c}, {s}, {e})"
            for name, c, s, e in zip(
                table.index[missing], chrom[missing], start[missing], end[missing], strict=True
            )
        ]
        msg = (
            f"the columns {', '.join(map(repr, columns))} of {len(bad)} of {len(table)} regions "
            f"hold no coordinates: {_examples(bad)}; {_ALLOWED}"
        )
        raise ValueError(msg)
    start_int, end_int = (numbers.astype(np.int64) for numbers in positions)
    return _checked(_object_array(chrom.astype(str)), start_int, end_int, table.index)


def _checked(
    chrom: np.ndarray, start: np.ndarray, end: np.ndarray, index: pd.Index
) -> pd.DataFrame:
    bad = (start >= end) | (start < 0)
    if bad.any():
        names = [
            f"{chrom[i]}:{start[i]}-{end[i]} (row {i})" for i in np.flatnonzero(bad)[:_N_EXAMPLES]
        ]
        msg = (
            f"{bad.sum()} of {len(bad)} regions are reversed, empty or negative: "
            f"{_examples(names, int(bad.sum()))}; {_ALLOWED}. Swap start and end, or drop these "
            "regions"
        )
        raise ValueError(msg)
    return pd.DataFrame({"chrom": chrom, "start": start, "end": end}, index=index.copy())


def _integers(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(int, texts), dtype=np.int64, count=len(texts))


def _object_array(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _examples(names: Sequence[str], total: int | None = None) -> str:
    total = len(names) if total is None else total
    shown = ", ".join(map(repr, names[:_N_EXAMPLES]))
    return shown if total <= _N_EXAMPLES else f"{shown}, ..."
