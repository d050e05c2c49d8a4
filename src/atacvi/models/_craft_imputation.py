"""Expression of genes from accessibility: decoder, retrieval of paired cells, ridge regression."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from atacvi._constants import X_KEY
from atacvi.data._messages import examples, suggestion
from atacvi.models._craft_latent import check_batch_size
from atacvi.models._craft_profiles import (
    N_CHOICE,
    TARGET_SUM,
    apply_ridge,
    cell_shares,
    log_profiles,
    softmax,
)
from atacvi.models._streaming import positions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

Method = Literal["best", "decoder", "retrieval", "ridge", "blend"]
METHODS = ("decoder", "retrieval", "ridge", "blend")
_NEED_DATA = ("retrieval", "blend")
Target = Literal["log1p", "counts"]

_BLOCK = 256
# With fewer held-out cells, correlations by gene are chance; fewer cells say nothing of a gene
_FEWEST_CHOICE, _FEWEST_CELLS = 30, 3


class CrossModalImputationMixin:
    """`impute_rna` and `get_normalized_expression`."""

    module: Any
    adata: Any
    adata_manager: Any
    ridge_: dict[str, np.ndarray] | None
    retrieval_scale_: float | None
    imputation_scores_: dict[str, float] | None

    def impute_rna(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        method: Method = "best",
        target: Target = "log1p",
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = "latent",
        k: int | None = None,
        fill_value: float | None = None,
        max_tokens: int | None = 2048,
        seed: int = 0,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Return the expression of genes, imputed from accessibility alone.

        RNA that `adata` may hold is not looked at. A cell without any region that the model embeds
        gets what the encoder makes of an unknown region, near the average profile.

        Parameters
        ----------
        adata
            Peaks or tokens, or a MuData with them; ``None`` takes the data of the setup.
        indices
            Positions of cells; all when ``None``.
        method
            ``"decoder"``, the negative binomial decoder; ``"retrieval"``, the mean of the paired
            cells of the setup whose RNA lies nearest, weighted by similarity (the cell itself left
            out); ``"ridge"``, linear regression on the embedding; ``"blend"``, the mean of retrieval
            and ridge regression; ``"best"``, the one of them whose correlations by gene were highest
            on held-out cells (`imputation_scores_`).
        target
            ``"log1p"``, the logarithm of one plus the counts scaled to 10,000 a cell, or
            ``"counts"``, expected counts. Retrieval and ridge regression give the mean of the
            logarithms; the decoder the logarithm of the mean, which is higher for rare genes.
        gene_list
            Genes to return; all when ``None``.
        library_size
            Total of the expected counts: a number, or ``"latent"``, which is predicted from the
            accessibility. Only for ``target="counts"``.
        k
            Cells that are retrieved; ``None`` weighs all. Only for ``method="retrieval"``.
        fill_value
            Value for genes of `gene_list` that the model does not know; ``None`` refuses them.
        max_tokens, seed
            Context of the regions, as in `get_latent_representation`.
        batch_size
            Cells decoded at once. Results do not depend on it.
        return_numpy
            Return an array without names.

        Returns
        -------
        float32 of shape (cells, genes).

        Raises
        ------
        KeyError
            If a gene is unknown and there is no `fill_value`.
        RuntimeError
            If the imputation was not trained.
        ValueError
            If an argument is unknown or out of range, no cell holds a known region, or retrieval
            is asked of a model without data.

        Examples
        --------
        >>> model.impute_rna(mdata["atac"][:5]).shape
        (5, 20)
        >>> genes = mdata["rna"].var_names[:3]
        >>> model.impute_rna(mdata["atac"][:5], method="ridge", gene_list=genes).shape
        (5, 3)
        """
        self._require_training()  # type: ignore[attr-defined]
        _check_choice("method", method, ("best", *METHODS))
        _check_choice("target", target, ("log1p", "counts"))
        if isinstance(library_size, str):
            _check_choice("library_size", library_size, ("latent",))
        elif not library_size > 0:
            msg = f"library_size={library_size}; give a positive number or 'latent'."
            raise ValueError(msg)
        if k is not None and k < 1:
            msg = f"k={k}; at least one cell is retrieved."
            raise ValueError(msg)
        check_batch_size(batch_size)
        self._require_imputation(method)
        chosen = self._best_method() if method == "best" else method
        columns = self._gene_columns(gene_list, fill_value)
        known = columns[columns >= 0]
        tokens = self._tokens(adata)  # type: ignore[attr-defined]
        cells = positions_of(indices, tokens.shape[0])
        n_tokens = np.diff(tokens.indptr)[cells]
        if len(n_tokens) and not n_tokens.all():
            logger.warning(
                "%d of %d cells hold no region that the model embeds; their expression is about "
                "the average.",
                int((n_tokens == 0).sum()),
                len(n_tokens),
            )
        encoded = self._encoded_atac(tokens, cells, max_tokens=max_tokens, seed=seed)  # type: ignore[attr-defined]
        own = cells if adata is None else None
        values = np.full((len(cells), len(columns)), fill_value or 0.0, dtype=np.float32)
        found = np.empty((len(cells), len(known)), dtype=np.float32)
        for here, shares in self._shares(chosen, encoded, own, k, known, target, batch_size):
            if target == "counts":
                library = self._library(encoded[here], n_tokens[here], library_size)
                shares = shares * library
            found[here] = shares
        values[:, columns >= 0] = found
        if return_numpy:
            return values
        names = self.gene_names if gene_list is None else np.asarray(list(gene_list), dtype=object)  # type: ignore[attr-defined]
        data = self.adata if adata is None else self._modality(adata, "atac")  # type: ignore[attr-defined]
        return pd.DataFrame(values, index=data.obs_names[cells], columns=names)

    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        from_modality: Literal["atac"] = "atac",
        batch_size: int | None = None,
        return_numpy: bool = False,
        **kwargs: Any,
    ) -> pd.DataFrame | np.ndarray:
        """Return expected expression; as in MultiViewModel, but from accessibility alone.

        Parameters
        ----------
        adata, indices, gene_list, batch_size, return_numpy
            As in `impute_rna`.
        library_size
            Counts to which a cell's expression sums, or ``"latent"``.
        from_modality
            ``"atac"``, the only one.
        **kwargs
            Further arguments of `impute_rna`.

        Returns
        -------
        Shape (cells, genes).

        Raises
        ------
        KeyError, RuntimeError, ValueError
            As in `impute_rna`; and if another modality is asked for.

        Examples
        --------
        >>> fractions = model.get_normalized_expression(mdata["atac"][:5])
        >>> fractions.shape, bool(abs(fractions.sum(axis=1) - 1).max() < 1e-4)
        ((5, 20), True)
        """
        _check_choice("from_modality", from_modality, ("atac",))
        return self.impute_rna(
            adata,
            indices,
            target="counts",
            gene_list=gene_list,
            library_size=library_size,
            batch_size=batch_size,
            return_numpy=return_numpy,
            **kwargs,
        )

    # ---- pieces ---------------------------------------------------------------------------

    def _shares(
        self,
        method: str,
        encoded: np.ndarray,
        own: np.ndarray | None,
        k: int | None,
        genes: np.ndarray,
        target: str,
        batch_size: int | None,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield log1p values, or shares of the counts, of the genes for blocks of cells."""
        size = batch_size or _BLOCK
        reference = self._reference(genes, target) if method in _NEED_DATA else None
        for start in range(0, len(encoded), size):
            here = slice(start, start + size)
            found = []
            if method == "decoder":
                found.append(self._decoded(encoded[here], genes, target))
            if method in ("ridge", "blend"):
                found.append(self._regressed(encoded[here], genes, target))
            if reference is not None:
                cells = None if own is None else own[here]
                found.append(self._retrieved(encoded[here], cells, k, reference))
            yield here, np.mean(found, axis=0)

    def _decoded(self, encoded: np.ndarray, genes: np.ndarray, target: str) -> np.ndarray:
        with torch.inference_mode():
            cells = torch.as_tensor(self._coordinates(encoded), device=self.module.device)  # type: ignore[attr-defined]
            shares = self.module.decoder.log_shares(cells).exp().cpu().numpy()[:, genes]
        return np.log1p(TARGET_SUM * shares) if target == "log1p" else shares

    def _regressed(self, encoded: np.ndarray, genes: np.ndarray, target: str) -> np.ndarray:
        logged = apply_ridge(self.ridge_, self._coordinates(encoded))  # type: ignore[arg-type, attr-defined]
        if target == "log1p":
            return logged[:, genes]
        raw = np.expm1(logged)
        return raw[:, genes] / np.maximum(raw.sum(axis=1, keepdims=True), 1e-12)

    def _retrieved(
        self,
        encoded: np.ndarray,
        own: np.ndarray | None,
        k: int | None,
        reference: tuple[np.ndarray, sp.csr_matrix, np.ndarray],
    ) -> np.ndarray:
        rna, profiles, cells = reference
        vectors = self._projected("atac", encoded, centre=True)  # type: ignore[attr-defined]
        weights = self._weights(vectors, rna, k, own, cells)
        return np.asarray(profiles.T @ weights.T).T

    def _library(self, encoded: np.ndarray, n_tokens: np.ndarray, library_size: Any) -> Any:
        if library_size != "latent":
            return float(library_size)
        device = self.module.device
        with torch.inference_mode():
            cells = torch.as_tensor(self._coordinates(encoded), device=device)  # type: ignore[attr-defined]
            counted = torch.as_tensor(n_tokens.astype(np.float32), device=device)
            return self.module.decoder.log_library(cells, counted).exp().cpu().numpy()

    def _reference(
        self, genes: np.ndarray, target: str
    ) -> tuple[np.ndarray, sp.csr_matrix, np.ndarray]:
        """Return RNA vectors, profiles and positions of the cells of the setup that have RNA."""
        self._require_data()  # type: ignore[attr-defined]
        rna, has_rna = self._rna_vectors(None, None)  # type: ignore[attr-defined]
        cells = np.flatnonzero(has_rna)
        counts = sp.csr_matrix(self.adata_manager.get_from_registry(X_KEY))[cells]
        profiles = log_profiles(counts) if target == "log1p" else cell_shares(counts)
        return rna[cells], sp.csr_matrix(profiles[:, genes]), cells

    def _weights(
        self,
        query: np.ndarray,
        reference: np.ndarray,
        k: int | None,
        own: np.ndarray | None,
        cells: np.ndarray,
    ) -> np.ndarray:
        """Return the weight of each reference cell for each query cell; rows sum to one."""
        scores = float(self.retrieval_scale_ or 1.0) * (query @ reference.T)
        if own is not None:
            scores[own[:, None] == cells] = -np.inf
        if k is not None and k < scores.shape[1]:
            least = np.partition(scores, -k, axis=1)[:, [-k]]
            scores = np.where(scores >= least, scores, -np.inf)
        return softmax(scores)

    def _gene_columns(
        self, gene_list: Sequence[str] | None, fill_value: float | None
    ) -> np.ndarray:
        """Return the column of each gene, -1 for one that is unknown and may be filled in."""
        known: list[str] = [str(name) for name in self.gene_names]  # type: ignore[attr-defined]
        if gene_list is None:
            return np.arange(len(known))
        if isinstance(gene_list, str):
            msg = f"gene_list is the string {gene_list!r}; give a list: [{gene_list!r}]."
            raise TypeError(msg)
        columns = pd.Index(known).get_indexer(list(gene_list))
        missing = [name for name, column in zip(gene_list, columns, strict=True) if column < 0]
        if missing and fill_value is None:
            msg = (
                f"gene_list holds {len(missing)} gene(s) that the model does not know: "
                f"{examples(missing)}{suggestion(str(missing[0]), known)}. Its {len(known)} genes "
                f"look like {known[0]!r}; give fill_value to fill unknown ones in"
            )
            raise KeyError(msg)
        return columns

    def _best_method(self) -> str:
        """Return the method that held-out cells prefer, of those that this model can use."""
        scores = dict(self.imputation_scores_ or {"ridge": 0.0})
        if getattr(self, "adata", None) is None and len(scores) > 1:
            scores = {name: score for name, score in scores.items() if name not in _NEED_DATA}
        return max(scores, key=scores.__getitem__)

    def _score_imputation(
        self, encoded: np.ndarray, counts: sp.csr_matrix, cells: np.ndarray
    ) -> dict[str, float] | None:
        """Return the mean correlation by gene of each method, on held-out cells; ``None`` if few."""
        from atacvi.metrics import per_feature_correlation

        chosen = cells[:N_CHOICE]
        genes = np.flatnonzero(np.diff(counts[chosen].tocsc().indptr) >= _FEWEST_CELLS)
        if len(chosen) < _FEWEST_CHOICE or not len(genes):
            return None
        truth = log_profiles(counts[chosen])[:, genes].toarray()
        scores = {}
        for method in METHODS:
            parts = self._shares(method, encoded[chosen], chosen, None, genes, "log1p", None)
            found = np.concatenate([values for _, values in parts])
            by_gene = per_feature_correlation(truth, found)
            scores[method] = float(np.nan_to_num(by_gene).mean())
        return scores

    def _require_imputation(self, method: str) -> None:
        if not getattr(self, "decoder_is_trained_", False):
            msg = "The imputation is not trained. Call train(stages=['imputation'])."
            raise RuntimeError(msg)
        if method in _NEED_DATA:
            self._require_data()  # type: ignore[attr-defined]


def _check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}."
        raise ValueError(msg)
