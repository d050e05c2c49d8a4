"""Scores of clusters and embeddings against known groups."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Fewer resolutions than the benchmarks scan: the number of groups is met closely enough.
RESOLUTIONS = tuple(round(0.1 * step, 1) for step in range(1, 21))
_NEIGHBORS = 10


def leiden_clusters(
    embedding: NDArray[np.float32], n_groups: int | None, random_state: int
) -> pd.Categorical:
    """Leiden clusters at the resolution that gives nearest `n_groups`, without it at 1.0."""
    from atacvi.metrics import leiden_scan

    resolutions = (1.0,) if n_groups is None else RESOLUTIONS
    scan = leiden_scan(embedding, resolutions, random_state=random_state)
    row = 0 if n_groups is None else int(np.abs(scan.n_clusters - n_groups).argmin())
    names = [str(i) for i in range(scan.n_clusters[row])]
    codes = np.unique(scan.clusters[row], return_inverse=True)[1].ravel()
    return pd.Categorical.from_codes(codes, categories=names)


def score_table(
    truth: pd.Series, clusterings: dict[str, tuple[pd.Categorical, NDArray[np.float32]]]
) -> pd.DataFrame:
    """Compare clusterings, and the embeddings they stand on, with known groups.

    Parameters
    ----------
    truth
        Known group of each cell; cells without one are not scored.
    clusterings
        Clusters of the cells and the embedding they come from, by name.

    Returns
    -------
    One row a clustering: ``method``, ``n_clusters``, ``ari``, ``nmi`` and ``knn_accuracy`` (of a
    vote of 10 neighbours in the embedding).
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    from atacvi.metrics import knn_accuracy

    known = truth.notna().to_numpy()
    labels = truth[known].astype(str).to_numpy()
    rows = []
    accuracies: dict[int, float] = {}
    for method, (clusters, embedding) in clusterings.items():
        found = np.asarray(clusters.codes)[known]
        # Two clusterings of one embedding share its accuracy.
        if id(embedding) not in accuracies:
            try:
                accuracies[id(embedding)] = knn_accuracy(embedding[known], labels, _NEIGHBORS)
            except ValueError as error:
                logger.warning("No k-NN accuracy: %s", error)
                accuracies[id(embedding)] = float("nan")
        rows.append(
            {
                "method": method,
                "n_clusters": len(np.unique(found)),
                "ari": adjusted_rand_score(labels, found),
                "nmi": normalized_mutual_info_score(labels, found),
                "knn_accuracy": accuracies[id(embedding)],
            }
        )
    return pd.DataFrame(rows)
