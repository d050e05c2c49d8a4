"""Figures of data and of trained models: every function draws into Axes and returns them."""

from __future__ import annotations

from atacvi.pl.embedding import latent_umap
from atacvi.pl.generation import generation
from atacvi.pl.imputation import imputation
from atacvi.pl.mixture import cluster_confusion, mixture_weights, responsibilities
from atacvi.pl.training import training_curves

__all__ = [
    "cluster_confusion",
    "generation",
    "imputation",
    "latent_umap",
    "mixture_weights",
    "responsibilities",
    "training_curves",
]
