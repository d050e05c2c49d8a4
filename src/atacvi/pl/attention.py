"""Attention between blocks of the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atacvi.pl._style import CMAP, integer_axis, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attention"]

_MEGABASE = 1e6


def attention(
    model: Any, head: int | None = None, *, indices: Any = None, ax: Axes | None = None
) -> Axes:
    """Draw which blocks of the genome attend to which, as a multiple of even attention.

    Parameters
    ----------
    model
        Trained model with ``get_attention``, or what that returns: weights of shape (heads, query
        blocks, key blocks) and the table of blocks.
    head
        Draw one head; ``None`` draws the mean over the heads.
    indices
        Cells to average over, passed to the model; all by default.
    ax
        Axes to draw into.

    Raises
    ------
    IndexError
        If there is no such head.
    TypeError
        If the model has no attention over the genome.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from atacvi.pl import attention
    >>> blocks = pd.DataFrame({"chrom": ["chr1", "chr2"], "start": [0, 0], "end": [9e6, 4e6]})
    >>> weights = np.array([[[0.8, 0.2], [0.5, 0.5]]])
    >>> attention((weights, blocks)).get_xlabel()
    'attended block'
    """
    if isinstance(model, tuple):
        weights, blocks = model
    elif hasattr(model, "get_attention"):
        weights, blocks = model.get_attention(indices=indices)
    else:
        msg = (
            f"{type(model).__name__} has no get_attention; pass a trained MultiViewModel with "
            "attention='tokens', or its weights and blocks"
        )
        raise TypeError(msg)
    n_heads, n_blocks = weights.shape[:2]
    if head is not None and not 0 <= head < n_heads:
        msg = f"head={head}; the model has {n_heads}, counted from 0"
        raise IndexError(msg)
    shown = weights.mean(axis=0) if head is None else weights[head]
    size = max(3.6, 0.22 * n_blocks + 2.2)
    ax = new_axes(ax, (size + 0.8, size))
    ratio = n_blocks * np.asarray(shown, dtype=float)
    image = ax.imshow(ratio, cmap=CMAP, interpolation="nearest", aspect="equal")
    names = [_name(str(row.chrom), row.start, row.end) for row in blocks.itertuples()]
    integer_axis(ax.xaxis, n_blocks, names)
    integer_axis(ax.yaxis, n_blocks, names)
    ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(labelsize="small")
    ax.set(xlabel="attended block", ylabel="attending block")
    ax.set_title("mean over heads" if head is None else f"head {head}", loc="left")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("attention / even attention")
    return ax


def _name(chrom: str, start: float, end: float) -> str:
    """Name a block by its ends in megabases; it may run over several chromosomes."""
    first, *others = chrom.split(",")
    last = f"{others[-1]}:" if others else ""
    return f"{first}:{start / _MEGABASE:.0f}–{last}{end / _MEGABASE:.0f}"
