"""Labels for query cells from a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from atacvi.models._vote import votes_of_neighbours

if TYPE_CHECKING:
    from anndata import AnnData

    from atacvi.modules import AtacformerModule

REJECTED = "unassigned"


class MappedQuery(NamedTuple):
    """Query cells in the space of a reference.

    Parameters
    ----------
    embedding
        Shape (cells, width).
    labels
        Table with ``label``, ``probability`` and ``distance`` (mean distance to the reference cells
        that voted; far cells are unlike all of them), indexed by cell.
    """

    embedding: np.ndarray
    labels: pd.DataFrame


class AnnotationMixin:
    """`annotate` and `map_query`."""

    module: AtacformerModule
    adata: Any
    latent_centre_: np.ndarray | None

    def annotate(
        self,
        query: AnnData | None = None,
        *,
        method: Literal["knn", "head"] = "knn",
        k: int = 15,
        reject_below: float = 0.0,
        return_proba: bool = False,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Return labels of cells, from the labelled cells of the setup or from the trained head.

        Parameters
        ----------
        query
            Cells with tokens or peaks; ``None`` takes those of the setup. Nothing is written to it.
        method
            ``"knn"`` is a vote of the nearest labelled cells, weighted by similarity; ``"head"``
            needs a fine-tuning with a classification loss.
        k
            Cells that vote.
        reject_below
            Cells whose highest probability is lower are called ``"unassigned"``.
        return_proba
            Add one column of probabilities for each label.
        max_tokens, seed
            Context, as in `get_latent_representation`.

        Returns
        -------
        Table with ``label`` and ``probability``, indexed by cell.

        Raises
        ------
        RuntimeError
            If the model, or its head, is not trained.
        ValueError
            If there are no labels, or arguments are out of range.

        Examples
        --------
        >>> query = adata[:10].copy()
        >>> labels = model.annotate(query, k=5)
        >>> len(labels), {"label", "probability"} <= set(labels.columns)
        (10, True)
        """
        self._require_training()  # type: ignore[attr-defined]
        _check_vote(method, k, reject_below)
        options = {"max_tokens": max_tokens, "seed": seed}
        if method == "head":
            probability = self._head_probabilities(query, options)
        else:
            latent = self.get_latent_representation(query, normalize=True, **options)  # type: ignore[attr-defined]
            probability, _ = self._vote(latent, k, options)
        cells = (self.adata if query is None else query).obs_names
        return self._label_table(probability, cells, reject_below, return_proba=return_proba)

    def map_query(
        self,
        query: AnnData,
        *,
        k: int = 15,
        reject_below: float = 0.0,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> MappedQuery:
        """Place query cells among those of the reference, without training.

        Parameters
        ----------
        query
            Cells with tokens of the model's universe, or with peaks, which are mapped onto it.
        k, reject_below
            As in `annotate`.
        max_tokens, seed
            Context, as in `get_latent_representation`.

        Returns
        -------
        Embedding in the reference's space, and labels by a vote of its nearest cells.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If there are no labels, arguments are out of range, or the query is of another universe
            or genome.

        Examples
        --------
        >>> mapped = model.map_query(adata[:10].copy(), k=5)
        >>> mapped.embedding.shape
        (10, 8)
        """
        self._require_training()  # type: ignore[attr-defined]
        _check_vote("knn", k, reject_below)
        options = {"max_tokens": max_tokens, "seed": seed}
        latent = self.get_latent_representation(query, normalize=True, **options)  # type: ignore[attr-defined]
        probability, distance = self._vote(latent, k, options)
        table = self._label_table(probability, query.obs_names, reject_below, return_proba=False)
        table["distance"] = distance
        return MappedQuery(latent, table)

    def _vote(
        self, latent: np.ndarray, k: int, options: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities of the labels and mean distances to the cells that vote."""
        from sklearn.neighbors import NearestNeighbors

        if self.adata is None:
            msg = (
                "The model holds no labelled cells that could vote; load it with its data, "
                "`AtacformerModel.load(folder, adata)`, or annotate with method='head'."
            )
            raise ValueError(msg)
        codes = self._labels()  # type: ignore[attr-defined]
        n_labels = self._n_labels()  # type: ignore[attr-defined]
        # a cell without tokens has a label, but nothing that others could be similar to
        filled = ~self.adata.obs["is_empty"].to_numpy(dtype=bool)
        known = np.flatnonzero((codes >= 0) & filled)
        if n_labels < 2 or len(known) < 2:
            msg = (
                f"{len(known)} cells with {n_labels} labels are known; a vote needs two labels. Name "
                "their column: setup_anndata(adata, labels_key=...)."
            )
            raise ValueError(msg)
        reference = self.get_latent_representation(indices=known, normalize=True, **options)  # type: ignore[attr-defined]
        k = min(k, len(known))
        search = NearestNeighbors(n_neighbors=k).fit(reference)
        distance, found = search.kneighbors(latent)
        votes = votes_of_neighbours(distance, codes[known][found], n_labels)
        return votes, distance.mean(axis=1)

    def _head_probabilities(self, query: AnnData | None, options: dict[str, Any]) -> np.ndarray:
        head = self.module.classification_head
        if head is None or getattr(self, "task_", None) not in ("classification", "multi"):
            msg = (
                "The classification head is not trained. Call finetune('classification') or "
                "finetune('multi'), or annotate with method='knn'."
            )
            raise RuntimeError(msg)
        latent = self.get_latent_representation(query, normalize=False, **options)  # type: ignore[attr-defined]
        centred = torch.as_tensor(latent - self.latent_centre_).to(self.module.device)
        with torch.inference_mode():
            return head(centred).softmax(dim=1).cpu().numpy().astype(np.float64)

    def _label_table(
        self, probability: np.ndarray, cells: pd.Index, reject_below: float, *, return_proba: bool
    ) -> pd.DataFrame:
        names = self._label_names()  # type: ignore[attr-defined]
        best = probability.argmax(axis=1)
        highest = probability[np.arange(len(best)), best]
        label = names[best].astype(object)
        label[highest < reject_below] = REJECTED
        table = pd.DataFrame({"label": label, "probability": highest}, index=cells)
        if return_proba:
            table[list(names)] = probability
        return table


def _check_vote(method: str, k: int, reject_below: float) -> None:
    if method not in ("knn", "head") or not 0 <= reject_below <= 1 or k < 1:
        msg = (
            f"method={method!r}, k={k}, reject_below={reject_below}: the method is 'knn' or "
            "'head', k at least 1, and a probability lies between 0 and 1."
        )
        raise ValueError(msg)
