"""Training: the plan, its stages, data-driven starting values, and resuming after a stop."""

from __future__ import annotations

from atacvi.training.atacdiff_stages import BeginMixture
from atacvi.training.atacdiff_start import (
    fit_latent_prior,
    standardise_latents,
    start_from_data,
)
from atacvi.training.atacformer_plan import FinetuningPlan, PretrainingPlan, TokenTrainingPlan
from atacvi.training.atacformer_start import (
    balanced_rows,
    directed_rows,
    set_pooling_weights,
    spectral_loadings,
    start_atacformer,
)
from atacvi.training.batch_directions import batch_directions
from atacvi.training.canonical import (
    CanonicalDirections,
    best_logit_scale,
    canonical_directions,
    held_out_contrast,
)
from atacvi.training.cell_parts import at_most, cell_blocks
from atacvi.training.clear_choice import clearly_best
from atacvi.training.corruption import NEGATIVES, TokenCorruption
from atacvi.training.craft_components import (
    RegionMap,
    fit_region_map,
    region_weights,
    start_region_components,
)
from atacvi.training.craft_plan import AlignmentPlan, DecoderPlan
from atacvi.training.craft_start import (
    start_alignment,
    start_decoder,
    start_embedding_encoder,
    start_expression_encoder,
)
from atacvi.training.craft_views import (
    AlignmentViews,
    DecoderViews,
    sample_cells,
    sparse_rows,
)
from atacvi.training.denoiser_plan import (
    CellLatents,
    DenoiserPlan,
    LatentDataModule,
    SelectDenoiser,
    held_out_denoising_loss,
    start_denoiser,
)
from atacvi.training.effect_scale import EFFECT_SCALES, SHOWN_FRACTION, calibrate_effects
from atacvi.training.effect_spread import UnseenComponents, match_spread, unseen_components
from atacvi.training.emphasis import emphasis_of
from atacvi.training.guidance import calibrate_guidance
from atacvi.training.head_start import logistic_rows, start_classification_head
from atacvi.training.latent_groups import posteriors_within_groups
from atacvi.training.latent_weights import (
    EmbeddedCells,
    LatentWeights,
    choose_weights,
    noise_units,
)
from atacvi.training.mixture import mixture_of
from atacvi.training.neighbour_gain import neighbour_gain
from atacvi.training.nonfinite import StopOnNonFinite
from atacvi.training.plans import (
    MultiViewTrainingPlan,
    check_plan_kwargs,
    plan_arguments,
    refuse_unknown,
)
from atacvi.training.query import (
    BATCH_COEFFICIENTS,
    BATCH_EMBEDDING,
    BATCH_SHARES,
    COVARIATE_MEAN,
    COVARIATE_WEIGHT,
    LearnNewColumns,
)
from atacvi.training.resume import CheckpointEachEpoch, checkpoint_path, read_checkpoint
from atacvi.training.schedules import ramp, warmup_cosine
from atacvi.training.selection import SelectBest, SelectFromStart, TokenCheckpoint
from atacvi.training.splitter import SparseDataSplitter
from atacvi.training.stages import MultiViewStages, StageSchedule
from atacvi.training.starts import StartFromData
from atacvi.training.token_batches import (
    BatchPlan,
    TokenBatchSampler,
    TokenDataset,
    TokenRows,
    token_loader,
)
from atacvi.training.token_data import TokenDataModule
from atacvi.training.token_views import (
    FinetuningViews,
    PretrainingViews,
    pack,
    split_cells,
    thin_cells,
)

__all__ = [
    "AlignmentPlan",
    "AlignmentViews",
    "BATCH_COEFFICIENTS",
    "BATCH_EMBEDDING",
    "BATCH_SHARES",
    "BatchPlan",
    "BeginMixture",
    "COVARIATE_MEAN",
    "COVARIATE_WEIGHT",
    "CanonicalDirections",
    "CellLatents",
    "CheckpointEachEpoch",
    "DecoderPlan",
    "DecoderViews",
    "DenoiserPlan",
    "EFFECT_SCALES",
    "EmbeddedCells",
    "FinetuningPlan",
    "FinetuningViews",
    "LatentDataModule",
    "LatentWeights",
    "LearnNewColumns",
    "MultiViewStages",
    "MultiViewTrainingPlan",
    "NEGATIVES",
    "PretrainingPlan",
    "PretrainingViews",
    "RegionMap",
    "SHOWN_FRACTION",
    "SelectBest",
    "SelectDenoiser",
    "SelectFromStart",
    "SparseDataSplitter",
    "StageSchedule",
    "StartFromData",
    "StopOnNonFinite",
    "TokenBatchSampler",
    "TokenCheckpoint",
    "TokenCorruption",
    "TokenDataModule",
    "TokenDataset",
    "TokenRows",
    "TokenTrainingPlan",
    "UnseenComponents",
    "at_most",
    "balanced_rows",
    "batch_directions",
    "best_logit_scale",
    "calibrate_effects",
    "calibrate_guidance",
    "canonical_directions",
    "cell_blocks",
    "check_plan_kwargs",
    "checkpoint_path",
    "choose_weights",
    "clearly_best",
    "directed_rows",
    "emphasis_of",
    "fit_latent_prior",
    "fit_region_map",
    "held_out_contrast",
    "held_out_denoising_loss",
    "logistic_rows",
    "match_spread",
    "mixture_of",
    "neighbour_gain",
    "noise_units",
    "pack",
    "plan_arguments",
    "posteriors_within_groups",
    "ramp",
    "read_checkpoint",
    "refuse_unknown",
    "region_weights",
    "sample_cells",
    "set_pooling_weights",
    "sparse_rows",
    "spectral_loadings",
    "split_cells",
    "standardise_latents",
    "start_alignment",
    "start_atacformer",
    "start_classification_head",
    "start_decoder",
    "start_denoiser",
    "start_embedding_encoder",
    "start_expression_encoder",
    "start_from_data",
    "start_region_components",
    "thin_cells",
    "token_loader",
    "unseen_components",
    "warmup_cosine",
]
