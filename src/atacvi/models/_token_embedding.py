"""Embeddings of cells from their tokens: what every model with an encoder of tokens needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from atacvi.models._streaming import positions_of
from atacvi.models._tokens import TOKENS_KEY, find_tokens, read_vocabulary
from atacvi.training import TokenBatchSampler, TokenRows, pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from atacvi.modules import AtacformerModule
    from atacvi.nn import PackedTokens
    from atacvi.regions import Universe

#: Tokens of a minibatch that is encoded without gradients
TOKEN_BUDGET = 65_536


class EncodedCells(NamedTuple):
    """Cells of a minibatch after the encoder.

    Parameters
    ----------
    cells
        Rows of the token matrix, shape (cells,).
    tokens
        Their tokens.
    hidden
        Contextual embeddings, shape (tokens, width).
    """

    cells: np.ndarray
    tokens: PackedTokens
    hidden: torch.Tensor


class TokenEmbeddingMixin:
    """Tokens of data, and their embeddings."""

    module: AtacformerModule
    universe: Universe
    latent_centre_: np.ndarray | None
    latent_batch_directions_: np.ndarray | None
    registry_: dict[str, Any]
    adata: Any
    adata_manager: Any

    def _tokens_of(
        self, adata: AnnData | None, indices: Sequence[int] | np.ndarray | None = None
    ) -> tuple[sp.csr_matrix, np.ndarray]:
        """Return the token sets of an object, without regions that have no embedding, and rows."""
        if adata is None and self.adata is None:
            msg = "The model holds no data; give `adata`."
            raise ValueError(msg)
        if adata is None or adata is self.adata:
            tokens = self.adata_manager.get_from_registry(TOKENS_KEY)
        else:
            known = read_vocabulary(self.registry_)
            tokens, _ = find_tokens(
                adata,
                self.universe,
                known.tokens_key,
                known.layer,
                known.threshold,
                own_peaks=known.own_peaks,
            )
        tokens = self._embedded_only(tokens)
        if adata is not None and tokens.shape[0] and not tokens.nnz:
            msg = (
                f"None of the {tokens.shape[0]} cells holds a region that the model embeds "
                f"({self.module.embeddings.n_active} regions, such as {self.universe.names[0]!r}). "
                "Are they of the same genome?"
            )
            raise ValueError(msg)
        return tokens, positions_of(indices, tokens.shape[0])

    def _embedded_only(self, tokens: sp.csr_matrix) -> sp.csr_matrix:
        """Leave out regions without an embedding: of them the model knows nothing."""
        tokens = sp.csr_matrix(tokens)
        if self.module.has_full_vocabulary:
            return tokens
        unknown = np.ones(tokens.shape[1], dtype=bool)
        unknown[self.module.active_ids.cpu().numpy()] = False
        return without_regions(tokens, unknown) if unknown[tokens.indices].any() else tokens

    def _context(self, max_tokens: int | None) -> int:
        longest = self.module.config.max_position_embeddings
        return longest if max_tokens is None else min(max_tokens, longest)

    def _encoded(
        self,
        tokens: sp.csr_matrix,
        cells: np.ndarray,
        *,
        max_tokens: int | None,
        seed: int = 0,
        draw: int = 0,
        token_budget: int = TOKEN_BUDGET,
        batch_size: int | None = None,
    ) -> Iterator[EncodedCells]:
        """Encode cells in minibatches, the longest first; without gradients, in evaluation mode."""
        if len(cells) == 0:
            return
        rows = TokenRows(tokens, self._context(max_tokens), seed=seed)
        sampler = TokenBatchSampler(
            rows.lengths, cells, token_budget, shuffle=False, max_cells=batch_size
        )
        device = self.module.device
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                for plan in sampler:
                    packed = pack(*rows.gather(plan.cells, draw))
                    packed = type(packed)(*(part.to(device) for part in packed))
                    yield EncodedCells(plan.cells, packed, self.module.embed_tokens(packed))
        finally:
            self.module.train(was_training)

    def _embed(
        self,
        tokens: sp.csr_matrix,
        cells: np.ndarray,
        *,
        max_tokens: int | None,
        seed: int = 0,
        n_subsamples: int = 1,
        token_budget: int = TOKEN_BUDGET,
        batch_size: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> np.ndarray:
        if n_subsamples < 1 or pooling not in (None, "mean"):
            msg = (
                f"n_subsamples={n_subsamples}, pooling={pooling!r}: at least one sample is needed, "
                "and pooling is 'mean' or None, which pools as the model was trained."
            )
            raise ValueError(msg)
        unique, inverse = np.unique(cells, return_inverse=True)
        total = np.zeros((tokens.shape[0], self.module.config.hidden_size), dtype=np.float32)
        n_tokens = np.diff(tokens.indptr)
        n_draws = np.zeros(tokens.shape[0], dtype=np.int64)
        chosen = unique
        for draw in range(n_subsamples):
            if draw == 1:  # what fits the context is the same each time
                chosen = unique[n_tokens[unique] > self._context(max_tokens)]
            for part in self._encoded(
                tokens,
                chosen,
                max_tokens=max_tokens,
                seed=seed,
                draw=draw,
                token_budget=token_budget,
                batch_size=batch_size,
            ):
                weights = None
                if pooling == "mean":
                    weights = torch.ones(len(part.hidden), device=part.hidden.device)
                pooled = self.module.pool(part.hidden, part.tokens, weights)
                total[part.cells] += pooled.float().cpu().numpy()
                n_draws[part.cells] += 1
        latent = (total[unique] / n_draws[unique, None])[inverse]
        if normalize or (normalize is None and self.latent_centre_ is not None):
            latent = self._normalized(latent)
        return latent.astype(np.float32, copy=False)

    def _normalized(self, latent: np.ndarray) -> np.ndarray:
        centre = latent.mean(axis=0) if self.latent_centre_ is None else self.latent_centre_
        return directions(latent, centre, self.latent_batch_directions_)


def directions(
    embedding: np.ndarray, centre: np.ndarray, without: np.ndarray | None = None
) -> np.ndarray:
    """Return centred embeddings of unit length, `without` what lies along some directions."""
    centred = embedding - centre
    if without is not None:
        centred = centred - (centred @ without.T) @ without
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def without_regions(tokens: sp.csr_matrix, left_out: np.ndarray) -> sp.csr_matrix:
    """Return the tokens without some regions, bool of shape (regions,)."""
    kept = ~left_out[tokens.indices]
    counts = np.concatenate([[0], np.cumsum(kept)])
    parts = (tokens.data[kept], tokens.indices[kept], counts[tokens.indptr])
    return sp.csr_matrix(parts, shape=tokens.shape)
