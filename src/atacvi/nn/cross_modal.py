"""Contrast of two modalities over all devices, with pairs that are left out."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from atacvi.nn.contrastive import paired_contrastive_loss

#: Logarithm of the inverse temperature at the start, ln(1 / 0.07), and at most, ln 100
#: (Radford et al., ICML 2021, section 2.5).
INITIAL_LOGIT_SCALE = 2.6592
MAX_LOGIT_SCALE = 4.6052


def cross_modal_loss(
    first: Tensor, second: Tensor, logit_scale: Tensor, left_out: Tensor | None = None
) -> Tensor:
    r"""Symmetric cross-entropy of matching modalities, some pairs of cells left out.

    As :func:`atacvi.nn.paired_contrastive_loss`, but pairs that are marked are no negatives: their
    logits do not enter the sums.

    Parameters
    ----------
    first, second
        Projections of the two modalities, each (cells, width); scaled to unit length here.
    logit_scale
        Logarithm of the inverse temperature, a scalar.
    left_out
        Pairs that are no negatives, bool of shape (cells, cells); a cell and itself always count.

    Returns
    -------
    Scalar.

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, ICML
    2021, figure 3. Chuang et al., Debiased contrastive learning, NeurIPS 2020, for pairs that are
    negatives in name only.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import cross_modal_loss
    >>> cells = torch.eye(4)
    >>> same = torch.ones(4, 4, dtype=torch.bool)
    >>> cross_modal_loss(cells, cells, torch.tensor(2.0), same).item()
    0.0
    """
    if left_out is None:
        return paired_contrastive_loss(first, second, logit_scale)
    first, second = (F.normalize(x.float(), dim=-1) for x in (first, second))
    scores = logit_scale.float().exp() * first @ second.T
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(left_out & ~itself, -torch.inf)
    diagonal = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, diagonal) + F.cross_entropy(scores.T, diagonal)) / 2


def gather_cells(values: Tensor) -> Tensor:
    """Return the cells of all devices, in the order of the devices; with gradients.

    Numbers of cells may differ. With gradients averaged over devices, as data-parallel training
    does, a loss of the gathered cells has the gradient that one device with all cells would have.

    Parameters
    ----------
    values
        Shape (cells of this device, ...).

    Returns
    -------
    Shape (cells of all devices, ...); `values` itself on a single device.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import gather_cells
    >>> gather_cells(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    from torch.distributed.nn.functional import all_gather

    n_devices = dist.get_world_size()
    n_own = torch.tensor([len(values)], device=values.device)
    sizes = [torch.zeros_like(n_own) for _ in range(n_devices)]
    dist.all_gather(sizes, n_own)
    counts = [int(size) for size in sizes]
    # collectives want equal shapes; what fills up is cut off again
    filled = torch.cat([values, values.new_zeros(max(counts) - len(values), *values.shape[1:])])
    if values.requires_grad:
        parts = list(all_gather(filled))
    else:
        parts = [torch.zeros_like(filled) for _ in range(n_devices)]
        dist.all_gather(parts, filled.contiguous())
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
