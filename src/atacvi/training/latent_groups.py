"""Posteriors of latents under a prior of their own for each group of cells."""

from __future__ import annotations

import torch
from torch import Tensor

# Narrow groups go on shrinking for long, ever more slowly. What is left to gain is within the error
# of the encoder's variances.
_N_STEPS = 50
# A group's variances start as if so many cells with those of all had been seen.
_CELLS_OF_ALL = 5.0
# Of the counts of a cell, where its posterior is as wide as that of all cells together
_LEAST_PRECISION = 1e-3


@torch.no_grad()
def posteriors_within_groups(
    mean: Tensor, variance: Tensor, groups: Tensor, train: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return the posteriors that cells have if each group has a Gaussian prior of its own.

    An encoder knows one prior for all cells: the posteriors of few counts are wide and lie near its
    centre, and samples of them mix what the groups are known to keep apart. With the aggregate
    :math:`N(c, s)` of all posteriors as the prior that they were inferred under, the counts of cell n
    say :math:`N(m_n, v_n) / N(c, s)` about its latent. From that the mean and variance of each group
    follow by EM (Bovy, Hogg & Roweis, Annals of Applied Statistics 5:1657, 2011), and from these the
    posteriors again. Dimensions are taken one by one. A single group leaves all as it was.

    Parameters
    ----------
    mean, variance
        Posteriors of an encoder, shape (cells, n_latent).
    groups
        Code of each cell's group, shape (cells,).
    train
        Cells that the priors are learnt from, bool of shape (cells,). Cells of a group without any
        keep their posteriors.

    Returns
    -------
    Means and variances, of the shape and type of those given.

    Examples
    --------
    >>> import torch
    >>> from atacvi.training import posteriors_within_groups
    >>> group = torch.arange(200) % 2
    >>> mean = (group - 0.5)[:, None]  # the counts say -1.5 and 1.5, one prior for all pulled to 0
    >>> after, _ = posteriors_within_groups(mean, torch.full((200, 1), 0.5), group, group >= 0)
    >>> after[:2, 0].round(decimals=1).tolist()
    [-1.5, 1.5]
    """
    m, v = (part.to(torch.double, copy=True) for part in (mean, variance))
    centre = m[train].mean(0)
    spread = m[train].var(0, correction=0) + v[train].mean(0)
    precision = (1.0 / v - 1.0 / spread).clamp(min=_LEAST_PRECISION)
    evidence = m / v - centre / spread
    for group in groups[train].unique():
        own = groups == group
        seen = own & train
        centre_of_group, spread_of_group = _fit_group(
            m[seen], v[seen], precision[seen], evidence[seen], spread
        )
        v[own] = 1.0 / (1.0 / spread_of_group + precision[own])
        m[own] = v[own] * (centre_of_group / spread_of_group + evidence[own])
    return m.to(mean), v.to(variance)


def _fit_group(
    mean: Tensor, variance: Tensor, precision: Tensor, evidence: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of a group, each (n_latent,), by EM from its posteriors."""
    for _ in range(_N_STEPS):
        centre = mean.mean(0)
        squares = ((mean - centre).square() + variance).sum(0)
        of_group = (squares + _CELLS_OF_ALL * spread) / (len(mean) + _CELLS_OF_ALL)
        variance = 1.0 / (1.0 / of_group + precision)
        mean = variance * (centre / of_group + evidence)
    return centre, of_group
