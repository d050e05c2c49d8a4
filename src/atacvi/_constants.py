"""Names of slots and registry keys, in one place.

The registry keys repeat the values of ``scvi.REGISTRY_KEYS`` as literals, so that rooms which must
not load scvi-tools can use them; a test holds the two equal.
"""

from __future__ import annotations

from typing import Final

# Modalities of a MuData
RNA: Final = "rna"
ATAC: Final = "atac"
JOINT: Final = "joint"
MODALITIES: Final = (RNA, ATAC)

# Columns of `var` that tell the modality of a feature in one joint AnnData, in the order of trial
FEATURE_TYPE_COLUMNS: Final = ("feature_types", "modality")
RNA_FEATURE_TYPES: Final = frozenset({"Gene Expression", "rna", "RNA", "gex", "GEX"})
ATAC_FEATURE_TYPES: Final = frozenset({"Peaks", "atac", "ATAC", "Chromatin Accessibility"})

# Keys under which a minibatch carries its tensors (values of scvi.REGISTRY_KEYS)
X_KEY: Final = "X"
ATAC_X_KEY: Final = "atac"
BATCH_KEY: Final = "batch"
LABELS_KEY: Final = "labels"
CAT_COVS_KEY: Final = "extra_categorical_covs"
CONT_COVS_KEY: Final = "extra_continuous_covs"
SIZE_FACTOR_KEY: Final = "size_factor"
INDICES_KEY: Final = "ind_x"
CONDITION_KEY: Final = "condition"

# Slots that functions and models write
UNS_KEY: Final = "atacvi"
OBSM_MULTIVIEW: Final = "X_multiview"
OBSM_LSI: Final = "X_lsi"
OBSM_TOKENS: Final = "X_tokens"
VARM_LSI: Final = "LSI"
UNS_LSI: Final = "lsi"
OBS_CLUSTERS: Final = "multiview_cluster"
LAYER_COUNTS: Final = "counts"
LAYER_TFIDF: Final = "tfidf"
LAYER_BINARY: Final = "binary"
