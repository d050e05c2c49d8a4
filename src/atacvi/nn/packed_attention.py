"""Attention within packed cells: a kernel for each device, all with the same result."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

# Cells whose lengths differ by less than this share are padded to one length where a kernel needs it.
_PADDING_WASTE = 0.05
_MAX_HEAD_WIDTH = 256


def _find_varlen() -> Callable[..., Any] | None:
    """Return the kernel for cells of different lengths, which torch has from 2.10 on."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return None
    return varlen.varlen_attn


_VARLEN = _find_varlen()


class Bucket(NamedTuple):
    """Cells of similar length: positions of their tokens, and which of these are real."""

    positions: Tensor  # (cells, length)
    real: Tensor | None  # (cells, length); None where all cells have the same length


class PackedLayout:
    """Where the cells lie among the packed tokens; made once for all layers.

    Parameters
    ----------
    offsets
        Where each cell starts, and at the end the number of tokens, int64, shape (cells + 1,).
    n_tokens
        Number of tokens that there are.

    Raises
    ------
    ValueError
        If the offsets do not fall and end at the number of tokens.
    """

    def __init__(self, offsets: Tensor, n_tokens: int) -> None:
        starts = offsets.tolist()
        lengths = [end - start for start, end in zip(starts, starts[1:], strict=False)]
        if not starts or starts[0] != 0 or starts[-1] != n_tokens or min(lengths, default=0) < 0:
            msg = (
                f"offsets must rise from 0 to the number of tokens, {n_tokens}; found "
                f"{starts[:4]} ... {starts[-2:]}"
            )
            raise ValueError(msg)
        self.offsets = offsets
        self.starts = starts[:-1]
        self.lengths = lengths

    @cached_property
    def offsets_int32(self) -> Tensor:
        """The offsets as the variable-length kernel wants them."""
        return self.offsets.to(torch.int32)

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The cells that are not empty, in groups of similar length."""
        order = sorted(filter(self.lengths.__getitem__, range(len(self.lengths))), key=self._length)
        groups: list[list[int]] = []
        for cell in reversed(order):  # the longest first
            shortest = (1 - _PADDING_WASTE) * self.lengths[groups[-1][0]] if groups else torch.inf
            if self.lengths[cell] < shortest:
                groups.append([])
            groups[-1].append(cell)
        return [self._bucket(group) for group in groups]

    def _length(self, cell: int) -> int:
        return self.lengths[cell]

    def _bucket(self, cells: list[int]) -> Bucket:
        device = self.offsets.device
        longest = self.lengths[cells[0]]
        starts = torch.tensor([self.starts[c] for c in cells], device=device).unsqueeze(1)
        lengths = torch.tensor([self.lengths[c] for c in cells], device=device).unsqueeze(1)
        step = torch.arange(longest, device=device)
        real = step < lengths
        # padding repeats the cell's last token; it is masked as a key and dropped as a query
        positions = starts + torch.minimum(step, lengths - 1)
        return Bucket(positions, None if longest == self.lengths[cells[-1]] else real)


def attend_packed(projected: Tensor, layout: PackedLayout, dropout_rate: float = 0.0) -> Tensor:
    """Attend within each cell, with the kernel that suits the device.

    Parameters
    ----------
    projected
        Queries, keys and values, shape (tokens, 3, heads, width).
    layout
        Where the cells lie.
    dropout_rate
        Dropout on the attention weights.

    Returns
    -------
    Attended values, shape (tokens, heads, width).
    """
    if not projected.is_cuda:
        return attend_by_cell(projected, layout, dropout_rate)
    if dropout_rate == 0 and _varlen_runs_on(projected):
        return attend_varlen(projected, layout)
    return attend_in_buckets(projected, layout, dropout_rate)


def attend_by_cell(projected: Tensor, layout: PackedLayout, dropout_rate: float = 0.0) -> Tensor:
    """Attend cell by cell, on views of the packed tokens: nothing is copied or padded."""
    attended = []
    for cell in projected.split(layout.lengths):
        query, key, value = cell.unsqueeze(0).permute(
            2, 0, 3, 1, 4
        )  # each (1, heads, tokens, width)
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_rate)
        attended.append(out.squeeze(0).transpose(0, 1))
    return torch.cat(attended)


def attend_in_buckets(projected: Tensor, layout: PackedLayout, dropout_rate: float = 0.0) -> Tensor:
    """Attend in groups of cells of similar length, padded within the group and masked."""
    positions, attended = [], []
    for bucket in layout.buckets:
        query, key, value = projected[bucket.positions].permute(2, 0, 3, 1, 4)
        mask = None if bucket.real is None else bucket.real[:, None, None]
        out = F.scaled_dot_product_attention(query, key, value, mask, dropout_rate).transpose(1, 2)
        real = slice(None) if bucket.real is None else bucket.real
        positions.append(bucket.positions[real].flatten())
        attended.append(out[real].reshape(-1, *projected.shape[2:]))
    return torch.cat(attended)[torch.cat(positions).argsort()]


def attend_varlen(projected: Tensor, layout: PackedLayout) -> Tensor:
    """Attend by the flash kernel for cells of different lengths (half precision on CUDA)."""
    query, key, value = projected.unbind(1)
    longest, offsets = max(layout.lengths), layout.offsets_int32
    if _VARLEN is None:
        msg = "this version of torch has no variable-length attention; it comes with torch 2.10"
        raise RuntimeError(msg)
    return _VARLEN(query, key, value, offsets, offsets, longest, longest)


def _varlen_runs_on(projected: Tensor) -> bool:
    """Whether the flash kernel takes these queries: half precision, width, and the card."""
    return (
        _VARLEN is not None
        and projected.dtype in (torch.float16, torch.bfloat16)
        and projected.shape[-1] % 8 == 0
        and projected.shape[-1] <= _MAX_HEAD_WIDTH
        and torch.cuda.get_device_capability(projected.device) >= (8, 0)
    )
