"""Read and write BED files."""

from __future__ import annotations

import gzip
import os
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from atacvi.regions._stream import iter_lines

__all__ = ["read_bed", "write_bed"]

_COLUMNS = (
    "chrom",
    "start",
    "end",
    "name",
    "score",
    "strand",
    "thickStart",
    "thickEnd",
    "itemRgb",
    "blockCount",
    "blockSizes",
    "blockStarts",
)
_HEADERS = ("#", "track", "browser")
_STRANDS = {"+", "-", "."}
_LARGEST = 2**31 - 1


def read_bed(path: str | Path) -> pd.DataFrame:
    r"""Read the regions of a BED file.

    Plain text or gzip, 3 to 12 columns separated by tabs (or, where the first line holds none, by
    blanks); comments, ``track`` and ``browser`` lines and blank lines are passed over. Names of
    chromosomes stay as they are, and regions keep the order of the file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Table with ``chrom`` (str), ``start`` and ``end`` (int64; 0-based, half-open) and, as text, the
    further columns by their names in the BED format: ``name``, ``score``, ``strand``, ... A fifth
    and last column of ``+``, ``-`` and ``.`` is called ``strand``. Regions of length 0 are kept.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has fewer than 3 or more than 12 columns, positions that are no whole numbers
        below 2**31, or a start above its end, with the number of the line; if the file is truncated
        or damaged.

    References
    ----------
    Kent et al. The human genome browser at UCSC. Genome Res 2002; the format is described at
    genome.ucsc.edu/FAQ/FAQformat.html.

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.regions import read_bed
    >>> _ = Path("peaks.bed").write_text("# two peaks\nchr1\t5\t10\tp1\nchr2\t0\t7\tp2\n")
    >>> read_bed("peaks.bed").values.tolist()
    [['chr1', 5, 10, 'p1'], ['chr2', 0, 7, 'p2']]
    """
    numbers, lines = _content(path)
    if not lines:
        empty = {"chrom": np.array([], dtype=object), "start": [], "end": []}
        return pd.DataFrame(empty).astype({"start": np.int64, "end": np.int64})
    separator = "\t" if "\t" in lines[0] else None
    widths = np.fromiter((_width(line, separator) for line in lines), np.int64, len(lines))
    _refuse(
        path, numbers, lines, (widths < 3) | (widths > 12), "has {} columns, not 3 to 12", widths
    )
    width = int(widths.max())
    table = pd.read_csv(
        StringIO("\n".join(lines)),
        sep=separator or r"\s+",
        header=None,
        names=list(_COLUMNS[:width]),
        index_col=False,
        dtype=str,
        keep_default_na=False,
        quoting=3,
        skip_blank_lines=False,
    )
    for column in ("start", "end"):
        table[column] = _positions(path, numbers, lines, table[column])
    reversed_ = (table["start"] > table["end"]).to_numpy()
    _refuse(path, numbers, lines, reversed_, "has a start above its end")
    _refuse(path, numbers, lines, (table["chrom"] == "").to_numpy(), "has no chromosome")
    if width == 5 and set(table["score"].unique()) <= _STRANDS:
        table = table.rename(columns={"score": "strand"})
    table["chrom"] = table["chrom"].astype(object)
    return table


def write_bed(regions: pd.DataFrame, path: str | Path) -> None:
    """Write regions as a BED file of three columns, gzip where the name ends in ``.gz``.

    The file is complete or absent, and the same regions give the same bytes.

    Parameters
    ----------
    regions
        Table with ``chrom``, ``start`` and ``end``.
    path
        File to write; an existing one is replaced.

    Examples
    --------
    >>> from atacvi.regions import parse_regions, read_bed, write_bed
    >>> write_bed(parse_regions(["chr1:5-10"]), "peaks.bed.gz")
    >>> read_bed("peaks.bed.gz").values.tolist()
    [['chr1', 5, 10]]
    """
    path = Path(path)
    data = bed_text(regions).encode()
    if path.name.endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def bed_text(regions: pd.DataFrame) -> str:
    """Lines of a BED file of three columns."""
    triples = zip(
        regions["chrom"].tolist(), regions["start"].tolist(), regions["end"].tolist(), strict=True
    )
    return "".join([f"{chrom}\t{start}\t{end}\n" for chrom, start, end in triples])


def _content(path: str | Path) -> tuple[list[int], list[str]]:
    """Lines that hold regions, and their numbers."""
    numbers, lines = [], []
    for number, line in enumerate(iter_lines(path), start=1):
        if line.startswith(_HEADERS) and _is_header(line):
            continue
        if line and not line.isspace():
            numbers.append(number)
            lines.append(line)
    return numbers, lines


def _is_header(line: str) -> bool:
    return line.startswith("#") or line.split(maxsplit=1)[0] in ("track", "browser")


def _width(line: str, separator: str | None) -> int:
    return line.count("\t") + 1 if separator else len(line.split())


def _positions(
    path: str | Path, numbers: list[int], lines: list[str], column: pd.Series
) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~((values >= 0) & (values <= _LARGEST) & (values == np.floor(values)))
    hint = f"has a{{}} {column.name} that is no whole number from 0 to 2**31 - 1"
    hint = hint.replace("a{}", "an" if column.name == "end" else "a")
    _refuse(path, numbers, lines, bad, hint + " (a header line must start with #)")
    return values.astype(np.int64)


def _refuse(
    path: str | Path,
    numbers: list[int],
    lines: list[str],
    bad: np.ndarray,
    problem: str,
    values: np.ndarray | None = None,
) -> None:
    if not bad.any():
        return
    first = int(np.flatnonzero(bad)[0])
    text = problem if values is None else problem.format(values[first])
    others = f" (and {bad.sum() - 1} more lines like it)" if bad.sum() > 1 else ""
    msg = (
        f"{path}, line {numbers[first]} {text}: {lines[first][:80]!r}{others}; a BED line holds "
        "chromosome, start, end (0-based, half-open) and up to nine further columns"
    )
    raise ValueError(msg)
