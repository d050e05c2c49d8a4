"""Carry labels from annotated cells over to others of the same latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi.data import check_key

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray


def transfer_labels(
    reference: AnnData | MuData,
    query: AnnData | MuData,
    labels: str,
    use_rep: str,
    *,
    n_neighbors: int = 15,
    min_probability: float = 0.0,
    max_distance_quantile: float | None = None,
    unknown: str = "unknown",
    key_added: str = "transferred",
) -> pd.DataFrame:
    """Label query cells by a weighted vote of their nearest reference cells.

    A neighbour votes with weight ``exp(-(d / s)^2 / 2)``, where `s` is the mean distance to the
    neighbours of the cell.

    Parameters
    ----------
    reference
        Annotated cells; those without a label are left out.
    query
        Cells to label, embedded by the same model.
    labels
        Column of ``reference.obs``.
    use_rep
        Entry of ``obsm`` in both.
    n_neighbors
        Reference cells that vote.
    min_probability
        A cell whose best label has a lower probability is rejected.
    max_distance_quantile
        Reject cells whose mean distance to their neighbours lies above this quantile of the same
        distances among the reference cells: cells unlike any in the reference. ``None`` keeps all.
    unknown
        Label of rejected cells.
    key_added
        Column of ``query.obs`` for the label; ``<key>_probability`` is written beside it.

    Returns
    -------
    Probability of each label, shape (query cells, labels).

    Raises
    ------
    KeyError
        If the column or the embedding does not exist.
    ValueError
        If dimensions differ, an argument is out of range, or there are too few labelled cells.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.tl import transfer_labels
    >>> reference, query = (anndata.AnnData(np.zeros((n, 1))) for n in (40, 2))
    >>> reference.obs["type"] = np.repeat(["a", "b"], 20)
    >>> reference.obsm["X"] = np.arange(40.0)[:, None]
    >>> query.obsm["X"] = np.array([[3.0], [33.0]])
    >>> _ = transfer_labels(reference, query, "type", "X", n_neighbors=5)
    >>> query.obs["transferred"].tolist()
    ['a', 'b']
    """
    if not 0 <= min_probability <= 1 or not 0 <= (max_distance_quantile or 0) <= 1:
        msg = (
            f"min_probability={min_probability} and max_distance_quantile={max_distance_quantile} "
            "must lie between 0 and 1"
        )
        raise ValueError(msg)
    column = check_key(reference, "obs", labels, "reference", argument="labels")
    parts = {"reference": reference, "query": query}
    latents = {
        name: np.asarray(check_key(part, "obsm", use_rep, name, argument="use_rep"), np.float64)
        for name, part in parts.items()
    }
    _check(latents, use_rep)
    known = column.notna().to_numpy()
    if not 1 <= n_neighbors < known.sum():
        msg = f"n_neighbors={n_neighbors} with {known.sum()} labelled cells: ask for fewer"
        raise ValueError(msg)
    names, codes = np.unique(column[known].astype(str).to_numpy(), return_inverse=True)
    probability, distance, own = _vote(
        latents["reference"][known], latents["query"], codes, len(names), n_neighbors
    )
    best = probability.argmax(axis=1)
    certain = probability[np.arange(len(best)), best]
    rejected = certain < min_probability
    if max_distance_quantile is not None:
        rejected |= distance > np.quantile(own, max_distance_quantile)
    label = np.where(rejected, unknown, names[best].astype(object)).astype(object)
    query.obs[key_added] = pd.Categorical(label)
    query.obs[f"{key_added}_probability"] = certain
    return pd.DataFrame(probability, index=query.obs_names, columns=names.astype(object))


def _check(latents: dict[str, NDArray[np.float64]], use_rep: str) -> None:
    shapes = {name: z.shape for name, z in latents.items()}
    if len({shape[1] for shape in shapes.values()}) != 1:
        msg = f"obsm[{use_rep!r}] differs in dimensions: {shapes}; embed both by the same model"
        raise ValueError(msg)
    for name, z in latents.items():
        if not np.isfinite(z).all():
            msg = f"{name}.obsm[{use_rep!r}] has values that are not finite; leave these cells out"
            raise ValueError(msg)


def _vote(
    reference: NDArray[np.float64],
    query: NDArray[np.float64],
    codes: NDArray[np.int64],
    n_labels: int,
    n_neighbors: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return probabilities, mean distances of the query, and those among reference cells."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n_neighbors).fit(reference)
    distance, neighbour = search.kneighbors(query)
    scale = distance.mean(axis=1, keepdims=True)
    ratio = np.divide(distance, scale, out=np.zeros_like(distance), where=scale > 0)
    weight = np.exp(-(ratio**2) / 2)
    weight /= weight.sum(axis=1, keepdims=True)
    probability = np.stack(
        [(weight * (codes[neighbour] == k)).sum(axis=1) for k in range(n_labels)], axis=1
    )
    own = search.kneighbors()[0].mean(axis=1)  # without a query no cell is its own neighbour
    return probability, scale.ravel(), own
