"""Network blocks on tensors; nothing here knows of AnnData."""

from __future__ import annotations

from atacvi.nn.attention import FeatureSelfAttention, TokenSelfAttention
from atacvi.nn.decoders import ClusterGatedTrunk, ExpressionHead, PeakHead
from atacvi.nn.encoders import AtacEncoder, RnaEncoder
from atacvi.nn.fusion import ConcatFusion, ExpertFusion, Posterior
from atacvi.nn.sparse_input import scale_rows_to_unit, weighted_feature_sum

__all__ = [
    "AtacEncoder",
    "ClusterGatedTrunk",
    "ConcatFusion",
    "ExpertFusion",
    "ExpressionHead",
    "FeatureSelfAttention",
    "PeakHead",
    "Posterior",
    "RnaEncoder",
    "TokenSelfAttention",
    "scale_rows_to_unit",
    "weighted_feature_sum",
]
