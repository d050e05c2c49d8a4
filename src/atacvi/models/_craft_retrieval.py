"""Nearest cells across modalities, and labels by their vote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from atacvi._constants import LABELS_KEY
from atacvi.data import check_categories, check_key
from atacvi.models._vote import votes_of_neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

REJECTED = "unassigned"
_BLOCK = 512


class Retrieved(NamedTuple):
    """The nearest reference cells of each query cell, the nearest first.

    Parameters
    ----------
    indices
        Positions in the reference, shape (cells, k).
    similarity
        Cosine of the vectors, shape (cells, k).
    names
        Names of the reference cells, shape (cells, k).
    """

    indices: np.ndarray
    similarity: np.ndarray
    names: np.ndarray


class RetrievalMixin:
    """`retrieve` and `annotate`."""

    adata: Any
    adata_manager: Any
    registry_: dict[str, Any]
    summary_stats: Any

    def retrieve(
        self,
        query: AnnData | MuData | None = None,
        k: int = 10,
        *,
        from_modality: Literal["rna", "atac", "joint"] = "atac",
        to_modality: Literal["rna", "atac", "joint"] = "rna",
        reference: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> Retrieved:
        """Return the cells of one modality that lie nearest to cells of another.

        Parameters
        ----------
        query
            Cells to search for; ``None`` takes those of the setup.
        k
            Cells to return; all of the reference where it has fewer.
        from_modality, to_modality
            Modality of the query, what is searched from, and of the reference, what is searched in.
        reference
            Cells to search in; ``None`` takes those of the setup.
        indices
            Positions of query cells; all when ``None``.
        max_tokens, seed
            As in `get_latent_representation`.

        Returns
        -------
        Positions, similarities and names of the nearest cells. Cells of the reference that lack the
        modality are never returned.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If `k` is below 1, or a modality is unknown or not there.

        Examples
        --------
        >>> found = model.retrieve(mdata["atac"][:10], k=3)
        >>> found.indices.shape
        (10, 3)
        """
        if k < 1:
            msg = f"k={k}; at least one cell is retrieved."
            raise ValueError(msg)
        options: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed}
        asked = self.get_latent_representation(query, from_modality, indices, **options)  # type: ignore[attr-defined]
        known = self.get_latent_representation(reference, to_modality, **options)  # type: ignore[attr-defined]
        usable = np.flatnonzero(self._present(reference, to_modality))
        found, similarity = nearest(asked, known[usable], k)
        names = self._cell_names(reference, to_modality).to_numpy(dtype=object)
        return Retrieved(usable[found], similarity, names[usable[found]])

    def annotate(
        self,
        query: AnnData | MuData | None = None,
        *,
        from_modality: Literal["rna", "atac", "joint"] = "atac",
        to_modality: Literal["rna", "atac", "joint"] = "rna",
        reference: AnnData | MuData | None = None,
        labels_key: str | None = None,
        k: int = 15,
        reject_below: float = 0.0,
        return_proba: bool = False,
        max_tokens: int | None = 2048,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Return labels of cells of one modality by a vote of reference cells of another.

        Parameters
        ----------
        query
            Cells to label; ``None`` takes those of the setup.
        from_modality, to_modality
            Modality of the query and of the reference, as in `retrieve`: by default cells are
            labelled from their accessibility, by cells whose RNA is alike.
        reference
            Labelled cells; ``None`` takes those of the setup.
        labels_key
            Column of the reference's ``obs``; ``None`` takes the labels of the setup.
        k
            Cells that vote, weighted by the distance on the scale of the neighbourhood.
        reject_below
            Cells whose highest probability is lower are called ``"unassigned"``.
        return_proba
            Add one column of probabilities for each label.
        max_tokens, seed
            As in `get_latent_representation`.

        Returns
        -------
        Table with ``label``, ``probability`` and ``similarity`` (mean cosine to the cells that voted;
        far cells are unlike all of them), indexed by cell.

        Raises
        ------
        KeyError
            If the column is missing.
        RuntimeError
            If the model is not trained.
        ValueError
            If there are fewer than two labels, or arguments are out of range.

        Examples
        --------
        >>> labels = model.annotate(mdata["atac"][:10], k=5)
        >>> len(labels), {"label", "probability", "similarity"} <= set(labels.columns)
        (10, True)
        """
        if not 0 <= reject_below <= 1 or k < 1:
            msg = (
                f"k={k}, reject_below={reject_below}: k is at least 1, and a probability lies "
                "between 0 and 1."
            )
            raise ValueError(msg)
        labels = self._reference_labels(reference, labels_key, to_modality)
        names, codes = np.unique(labels.astype(str), return_inverse=True)
        if len(names) < 2:
            msg = (
                f"The reference has {len(names)} label(s); a vote needs two. Name their column: "
                "setup_mudata(mdata, labels_key=...), or annotate(labels_key=...)."
            )
            raise ValueError(msg)
        found = self.retrieve(
            query,
            k,
            from_modality=from_modality,
            to_modality=to_modality,
            reference=reference,
            max_tokens=max_tokens,
            seed=seed,
        )
        probability = vote(found.similarity, codes[found.indices], len(names))
        best = probability.argmax(axis=1)
        highest = probability[np.arange(len(best)), best]
        label = names[best].astype(object)
        label[highest < reject_below] = REJECTED
        table = pd.DataFrame(
            {
                "label": label,
                "probability": highest,
                "similarity": found.similarity.mean(axis=1),
            },
            index=self._cell_names(query, from_modality),
        )
        if return_proba:
            table[list(names)] = probability
        return table

    # ---- pieces ---------------------------------------------------------------------------

    def _present(self, data: Any, modality: str) -> np.ndarray:
        """Return which cells have the modality."""
        found = []
        if modality != "atac":
            found.append(self._rna_input(data)[2])  # type: ignore[attr-defined]
        if modality != "rna":
            found.append(np.diff(self._tokens(data).indptr) > 0)  # type: ignore[attr-defined]
        return np.logical_or.reduce(found)

    def _cell_names(self, data: Any, modality: str) -> pd.Index:
        if data is None:
            return self.adata.obs_names
        return data.obs_names if modality == "joint" else self._modality(data, modality).obs_names  # type: ignore[attr-defined]

    def _reference_labels(self, reference: Any, key: str | None, modality: str) -> np.ndarray:
        if reference is None and key is None:
            self._require_data()  # type: ignore[attr-defined]
            codes = np.asarray(self.adata_manager.get_from_registry(LABELS_KEY)).ravel()
            state = self.registry_["field_registries"][LABELS_KEY]["state_registry"]
            return np.asarray(state["categorical_mapping"], dtype=object)[codes.astype(np.int64)]
        if key is None:
            msg = "Give `labels_key`, the column of the reference's obs that holds its labels."
            raise ValueError(msg)
        data = self.adata if reference is None else reference
        if key not in data.obs and modality != "joint":
            data = self._modality(data, modality)  # type: ignore[attr-defined]
        column = check_key(data, "obs", key, "reference", argument="labels_key")
        check_categories(column, f'reference.obs["{key}"]')
        return column.to_numpy(dtype=object)


