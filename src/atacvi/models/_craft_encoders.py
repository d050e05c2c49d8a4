"""The two encoders of CRAFTModel, new or taken over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from atacvi.models._token_weights import encoder_of
from atacvi.modules import AtacformerConfig, AtacformerModule
from atacvi.nn import EmbeddingEncoder, ExpressionEncoder

if TYPE_CHECKING:
    from pathlib import Path

    from atacvi.models._craft_setup import Pairs
    from atacvi.models._tokens import Vocabulary
    from atacvi.modules._atacformer_checkpoint import AtacformerCheckpoint


def build_atac_encoder(
    known: Vocabulary,
    vocabulary: str,
    sizes: dict[str, Any],
    pretrained: Any,
    config: dict[str, Any] | None,
) -> tuple[AtacformerModule, AtacformerCheckpoint | None]:
    """Return the encoder of accessibility, and the checkpoint whose weights it is to take over.

    Raises
    ------
    ValueError
        If the vocabulary is unknown, or sizes do not fit each other.
    """
    if vocabulary not in ("active", "full"):
        msg = f"vocabulary={vocabulary!r} is unknown; choose 'active' or 'full'."
        raise ValueError(msg)
    n_regions = len(known.universe)
    whole = vocabulary == "full" or len(known.active_ids) == n_regions
    active_ids = None if whole else torch.as_tensor(known.active_ids)
    if config is None:
        built = AtacformerConfig.for_regions(n_regions, **sizes)
    else:
        built = AtacformerConfig.from_dict(config)
    source = None
    if pretrained is not None:
        source = encoder_of(pretrained, known.universe, active_ids)
        built = replace(source.module.config, vocab_size=built.vocab_size)
    return AtacformerModule(built, active_ids=active_ids), source


def build_gene_encoder(
    kind: str,
    pairs: Pairs,
    *,
    n_embed: int,
    n_hidden: int,
    n_layers: int,
    dropout: float,
    folder: str | Path | None,
    description: dict[str, Any] | None,
) -> tuple[torch.nn.Module, dict[str, Any] | None]:
    """Return the RNA encoder, and what a saved model must know to build it again.

    Raises
    ------
    ImportError
        If Geneformer is asked for and ``transformers`` is not installed.
    ValueError
        If the kind is unknown, or what it needs is not there.
    """
    options: dict[str, Any] = {
        "n_hidden": n_hidden,
        "n_layers": n_layers,
        "dropout_rate": dropout,
    }
    if kind == "mlp":
        if min(n_embed, n_hidden) < 1 or n_layers < 0:
            msg = (
                f"n_rna_embed={n_embed}, n_rna_hidden={n_hidden}, n_rna_layers={n_layers}: widths "
                "are at least 1, layers at least 0."
            )
            raise ValueError(msg)
        return ExpressionEncoder(len(pairs.genes), n_embed, **options), None
    if kind == "obsm":
        if pairs.rna_obsm is None:
            msg = (
                "rna_encoder='obsm' needs the slot of the embedding: "
                "setup_mudata(mdata, rna_obsm='X_pca')."
            )
            raise ValueError(msg)
        return EmbeddingEncoder(pairs.n_rna_embed, **options), None
    if kind == "geneformer":
        from atacvi.modules._craft_geneformer import GeneformerEncoder

        if description is not None:
            encoder = GeneformerEncoder.from_description(description)
        elif folder is not None:
            encoder = GeneformerEncoder.from_folder(folder, pairs.genes)
        else:
            msg = "rna_encoder='geneformer' needs `geneformer`, the folder of a pretrained model."
            raise ValueError(msg)
        return encoder, encoder.describe()
    msg = f"rna_encoder={kind!r} is unknown; choose 'mlp', 'obsm' or 'geneformer'."
    raise ValueError(msg)
