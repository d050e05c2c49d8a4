"""Embeddings of both modalities in the shared space."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from atacvi._constants import X_KEY
from atacvi.models._craft_setup import (
    RNA_EMBEDDING_KEY,
    counts_of_query,
    read_pairs,
    rna_embedding,
)
from atacvi.models._representation import check_modality
from atacvi.models._streaming import positions_of
from atacvi.models._token_embedding import TokenEmbeddingMixin
from atacvi.models._tokens import TOKENS_KEY
from atacvi.training import TokenRows, pack, sparse_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

    from atacvi.models._craft_setup import Pairs
    from atacvi.modules import AtacformerModule, CRAFTModule
    from atacvi.regions import Universe

Modality = Literal["rna", "atac", "joint"]
_BATCH_SIZE = 512
# Accessibility that has more of the model's genes among its features is RNA
_GENE_SHARE = 0.5


def check_batch_size(batch_size: int | None) -> None:
    """Refuse minibatches without a cell.

    Raises
    ------
    ValueError
        In that case.
    """
    if batch_size is not None and batch_size < 1:
        msg = f"batch_size={batch_size}; a minibatch holds at least 1 cell."
        raise ValueError(msg)


@contextmanager
def evaluation(module: torch.nn.Module) -> Iterator[None]:
    """Run in evaluation mode without gradients, and go back to the mode before."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)


class AccessibilitySide(TokenEmbeddingMixin):
    """The encoder of accessibility, with what turns data into its tokens and embeddings.

    Parameters
    ----------
    module
        Encoder of tokens.
    universe
        Its regions.
    registry
        Registry of the setup.
    """

    def __init__(
        self, module: AtacformerModule, universe: Universe, registry: dict[str, Any]
    ) -> None:
        self.module, self.universe, self.registry_ = module, universe, registry
        self.adata = self.adata_manager = None
        self.started_ = False
        self.latent_centre_ = self.latent_batch_directions_ = None


