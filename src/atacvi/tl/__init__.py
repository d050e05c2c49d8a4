"""From embedding to biology: links, activities, differences and order, as plain tables.

Functions take AnnData or MuData and write to its slots, as in scanpy. Values to work on may be a
layer, an array, a sparse matrix or a fitted model, which is then read in minibatches.
"""

from __future__ import annotations

from atacvi.tl.activity import gene_activity
from atacvi.tl.binarize import binarize_accessibility
from atacvi.tl.clusters import select_n_clusters
from atacvi.tl.coaccessibility import co_accessibility
from atacvi.tl.compare import compare_degs
from atacvi.tl.differential import differential
from atacvi.tl.enrich import enrich
from atacvi.tl.links import link_peaks_to_genes
from atacvi.tl.metacells import metacells
from atacvi.tl.project import project_regions
from atacvi.tl.score import score_regions
from atacvi.tl.trajectory import trajectory
from atacvi.tl.transfer import transfer_labels

__all__ = [
    "binarize_accessibility",
    "co_accessibility",
    "compare_degs",
    "differential",
    "enrich",
    "gene_activity",
    "link_peaks_to_genes",
    "metacells",
    "project_regions",
    "score_regions",
    "select_n_clusters",
    "trajectory",
    "transfer_labels",
]
