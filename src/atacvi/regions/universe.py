"""The vocabulary of regions."""

from __future__ import annotations

import hashlib
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.regions.bed import bed_text, read_bed, write_bed
from atacvi.regions.blocks import sort_order
from atacvi.regions.merge import merge
from atacvi.regions.parse import format_regions, parse_regions, var_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SPECIAL_TOKENS", "Universe"]

#: Special tokens in the order of their ids, which follow those of the regions.
SPECIAL_TOKENS = ("unk", "pad", "mask", "cls", "eos", "bos", "sep")
_FILE = "universe.bed.gz"


class Universe:
    """An ordered vocabulary of genomic regions without repeats.

    The id of a region is its position; seven special tokens follow: ``unk``, ``pad``, ``mask``,
    ``cls``, ``eos``, ``bos`` and ``sep`` have the ids n to n + 6, as in the checkpoints of Atacformer
    (LeRoy et al., bioRxiv 2025.11.03.685753). Regions may overlap.

    Parameters
    ----------
    regions
        Regions in the order of their ids: a table with the columns ``chrom``, ``start`` and ``end``
        (or one of the forms that :func:`parse_regions` reads), an AnnData with regions in ``var``,
        or names such as ``chr1:100-200``. Repeated regions are dropped with a warning; the first of
        them stays.

    Raises
    ------
    ValueError
        If there is no region, or one cannot be read, is empty or reversed.

    Examples
    --------
    >>> from atacvi.regions import Universe
    >>> universe = Universe(["chr1:100-200", "chr1:400-600"])
    >>> len(universe), universe.vocab_size, universe.pad_id
    (2, 9, 3)
    >>> universe == Universe(["chr1:400-600", "chr1:100-200"])
    False
    """

    def __init__(self, regions: pd.DataFrame | Iterable[str] | Any) -> None:
        table = parse_regions(var_of(regions))
        if len(table) == 0:
            msg = "a universe needs at least one region; these are none"
            raise ValueError(msg)
        codes, chroms = pd.factorize(np.asarray(table["chrom"].tolist(), dtype=object))
        parts = pd.DataFrame(
            {
                "chrom": codes.astype(np.int32),
                "start": table["start"].to_numpy(dtype=np.int64),
                "end": table["end"].to_numpy(dtype=np.int64),
            }
        )
        repeated = parts.duplicated().to_numpy()
        if repeated.any():
            first = format_regions(table.iloc[np.flatnonzero(repeated)[:1]])[0]
            msg = (
                f"{repeated.sum()} of {len(parts)} regions of the universe repeat an earlier one "
                f"(such as {first}) and are dropped; the ids of later regions move up"
            )
            warnings.warn(msg, stacklevel=2)
            parts = parts[~repeated]
        self._chroms = tuple(str(chrom) for chrom in chroms)
        self._chrom = parts["chrom"].to_numpy()
        self._start, self._end = parts["start"].to_numpy(), parts["end"].to_numpy()

    @classmethod
    def from_regions(cls, regions: pd.DataFrame | Iterable[str] | Any) -> Universe:
        """Make a universe of a table, of an AnnData's peaks or of names, as the class does.

        Parameters
        ----------
        regions
            Table, AnnData or names.
        """
        return cls(regions)

    @classmethod
    def from_bed(cls, path: str | Path) -> Universe:
        """Read a universe from a BED file: the line of a region (comments apart) is its id.

        Parameters
        ----------
        path
            BED file, plain or gzip.

        Raises
        ------
        ValueError
            If the file cannot be read as BED (:func:`read_bed`) or holds an empty region.
        """
        return cls(read_bed(path))

    @classmethod
    def from_folder(cls, folder: str | Path) -> Universe:
        """Read ``universe.bed.gz`` of a folder, the layout of gtars and of Atacformer checkpoints.

        Parameters
        ----------
        folder
            The folder.

        Raises
        ------
        FileNotFoundError
            If the folder has no such file.
        """
        folder = Path(folder)
        found = [folder / name for name in (_FILE, "universe.bed") if (folder / name).is_file()]
        if not found:
            msg = f"{folder} holds no {_FILE}; give a BED file to Universe.from_bed"
            raise FileNotFoundError(msg)
        return cls.from_bed(found[0])

    @classmethod
    def consensus(cls, sets: Sequence[Any], *, min_sets: int = 1, max_gap: int = 0) -> Universe:
        """Merge several sets of peaks into one universe of disjoint regions in genome order.

        Parameters
        ----------
        sets
            Tables, AnnData objects, lists of names, universes, or paths of BED files.
        min_sets
            Sets in which a merged region must have a peak.
        max_gap
            Peaks this many base pairs apart are merged (:func:`merge`).

        Raises
        ------
        ValueError
            If there is no set, `min_sets` is out of range, or no region is in so many sets.
        """
        if not 1 <= min_sets <= len(sets):
            msg = f"min_sets={min_sets} for {len(sets)} sets: it must lie within 1 and their number"
            raise ValueError(msg)
        tables = [as_regions(one) for one in sets]
        everything = pd.concat(tables, ignore_index=True)
        of_region, merged = merge(everything, max_gap=max_gap)
        set_of_region = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        pairs = pd.DataFrame({"merged": of_region, "set": set_of_region}).drop_duplicates()
        support = np.bincount(pairs["merged"], minlength=len(merged))
        merged = merged[support >= min_sets]
        if len(merged) == 0:
            msg = f"no region has peaks in {min_sets} sets; lower min_sets or raise max_gap"
            raise ValueError(msg)
        return cls(merged)

    def __len__(self) -> int:
        return len(self._start)

    @property
    def vocab_size(self) -> int:
        """Number of ids: regions and special tokens."""
        return len(self) + len(SPECIAL_TOKENS)

    @property
    def special_ids(self) -> dict[str, int]:
        """Ids of the special tokens by name."""
        return {name: len(self) + i for i, name in enumerate(SPECIAL_TOKENS)}

    @property
    def unk_id(self) -> int:
        """Id for what lies outside the vocabulary."""
        return len(self)

    @property
    def pad_id(self) -> int:
        """Id that fills batches."""
        return len(self) + 1

    @property
    def mask_id(self) -> int:
        """Id of the mask."""
        return len(self) + 2

    @property
    def chroms(self) -> tuple[str, ...]:
        """Names of the chromosomes, in the order of their first region."""
        return self._chroms

    @property
    def regions(self) -> pd.DataFrame:
        """Table with ``chrom``, ``start`` and ``end`` in the order of the ids."""
        chrom = np.asarray(self._chroms, dtype=object)[self._chrom]
        return pd.DataFrame({"chrom": chrom, "start": self._start.copy(), "end": self._end.copy()})

    @property
    def names(self) -> pd.Index:
        """Names ``chrom:start-end`` in the order of the ids."""
        return format_regions(self.regions)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the ordered regions, the same on every machine: it names the vocabulary."""
        return hashlib.sha256(bed_text(self.regions).encode()).hexdigest()

    def is_sorted(self) -> bool:
        """Whether the ids follow the genome order of :func:`sort_order`."""
        return bool((np.diff(sort_order(self.regions)) > 0).all())

    def save(self, path: str | Path) -> Path:
        """Write the regions in the order of their ids.

        Parameters
        ----------
        path
            BED file (``.bed`` or ``.bed.gz``), or a folder (made if need be) that gets
            ``universe.bed.gz``.

        Returns
        -------
        The file.
        """
        path = Path(path)
        if not path.name.endswith((".bed", ".bed.gz")):
            path.mkdir(parents=True, exist_ok=True)
            path = path / _FILE
        write_bed(self.regions, path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Universe:
        """Read what :meth:`save` wrote: a folder or a BED file.

        Parameters
        ----------
        path
            The folder or file.
        """
        return cls.from_folder(path) if Path(path).is_dir() else cls.from_bed(path)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays that rebuild the universe, for files: names of chromosomes, codes, positions."""
        return {
            "chroms": np.asarray(self._chroms, dtype=object),
            "chrom": self._chrom.copy(),
            "start": self._start.copy(),
            "end": self._end.copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Universe:
        """Rebuild a universe from :meth:`to_arrays`.

        Parameters
        ----------
        arrays
            ``chroms``, ``chrom``, ``start`` and ``end``.
        """
        chroms = np.asarray(arrays["chroms"], dtype=object)
        chrom = chroms[np.asarray(arrays["chrom"], dtype=np.int64)]
        return cls(pd.DataFrame({"chrom": chrom, "start": arrays["start"], "end": arrays["end"]}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Universe):
            return NotImplemented
        return len(self) == len(other) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return (
            f"Universe of {len(self)} regions on {len(self._chroms)} chromosomes ({self.hash[:8]})"
        )


def as_regions(regions: Any) -> pd.DataFrame:
    """Table with ``chrom``, ``start`` and ``end`` of anything that holds regions.

    Parameters
    ----------
    regions
        Table, AnnData, universe, names, or the path of a BED file.
    """
    if isinstance(regions, Universe):
        return regions.regions
    if isinstance(regions, (str, Path)):
        return read_bed(regions)[["chrom", "start", "end"]]
    if isinstance(regions, pd.DataFrame):
        return parse_regions(regions)
    return parse_regions(var_of(regions))
