"""Figures of data and of trained models: every function draws into Axes and returns them."""

from __future__ import annotations

from atacvi.pl.attention import attention
from atacvi.pl.benchmark import benchmark
from atacvi.pl.crossmodal import joint_space, retrieval_recall
from atacvi.pl.embedding import latent_umap
from atacvi.pl.generation import generation
from atacvi.pl.heatmap import heatmap
from atacvi.pl.imputation import imputation
from atacvi.pl.links import links
from atacvi.pl.mixture import cluster_confusion, mixture_weights, responsibilities
from atacvi.pl.tracks import tracks
from atacvi.pl.training import training_curves
from atacvi.pl.volcano import volcano

__all__ = [
    "attention",
    "benchmark",
    "cluster_confusion",
    "generation",
    "heatmap",
    "imputation",
    "joint_space",
    "latent_umap",
    "links",
    "mixture_weights",
    "responsibilities",
    "retrieval_recall",
    "tracks",
    "training_curves",
    "volcano",
]
