"""Embeddings of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from atacvi._constants import BATCH_KEY, LABELS_KEY
from atacvi.models._atacformer_setup import TOKENS_KEY, find_tokens, read_vocabulary
from atacvi.models._streaming import positions_of
from atacvi.training import TokenBatchSampler, TokenRows, pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from atacvi.modules import AtacformerModule
    from atacvi.nn import PackedTokens
    from atacvi.regions import Universe

_TOKEN_BUDGET = 65_536
_MAX_TOKENS = 2048


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


class CellEmbeddingMixin:
    """Tokens of data, and embeddings of cells."""

    module: AtacformerModule
    universe: Universe
    latent_centre_: np.ndarray | None
    is_trained_: bool
    registry_: dict[str, Any]
    adata: Any
    adata_manager: Any

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        max_tokens: int | None = _MAX_TOKENS,
        seed: int = 0,
        n_subsamples: int = 1,
        token_budget: int = _TOKEN_BUDGET,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> np.ndarray:
        """Return the embeddings of cells.

        Cells with more tokens than the context are sampled, with a generator of their own for each
        seed and cell; cells that fit do not depend on the seed. A cell without tokens gets the
        embedding of ``<unk>``.

        Parameters
        ----------
        adata
            Cells with tokens, or with peaks, which are mapped onto the universe; ``None`` takes
            those of the setup. Nothing is written to it.
        indices
            Positions of the cells to use; ``None`` takes all.
        max_tokens
            Tokens of a cell that are encoded; ``None`` takes the whole context of the model.
        seed
            Seed of the sampling.
        n_subsamples
            Samples of a long cell whose embeddings are averaged.
        token_budget
            Tokens of a minibatch. Results do not depend on it.
        pooling
            ``"mean"`` weighs all tokens alike; ``None`` pools as the model was trained.
        normalize
            Subtract the mean of the training cells and scale to unit length, the space in which
            agreement is trained; ``None`` does so where the model was pretrained here.

        Returns
        -------
        float32 of shape (cells, width).

        Raises
        ------
        IndexError
            If a position lies outside the data.
        RuntimeError
            If the model is not trained.
        ValueError
            If `max_tokens` or `n_subsamples` is below 1, the pooling is unknown, or the data are of
            another universe or genome.
        """
        self._require_training()
        tokens, cells = self._tokens_of(adata, indices)
        return self._embed(
            tokens,
            cells,
            max_tokens=max_tokens,
            seed=seed,
            n_subsamples=n_subsamples,
            token_budget=token_budget,
            pooling=pooling,
            normalize=normalize,
        )

    def knock_out(
        self,
        regions: Sequence[str] | Any,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        max_tokens: int | None = _MAX_TOKENS,
        seed: int = 0,
        normalize: bool | None = None,
    ) -> np.ndarray:
        """Return how the embedding of each cell moves when regions are closed in it.

        Parameters
        ----------
        regions
            Names or a table; all regions of the universe that they overlap are closed.
        adata, indices
            Cells, as in `get_latent_representation`.
        max_tokens, seed, normalize
            As in `get_latent_representation`.

        Returns
        -------
        Embedding without the regions minus the one with them, float32 of shape (cells, width);
        zeros for cells in which they are closed anyway.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If no region of the universe overlaps them.
        """
        from atacvi.regions import RegionTokenizer

        self._require_training()
        ids = RegionTokenizer(self.universe).tokenize_regions(regions)
        if len(ids) == 0:
            msg = (
                f"None of the regions overlaps {self.universe!r}. Names look like "
                f"{self.universe.names[0]!r}."
            )
            raise ValueError(msg)
        tokens, cells = self._tokens_of(adata, indices)
        closed = np.zeros(tokens.shape[1], dtype=bool)
        closed[ids] = True
        affected = np.asarray(tokens[cells].astype(np.int64) @ closed.astype(np.int64)) > 0
        moved = np.zeros((len(cells), self.module.config.hidden_size), dtype=np.float32)
        if affected.any():
            kept = cells[affected]
            # one sample of the context for both, so that only the closed regions differ
            rows = TokenRows(tokens, self._context(max_tokens), seed=seed)
            ids_kept, offsets = rows.gather(kept)
            sampled = _rows_as_matrix(ids_kept, offsets, tokens.shape[1])
            options: dict[str, Any] = {"max_tokens": None, "normalize": normalize}
            every = np.arange(len(kept))
            before = self._embed(sampled, every, **options)
            after = self._embed(_without(sampled, closed), every, **options)
            moved[affected] = after - before
        return moved

    # ---- tokens ---------------------------------------------------------------------------

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
                adata, self.universe, known.tokens_key, known.layer, known.threshold
            )
        tokens = self._embedded_only(tokens)
        return tokens, positions_of(indices, tokens.shape[0])

    def _embedded_only(self, tokens: sp.csr_matrix) -> sp.csr_matrix:
        """Leave out regions without an embedding: of them the model knows nothing."""
        tokens = sp.csr_matrix(tokens)
        if self.module.has_full_vocabulary:
            return tokens
        unknown = np.ones(tokens.shape[1], dtype=bool)
        unknown[self.module.active_ids.cpu().numpy()] = False
        return _without(tokens, unknown) if unknown[tokens.indices].any() else tokens

    def _context(self, max_tokens: int | None) -> int:
        longest = self.module.config.max_position_embeddings
        return longest if max_tokens is None else min(max_tokens, longest)

    def _labels(self, adata: AnnData | None = None) -> np.ndarray:
        """Return the code of each cell's label, -1 where it is unknown."""
        codes = (
            np.asarray(self.adata_manager.get_from_registry(LABELS_KEY)).ravel().astype(np.int64)
        )
        # the category of unlabelled cells comes last
        return np.where(codes < self._n_labels(), codes, -1)  # type: ignore[attr-defined]

    def _label_names(self) -> np.ndarray:
        state = self.registry_["field_registries"][LABELS_KEY]["state_registry"]
        return np.asarray(state["categorical_mapping"], dtype=object)[: self._n_labels()]  # type: ignore[attr-defined]

    def _batches(self) -> np.ndarray:
        return np.asarray(self.adata_manager.get_from_registry(BATCH_KEY)).ravel().astype(np.int64)

    @property
    def unlabeled_category(self) -> str | None:
        """Label that stands for an unknown one, as at the setup."""
        state = self.registry_["field_registries"][LABELS_KEY]["state_registry"]
        return state.get("unlabeled_category")

    # ---- encoding -------------------------------------------------------------------------

    def _require_training(self) -> None:
        if not self.is_trained_:
            msg = (
                "The model is not trained. Call `pretrain()`, `finetune()` or `train()`, or start "
                "from a checkpoint: `AtacformerModel.from_pretrained(folder)`."
            )
            raise RuntimeError(msg)

    def _encoded(
        self,
        tokens: sp.csr_matrix,
        cells: np.ndarray,
        *,
        max_tokens: int | None,
        seed: int = 0,
        draw: int = 0,
        token_budget: int = _TOKEN_BUDGET,
    ) -> Iterator[EncodedCells]:
        """Encode cells in minibatches, the longest first; without gradients, in evaluation mode."""
        if len(cells) == 0:
            return
        rows = TokenRows(tokens, self._context(max_tokens), seed=seed)
        sampler = TokenBatchSampler(rows.lengths, cells, token_budget, shuffle=False)
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
        token_budget: int = _TOKEN_BUDGET,
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
        centred = latent - centre
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def _without(tokens: sp.csr_matrix, left_out: np.ndarray) -> sp.csr_matrix:
    """Return the tokens without some regions, bool of shape (regions,)."""
    kept = ~left_out[tokens.indices]
    counts = np.concatenate([[0], np.cumsum(kept)])
    parts = (tokens.data[kept], tokens.indices[kept], counts[tokens.indptr])
    return sp.csr_matrix(parts, shape=tokens.shape)


def _rows_as_matrix(ids: np.ndarray, offsets: np.ndarray, n_regions: int) -> sp.csr_matrix:
    parts = (np.ones(len(ids), dtype=bool), ids, offsets)
    return sp.csr_matrix(parts, shape=(len(offsets) - 1, n_regions))
