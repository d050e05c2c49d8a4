"""Modules of the models: inference, generative process and loss on tensors of a minibatch."""

from __future__ import annotations

from atacvi.modules.multiview import MultiViewModule

__all__ = ["MultiViewModule"]
