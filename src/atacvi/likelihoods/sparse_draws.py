"""Draws of sparse counts from rates, without a random number for each zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atacvi.likelihoods._sparse import SparseTarget

# One generator for all cells, or one for each, with which a cell's draw does not depend on others
Generators = torch.Generator | Sequence[torch.Generator] | None


@torch.no_grad()
def draw_counts(
    log_rate: Tensor,
    total: Tensor,
    generator: Generators = None,
) -> SparseTarget:
    r"""Draw counts of a Poisson process given the total of each cell.

    Independent Poisson counts, given their sum, are multinomial: a cell's `total` events fall on
    features in proportion to their rates. An event costs a search in the cumulated rates; a
    feature without events costs one addition.

    Parameters
    ----------
    log_rate
        Log-rates up to a constant of each cell, shape (cells, features).
    total
        Number of events of each cell, int64, not negative, shape (cells,).
    generator
        Generator on the device of the rates, or one on the CPU for each cell.

    Returns
    -------
    The counts, shape (cells, features).

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import draw_counts
    >>> counts = draw_counts(torch.zeros(2, 5), torch.tensor([3, 0])).to_dense()
    >>> counts.sum(1).tolist()
    [3.0, 0.0]
    """
    rows, cols = _draw_events(_cumulated(log_rate), total, generator)
    return _collect(rows, cols, log_rate.shape)


@torch.no_grad()
def draw_open(
    log_rate: Tensor,
    n_open: Tensor,
    generator: Generators = None,
    max_rounds: int = 20,
) -> SparseTarget:
    """Draw which features are open, `n_open` of each cell, by events of a Poisson process.

    Events fall one after the other; the first `n_open` different features that they meet are open.

    Parameters
    ----------
    log_rate
        Log-rates up to a constant of each cell, shape (cells, features).
    n_open
        Number of open features of each cell, int64, at most that of features, shape (cells,).
    generator
        Generator on the device of the rates, or one on the CPU for each cell.
    max_rounds
        Rounds of events. A cell of which nearly all features are asked for may come out with
        fewer.

    Returns
    -------
    Ones at the open features, shape (cells, features).

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import draw_open
    >>> draw_open(torch.zeros(2, 50), torch.tensor([3, 40])).to_dense().sum(1).tolist()
    [3.0, 40.0]
    """
    n_features = log_rate.shape[1]
    kept = torch.empty(0, dtype=torch.long, device=log_rate.device)
    missing = n_open.clone()
    cumulated = _cumulated(log_rate)
    for _ in range(max_rounds):
        # A few more than are missing: some meet what is open already.
        asked = torch.where(missing > 0, missing + missing // 4 + 8, 0)
        rows, cols = _draw_events(cumulated, asked, generator)
        new = rows * n_features + cols
        kept = _first_different(torch.cat([kept, new]), n_features, n_open)
        found = torch.bincount(kept // n_features, minlength=len(n_open))
        missing = n_open - found
        if not bool((missing > 0).any()):
            break
    kept = kept.sort().values
    rows, cols = kept // n_features, kept % n_features
    shape = (log_rate.shape[0], n_features)
    return SparseTarget(rows, cols, torch.ones_like(rows, dtype=torch.float), shape)


def _cumulated(log_rate: Tensor) -> Tensor:
    """Return cumulated rates, in double precision: rare features would be lost between others."""
    rates = (log_rate - log_rate.amax(1, keepdim=True)).exp_()
    return rates.cumsum(1, dtype=torch.float64)


def _draw_events(cumulated: Tensor, total: Tensor, generator: Generators) -> tuple[Tensor, Tensor]:
    """Return cell and feature of each event, in the order of time within a cell."""
    most = int(total.max()) if total.numel() else 0
    uniform = _uniform(total, most, generator, cumulated.device)
    where = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    wanted = torch.arange(most, device=cumulated.device) < total[:, None]
    rows = wanted.nonzero()[:, 0]
    cols = where[wanted].clamp(max=cumulated.shape[1] - 1)
    return rows, cols


def _uniform(total: Tensor, most: int, generator: Generators, device: torch.device) -> Tensor:
    """Return numbers in [0, 1), of which a cell needs the first `total`, (cells, most)."""
    shape = (len(total), most)
    if generator is None or isinstance(generator, torch.Generator):
        return torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    uniform = torch.zeros(shape, dtype=torch.float64)
    for row, own, n in zip(uniform, generator, total.tolist(), strict=True):
        torch.rand(n, generator=own, out=row[:n])
    return uniform.to(device)


def _first_different(events: Tensor, n_features: int, n_open: Tensor) -> Tensor:
    """Return the first `n_open` different features of each cell, in the order of their events."""
    _, first = _unique_first(events)
    ordered = events[first.sort().values]
    cells = ordered // n_features
    by_cell = torch.sort(cells, stable=True)
    starts = torch.searchsorted(by_cell.values, torch.arange(len(n_open), device=events.device))
    rank = torch.arange(len(ordered), device=events.device) - starts[by_cell.values]
    return ordered[by_cell.indices[rank < n_open[by_cell.values]]]


def _unique_first(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different values and where each occurs first."""
    ordered = torch.sort(values, stable=True)
    is_first = torch.ones_like(ordered.values, dtype=torch.bool)
    is_first[1:] = ordered.values[1:] != ordered.values[:-1]
    return ordered.values[is_first], ordered.indices[is_first]


def _collect(rows: Tensor, cols: Tensor, shape: torch.Size) -> SparseTarget:
    keys, counts = torch.unique(rows * shape[1] + cols, return_counts=True)
    return SparseTarget(keys // shape[1], keys % shape[1], counts.float(), (shape[0], shape[1]))
