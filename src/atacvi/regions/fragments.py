"""Stream a fragment file as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atacvi.regions._stream import line_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["FragmentBlock", "FragmentReader"]

_ROWS = 2**17
_SHOWN = 80


@dataclass(frozen=True)
class FragmentBlock:
    r"""Fragments of one block of a file; the arrays are overwritten by the next block.

    Parameters
    ----------
    chrom
        Codes of chromosomes, int32 of shape (fragments,): positions in
        :attr:`FragmentReader.chroms`.
    start, end
        Positions, int64 of shape (fragments,); 0-based, half-open.
    barcode
        Codes of barcodes, int32 of shape (fragments,): positions in
        :attr:`FragmentReader.barcodes`; -1 for a barcode that is not wanted, -2 for an empty one.

    Examples
    --------
    >>> from atacvi.regions import FragmentReader
    >>> from pathlib import Path
    >>> _ = Path("fragments.tsv").write_text("chr1\t10\t90\tAAA\t1\nchr1\t40\t95\tCCC\t2\n")
    >>> for block in FragmentReader("fragments.tsv"):
    ...     print(block.start, block.end, block.barcode)
    [10 40] [90 95] [0 1]
    """

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    barcode: np.ndarray


class FragmentReader:
    r"""Read a fragment file (10x: chromosome, start, end, barcode, count) block by block.

    Plain text, gzip or bgzip, sorted or not; four or more columns, of which the first four are
    read; lines that start with ``#`` are comments. Memory depends on the number of barcodes, not on
    the number of fragments.

    Parameters
    ----------
    path
        The file.
    barcodes
        Barcodes wanted, in the order of their codes; ``None`` takes all.
    chroms
        Chromosomes that get the first codes; others of the file follow.
    on_bytes
        Called with the number of bytes read since the last call.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        While reading, with the number of the line: fewer than four columns, positions that are no
        whole numbers below 2**31, a start that is not below the end; or a truncated or damaged
        file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.regions import FragmentReader
    >>> _ = Path("fragments.tsv").write_text("chr1\t10\t50\tAAAC-1\t2\nchr2\t5\t9\tGGGT-1\t1\n")
    >>> reader = FragmentReader("fragments.tsv")
    >>> [block.end.tolist() for block in reader]
    [[50, 9]]
    >>> reader.chroms, reader.barcodes
    (['chr1', 'chr2'], ['AAAC-1', 'GGGT-1'])
    """

    def __init__(
        self,
        path: str | Path,
        *,
        barcodes: Iterable[str] | None = None,
        chroms: Iterable[str] = (),
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self.path = path
        self._on_bytes = on_bytes
        self._chroms = _ByteTable(chroms)
        self._barcodes = _ByteTable(barcodes or ())
        self._open_ended = barcodes is None

    @property
    def chroms(self) -> list[str]:
        """Names of chromosomes in the order of their codes."""
        return self._chroms.names()

    @property
    def barcodes(self) -> list[str]:
        """Barcodes in the order of their codes."""
        return self._barcodes.names()

    @property
    def n_barcodes(self) -> int:
        """Number of barcodes, wanted or found so far."""
        return int(self._barcodes.counts[0])

    @property
    def n_chroms(self) -> int:
        """Number of chromosomes, given or found so far."""
        return int(self._chroms.counts[0])

    def __iter__(self) -> Iterator[FragmentBlock]:
        from atacvi.regions._scan import DONE, FULL, scan

        chrom, barcode = np.empty(_ROWS, np.int32), np.empty(_ROWS, np.int32)
        start, end = np.empty(_ROWS, np.int64), np.empty(_ROWS, np.int64)
        lines = 0
        for block in line_blocks(self.path, on_bytes=self._on_bytes):
            text, position = np.frombuffer(block, np.uint8), 0
            status = FULL
            while status != DONE:
                self._chroms.reserve()
                self._barcodes.reserve()
                position, lines, n, status = scan(
                    text,
                    position,
                    lines,
                    *self._chroms.arrays(),
                    *self._barcodes.arrays(),
                    self._open_ended,
                    chrom,
                    start,
                    end,
                    barcode,
                )
                if status not in (DONE, FULL):
                    raise ValueError(self._complaint(text, position, lines + 1, status))
                if n:
                    yield FragmentBlock(chrom[:n], start[:n], end[:n], barcode[:n])

    def _complaint(self, text: np.ndarray, position: int, line: int, status: int) -> str:
        from atacvi.regions._scan import COLUMNS, LONG, LONGEST, NUMBER

        shown = bytes(text[position : position + _SHOWN]).split(b"\n")[0].decode("utf-8", "replace")
        wanted = "chromosome, start, end, barcode and count, separated by tabs"
        if status == COLUMNS:
            problem = f"has fewer than four columns: a fragment is {wanted}"
        elif status == NUMBER:
            problem = f"has a start or end that is no whole number from 0 to 2**31 - 1 ({wanted})"
        elif status == LONG:
            problem = f"has a name of more than {LONGEST} characters: a fragment is {wanted}"
        else:
            problem = "has a start that is not below its end; drop or repair such lines"
        return f"{self.path}, line {line} {problem}: {shown!r}"


class _ByteTable:
    """Byte strings with codes in the order of their arrival, in arrays that compiled code reads."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.table = np.full(2**10, -1, np.int32)
        self.pool = np.empty(2**14, np.uint8)
        self.borders = np.zeros(2**9 + 2, np.int64)
        self.counts = np.zeros(2, np.int64)
        self.add(names)

    def add(self, names: Iterable[str]) -> None:
        from atacvi.regions._scan import look_up

        for name in names:
            key = np.frombuffer(str(name).encode(), np.uint8)
            self.reserve(len(key))
            look_up(key, 0, len(key), *self.arrays(), True)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.table, self.pool, self.borders, self.counts

    def reserve(self, n_bytes: int = 0) -> None:
        """Make room for another key, and for more keys while that is cheap."""
        from atacvi.regions._scan import LONGEST, rehash

        n_bytes = max(n_bytes, LONGEST)
        n_keys, used = (int(n) for n in self.counts)
        if used + 2 * n_bytes > len(self.pool):
            self.pool = _longer(self.pool, 2 * (used + 2 * n_bytes))
        if 4 * (n_keys + 1) <= len(self.table):
            return
        old_borders = self.borders
        self.table = np.full(4 * len(self.table), -1, np.int32)
        self.borders = np.zeros(len(self.table) // 2 + 2, np.int64)
        self.counts = np.zeros(2, np.int64)
        # In the order of the codes each key is written onto itself.
        rehash(self.pool, old_borders, n_keys, self.table, self.borders, self.counts)

    def names(self) -> list[str]:
        data = self.pool[: self.counts[1]].tobytes()
        borders = self.borders[: self.counts[0] + 1].tolist()
        return [
            data[low:high].decode("utf-8", "replace")
            for low, high in zip(borders[:-1], borders[1:], strict=True)
        ]


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    out = np.empty(size, array.dtype)
    out[: len(array)] = array
    return out
