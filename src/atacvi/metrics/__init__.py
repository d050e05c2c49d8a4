"""Scores of embeddings and imputations: plain functions on arrays, without torch."""

from __future__ import annotations

from atacvi.metrics.agreement import (
    per_cell_auroc,
    per_cell_correlation,
    per_feature_auroc,
    per_feature_correlation,
)
from atacvi.metrics.clustering import (
    RESOLUTIONS,
    LeidenScan,
    clustering_scores,
    kmeans_ari_nmi,
    leiden_ari_nmi,
    leiden_scan,
)
from atacvi.metrics.imputation import mask_nonzeros, masked_auroc, sample_zeros
from atacvi.metrics.neighbors import knn_accuracy

__all__ = [
    "RESOLUTIONS",
    "LeidenScan",
    "clustering_scores",
    "kmeans_ari_nmi",
    "knn_accuracy",
    "leiden_ari_nmi",
    "leiden_scan",
    "mask_nonzeros",
    "masked_auroc",
    "per_cell_auroc",
    "per_cell_correlation",
    "per_feature_auroc",
    "per_feature_correlation",
    "sample_zeros",
]