def nearest(query: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and cosines of the nearest of unit vectors, the nearest first.

    Parameters
    ----------
    query, reference
        Unit vectors, shapes (cells, width).
    k
        How many; all where there are fewer.

    Returns
    -------
    int64 and float32 of shape (query cells, k). Of equal ones the first comes first.
    """
    k = min(k, len(reference))
    found = np.empty((len(query), k), dtype=np.int64)
    cosine = np.empty((len(query), k), dtype=np.float32)
    for start in range(0, len(query), _BLOCK):
        here = slice(start, start + _BLOCK)
        scores = query[here] @ reference.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found[here] = order
        cosine[here] = np.take_along_axis(scores, order, axis=1)
    return found, cosine


def vote(similarity: np.ndarray, codes: np.ndarray, n_labels: int) -> np.ndarray:
    """Return probabilities of the labels from neighbours, nearest first.

    Parameters
    ----------
    similarity
        Cosines, shape (cells, k).
    codes
        Label of each neighbour, shape (cells, k).
    n_labels
        Number of labels.

    Returns
    -------
    Shape (cells, n_labels); rows sum to one.
    """
    distance = np.sqrt(np.maximum(2.0 - 2.0 * similarity.astype(np.float64), 0.0))
    return votes_of_neighbours(distance, codes, n_labels)
