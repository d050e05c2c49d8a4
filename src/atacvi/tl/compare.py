"""Compare a ranking of genes or regions with a reference list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from atacvi.metrics import overlap_enrichment

if TYPE_CHECKING:
    from collections.abc import Sequence


def compare_degs(
    table: pd.DataFrame | Sequence[str],
    reference: Sequence[str],
    *,
    n_top: int | Sequence[int] | None = None,
    max_fdr: float = 0.05,
    min_log2_fold_change: float | None = None,
    universe: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Overlap of differential features with a reference list, such as that of a publication.

    Parameters
    ----------
    table
        Result of :func:`differential` (features in the index, best first), or a ranked list.
    reference
        Names of the reference; those outside the universe are left out and counted.
    n_top
        Compare the first `n_top` features, or each of several numbers; ``None`` takes all whose
        ``fdr`` is at most `max_fdr`.
    max_fdr
        False discovery rate of the features compared where `n_top` is ``None``.
    min_log2_fold_change
        Leave out features whose ``log2_fold_change`` is lower.
    universe
        All features that were tested; by default those of the table.

    Returns
    -------
    One row a number of features: ``n_compared``, ``n_reference`` (in the universe),
    ``n_not_tested`` (not in it), ``n_shared``, ``precision``, ``recall``, ``jaccard``,
    ``odds_ratio`` with the limits ``low`` and ``high`` of its 95 % interval, and ``pvalue``
    (hypergeometric).

    Raises
    ------
    KeyError
        If the table lacks a column that is needed.
    ValueError
        If nothing of the reference was tested, or a list is given without universe or `n_top`.

    Examples
    --------
    >>> from atacvi.tl import compare_degs
    >>> genes = [f"g{i}" for i in range(100)]
    >>> found = compare_degs(genes[:20], genes[10:20], n_top=20, universe=genes)
    >>> found[["n_shared", "precision", "recall"]].values.tolist()
    [[10.0, 0.5, 1.0]]
    """
    if isinstance(table, pd.DataFrame):
        ranked = _ranked(table, min_log2_fold_change)
        tested = pd.Index(table.index if universe is None else universe)
        sizes = [int((ranked["fdr"] <= max_fdr).sum())] if n_top is None else n_top
        names = ranked.index
        if n_top is None:
            names = names[(ranked["fdr"] <= max_fdr).to_numpy()]
    else:
        if universe is None or n_top is None:
            msg = "a list of names needs n_top= (how many) and universe= (what was tested)"
            raise ValueError(msg)
        names, tested, sizes = pd.Index(table), pd.Index(universe), n_top
    tested = tested.unique()
    known = pd.Index(reference).unique()
    inside = known.intersection(tested)
    if not len(inside):
        msg = (
            f"none of the {len(known)} names of the reference was tested; they look like "
            f"{known[0] if len(known) else None!r}, those tested like {tested[0]!r}"
        )
        raise ValueError(msg)
    rows = []
    for size in [sizes] if isinstance(sizes, int) else sizes:
        chosen = names[:size].unique().intersection(tested)
        shared = len(chosen.intersection(inside))
        test = overlap_enrichment(shared, len(chosen), len(inside), len(tested))
        rows.append(
            {
                "n_compared": len(chosen),
                "n_reference": len(inside),
                "n_not_tested": len(known) - len(inside),
                "n_shared": shared,
                "precision": shared / len(chosen) if len(chosen) else float("nan"),
                "recall": shared / len(inside),
                "jaccard": shared / (len(chosen) + len(inside) - shared),
                "odds_ratio": test.odds_ratio,
                "low": test.lower,
                "high": test.upper,
                "pvalue": test.p_value,
            }
        )
    return pd.DataFrame(rows)


def _ranked(table: pd.DataFrame, min_log2_fold_change: float | None) -> pd.DataFrame:
    needed = {"fdr"} | (set() if min_log2_fold_change is None else {"log2_fold_change"})
    missing = needed - set(table.columns)
    if missing:
        msg = f"the table lacks {sorted(missing)}; it has {list(map(str, table.columns))}"
        raise KeyError(msg)
    if min_log2_fold_change is None:
        return table
    return table[table["log2_fold_change"] >= min_log2_fold_change]
