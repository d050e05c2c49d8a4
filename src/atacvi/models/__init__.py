"""Models: what a user calls."""

from __future__ import annotations

from atacvi.models.atacdiff import ATACDiffModel
from atacvi.models.atacformer import AtacformerModel
from atacvi.models.craft import CRAFTModel
from atacvi.models.multiview import MultiViewModel

__all__ = ["ATACDiffModel", "AtacformerModel", "CRAFTModel", "MultiViewModel"]
