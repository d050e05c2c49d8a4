"""Embeddings of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from atacvi._constants import BATCH_KEY, LABELS_KEY
from atacvi.models._token_embedding import TOKEN_BUDGET, TokenEmbeddingMixin, without_regions
from atacvi.training import TokenRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

_MAX_TOKENS = 2048


class CellEmbeddingMixin(TokenEmbeddingMixin):
    """`get_latent_representation` and `knock_out`, and what the setup knows of cells."""

    is_trained_: bool

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        max_tokens: int | None = _MAX_TOKENS,
        seed: int = 0,
        n_subsamples: int = 1,
        token_budget: int = TOKEN_BUDGET,
        batch_size: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> np.ndarray:
        """Return the embeddings of cells.

        Cells with more tokens than the context are sampled, with a generator of their own for each
        seed and cell; cells that fit do not depend on the seed. A cell without tokens gets the
        embedding of ``<unk>``; data without any token of the model are refused.

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
        token_budget, batch_size
            Tokens of a minibatch, and cells of it at most. Results do not depend on them.
        pooling
            ``"mean"`` weighs all tokens alike; ``None`` pools as the model was trained.
        normalize
            Subtract the mean of the training cells, take out the directions of batches if the model
            was fine-tuned against them, and scale to unit length, the space in which agreement is
            trained; ``None`` does so where the model was pretrained here.

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
            another universe or genome, or hold no region that the model embeds.

        Examples
        --------
        >>> model.get_latent_representation().shape
        (60, 8)
        >>> model.get_latent_representation(adata[:5].copy(), pooling="mean").shape
        (5, 8)
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
            batch_size=batch_size,
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

        Examples
        --------
        >>> shift = model.knock_out(adata.var_names[:3])
        >>> shift.shape
        (60, 8)
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
            after = self._embed(without_regions(sampled, closed), every, **options)
            moved[affected] = after - before
        return moved

    # ---- labels and batches -----------------------------------------------------------------

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
        """Label that stands for an unknown one, as at the setup.

        Examples
        --------
        >>> model.unlabeled_category is None  # all cells are labelled
        True
        """
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


def _rows_as_matrix(ids: np.ndarray, offsets: np.ndarray, n_regions: int) -> sp.csr_matrix:
    parts = (np.ones(len(ids), dtype=bool), ids, offsets)
    return sp.csr_matrix(parts, shape=(len(offsets) - 1, n_regions))
