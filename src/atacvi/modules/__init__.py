"""Modules of the models: inference, generative process and loss on tensors of a minibatch."""

from __future__ import annotations

from atacvi.modules._atacdiff_sampling import CellConditions, LatentPrior, SamplerOptions
from atacvi.modules._atacformer_config import AtacformerConfig
from atacvi.modules._atacformer_loss import AtacformerObjectives
from atacvi.modules.atacdiff import MIN_CELLS_REFINEMENT, STAGES, ATACDiffModule, Stage
from atacvi.modules.atacformer import AtacformerModule
from atacvi.modules.craft import CRAFTModule
from atacvi.modules.multiview import MultiViewModule

__all__ = [
    "MIN_CELLS_REFINEMENT",
    "STAGES",
    "ATACDiffModule",
    "AtacformerConfig",
    "AtacformerModule",
    "AtacformerObjectives",
    "CRAFTModule",
    "CellConditions",
    "LatentPrior",
    "MultiViewModule",
    "SamplerOptions",
    "Stage",
]
