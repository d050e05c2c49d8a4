"""Scores of embeddings and imputations: plain functions on arrays, without torch."""

from __future__ import annotations

from atacvi.metrics.agreement import (
    per_cell_auroc,
    per_cell_correlation,
    per_feature_auroc,
    per_feature_correlation,
)
from atacvi.metrics.bulk import PeakRecovery, bulk_correlation, peak_recovery
from atacvi.metrics.clustering import (
    RESOLUTIONS,
    LeidenScan,
    clustering_scores,
    kmeans_ari_nmi,
    leiden_ari_nmi,
    leiden_scan,
)
from atacvi.metrics.crossmodal import (
    crossmodal_scores,
    foscttm,
    label_transfer_accuracy,
    modality_gap,
    recall_at_k,
)
from atacvi.metrics.enrichment import OverlapTest, overlap_enrichment
from atacvi.metrics.generation import generation_scores
from atacvi.metrics.generation_counts import (
    PeakMeanCorrelation,
    coaccessibility,
    coaccessibility_correlation,
    depth_ks,
    peak_frequency_ks,
    peak_mean_correlation,
)
from atacvi.metrics.generation_distances import rbf_mmd, wasserstein
from atacvi.metrics.generation_labels import (
    TrainingAccuracy,
    label_recovery,
    synthetic_training_accuracy,
)
from atacvi.metrics.generation_manifold import PRDC, nearest_train_ratio, prdc
from atacvi.metrics.generation_mixing import ilisi, real_fake_auc
from atacvi.metrics.generation_space import lsi_space
from atacvi.metrics.imputation import mask_nonzeros, masked_auroc, sample_zeros
from atacvi.metrics.integration import batch_ilisi, label_clisi, lisi
from atacvi.metrics.neighbors import knn_accuracy
from atacvi.metrics.promoters import (
    Enrichment,
    benjamini_hochberg,
    matched_enrichment,
    matched_pvalues,
    matched_regions,
    tss_score,
)
from atacvi.metrics.trajectory import ordering_correlation

__all__ = [
    "PRDC",
    "RESOLUTIONS",
    "Enrichment",
    "LeidenScan",
    "OverlapTest",
    "PeakMeanCorrelation",
    "PeakRecovery",
    "TrainingAccuracy",
    "batch_ilisi",
    "benjamini_hochberg",
    "bulk_correlation",
    "clustering_scores",
    "coaccessibility",
    "coaccessibility_correlation",
    "crossmodal_scores",
    "depth_ks",
    "foscttm",
    "generation_scores",
    "ilisi",
    "kmeans_ari_nmi",
    "knn_accuracy",
    "label_clisi",
    "label_recovery",
    "label_transfer_accuracy",
    "leiden_ari_nmi",
    "leiden_scan",
    "lisi",
    "lsi_space",
    "mask_nonzeros",
    "masked_auroc",
    "matched_enrichment",
    "matched_pvalues",
    "matched_regions",
    "modality_gap",
    "nearest_train_ratio",
    "ordering_correlation",
    "overlap_enrichment",
    "peak_frequency_ks",
    "peak_mean_correlation",
    "peak_recovery",
    "per_cell_auroc",
    "per_cell_correlation",
    "per_feature_auroc",
    "per_feature_correlation",
    "prdc",
    "rbf_mmd",
    "real_fake_auc",
    "recall_at_k",
    "sample_zeros",
    "synthetic_training_accuracy",
    "tss_score",
    "wasserstein",
]