class SharedSpaceMixin:
    """`get_latent_representation`, and what it is made of."""

    module: CRAFTModule
    adata: Any
    adata_manager: Any
    registry_: dict[str, Any]
    is_trained_: bool
    atac_side: AccessibilitySide

    def get_latent_representation(
        self,
        adata: MuData | AnnData | None = None,
        modality: Modality = "joint",
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        centre: bool = True,
        max_tokens: int | None = 2048,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Return unit vectors of cells in the space that both modalities share.

        Parameters
        ----------
        adata
            MuData, or AnnData of the one modality asked for: peaks or tokens, or counts of genes.
            ``None`` takes the data of the setup. Nothing is written to it.
        modality
            ``"rna"``, ``"atac"``, or ``"joint"``, the direction between both. A cell that lacks a
            modality gets the vector of the other as its joint one.
        indices
            Positions of the cells to use; ``None`` takes all.
        centre
            Subtract the mean vector that the modality has over the training cells, which closes the
            gap between the modalities.
        max_tokens, seed
            Regions of a cell that the transformer sees, where it takes part, and seed with which
            longer cells are sampled.
        batch_size
            Cells of a minibatch of RNA. Results do not depend on it.

        Returns
        -------
        float32 of shape (cells, n_latent).

        Raises
        ------
        IndexError
            If a position lies outside the data.
        RuntimeError
            If the model is not trained.
        ValueError
            If the modality is unknown or not there, no cell holds a region that the model embeds,
            or genes do not fit.

        Examples
        --------
        >>> model.get_latent_representation(modality="rna").shape
        (60, 8)
        >>> model.get_latent_representation(mdata["atac"][:5], modality="atac").shape
        (5, 8)
        """
        self._require_training()
        check_modality(modality)
        check_batch_size(batch_size)
        if modality == "joint" and adata is not None and not hasattr(adata, "mod"):
            msg = (
                f"modality='joint' needs both modalities, and this is {type(adata).__name__}; give "
                "a MuData, or choose modality='rna' or 'atac'."
            )
            raise ValueError(msg)
        options: dict[str, Any] = {"centre": centre}
        if modality == "rna":
            return self._rna_vectors(adata, indices, batch_size=batch_size, **options)[0]
        atac, has_atac = self._atac_vectors(
            adata, indices, max_tokens=max_tokens, seed=seed, **options
        )
        if modality == "atac":
            return atac
        rna, has_rna = self._rna_vectors(adata, indices, batch_size=batch_size, **options)
        both = np.where(has_rna[:, None] | ~has_atac[:, None], rna, 0.0)
        both = both + np.where(has_atac[:, None] | ~has_rna[:, None], atac, 0.0)
        norm = np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
        return (both / norm).astype(np.float32)

    # ---- accessibility --------------------------------------------------------------------

    def _tokens(self, adata: Any) -> sp.csr_matrix:
        """Return the token sets of an object, only of regions that are embedded."""
        if adata is None:
            self._require_data()  # type: ignore[attr-defined]
            tokens = self.adata_manager.get_from_registry(TOKENS_KEY)
            return self.atac_side._embedded_only(tokens)
        part = self._modality(adata, "atac")
        known = pd.Index(self.pairs.genes).isin(getattr(part, "var_names", []))
        if known.mean() > _GENE_SHARE:
            msg = (
                f"The data given as accessibility hold {int(known.sum())} of the model's "
                f"{len(known)} genes, such as {self.pairs.genes[known][0]!r}: they look like RNA. "
                "Give peaks or tokens, or say modality='rna' (from_modality='rna')."
            )
            raise ValueError(msg)
        return self.atac_side._tokens_of(part)[0]

    def _encoded_atac(
        self, tokens: sp.csr_matrix, cells: np.ndarray, *, max_tokens: int | None, seed: int
    ) -> np.ndarray:
        """Return what the encoders of accessibility give, shape (cells, width).

        The transformer sees as many tokens as fit its context, the linear components all.
        """
        module = self.module
        found = np.zeros((len(cells), module.n_atac), dtype=np.float32)
        hidden, components = module.parts_of_atac(found)
        if module.uses_transformer:
            hidden[:] = self.atac_side._embed(
                tokens, cells, max_tokens=max_tokens, seed=seed, normalize=False
            )
        if components.shape[1]:
            rows = TokenRows(tokens)
            with evaluation(module):
                for start in range(0, len(cells), _BATCH_SIZE):
                    here = slice(start, start + _BATCH_SIZE)
                    packed = pack(*rows.gather(cells[here]))
                    packed = type(packed)(*(part.to(module.device) for part in packed))
                    components[here] = module.encode_components(packed).float().cpu().numpy()
        return found

    def _atac_vectors(
        self,
        adata: Any,
        indices: Any,
        *,
        centre: bool = True,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return unit vectors of accessibility, and which cells have any region."""
        tokens = self._tokens(adata)
        cells = positions_of(indices, tokens.shape[0])
        encoded = self._encoded_atac(tokens, cells, max_tokens=max_tokens, seed=seed)
        return self._projected("atac", encoded, centre=centre), np.diff(tokens.indptr)[cells] > 0

    # ---- RNA ------------------------------------------------------------------------------

    def _rna_input(self, adata: Any) -> tuple[Any, np.ndarray | None, np.ndarray]:
        """Return what the RNA encoder takes, which genes are known, and which cells have RNA."""
        pairs = self.pairs
        if adata is None:
            self._require_data()  # type: ignore[attr-defined]
            counts = sp.csr_matrix(self.adata_manager.get_from_registry(X_KEY))
            known = None
        else:
            part = self._modality(adata, "rna")
            if pairs.rna_obsm is not None:
                given = rna_embedding(part, pairs.rna_obsm, "RNA")
                if given.shape[1] != pairs.n_rna_embed:
                    msg = (
                        f"obsm[{pairs.rna_obsm!r}] has {given.shape[1]} dimensions; the model was "
                        f"set up with {pairs.n_rna_embed}."
                    )
                    raise ValueError(msg)
                return given, None, np.ones(len(given), dtype=bool)
            counts, known = counts_of_query(part, pairs.genes, pairs.rna_layer)
        has_rna = np.asarray(counts.sum(axis=1)).ravel() > 0
        if pairs.rna_obsm is not None:
            given = np.asarray(self.adata_manager.get_from_registry(RNA_EMBEDDING_KEY))
            return given.astype(np.float32), None, has_rna
        return counts, known, has_rna

    def _encoded_rna(
        self,
        rna: Any,
        cells: np.ndarray,
        known: np.ndarray | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Return what the RNA encoder gives, shape (cells, width)."""
        device, size = self.module.device, batch_size or _BATCH_SIZE
        mask = None if known is None else torch.as_tensor(known, device=device)
        parts = [np.zeros((0, len(self.module.gene_centre)), dtype=np.float32)]
        with evaluation(self.module):
            for start in range(0, len(cells), size):
                here = cells[start : start + size]
                if isinstance(rna, np.ndarray):
                    values: Any = torch.as_tensor(rna[here], dtype=torch.float32)
                else:
                    values = sparse_rows(rna, here)
                encoded = self.module.encode_rna(values.to(device), mask)
                parts.append(encoded.float().cpu().numpy())
        return np.concatenate(parts)

    def _rna_vectors(
        self, adata: Any, indices: Any, *, centre: bool = True, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return unit vectors of RNA, and which cells have any count."""
        rna, known, has_rna = self._rna_input(adata)
        cells = positions_of(indices, rna.shape[0])
        encoded = self._encoded_rna(rna, cells, known, batch_size)
        return self._projected("rna", encoded, centre=centre), has_rna[cells]

    # ---- pieces ---------------------------------------------------------------------------

    @property
    def pairs(self) -> Pairs:
        """What the setup knows of genes and modalities.

        Examples
        --------
        >>> model.pairs.rna, model.pairs.atac
        ('rna', 'atac')
        """
        return read_pairs(self.registry_)

    def _own_var_names(self) -> dict[str, np.ndarray]:
        names = self.atac_side.universe.names.to_numpy(dtype=object)
        return {self.pairs.rna: self.pairs.genes, self.pairs.atac: names}

    @property
    def gene_names(self) -> np.ndarray:
        """Genes of the decoder.

        Examples
        --------
        >>> len(model.gene_names)
        20
        """
        return self.pairs.genes

    def _projected(self, modality: str, encoded: np.ndarray, *, centre: bool) -> np.ndarray:
        project = getattr(self.module, f"project_{modality}")
        with evaluation(self.module):
            values = torch.as_tensor(encoded, dtype=torch.float32, device=self.module.device)
            return project(values, centre=centre).float().cpu().numpy()

    def _coordinates(self, encoded: np.ndarray) -> np.ndarray:
        """Return accessibility before it is scaled to unit length, shape (cells, n_latent)."""
        with evaluation(self.module):
            values = torch.as_tensor(encoded, dtype=torch.float32, device=self.module.device)
            return self.module.coordinates_atac(values).float().cpu().numpy()

    def _modality(self, data: Any, name: str) -> Any:
        """Return the AnnData of a modality, of a MuData or as it is."""
        if not hasattr(data, "mod"):
            return data
        wanted = getattr(self.pairs, name)
        if wanted not in data.mod:
            msg = f"The data have no modality {wanted!r}; they hold {list(data.mod)}."
            raise ValueError(msg)
        return data.mod[wanted]

    def _require_training(self) -> None:
        if not self.is_trained_:
            msg = (
                "The model is not trained. Call `train()`, or start from a checkpoint: "
                "`CRAFTModel.from_pretrained(folder)`."
            )
            raise RuntimeError(msg)
