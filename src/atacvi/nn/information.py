"""Terms that keep information about the cell in its latent: MMD to the prior, and InfoNCE."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Literal["imq", "rbf"]

# Bandwidths relative to the expected squared distance of two draws of the prior
_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def _kernel(squared: Tensor, scale: Tensor, kernel: Kernel) -> Tensor:
    """Return the sum of kernels of several bandwidths at squared distances."""
    if kernel == "imq":
        return sum(s * scale / (s * scale + squared) for s in _SCALES)  # type: ignore[return-value]
    return sum(torch.exp(-squared / (s * scale)) for s in _SCALES)  # type: ignore[return-value]


def squared_mmd(x: Tensor, y: Tensor, kernel: Kernel = "imq", *, unbiased: bool = True) -> Tensor:
    r"""Return the squared maximum mean discrepancy of two samples, a scalar.

    .. math::

        E k(x, x') + E k(y, y') - 2 E k(x, y)

    Kernels of several bandwidths around the mean squared distance within `y` are summed: one
    alone, chosen badly, sees no difference in more than a few dimensions (Tolstikhin et al.,
    Wasserstein Auto-Encoders, ICLR 2018, Section 4).

    Parameters
    ----------
    x, y
        Samples, shapes (n, d) and (m, d); `y` sets the bandwidths.
    kernel
        ``"imq"`` (inverse multi-quadratic, heavy tails) or ``"rbf"``.
    unbiased
        Leave out the distances of points to themselves; the estimate can then be negative, and is
        zero in the mean where both are drawn from one distribution (Gretton et al., JMLR 2012).
    """
    xx, yy, xy = (torch.cdist(a, b).square() for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    scale = (yy.sum() / max(1, m * (m - 1))).detach().clamp(min=1e-12)
    kxx, kyy, kxy = (_kernel(d, scale, kernel) for d in (xx, yy, xy))
    if unbiased:
        own = float(len(_SCALES))
        within_x = (kxx.sum() - n * own) / max(1, n * (n - 1))
        within_y = (kyy.sum() - m * own) / max(1, m * (m - 1))
    else:
        within_x, within_y = kxx.mean(), kyy.mean()
    return within_x + within_y - 2 * kxy.mean()


def info_nce(one: Tensor, two: Tensor, temperature: float = 0.2) -> Tensor:
    r"""Return a lower bound of the information that two views of the cells share, a scalar.

    .. math::

        \log B + \frac{1}{B} \sum_i \log
        \frac{\exp(s_{ii} / \tau)}{\sum_j \exp(s_{ij} / \tau)}

    with the cosine :math:`s`, averaged over both directions; it never exceeds :math:`\log B` nats
    (van den Oord et al., 2018; Poole et al., ICML 2019).

    Parameters
    ----------
    one, two
        The views, each of shape (cells, d), in the same order.
    temperature
        Scale of the cosine.
    """
    logits = F.normalize(one, dim=-1) @ F.normalize(two, dim=-1).T / temperature
    same = torch.arange(len(one), device=one.device)
    loss = 0.5 * (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same))
    return torch.log(torch.tensor(float(len(one)), device=one.device)) - loss
