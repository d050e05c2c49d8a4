"""AtacformerModel: a transformer over the sets of open regions of cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.model.base import BaseModelClass

from atacvi._constants import OBSM_TOKENS
from atacvi.models._atacformer_annotation import AnnotationMixin
from atacvi.models._atacformer_bulk import BulkMixin
from atacvi.models._atacformer_exchange import ExchangeMixin
from atacvi.models._atacformer_latent import CellEmbeddingMixin
from atacvi.models._atacformer_promoters import PromoterMixin
from atacvi.models._atacformer_query import AtacformerQueryMixin
from atacvi.models._atacformer_regions import RegionEmbeddingMixin
from atacvi.models._atacformer_setup import registry_without_data, setup_tokens
from atacvi.models._atacformer_training import AtacformerTrainingMixin
from atacvi.models._token_weights import read_pretrained
from atacvi.models._tokens import Vocabulary, as_universe, read_vocabulary
from atacvi.models._without_data import WithoutDataMixin
from atacvi.modules import AtacformerConfig, AtacformerModule

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from atacvi.regions import Universe

# Sizes that a processor trains in minutes on ten thousand cells; the published ones are a preset.
_SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "pooling": "idf",
}


class AtacformerModel(
    CellEmbeddingMixin,
    RegionEmbeddingMixin,
    AnnotationMixin,
    BulkMixin,
    PromoterMixin,
    ExchangeMixin,
    AtacformerQueryMixin,
    AtacformerTrainingMixin,
    WithoutDataMixin,
    BaseModelClass,
):
    """Transformer over sets of open regions, after Atacformer.

    A cell is the set of the regions that are open in it. The encoder is pretrained without labels
    (which regions were replaced; which two parts belong to one cell), fine-tuned with labels or
    against batches, and gives embeddings of cells, of regions and of BED files.

    Parameters
    ----------
    adata
        AnnData set up with `setup_anndata`.
    registry
        Registry of a setup, to build a model without data.
    universe
        Regions of a model that is built without data and without a registry: a vocabulary, what
        :class:`atacvi.regions.Universe` makes one of, or the path of one.
    preset
        ``"small"`` for training on a processor; ``"base-hg38"`` has the published sizes.
    n_embed, n_layers, n_heads, n_feedforward
        Sizes that differ from the preset's.
    max_tokens
        Context: the most tokens of a cell that are encoded at once.
    pooling
        From tokens to a cell: ``"mean"``, ``"idf"`` or ``"attention"``; ``None`` takes the preset's.
    dropout
        Dropout on the branches of each layer.
    vocabulary
        ``"active"`` embeds only the regions that occur in the data, ``"full"`` the whole universe.
    pretrained
        Folder with a checkpoint of the public layout; its universe is mapped onto the data's by
        overlap where they differ.
    config
        All sizes at once; goes before the preset and the sizes.
    gradient_checkpointing
        Compute each layer again in the backward pass instead of keeping its activations.

    Raises
    ------
    ValueError
        If sizes are out of range or do not fit each other, or there is neither data, registry nor
        universe.

    References
    ----------
    LeRoy et al., "Atacformer: A transformer-based foundation model for analysis and interpretation
    of ATAC-seq data", bioRxiv 2025.11.03.685753 (2025).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.models import AtacformerModel
    >>> mdata = atacvi.datasets.simulate_multiome(n_cells=150, n_genes=20, n_peaks=300)
    >>> cells = mdata["atac"].copy()
    >>> AtacformerModel.setup_anndata(cells)
    >>> model = AtacformerModel(cells, n_embed=16, n_layers=1, n_heads=2, n_feedforward=32)
    >>> model.pretrain(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (150, 16)
    """

    _module_cls = AtacformerModule

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        universe: Universe | pd.DataFrame | Iterable[str] | str | Path | None = None,
        preset: Literal["small", "base-hg38"] = "small",
        n_embed: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        n_feedforward: int | None = None,
        max_tokens: int = 8192,
        pooling: Literal["mean", "idf", "attention"] | None = None,
        dropout: float = 0.1,
        vocabulary: Literal["active", "full"] = "active",
        pretrained: str | Path | None = None,
        config: dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        if adata is None and registry is None and universe is not None:
            known_regions = as_universe(universe)
            assert known_regions is not None
            registry = registry_without_data(type(self), known_regions)
        super().__init__(adata, registry)
        known = read_vocabulary(self.registry_ if adata is None else self.adata_manager.registry)
        active_ids = _active_ids(known, vocabulary)
        if config is None:
            sizes: dict[str, Any] = {
                "hidden_size": n_embed,
                "num_hidden_layers": n_layers,
                "num_attention_heads": n_heads,
                "intermediate_size": n_feedforward,
                "pooling": pooling,
            }
            changes = {k: v for k, v in sizes.items() if v is not None}
            changes |= {"max_position_embeddings": max_tokens, "dropout": dropout}
            built = _preset(preset, len(known.universe), changes)
        else:
            built = AtacformerConfig.from_dict(config)
        heads = {"n_labels": self._n_labels(), "n_batch": int(self.summary_stats.n_batch)}
        source = None
        if pretrained is not None:
            source = read_pretrained(pretrained, known.universe, active_ids)
            built = replace(source.module.config, vocab_size=built.vocab_size)
        self.module = self._module_cls(
            built,
            active_ids=active_ids,
            gradient_checkpointing=gradient_checkpointing,
            **heads,
        )
        self.universe = known.universe
        self.started_ = False
        self.latent_centre_: np.ndarray | None = None
        self.latent_batch_directions_: np.ndarray | None = None
        self.vocabulary_ = vocabulary
        if source is not None:
            self._take_over(source)
        self._model_summary_string = (
            f"AtacformerModel: {len(known.universe)} regions ({self.module.embeddings.n_active} "
            f"embedded), width: {built.hidden_size}, layers: {built.num_hidden_layers}, "
            f"pooling: {built.pooling}"
        )
        self.init_params_ = self._get_init_params(locals())
        # a saved model is built from its sizes alone: neither checkpoint nor preset are needed
        self.init_params_["non_kwargs"] |= {
            "config": built.to_dict(),
            "pretrained": None,
            "universe": None,
        }

    def _n_labels(self) -> int:
        """Return the number of known labels, without the category of unlabelled cells."""
        n_labels = int(self.summary_stats.n_labels)
        return n_labels - 1 if self.unlabeled_category is not None else n_labels

    def _own_var_names(self) -> np.ndarray:
        return self.universe.names.to_numpy(dtype=object)

    # ---- setup ----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        tokens_key: str = OBSM_TOKENS,
        universe: Universe | pd.DataFrame | Iterable[str] | str | Path | None = None,
        layer: str | None = None,
        threshold: float = 0.0,
        batch_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Check tokens of cells, or counts in peaks, and register them.

        Without ``obsm[tokens_key]`` the open peaks are mapped onto the universe, and the tokens
        written there. ``obs["n_tokens"]`` and ``obs["is_empty"]`` are written, too. Nothing is
        written unless all checks pass.

        Parameters
        ----------
        adata
            Tokens from `atacvi.data.tokenize_fragments` and the like, or counts in peaks.
        tokens_key
            Slot of ``obsm`` with the tokens, a sparse matrix (cells, regions).
        universe
            Vocabulary, what :class:`atacvi.regions.Universe` makes one of, or the path of one;
            ``None`` takes the one stored with the tokens, or the peaks themselves.
        layer, threshold
            Counts in peaks (``None`` takes ``X``), and above which of them a peak is open.
        batch_key, labels_key
            Columns of ``obs``.
        unlabeled_category
            Value of `labels_key` that stands for an unknown label.

        Raises
        ------
        KeyError
            If a column or layer does not exist, or there are neither tokens nor peaks.
        TypeError
            If `adata` is no AnnData, or the tokens are no matrix.
        ValueError
            If names are not unique, labels are missing (NaN), no cell has a token, or tokens and
            universe do not fit each other, as with another genome.

        Examples
        --------
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)
        >>> cells = mdata["atac"].copy()
        >>> atacvi.AtacformerModel.setup_anndata(cells, labels_key="cell_type")
        >>> cells.obsm["X_tokens"].shape  # one column for each region of the universe
        (60, 100)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        setup_tokens(
            cls,
            adata,
            setup_method_args,
            universe=universe,
            tokens_key=tokens_key,
            layer=layer,
            threshold=threshold,
            batch_key=batch_key,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
            **kwargs,
        )


def _active_ids(known: Vocabulary, vocabulary: str) -> torch.Tensor | None:
    if vocabulary not in ("active", "full"):
        msg = f"vocabulary={vocabulary!r} is unknown; choose 'active' or 'full'."
        raise ValueError(msg)
    if vocabulary == "full" or len(known.active_ids) == len(known.universe):
        return None
    return torch.as_tensor(known.active_ids)


def _preset(preset: str, n_regions: int, changes: dict[str, Any]) -> AtacformerConfig:
    if preset == "small":
        return AtacformerConfig.for_regions(n_regions, **{**_SMALL, **changes})
    if preset == "base-hg38":
        named = AtacformerConfig.from_preset(preset, **changes)
        return named.for_universe(n_regions)
    msg = f"preset={preset!r} is unknown; choose one of 'small', 'base-hg38'."
    raise ValueError(msg)
