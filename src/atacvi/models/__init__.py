"""Models: what a user calls."""

from __future__ import annotations

from atacvi.models.multiview import MultiViewModel

__all__ = ["MultiViewModel"]
