"""Embeddings of region ids, of the whole universe or of the regions in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atacvi.modules._atacformer_config import N_SPECIAL, SPECIAL_TOKENS

if TYPE_CHECKING:
    from atacvi.modules._atacformer_config import AtacformerConfig
    from atacvi.nn import PackedTokens


def check_active_ids(active_ids: Tensor, n_regions: int) -> Tensor:
    """Return the ids of the regions in use as int64, having checked them.

    Raises
    ------
    ValueError
        If there are none, or they do not rise, or some are no regions of the universe.
    """
    ids = torch.as_tensor(active_ids).to(torch.long).flatten()
    if not ids.numel():
        msg = "active_ids is empty: there is no region to embed"
        raise ValueError(msg)
    if int(ids.min()) < 0 or int(ids.max()) >= n_regions or not bool((ids.diff() > 0).all()):
        msg = (
            f"active_ids must rise without repeats within 0 ... {n_regions - 1}, the lines of the "
            f"universe; found {ids.numel()} from {int(ids.min())} to {int(ids.max())}"
        )
        raise ValueError(msg)
    return ids


class RegionEmbeddings(nn.Module):
    """Table of tokens, and maybe of positions; parameters named as in the public checkpoints.

    Rows of the table are the active regions in the order of the universe, then the seven special
    tokens. Ids that go in are those of the universe.

    Parameters
    ----------
    config
        Sizes.
    active_ids
        Regions that have a row, int64, rising; all when ``None``.
    """

    active_ids: Tensor | None
    row_of_id: Tensor | None

    def __init__(self, config: AtacformerConfig, active_ids: Tensor | None = None) -> None:
        super().__init__()
        self.n_regions = config.n_regions
        self.n_active = config.n_regions if active_ids is None else active_ids.numel()
        # saved with the weights, whose rows mean nothing without it
        self.register_buffer("active_ids", active_ids)
        self.register_buffer("row_of_id", None, persistent=False)
        self._index_rows()
        self.register_load_state_dict_post_hook(lambda module, _: module._index_rows())
        n_rows, width = self.n_active + N_SPECIAL, config.hidden_size
        self.token_embeddings = nn.Embedding(n_rows, width, padding_idx=self.special_row("pad"))
        self.position_embeddings: nn.Embedding | None = None
        self.use_positions = config.use_pos_embeddings
        if config.use_pos_embeddings or config.keep_position_table:
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
            self.position_embeddings.requires_grad_(config.use_pos_embeddings)

    def _index_rows(self) -> None:
        """Set the row of each id of the universe; a region without a row is unknown."""
        if self.active_ids is None:
            return
        row_of_id = self.active_ids.new_full((self.n_regions + N_SPECIAL,), self.special_row("unk"))
        row_of_id[self.active_ids] = torch.arange(self.n_active, device=row_of_id.device)
        for name in SPECIAL_TOKENS:
            row_of_id[self.n_regions + SPECIAL_TOKENS.index(name)] = self.special_row(name)
        self.row_of_id = row_of_id

    def special_row(self, name: str) -> int:
        """Return the row of a special token."""
        return self.n_active + SPECIAL_TOKENS.index(name)

    def rows(self, ids: Tensor) -> Tensor:
        """Return the rows of ids of the universe; that of ``<unk>`` for regions without one."""
        return ids if self.row_of_id is None else self.row_of_id[ids]

    def is_active(self, ids: Tensor) -> Tensor:
        """Tell which ids are regions that have a row, bool of the same shape."""
        return self.rows(ids) < self.n_active

    def forward(self, tokens: PackedTokens) -> Tensor:
        """Return the embedded tokens, shape (tokens, width)."""
        embedded = self.token_embeddings(self.rows(tokens.ids))
        if not self.use_positions or self.position_embeddings is None:
            return embedded
        place = torch.arange(len(tokens.ids), device=tokens.ids.device)
        place = place - tokens.offsets[:-1][tokens.cell_index]
        n_places = self.position_embeddings.num_embeddings
        if tokens.n_cells and int(tokens.lengths.max()) > n_places:
            msg = (
                f"a cell of {int(tokens.lengths.max())} tokens exceeds the {n_places} positions "
                "that the model knows; sample fewer tokens a cell (max_position_embeddings)"
            )
            raise ValueError(msg)
        return embedded + self.position_embeddings(place)
