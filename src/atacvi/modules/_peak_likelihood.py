"""Likelihoods of accessibility as functions of log-rates, and the peaks that a step decodes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from atacvi.likelihoods import (
    SparseTarget,
    open_log_prob,
    poisson_log_prob,
    zero_inflated_poisson_log_prob,
)

PeakLikelihood = Literal["poisson", "bernoulli", "zip"]
PEAK_LIKELIHOODS: tuple[str, ...] = ("poisson", "bernoulli", "zip")


class PeakDraw(NamedTuple):
    """Peaks of a step: their indices (``None`` for all) and what each of them counts."""

    peaks: Tensor | None
    weight: float


def draw_peaks(n_peaks: int, n_drawn: int, device: torch.device) -> PeakDraw:
    """Draw peaks without replacement; each stands for ``n_peaks / n_drawn`` of them."""
    if n_drawn >= n_peaks:
        return PeakDraw(None, 1.0)
    peaks = torch.randperm(n_peaks, device=device)[:n_drawn].sort().values
    return PeakDraw(peaks, n_peaks / n_drawn)


def peak_log_prob(
    y: SparseTarget,
    log_rate: Tensor,
    likelihood: PeakLikelihood,
    gate_logits: Tensor | None = None,
    draw: PeakDraw | None = None,
) -> Tensor:
    """Return log p(y) of each cell, in nats, shape (cells,).

    Parameters
    ----------
    y
        Counts of all peaks.
    log_rate
        Log of the expected counts of the peaks drawn, shape (cells, peaks drawn).
    likelihood
        ``"poisson"``; ``"bernoulli"`` for open (at least one count of a Poisson of that rate) or
        closed; ``"zip"``, the Poisson with a gate.
    gate_logits
        Logit of a peak being switched off, shape (peaks drawn,), for ``"zip"``.
    draw
        The peaks drawn; ``None`` for all.
    """
    peaks, weight = (None, 1.0) if draw is None else draw
    target = y if peaks is None else y.select_features(peaks)
    if likelihood == "bernoulli":
        target = target._replace(values=torch.ones_like(target.values))
        return open_log_prob(target, log_rate, weight)
    if likelihood == "poisson":
        return poisson_log_prob(target, log_rate, weight)
    if gate_logits is None:
        msg = "The zero-inflated Poisson needs gate_logits."
        raise ValueError(msg)
    return zero_inflated_poisson_log_prob(target, log_rate, gate_logits, weight)


def loading_penalty(
    vector: Tensor, rows: Tensor, precision: float, n_train: Tensor, weight: float = 1.0
) -> Tensor:
    """Return a cell's share of the negative log-prior of the loadings, shape (cells,).

    The prior is a zero-mean Gaussian on what the latent adds to the log-rate of a peak. It shrinks
    the loadings of peaks of which few counts were seen.
    """
    vector = vector.float()
    # sum over peaks of (row . vector)^2, without multiplying out the peaks
    squares = weight * ((vector @ (rows.T @ rows)) * vector).sum(-1)
    return 0.5 * precision / n_train * squares
