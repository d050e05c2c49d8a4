"""Count the fragments of one file in regions or tiles, block by block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from atacvi.data._messages import examples
from atacvi.regions import FragmentReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from atacvi.regions import FragmentBlock
    from atacvi.regions._index import IntervalIndex

Counting = Literal["fragment", "insertion", "paired-insertion"]
_CODES = {"fragment": 0, "insertion": 1, "paired-insertion": 2}
_ROOM = 2**21
# One fragment in this many, of few all, is also looked up after a move along the genome, far enough
# to leave its peaks and near enough to stay in the same gene-rich stretch (as in map_regions).
_STEP, _FEW = 16, 2**12
SHIFTS = (-20_000, -10_000, 10_000, 20_000)


@dataclass(frozen=True)
class Target:
    """What fragments are counted in: the regions of an index, or tiles.

    Parameters
    ----------
    counting
        ``"fragment"``, ``"insertion"`` or ``"paired-insertion"``.
    index
        Regions; their numbers are the columns. ``None`` counts in tiles.
    n_columns
        Number of regions.
    tile_size
        Width of a tile in base pairs.
    """

    counting: Counting
    index: IntervalIndex | None = None
    n_columns: int = 0
    tile_size: int = 0

    def __post_init__(self) -> None:
        if self.counting not in _CODES:
            msg = f"{self.counting!r} is no way to count; use {', '.join(map(repr, _CODES))}"
            raise ValueError(msg)

    @property
    def stride(self) -> int:
        """Columns of a chromosome while its length is not known."""
        return 2**31 // max(self.tile_size, 1) + 1


@dataclass
class FileCounts:
    """Counts of one file, and what its fragments told.

    Parameters
    ----------
    barcodes
        Names of the rows.
    matrix
        Counts (barcodes, columns), int32; the columns of tiles are numbered by
        ``chromosome * stride + tile``.
    chroms
        Chromosomes in the order of their codes.
    n_fragments, n_hit
        Fragments of each barcode, and those of them that hit, int64 of shape (barcodes,).
    tss
        Insertions in the centre and in the flanks of start sites, int64 of shape (barcodes, 2).
    report
        Totals: ``n_fragments`` of all barcodes, ``n_unlisted``, ``n_without_barcode``, ``n_known``
        on chromosomes of the regions; and of a sample of the fragments ``n_tried``, ``n_hit`` and
        ``n_hit_moved`` (the mean over the moves).
    """

    barcodes: list[str]
    matrix: sp.csr_matrix
    chroms: list[str]
    n_fragments: np.ndarray
    n_hit: np.ndarray
    tss: np.ndarray | None
    report: dict[str, float] = field(default_factory=dict)


def count_file(
    path: str | Path,
    target: Target,
    *,
    barcodes: list[str] | None = None,
    min_fragments: int = 1,
    tss: IntervalIndex | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> FileCounts:
    """Count one fragment file; barcodes that are not listed need `min_fragments`."""
    chroms = target.index.chroms if target.index is not None else []
    reader = FragmentReader(path, barcodes=barcodes, chroms=chroms, on_bytes=on_bytes)
    sums = _Sums(target, tss)
    for block in reader:
        sums.add(block, reader)
    n = reader.n_barcodes
    names = reader.barcodes
    counts = FileCounts(
        names,
        sums.matrix.result(n),
        reader.chroms,
        _grown(sums.n_fragments, n)[:n],
        _grown(sums.n_hit, n)[:n],
        None if tss is None else sums.tss_matrix.result(n).toarray().astype(np.int64),
        sums.report(),
    )
    _check(path, counts, barcodes)
    if barcodes is None and min_fragments > 1:
        kept = np.flatnonzero(counts.n_fragments >= min_fragments)
        if len(kept) == 0:
            most = int(counts.n_fragments.max())
            msg = (
                f"no barcode of {path} has {min_fragments} fragments (the largest has {most}); "
                "lower min_fragments"
            )
            raise ValueError(msg)
        counts.barcodes = [names[i] for i in kept]
        counts.matrix = counts.matrix[kept]
        counts.n_fragments, counts.n_hit = counts.n_fragments[kept], counts.n_hit[kept]
        counts.tss = None if counts.tss is None else counts.tss[kept]
    return counts


def _check(path: str | Path, counts: FileCounts, barcodes: list[str] | None) -> None:
    report = counts.report
    if report["n_fragments"] == 0:
        msg = f"{path} holds no fragments"
        raise ValueError(msg)
    if counts.n_fragments.any():
        return
    if barcodes is None:
        msg = f"all fragments of {path} have an empty barcode (column 4)"
        raise ValueError(msg)
    reader = FragmentReader(path)
    next(iter(reader))
    msg = (
        f"none of the {len(barcodes)} barcodes occurs in {path}: the file has "
        f"{examples(reader.barcodes[:3])}, the list {examples(barcodes[:3])}; are their endings "
        "(-1) alike?"
    )
    raise ValueError(msg)


class _Sums:
    """Running sums of one file."""

    def __init__(self, target: Target, tss: IntervalIndex | None) -> None:
        self.target, self.tss = target, tss
        n_columns = target.n_columns if target.index is not None else None
        self.matrix = _Accumulator(n_columns)
        self.tss_matrix = _Accumulator(2)
        self.n_fragments, self.n_hit = np.zeros(1024, np.int64), np.zeros(1024, np.int64)
        self.codes = np.empty(0, np.int64)
        self.tss_codes = np.empty(0, np.int64)
        self.n_all = self.n_unlisted = self.n_nameless = 0
        self.n_known = self.n_tried = self.n_tried_hit = self.n_moved_hit = 0

    def add(self, block: FragmentBlock, reader: FragmentReader) -> None:
        from atacvi.regions import _sweep

        if len(self.codes) < reader.n_chroms:
            self._translate(reader)
        self.n_fragments = _grown(self.n_fragments, reader.n_barcodes)
        self.n_hit = _grown(self.n_hit, reader.n_barcodes)
        unlisted, nameless = _sweep.count_fragments(block.barcode, self.n_fragments)
        self.n_all += len(block.start)
        self.n_unlisted += unlisted
        self.n_nameless += nameless
        where = (block.chrom, block.start, block.end)
        how = _CODES[self.target.counting]
        index = self.target.index
        head: tuple[Any, ...]
        if index is None:
            head = (self.target.tile_size, self.target.stride, self.codes)
            kernel = _sweep.count_tiles
        else:
            head = (*index.arrays(), self.codes)
            kernel = _sweep.count_regions
            positions = (*index.arrays()[:4], self.codes, *where)
            self.n_known += int(np.count_nonzero(self.codes[block.chrom] >= 0))
            step = min(_STEP, max(1, len(block.start) // _FEW))
            self.n_tried += len(range(0, len(block.start), step))
            self.n_tried_hit += _sweep.count_shifted(*positions, step, 0)
            self.n_moved_hit += sum(
                _sweep.count_shifted(*positions, step, shift) for shift in SHIFTS
            )
        tail = (*where, block.barcode, how)
        self.matrix.fill(lambda *room: kernel(*head, *tail, *room, self.n_hit), len(block.start))
        if self.tss is not None:
            head, tail = (*self.tss.arrays(), self.tss_codes), (*where, block.barcode, 1)
            unused = np.zeros_like(self.n_hit)
            self.tss_matrix.fill(
                lambda *room: _sweep.count_regions(*head, *tail, *room, unused), len(block.start)
            )

    def _translate(self, reader: FragmentReader) -> None:
        """Codes of the file's chromosomes in the index; tiles take them as they are."""
        names = reader.chroms
        index = self.target.index
        self.codes = np.arange(len(names)) if index is None else index.codes(names)
        if self.tss is not None:
            self.tss_codes = self.tss.codes(names)

    def report(self) -> dict[str, float]:
        return {
            "n_fragments": self.n_all,
            "n_unlisted": self.n_unlisted,
            "n_without_barcode": self.n_nameless,
            "n_known": self.n_known,
            "n_tried": self.n_tried,
            "n_hit": self.n_tried_hit,
            "n_hit_moved": self.n_moved_hit / len(SHIFTS),
        }


