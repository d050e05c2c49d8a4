"""Losses over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.pl._style import bare, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["training_curves"]

_TRAIN, _HELD_OUT = "_train", "_validation"
# Weights of terms are no losses, steps are not epochs, and the loss of scvi-tools is the ELBO's.
_LEFT_OUT = ("kl_weight", "train_loss", "validation_loss", "kl_global")
_FIRST = ("elbo", "reconstruction_loss", "kl_local")


def training_curves(
    model: Any, terms: Sequence[str] | None = None, *, ax: Axes | None = None
) -> NDArray[np.object_] | Axes:
    """Draw each term of the loss over the epochs, on training and on held-out cells.

    Vertical lines mark where the stages of the training begin, where the model tells
    (``model.training_stages_``: first epoch by name of the stage).

    Parameters
    ----------
    model
        Trained model, or its ``history``: tables of one column by name, where a term has the
        suffix ``_train`` or ``_validation``.
    terms
        Names of the terms without suffix; all of them by default.
    ax
        Axes to draw into; for one term only.

    Returns
    -------
    Array of Axes, one a term; with `ax` that one.

    Raises
    ------
    KeyError
        If a term is not in the history.
    ValueError
        If there is no history (an untrained model), or `ax` is given with several terms.

    Examples
    --------
    >>> import pandas as pd
    >>> from atacvi.pl import training_curves
    >>> history = {"elbo_train": pd.DataFrame({"elbo_train": [3.0, 2.0, 1.5]})}
    >>> [axes.get_title(loc="left") for axes in training_curves(history)]
    ['elbo']
    """
    history = model if isinstance(model, Mapping) else getattr(model, "history", None)
    known = _terms(history or {})
    if not known:
        msg = "There is no history of the loss; call model.train() first."
        raise ValueError(msg)
    chosen = known if terms is None else list(terms)
    missing = [term for term in chosen if term not in known]
    if missing or not chosen:
        msg = f"the history has no terms {missing}; it has {known}"
        raise KeyError(msg)
    if ax is not None and len(chosen) > 1:
        msg = f"`ax` takes one term, these are {len(chosen)}; choose one in `terms`, or pass no ax."
        raise ValueError(msg)
    axes = np.array([ax]) if ax is not None else _panels(len(chosen))
    borders = _borders(getattr(model, "training_stages_", None))
    for i, (panel, term) in enumerate(zip(axes, chosen, strict=True)):
        _draw(panel, history or {}, term)
        _mark_stages(panel, borders, named=i == 0)
    axes[0].legend(frameon=False, fontsize="small", loc="best")
    return axes if ax is None else ax


def _terms(history: Mapping[str, pd.DataFrame]) -> list[str]:
    """Names of the terms with a value in more than no epoch; well-known ones first."""
    names = {
        name.removesuffix(suffix): None
        for suffix in (_TRAIN, _HELD_OUT)
        for name in history
        if name.endswith(suffix) and np.isfinite(_series(history[name])).any()
    }
    rest = [name for name in names if name not in (*_FIRST, *_LEFT_OUT)]
    # A term that is zero throughout belongs to a stage that never came.
    used = [name for name in rest if any(_series(h).abs().max() > 0 for h in _of(history, name))]
    return [name for name in _FIRST if name in names] + used


def _of(history: Mapping[str, pd.DataFrame], term: str) -> list[pd.DataFrame]:
    return [history[term + end] for end in (_TRAIN, _HELD_OUT) if term + end in history]


def _series(table: pd.DataFrame) -> pd.Series:
    column = table.iloc[:, 0] if isinstance(table, pd.DataFrame) else pd.Series(table)
    return pd.to_numeric(column, errors="coerce")


def _borders(stages: Any) -> list[tuple[str, float]]:
    """First epoch and name of each stage, from a mapping or from pairs."""
    if not stages:
        return []
    pairs = stages.items() if isinstance(stages, Mapping) else stages
    return sorted(((str(p[0]), float(p[1])) for p in pairs), key=lambda pair: pair[1])


def _panels(n_panels: int) -> NDArray[np.object_]:
    import matplotlib.pyplot as plt

    n_columns = min(n_panels, 3)
    n_rows = -(-n_panels // n_columns)
    size = (3.8 * n_columns, 2.7 * n_rows)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    figure.set_layout_engine("constrained")
    for unused in grid.ravel()[n_panels:]:
        figure.delaxes(unused)
    return grid.ravel()[:n_panels]


def _draw(ax: Axes, history: Mapping[str, pd.DataFrame], term: str) -> None:
    from matplotlib.ticker import MaxNLocator

    blue, orange = palette(2)
    styles = {_TRAIN: ("training cells", blue, "-"), _HELD_OUT: ("held-out cells", orange, "--")}
    drawn = []
    for suffix, (label, colour, line) in styles.items():
        if term + suffix not in history:
            continue
        values = _series(history[term + suffix]).dropna()
        epochs = values.index.to_numpy(dtype=float)
        ax.plot(epochs, values, line, color=colour, label=label, lw=1.6, marker="o", ms=2.0)
        drawn.append(values.to_numpy())
    _limit(ax, np.concatenate(drawn))
    ax.set_title(term.replace("_", " "), loc="left")
    ax.set(xlabel="epoch", ylabel="loss per cell")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    bare(ax)


def _limit(ax: Axes, values: NDArray[np.float64]) -> None:
    """Cut the first epochs off where they would press everything else into a line."""
    low, typical, high = np.quantile(values, [0.0, 0.9, 1.0])
    if len(values) >= 10 and high - low > 5 * (typical - low) > 0:
        span = typical - low
        ax.set_ylim(low - 0.1 * span, typical + 0.6 * span)


def _mark_stages(ax: Axes, borders: list[tuple[str, float]], *, named: bool) -> None:
    later = [(name, epoch) for name, epoch in borders if epoch > 0]
    for name, epoch in later:
        # On the left of its line but for the last, so that stages that begin together can be read.
        side = "left" if (name, epoch) == later[-1] else "right"
        ax.axvline(epoch, color="#888888", lw=0.8, ls=":")
        if named:
            ax.text(
                epoch,
                0.3,
                f" {name}",
                transform=ax.get_xaxis_transform(),
                size="small",
                color="#555555",
                va="bottom",
                rotation=90,
                ha=side,
            )
