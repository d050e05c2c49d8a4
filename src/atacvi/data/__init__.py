"""The border: checks of what a user hands in, the repairs their messages name, and readers."""

from __future__ import annotations

from atacvi.data.align import align_obs
from atacvi.data.checks import (
    check_categories,
    check_continuous,
    check_key,
    check_modalities,
    check_names,
    check_paired,
    get_matrix,
)
from atacvi.data.counts import (
    Presence,
    check_counts,
    check_empty,
    count_presence,
    to_csr_matrix,
)
from atacvi.data.fragments import read_fragments
from atacvi.data.joint import concat_modalities, feature_modalities, split_modalities
from atacvi.data.project import project_regions
from atacvi.data.tokens import (
    get_universe,
    tokenize_anndata,
    tokenize_bed,
    tokenize_fragments,
)
from atacvi.data.validate import MultiomePresence, validate_anndata, validate_multiome

__all__ = [
    "MultiomePresence",
    "Presence",
    "align_obs",
    "check_categories",
    "check_continuous",
    "check_counts",
    "check_empty",
    "check_key",
    "check_modalities",
    "check_names",
    "check_paired",
    "concat_modalities",
    "count_presence",
    "feature_modalities",
    "get_matrix",
    "get_universe",
    "project_regions",
    "read_fragments",
    "split_modalities",
    "to_csr_matrix",
    "tokenize_anndata",
    "tokenize_bed",
    "tokenize_fragments",
    "validate_anndata",
    "validate_multiome",
]