class _Accumulator:
    """Sum of pairs (row, column), kept sparse: full buffers become matrices, which are added up.

    Matrices of like size are added, so that each entry is copied a logarithmic number of times.
    """

    def __init__(self, n_columns: int | None) -> None:
        self.n_columns = n_columns
        self.rows, self.columns = np.empty(_ROOM, np.int32), np.empty(_ROOM, np.int64)
        self.used = 0
        self.parts: list[sp.csr_matrix] = []

    def fill(self, kernel: Callable[..., tuple[int, int]], n_fragments: int) -> None:
        """Let a kernel write the pairs of a block, in several goes where room runs out."""
        first = 0
        while True:
            reached, n = kernel(first, self.rows[self.used :], self.columns[self.used :])
            self.used += n
            if reached == n_fragments:
                return
            first = reached
            if self.used == 0:  # one fragment hits more regions than there is room for
                self.rows = np.empty(2 * len(self.rows), np.int32)
                self.columns = np.empty(2 * len(self.columns), np.int64)
            self._flush()

    def _flush(self) -> None:
        if self.used == 0:
            return
        rows, columns = self.rows[: self.used], self.columns[: self.used]
        width = self.n_columns or int(columns.max()) + 1
        shape = (int(rows.max()) + 1, width)
        part = sp.coo_matrix((np.ones(self.used, np.int32), (rows, columns)), shape=shape).tocsr()
        self.used = 0
        while self.parts and self.parts[-1].nnz < 2 * part.nnz:
            part = _sum(self.parts.pop(), part)
        self.parts.append(part)

    def result(self, n_rows: int) -> sp.csr_matrix:
        self._flush()
        total = sp.csr_matrix((n_rows, self.n_columns or 1), dtype=np.int32)
        while self.parts:
            total = _sum(total, self.parts.pop())
        total.sum_duplicates()
        return sp.csr_matrix(total)


def _sum(a: sp.csr_matrix, b: sp.csr_matrix) -> sp.csr_matrix:
    shape = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
    a.resize(*shape)
    b.resize(*shape)
    if a.nnz == 0 or b.nnz == 0:
        return a if b.nnz == 0 else b
    return a + b


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    if size <= len(array):
        return array
    out = np.zeros(max(size, 2 * len(array)), array.dtype)
    out[: len(array)] = array
    return out
