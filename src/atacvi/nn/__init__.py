"""Network blocks on tensors; nothing here knows of AnnData."""

from __future__ import annotations

from atacvi.nn.attention import FeatureSelfAttention, TokenSelfAttention
from atacvi.nn.autoencoder import PeakAutoencoder
from atacvi.nn.auxiliary import AuxiliaryDecoder, AuxiliaryEncoder
from atacvi.nn.contrastive import (
    batch_hard_triplet_loss,
    paired_contrastive_loss,
    sample_triplets,
    supervised_contrastive_loss,
    triplet_loss,
)
from atacvi.nn.cross_attention import CrossAttention
from atacvi.nn.cross_modal import cross_modal_loss, gather_cells
from atacvi.nn.decoders import ClusterGatedTrunk, ExpressionHead, PeakHead
from atacvi.nn.denoiser import ResidualDenoiser, TransformerDenoiser
from atacvi.nn.encoders import AtacEncoder, LearntRows, RnaEncoder
from atacvi.nn.expression_encoder import EmbeddingEncoder, ExpressionEncoder
from atacvi.nn.fusion import ConcatFusion, ExpertFusion, Posterior
from atacvi.nn.gaussian_denoiser import GaussianDenoiser
from atacvi.nn.gradient_reversal import reverse_gradient
from atacvi.nn.heads import ClassificationHead, ProjectionHead, ReplacedTokenHead
from atacvi.nn.information import info_nce, squared_mmd
from atacvi.nn.low_rank import add_low_rank, low_rank_state, merge_low_rank
from atacvi.nn.pooling import AttentionPooling, pool_mean
from atacvi.nn.region_components import RegionComponents
from atacvi.nn.row_gather import take_rows
from atacvi.nn.sparse_input import scale_rows_to_unit, weighted_feature_sum
from atacvi.nn.spectral_map import SpectralMap
from atacvi.nn.transformer import PackedTokens, PackedTransformer

__all__ = [
    "AtacEncoder",
    "AttentionPooling",
    "AuxiliaryDecoder",
    "AuxiliaryEncoder",
    "ClassificationHead",
    "ClusterGatedTrunk",
    "ConcatFusion",
    "CrossAttention",
    "EmbeddingEncoder",
    "ExpertFusion",
    "ExpressionEncoder",
    "ExpressionHead",
    "FeatureSelfAttention",
    "GaussianDenoiser",
    "LearntRows",
    "PackedTokens",
    "PackedTransformer",
    "PeakAutoencoder",
    "PeakHead",
    "Posterior",
    "ProjectionHead",
    "RegionComponents",
    "ReplacedTokenHead",
    "ResidualDenoiser",
    "RnaEncoder",
    "SpectralMap",
    "TokenSelfAttention",
    "TransformerDenoiser",
    "add_low_rank",
    "batch_hard_triplet_loss",
    "cross_modal_loss",
    "gather_cells",
    "info_nce",
    "low_rank_state",
    "merge_low_rank",
    "paired_contrastive_loss",
    "pool_mean",
    "reverse_gradient",
    "sample_triplets",
    "scale_rows_to_unit",
    "squared_mmd",
    "supervised_contrastive_loss",
    "take_rows",
    "triplet_loss",
    "weighted_feature_sum",
]
