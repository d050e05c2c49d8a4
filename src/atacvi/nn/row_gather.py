"""Rows of a table, with a gradient of those rows only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def take_rows(table: Tensor, rows: Tensor | None, *, sparse: bool = False) -> Tensor:
    """Return ``table[rows]``, if asked for with a sparse gradient that holds those rows only.

    A dense gradient of a table of 100,000 rows costs a processor more to fill, to clip and to
    apply than all else in a step costs together.

    Parameters
    ----------
    table
        Shape (rows, width).
    rows
        Distinct indices, int64; ``None`` for the whole table.
    sparse
        Whether the optimiser takes sparse gradients.
    """
    return table if rows is None else F.embedding(rows, table, sparse=sparse)
