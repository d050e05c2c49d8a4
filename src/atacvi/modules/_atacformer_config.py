"""Configuration of AtacformerModule, with the field names of the public checkpoints."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from atacvi.regions.universe import SPECIAL_TOKENS

Pooling = Literal["mean", "idf", "attention"]
POOLINGS: tuple[str, ...] = get_args(Pooling)

N_SPECIAL = len(SPECIAL_TOKENS)
N_REGIONS_HG38 = 890_704

# What a config.json must say: there is no value that would be right for all checkpoints.
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "use_pos_embeddings",
)
# The publication's sizes and start; its table of positions is held but not used.
_PRESETS: dict[str, dict[str, Any]] = {
    "base-hg38": {
        "vocab_size": N_REGIONS_HG38 + N_SPECIAL,
        "keep_position_table": True,
        "embedding_initializer_range": 0.02,
    },
}


@dataclass(frozen=True)
class AtacformerConfig:
    """Sizes and options of the network.

    The first block has the names and meanings of the public checkpoints' ``config.json``; the
    second is ours. What else a ``config.json`` holds is kept in `extra` and written back.

    Parameters
    ----------
    vocab_size
        Number of regions of the universe and the seven special tokens after them.
    max_position_embeddings
        Context: the most tokens of a cell that are encoded.
    hidden_size
        Width of tokens and cells.
    num_hidden_layers, num_attention_heads, intermediate_size
        Layers, heads, and width of the feed-forward block.
    use_pos_embeddings
        Add an embedding of the place in the cell. A cell is a set; the published models do not.
    initializer_range
        Standard deviation of the weights of linear layers at the start.
    norm_eps
        Epsilon of the layer norm of the replaced-token head (the encoder's is 1e-5).
    discriminator_hidden_size
        Width of the replaced-token head; that of the tokens when ``None``.
    dropout
        Dropout on the branches of each layer.
    attention_dropout
        Dropout on the attention weights in training. Fused kernels without it are several times
        faster.
    embedding_initializer_range
        Standard deviation of the embeddings at the start. The published 0.02 leaves the tokens so
        alike that attention has nothing to go by for long; with 1 context is learnt much sooner.
    pooling
        From tokens to a cell: ``"mean"``, ``"idf"`` (fixed weights of the regions: those of the
        spectral start, else -log of the share of cells in which the region is open) or
        ``"attention"`` (a learned query).
    keep_position_table
        Hold a table of positions that is not used, as the published checkpoints do.
    extra
        Further fields of a ``config.json``.

    Raises
    ------
    ValueError
        If sizes are not positive or do not fit each other, or the pooling is unknown.

    References
    ----------
    LeRoy et al., Atacformer, bioRxiv 2025.11.03.685753.

    Examples
    --------
    >>> from atacvi.modules import AtacformerConfig
    >>> config = AtacformerConfig.from_preset("base-hg38")
    >>> config.vocab_size, config.hidden_size, config.pad_token_id
    (890711, 192, 890705)
    >>> AtacformerConfig.for_regions(1000, num_hidden_layers=2).vocab_size
    1007
    """

    vocab_size: int
    max_position_embeddings: int = 8192
    hidden_size: int = 192
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 768
    use_pos_embeddings: bool = False
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    discriminator_hidden_size: int | None = None

    dropout: float = 0.1
    attention_dropout: float = 0.0
    embedding_initializer_range: float = 1.0
    pooling: Pooling = "mean"
    keep_position_table: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = ("max_position_embeddings", "hidden_size", "num_attention_heads")
        for name in (*sizes, "num_hidden_layers", "intermediate_size"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, found {getattr(self, name)}"
                raise ValueError(msg)
        if self.vocab_size <= N_SPECIAL:
            msg = (
                f"vocab_size={self.vocab_size} leaves no region: it counts the regions and "
                f"{N_SPECIAL} special tokens"
            )
            raise ValueError(msg)
        if self.hidden_size % self.num_attention_heads:
            msg = (
                f"hidden_size={self.hidden_size} must be divisible by "
                f"num_attention_heads={self.num_attention_heads}"
            )
            raise ValueError(msg)
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name} must be in [0, 1), found {getattr(self, name)}"
                raise ValueError(msg)
        if self.pooling not in POOLINGS:
            msg = f"pooling must be one of {', '.join(POOLINGS)}; found {self.pooling!r}"
            raise ValueError(msg)

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> AtacformerConfig:
        """Return a named configuration, with changes: ``"base-hg38"``."""
        if preset not in _PRESETS:
            msg = f"preset must be one of {', '.join(_PRESETS)}; found {preset!r}"
            raise ValueError(msg)
        return cls(**{**_PRESETS[preset], **changes})

    @classmethod
    def for_regions(cls, n_regions: int, **changes: Any) -> AtacformerConfig:
        """Return the configuration for a universe of that many regions, with changes."""
        return cls(vocab_size=n_regions + N_SPECIAL, **changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AtacformerConfig:
        """Read the contents of a ``config.json``.

        Raises
        ------
        ValueError
            If a size is missing, or a special token has another id than its place after the
            regions.
        """
        missing = [name for name in _REQUIRED if name not in values]
        if missing:
            msg = (
                f"config.json lacks {', '.join(missing)}, so that the weights could be read in "
                f"more than one way; add them. It holds {', '.join(sorted(values)) or 'nothing'}"
            )
            raise ValueError(msg)
        known = {f.name for f in fields(cls)} - {"extra"}
        ours = {name: value for name, value in values.items() if name in known}
        config = cls(**ours, extra={n: v for n, v in values.items() if n not in known})
        config._check_special_ids()
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return what a ``config.json`` holds; further fields come back as they were read."""
        ours = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        ids = {f"{name}_token_id": self.special_id(name) for name in SPECIAL_TOKENS}
        return {"model_type": "atacformer", **self.extra, **ours, **ids}

    def for_universe(self, n_regions: int) -> AtacformerConfig:
        """Return the same configuration for a universe of another size."""
        return replace(self, vocab_size=n_regions + N_SPECIAL)

    @property
    def n_regions(self) -> int:
        """Number of regions of the universe."""
        return self.vocab_size - N_SPECIAL

    def special_id(self, name: str) -> int:
        """Return the id of ``unk``, ``pad``, ``mask``, ``cls``, ``eos``, ``bos`` or ``sep``."""
        if name not in SPECIAL_TOKENS:
            close = difflib.get_close_matches(name, SPECIAL_TOKENS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            msg = f"special tokens are {', '.join(SPECIAL_TOKENS)}; found {name!r}{hint}"
            raise ValueError(msg)
        return self.n_regions + SPECIAL_TOKENS.index(name)

    @property
    def unk_token_id(self) -> int:
        """Id of ``<unk>``."""
        return self.special_id("unk")

    @property
    def pad_token_id(self) -> int:
        """Id of ``<pad>``."""
        return self.special_id("pad")

    def _check_special_ids(self) -> None:
        for name in SPECIAL_TOKENS:
            found = self.extra.get(f"{name}_token_id")
            if found is not None and found != self.special_id(name):
                msg = (
                    f"config.json gives <{name}> the id {found}; with vocab_size="
                    f"{self.vocab_size} it must be {self.special_id(name)}: the special tokens "
                    f"{', '.join(SPECIAL_TOKENS)} follow the regions"
                )
                raise ValueError(msg)
