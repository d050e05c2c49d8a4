"""The module of CRAFTModel: RNA and accessibility of a cell in one space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn
from torch.nn import functional as F

from atacvi.modules._craft_decoder import CrossModalDecoder
from atacvi.nn import RegionComponents, cross_modal_loss, gather_cells
from atacvi.nn.cross_modal import INITIAL_LOGIT_SCALE, MAX_LOGIT_SCALE

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget
    from atacvi.modules.atacformer import AtacformerModule
    from atacvi.nn import PackedTokens


# How much of the running mean a minibatch replaces
_MOMENTUM = 0.1


class CRAFTModule(BaseModuleClass):
    r"""Two encoders, a linear projection of each onto the unit sphere, and a decoder of expression.

    .. math::

        g_c = \frac{W_g (e_g(x_c) - m_g) / s_g}{\lVert \cdot \rVert}, \quad
        a_c = \frac{W_a (e_a(t_c) - m_a) / s_a + W_l (e_l(t_c) - m_l) / s_l}{\lVert \cdot \rVert},
        \quad S = e^{s}\, G A^\top

    Accessibility is seen by a transformer, :math:`e_a`, and by linear components of the open regions
    with a residual network, :math:`e_l`; either can be left out (`uses_transformer`,
    ``n_components=0``, as in the public layout). The projections have no bias. m are running means of the cells: what all cells have in common
    tells none of them apart, and a small change of an encoder moves all of them alike; in training
    the mean of the minibatch is taken. s are the spreads at the start. In the public layout m is 0
    and s is 1. Parameters are named as in the public checkpoints: ``gene_encoder``,
    ``atac_encoder``, ``gene_projection``, ``atac_projection``, ``logit_scale``.

    A minibatch is a dictionary with ``"rna"`` (what the RNA encoder takes), ``"tokens"``
    (`PackedTokens`), maybe ``"context"``, those of them that the transformer sees, and maybe
    ``"batch"`` and ``"group"``, both (cells,).

    Parameters
    ----------
    gene_encoder
        Takes counts or a given embedding, returns (cells, ``gene_encoder.n_output``).
    atac_encoder
        Takes packed tokens.
    n_genes
        Number of genes of the decoder.
    n_latent
        Width of the shared space.
    n_decoder_hidden
        Width of the decoder's hidden layer.
    n_components, n_component_hidden, n_component_layers, dropout_rate
        Number of linear components of the open regions, and their residual network.

    Raises
    ------
    ValueError
        If a width is below 1.

    References
    ----------
    LeRoy et al., "Atacformer", bioRxiv 2025.11.03.685753 (CRAFT). Radford et al., "Learning
    transferable visual models from natural language supervision", ICML (2021).

    Examples
    --------
    >>> from atacvi.modules import AtacformerConfig, AtacformerModule, CRAFTModule
    >>> from atacvi.nn import ExpressionEncoder, PackedTokens
    >>> config = AtacformerConfig.for_regions(
    ...     50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    ... )
    >>> module = CRAFTModule(ExpressionEncoder(20, 6), AtacformerModule(config), 20, n_latent=4)
    >>> module.embed_atac(PackedTokens.from_cells([[1, 2], [3]])).shape
    torch.Size([2, 4])
    """

    gene_centre: Tensor
    atac_centre: Tensor
    component_centre: Tensor
    gene_spread: Tensor
    atac_spread: Tensor
    component_spread: Tensor
    transformer_is_used: Tensor
    rna_mean: Tensor
    atac_mean: Tensor

    def __init__(
        self,
        gene_encoder: nn.Module,
        atac_encoder: AtacformerModule,
        n_genes: int,
        *,
        n_latent: int = 64,
        n_decoder_hidden: int = 64,
        n_components: int = 0,
        n_component_hidden: int = 128,
        n_component_layers: int = 1,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        if min(n_latent, n_decoder_hidden) < 1:
            msg = f"n_latent={n_latent}, n_decoder_hidden={n_decoder_hidden}; both are at least 1."
            raise ValueError(msg)
        if n_components < 0:
            msg = f"n_components={n_components}; it is at least 0."
            raise ValueError(msg)
        self.gene_encoder = gene_encoder
        self.atac_encoder = atac_encoder
        # heads of the encoder's own pretraining are not trained here
        self.atac_encoder.discriminator.requires_grad_(False)
        n_rna: Any = gene_encoder.n_output
        n_atac = atac_encoder.config.hidden_size
        self.gene_projection = nn.Linear(n_rna, n_latent, bias=False)
        self.atac_projection = nn.Linear(n_atac, n_latent, bias=False)
        self.component_encoder: RegionComponents | None = None
        self.component_projection: nn.Linear | None = None
        if n_components:
            self.component_encoder = RegionComponents(
                atac_encoder.embeddings.token_embeddings.num_embeddings,
                n_components,
                n_component_hidden,
                n_component_layers,
                dropout_rate,
            )
            self.component_projection = nn.Linear(n_components, n_latent, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.register_buffer("gene_centre", torch.zeros(n_rna))
        self.register_buffer("atac_centre", torch.zeros(n_atac))
        self.register_buffer("component_centre", torch.zeros(n_components))
        self.register_buffer("gene_spread", torch.ones(()))
        self.register_buffer("atac_spread", torch.ones(()))
        self.register_buffer("component_spread", torch.ones(()))
        self.register_buffer("transformer_is_used", torch.tensor(True))
        # means of the unit vectors: what is subtracted to close the gap between the modalities
        self.register_buffer("rna_mean", torch.zeros(n_latent))
        self.register_buffer("atac_mean", torch.zeros(n_latent))
        self.decoder = CrossModalDecoder(n_latent, n_genes, n_decoder_hidden)

    # ---- embedding ------------------------------------------------------------------------

    def encode_rna(self, rna: SparseTarget | Tensor, known: Tensor | None = None) -> Tensor:
        """Return the RNA encoder's embedding, shape (cells, width of the encoder)."""
        return self.gene_encoder(rna, known)

    def project_rna(self, encoded: Tensor, *, centre: bool = False) -> Tensor:
        """Return unit vectors of encoded RNA, shape (cells, n_latent)."""
        inner = (encoded - self._centre(encoded, self.gene_centre)) / self.gene_spread
        unit = F.normalize(self.gene_projection(inner), dim=-1)
        return F.normalize(unit - self.rna_mean, dim=-1) if centre else unit

    def project_atac(self, encoded: Tensor, *, centre: bool = False) -> Tensor:
        """Return unit vectors of encoded accessibility, shape (cells, n_latent)."""
        unit = F.normalize(self.coordinates_atac(encoded), dim=-1)
        return F.normalize(unit - self.atac_mean, dim=-1) if centre else unit

    def coordinates_atac(self, encoded: Tensor) -> Tensor:
        """Return what `project_atac` scales to unit length, shape (cells, n_latent).

        Its length says how much a cell's regions tell: cells of few reads lie near the origin.
        """
        hidden, components = self.parts_of_atac(encoded)
        found: Tensor | float = 0.0
        if self.uses_transformer:
            inner = (hidden - self._centre(hidden, self.atac_centre)) / self.atac_spread
            found = self.atac_projection(inner)
        if self.component_projection is not None:
            inner = components - self._centre(components, self.component_centre)
            found = found + self.component_projection(inner / self.component_spread)
        return found  # type: ignore[return-value]

    def parts_of_atac(self, encoded: Any) -> tuple[Any, Any]:
        """Return the transformer's and the linear part of encoded accessibility."""
        n_hidden = self.atac_projection.in_features
        return encoded[:, :n_hidden], encoded[:, n_hidden:]

    @property
    def uses_transformer(self) -> bool:
        """Whether the transformer takes part in the embedding of accessibility."""
        return self.component_projection is None or bool(self.transformer_is_used)

    @property
    def n_atac(self) -> int:
        """Width of encoded accessibility: the transformer's and the linear part."""
        return self.atac_projection.in_features + len(self.component_centre)

    def _centre(self, encoded: Tensor, running: Tensor) -> Tensor:
        """Return the mean to subtract; in training the minibatch's, which the running one follows."""
        if not self.training or len(encoded) < 2:
            return running
        mean = encoded.mean(0)
        with torch.no_grad():
            running.lerp_(mean.detach().to(running), _MOMENTUM)
        return mean

    def embed_rna(
        self, rna: SparseTarget | Tensor, known: Tensor | None = None, *, centre: bool = False
    ) -> Tensor:
        """Return unit vectors of the RNA of cells, shape (cells, n_latent)."""
        return self.project_rna(self.encode_rna(rna, known), centre=centre)

    def encode_atac(self, tokens: PackedTokens, context: PackedTokens | None = None) -> Tensor:
        """Return what is known of the open regions of cells, shape (cells, n_atac).

        Parameters
        ----------
        tokens
            All open regions, for the linear components.
        context
            Those that the transformer sees; ``None`` takes all.
        """
        seen = tokens if context is None else context
        if self.uses_transformer:
            hidden = self.atac_encoder.encode(seen)
        else:
            hidden = self.atac_projection.weight.new_zeros(
                tokens.n_cells, self.atac_projection.in_features
            )
        return torch.cat([hidden, self.encode_components(tokens)], dim=1)

    def encode_components(self, tokens: PackedTokens) -> Tensor:
        """Return the linear part with its residual network, shape (cells, n_components)."""
        if self.component_encoder is None:
            return self.atac_projection.weight.new_zeros(tokens.n_cells, 0)
        rows = self.atac_encoder.embeddings.rows(tokens.ids)
        return self.component_encoder(rows, tokens.offsets)

    def embed_atac(
        self,
        tokens: PackedTokens,
        context: PackedTokens | None = None,
        *,
        centre: bool = False,
    ) -> Tensor:
        """Return unit vectors of the open regions of cells, shape (cells, n_latent)."""
        return self.project_atac(self.encode_atac(tokens, context), centre=centre)

    # ---- what scvi-tools calls ------------------------------------------------------------

    def _get_inference_input(self, tensors: dict[str, Any], **_: Any) -> dict[str, Any]:
        kept = ("rna", "tokens", "context")
        return {name: tensors[name] for name in kept if name in tensors}

    @auto_move_data
    def inference(
        self, rna: Any, tokens: PackedTokens, context: PackedTokens | None = None
    ) -> dict[str, Tensor]:
        """Return the unit vectors ``rna`` and ``atac``, both (cells, n_latent)."""
        return {"rna": self.embed_rna(rna), "atac": self.embed_atac(tokens, context)}

    def _get_generative_input(
        self, tensors: dict[str, Any], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        return {"cells": inference_outputs["atac"]}

    def generative(self, cells: Tensor) -> dict[str, Tensor]:
        """Return ``log_shares`` of the genes, decoded from accessibility, (cells, genes)."""
        return {"log_shares": self.decoder.log_shares(cells)}

    def loss(
        self,
        tensors: dict[str, Any],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor] | None = None,
        kl_weight: float = 1.0,
    ) -> LossOutput:
        """Return the contrast of both modalities over the cells of all devices.

        Cells of different ``"batch"`` are no negatives of each other, nor are cells of one
        ``"group"``.
        """
        first, second = (gather_cells(inference_outputs[name]) for name in ("rna", "atac"))
        left_out = None
        if "batch" in tensors:
            batch = gather_cells(tensors["batch"].flatten())
            left_out = batch.unsqueeze(1) != batch
        if "group" in tensors:
            group = gather_cells(tensors["group"].flatten())
            same = (group.unsqueeze(1) == group) & (group >= 0)
            left_out = same if left_out is None else left_out | same
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE)
        loss = cross_modal_loss(first, second, scale, left_out)
        n_cells = len(inference_outputs["rna"])
        with torch.no_grad():
            best = (first @ second.T).argmax(1)
            found = (best == torch.arange(len(best), device=best.device)).float().mean()
        return LossOutput(
            loss=loss,
            reconstruction_loss={"alignment": loss.detach().expand(n_cells)},
            n_obs_minibatch=n_cells,
            extra_metrics={
                "alignment_loss": loss.detach(),
                "recall_at_1": found,
                "temperature": (-scale.detach()).exp(),
            },
        )

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the logits' scale at 100 at most; called after each step."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
