"""The module of AtacformerModel: a transformer over the set of open regions of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import BaseModuleClass, auto_move_data
from torch import Tensor, nn

from atacvi.modules._atacformer_embeddings import RegionEmbeddings, check_active_ids
from atacvi.modules._atacformer_loss import BATCH_KEYS, AtacformerLossMixin
from atacvi.nn import (
    AttentionPooling,
    ClassificationHead,
    PackedTokens,
    PackedTransformer,
    ProjectionHead,
    ReplacedTokenHead,
    add_low_rank,
    merge_low_rank,
    pool_mean,
)

if TYPE_CHECKING:
    from atacvi.modules._atacformer_config import AtacformerConfig


class AtacformerModule(AtacformerLossMixin, BaseModuleClass):
    r"""Transformer over the set of a cell's open regions.

    .. math::

        h_{c} = \mathrm{Transformer}(E_{t_{c,1}}, \dots, E_{t_{c,n}}), \quad
        z_c = \sum_j w_{t_{c,j}} h_{c,j} \Big/ \sum_j w_{t_{c,j}}

    Tokens are ids of the universe: a region's is its line, the special tokens follow. With
    `active_ids` only those regions have an embedding; all others are read as ``<unk>``. Parameters
    are named as in the public checkpoints.

    A minibatch is a dictionary. ``"tokens"`` (`PackedTokens`) is encoded and pooled; ``"corrupted"``
    (`PackedTokens`) and ``"replaced"`` (tokens,) are for replaced-token detection; ``"labels"`` and
    ``"batch"`` (cells, 1) are for fine-tuning. A task's minibatches hold what the task needs.

    Parameters
    ----------
    config
        Sizes and options.
    active_ids
        Regions that have an embedding: ids of the universe, rising, int64; all when ``None``.
    n_labels
        Classes of the classification head; no head below 2.
    n_batch
        Batches that the adversary tells apart; no head below 2.
    n_projection
        Width of the projection that the contrastive loss compares; none when ``None``.
    classification_hidden
        Width of a hidden layer of the classification head; linear when ``None``.
    gradient_checkpointing
        Compute each layer again in the backward pass instead of keeping its activations.

    Raises
    ------
    ValueError
        If `active_ids` are not rising ids of regions.

    References
    ----------
    LeRoy et al., Atacformer, bioRxiv 2025.11.03.685753.

    Examples
    --------
    >>> from atacvi.modules import AtacformerConfig, AtacformerModule
    >>> from atacvi.nn import PackedTokens
    >>> config = AtacformerConfig.for_regions(
    ...     100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    ... )
    >>> module = AtacformerModule(config).eval()
    >>> module.encode(PackedTokens.from_cells([[3, 14, 15], [92, 65]])).shape
    torch.Size([2, 16])
    """

    idf: Tensor

    def __init__(
        self,
        config: AtacformerConfig,
        *,
        active_ids: Tensor | None = None,
        n_labels: int = 0,
        n_batch: int = 0,
        n_projection: int | None = None,
        classification_hidden: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if active_ids is not None:
            active_ids = check_active_ids(active_ids, config.n_regions)
        self.config = config
        width = config.hidden_size
        self.embeddings = RegionEmbeddings(config, active_ids)
        self.encoder = PackedTransformer(
            width,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.intermediate_size,
            config.dropout,
            config.attention_dropout,
            gradient_checkpointing=gradient_checkpointing,
        )
        head_width = config.discriminator_hidden_size or width
        self.discriminator = ReplacedTokenHead(width, head_width, config.norm_eps)
        self.classification_head: ClassificationHead | None = None
        self.batch_prediction_head: nn.Linear | None = None
        self.projection_head: ProjectionHead | None = None
        self.attention_pooling: AttentionPooling | None = None
        if n_labels > 1:
            self.classification_head = ClassificationHead(width, n_labels, classification_hidden)
        if n_batch > 1:
            self.batch_prediction_head = nn.Linear(width, n_batch)
        if n_projection is not None:
            self.projection_head = ProjectionHead(width, width, n_projection)
        if config.pooling == "attention":
            self.attention_pooling = AttentionPooling(width)
        # of the rows of the table; only where it is used, so that other names are the public ones
        if config.pooling == "idf":
            n_rows = self.embeddings.token_embeddings.num_embeddings
            self.register_buffer("idf", torch.ones(n_rows))
        self.apply(self._initialise)

    # ---- vocabulary and statistics --------------------------------------------------------

    @property
    def active_ids(self) -> Tensor:
        """Ids of the regions that have an embedding, int64, shape (active regions,)."""
        if self.embeddings.active_ids is not None:
            return self.embeddings.active_ids
        return torch.arange(self.config.n_regions, device=self.device)

    @property
    def has_full_vocabulary(self) -> bool:
        """Whether every region of the universe has an embedding."""
        return self.embeddings.n_active == self.config.n_regions

    def is_active(self, ids: Tensor) -> Tensor:
        """Tell which ids are regions that have an embedding, bool of the same shape."""
        return self.embeddings.is_active(ids)

    def set_frequencies(self, frequencies: Tensor) -> None:
        """Set the weights of the pooling ``"idf"``, -log of the frequencies.

        Parameters
        ----------
        frequencies
            Share of the cells in which each active region is open, shape (active regions,).
            Regions never seen are weighted as the rarest that was.

        Raises
        ------
        ValueError
            If the pooling is another, the shape is wrong, or values are not within [0, 1].
        """
        if self.config.pooling != "idf":
            msg = f"frequencies are for pooling='idf'; this module pools by {self.config.pooling!r}"
            raise ValueError(msg)
        n_active = self.embeddings.n_active
        if frequencies.shape != (n_active,):
            msg = f"frequencies must be ({n_active},), one an active region; found {tuple(frequencies.shape)}"
            raise ValueError(msg)
        seen = frequencies[frequencies > 0]
        if not len(seen) or bool((frequencies < 0).any()) or float(frequencies.max()) > 1:
            msg = "frequencies must be shares of cells within [0, 1], some of them positive"
            raise ValueError(msg)
        self.set_pooling_weights(-frequencies.clamp(min=float(seen.min())).log())

    def set_pooling_weights(self, weights: Tensor) -> None:
        """Set the weights of the pooling ``"idf"`` as they are, shape (active regions,)."""
        n_active = self.embeddings.n_active
        self.idf[:n_active] = weights.to(self.idf)
        self.idf[n_active:] = 0.0  # special tokens say nothing

    # ---- tokens to cells ------------------------------------------------------------------

    def embed_tokens(self, tokens: PackedTokens) -> Tensor:
        """Return the contextual embeddings of the tokens, shape (tokens, d)."""
        return self.encoder(self.embeddings(tokens), tokens.offsets)

    def pool(self, hidden: Tensor, tokens: PackedTokens, weights: Tensor | None = None) -> Tensor:
        """Return one vector a cell.

        Parameters
        ----------
        hidden
            Contextual embeddings, shape (tokens, d).
        tokens
            Which tokens belong to which cell.
        weights
            Weights of the tokens, shape (tokens,), instead of those of the configured pooling.

        Returns
        -------
        Shape (cells, d). A cell without tokens gets what a cell with the one token ``<unk>``
        would get, which is also what the public tokenizer gives for it; it is always finite.
        """
        if weights is None and self.attention_pooling is not None:
            cells = self.attention_pooling(hidden, tokens)
        else:
            if weights is None and self.config.pooling == "idf":
                weights = self.idf[self.embeddings.rows(tokens.ids)]
            cells = pool_mean(hidden, tokens, weights)
        empty = tokens.lengths == 0
        if empty.any():
            cells = torch.where(empty.unsqueeze(1), self._unknown_cell().to(cells.dtype), cells)
        return cells

    def encode(self, tokens: PackedTokens) -> Tensor:
        """Return the embeddings of the cells, shape (cells, d)."""
        return self.pool(self.embed_tokens(tokens), tokens)

    def discriminate(self, hidden: Tensor) -> Tensor:
        """Return the logit of "replaced" of each token, shape (tokens,)."""
        return self.discriminator(hidden)

    def _unknown_cell(self) -> Tensor:
        """Embedding of a cell that holds ``<unk>`` alone, shape (1, d)."""
        device = self.embeddings.token_embeddings.weight.device
        ids = torch.tensor([self.config.unk_token_id], device=device)
        return self.embed_tokens(PackedTokens(ids, torch.tensor([0, 1], device=device)))

    # ---- what scvi-tools calls ------------------------------------------------------------

    def _get_inference_input(self, tensors: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {
            "tokens": tensors.get(BATCH_KEYS.tokens),
            "corrupted": tensors.get(BATCH_KEYS.corrupted),
        }

    @auto_move_data
    def inference(
        self, tokens: PackedTokens | None = None, corrupted: PackedTokens | None = None
    ) -> dict[str, Any]:
        """Encode the clean tokens, the corrupted ones, or both.

        Returns
        -------
        ``hidden`` (tokens, d) and ``cells`` (cells, d) of the clean tokens, ``corrupted_hidden``
        (tokens, d) of the corrupted, as far as they are given, and ``n_cells``.
        """
        outputs: dict[str, Any] = {}
        if tokens is not None:
            outputs["hidden"] = self.embed_tokens(tokens)
            outputs["cells"] = self.pool(outputs["hidden"], tokens)
            outputs["n_cells"] = tokens.n_cells
        if corrupted is not None:
            outputs["corrupted_hidden"] = self.embed_tokens(corrupted)
            outputs["n_cells"] = corrupted.n_cells
        return outputs

    def _get_generative_input(
        self, tensors: dict[str, Any], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        return {}

    def generative(self) -> dict[str, Any]:
        """Return nothing: the model does not generate."""
        return {}

    # ---- what is trained ------------------------------------------------------------------

    def freeze_except_last(self, n_layers: int) -> None:
        """Train the last layers, every layer norm and the heads only.

        Parameters
        ----------
        n_layers
            Number of layers at the end that are trained; 0 leaves layer norms and heads.

        Raises
        ------
        ValueError
            If there are not that many layers.
        """
        total = len(self.encoder.layers)
        if not 0 <= n_layers <= total:
            msg = f"n_layers must be within 0 ... {total}, the layers of the encoder; found {n_layers}"
            raise ValueError(msg)
        self.embeddings.requires_grad_(False)
        self.encoder.requires_grad_(False)
        for layer in list(self.encoder.layers)[total - n_layers :]:
            layer.requires_grad_(True)
        for part in self.encoder.modules():
            if isinstance(part, nn.LayerNorm):
                part.requires_grad_(True)

    def unfreeze(self) -> None:
        """Train everything that is used."""
        self.requires_grad_(True)
        positions = self.embeddings.position_embeddings
        if positions is not None:
            positions.requires_grad_(self.config.use_pos_embeddings)

    def add_low_rank_adapters(self, rank: int = 8, alpha: float | None = None) -> int:
        """Freeze embeddings and encoder, and train low-rank adapters in the encoder, and the heads.

        Returns the number of adapters; see :func:`atacvi.nn.add_low_rank`.
        """
        n_adapters = add_low_rank(self.encoder, rank, alpha)
        self.embeddings.requires_grad_(False)
        return n_adapters

    def merge_low_rank_adapters(self) -> int:
        """Add the adapters to the weights and remove them; returns their number."""
        return merge_low_rank(self.encoder)

    def _initialise(self, part: nn.Module) -> None:
        """Draw weights of linear layers and embeddings from a normal; zero biases and padding."""
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=self.config.initializer_range)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=self.config.embedding_initializer_range)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            with torch.no_grad():
                part.weight[part.padding_idx].zero_()
