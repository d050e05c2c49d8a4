"""Shapes of times against samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def column(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` (n,) as (n, 1, ...), in the type of `like`, to multiply it with."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
