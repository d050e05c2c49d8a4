"""Which noise levels a sampler of few steps visits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from atacvi.diffusion._checks import check_choice, check_count
from atacvi.diffusion.schedules import signal_to_noise

Spacing = Literal["even", "stride", "log_snr"]


def respace(n_levels: int, n_steps: int, spacing: str = "even") -> Tensor:
    """Return the indices of `n_steps` noise levels out of `n_levels`, evenly in the index.

    Parameters
    ----------
    n_levels
        Levels of the process.
    n_steps
        Levels to keep.
    spacing
        ``"even"`` keeps the first and the last level (one step keeps the last); ``"stride"`` keeps
        every ``n_levels // n_steps``-th from the first, so not the last (Song et al., 2021).

    Returns
    -------
    int64, rising, shape (n_steps,).

    Raises
    ------
    ValueError
        If `n_steps` is below 1 or above `n_levels`, or `spacing` unknown.

    Examples
    --------
    >>> from atacvi.diffusion import respace
    >>> respace(1000, 5).tolist(), respace(1000, 5, "stride").tolist()
    ([0, 250, 500, 749, 999], [0, 200, 400, 600, 800])
    """
    check_count("n_levels", n_levels)
    check_count("n_steps", n_steps, n_levels, ", the noise levels there are")
    if check_choice("spacing", spacing, ("even", "stride")) == "stride":
        return torch.arange(n_steps) * (n_levels // n_steps)
    if n_steps == 1:
        return torch.tensor([n_levels - 1])
    return torch.linspace(0, n_levels - 1, n_steps, dtype=torch.float64).round().long()


def respace_by_log_snr(alpha_bar: Tensor, n_steps: int) -> Tensor:
    """Return the indices of `n_steps` levels at about equal distances in log-SNR.

    Solvers that integrate over the log signal-to-noise ratio err least so (Lu et al., NeurIPS
    2022). Where the levels are too sparse for that, neighbours are taken: no level comes twice.

    Parameters
    ----------
    alpha_bar
        Share of the data's variance left at each level, falling, shape (levels,).
    n_steps
        Levels to keep; the first and the last are among them (one step keeps the last).

    Returns
    -------
    int64, rising, shape (n_steps,).

    Raises
    ------
    ValueError
        If `n_steps` is below 1 or above the number of levels.

    Examples
    --------
    >>> from atacvi.diffusion import alphas_cumprod, linear_schedule, respace_by_log_snr
    >>> respace_by_log_snr(alphas_cumprod(linear_schedule(1000)), 5).tolist()
    [0, 30, 302, 722, 999]
    """
    n_levels = len(alpha_bar)
    if check_count("n_steps", n_steps, n_levels, ", the noise levels there are") == 1:
        return torch.tensor([n_levels - 1])
    # rising in the index
    noisiness = -signal_to_noise(alpha_bar.double()).log()
    first, last = noisiness[[0, -1]].tolist()
    wanted = torch.linspace(first, last, n_steps, dtype=torch.float64)
    upper = torch.searchsorted(noisiness, wanted).clamp(1, n_levels - 1)
    nearer_below = wanted - noisiness[upper - 1] < noisiness[upper] - wanted
    steps = torch.arange(n_steps)
    # Rising by at least one: index minus step must not fall, with room for the steps to come.
    slack = (upper - nearer_below.long() - steps).cummax(0).values
    return slack.clamp(0, n_levels - n_steps) + steps
