"""All scores of one set of generated cells, by the protocol of the project's benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi.metrics._generation_checks import at_most, check_cell_labels, check_counts
from atacvi.metrics.generation_counts import (
    coaccessibility_correlation,
    depth_ks,
    peak_frequency_ks,
    peak_mean_correlation,
)
from atacvi.metrics.generation_distances import rbf_mmd, wasserstein
from atacvi.metrics.generation_labels import label_recovery, synthetic_training_accuracy
from atacvi.metrics.generation_manifold import nearest_train_ratio, prdc
from atacvi.metrics.generation_mixing import ilisi, real_fake_auc
from atacvi.metrics.generation_space import lsi_space

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from atacvi.metrics._generation_checks import Matrix

_LISI_NEIGHBORS = 90
_LISI_SHARE = 4  # of small sets, the neighbourhood is a quarter of all cells
_MMD_CELLS = 2000
_PRDC_NEIGHBORS = 5


def generation_scores(
    real_test: Matrix,
    generated: Matrix,
    real_train: Matrix,
    labels: ArrayLike | None = None,
    generated_labels: ArrayLike | None = None,
    train_labels: ArrayLike | None = None,
    *,
    n_components: int = 30,
    n_coaccessible: int = 1000,
    n_trees: int = 200,
    random_state: int = 0,
) -> dict[str, float]:
    """Score generated cells against held-out real ones.

    Every matrix is compared as open / closed, as drawn. Distances, mixing and classifiers work in
    the LSI space of the training cells (:func:`lsi_space`), which is the same for all generators
    of one split, as is the kernel of the MMD (bandwidth of the real test cells). A second held-out
    real set in place of `generated` gives the ceiling, which for few cells is far from the
    ideal. Cells that shaped the space lie further out in it than unseen ones: copies of few
    training cells are told apart from test cells for that alone.

    Parameters
    ----------
    real_test, generated
        Counts, shapes ``(n_cells, n_peaks)``; as many generated as real cells, types in the same
        proportions.
    real_train
        Counts of the cells the generator learned from.
    labels, generated_labels, train_labels
        Type of the cells of `real_test`, `generated` and `real_train`; all three, or none.
    n_components
        Components of the LSI, from the second on.
    n_coaccessible
        Peaks of the co-accessibility.
    n_trees
        Trees of the random forest, which takes most of the time.
    random_state
        Seed of all samples and classifiers.

    Returns
    -------
    ``scc``, ``pcc`` (:func:`peak_mean_correlation`), ``mmd`` (:func:`rbf_mmd`, unbiased),
    ``wasserstein``, ``ilisi``, ``rf_auc`` and ``knn_auc`` (:func:`real_fake_auc`), ``depth_ks``,
    ``peak_frequency_ks``, ``coaccessibility``, ``precision``, ``recall``, ``density``,
    ``coverage`` (:func:`prdc`), ``nearest_train_ratio``; with labels also ``scc_per_type`` and
    ``pcc_per_type`` (means over types), ``label_recovery``, ``synthetic_training`` and
    ``real_training`` (:func:`synthetic_training_accuracy`).

    Raises
    ------
    ValueError
        If peaks differ, values are negative or not finite, there are fewer than 6 cells in a set,
        or labels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import generation_scores
    >>> cells = np.random.default_rng(0).poisson(0.5, (120, 60))
    >>> scores = generation_scores(cells[:40], cells[40:80], cells[80:], n_components=5)
    >>> round(scores["depth_ks"], 3), round(scores["coverage"], 2)
    (0.075, 0.85)
    """
    given = [values is not None for values in (labels, generated_labels, train_labels)]
    if any(given) and not all(given):
        msg = "Some of `labels`, `generated_labels`, `train_labels` are missing; give all or none."
        raise ValueError(msg)
    test, drawn, train = (
        check_counts(matrix, name)
        for matrix, name in (
            (real_test, "real_test"),
            (generated, "generated"),
            (real_train, "real_train"),
        )
    )
    if min(test.shape[0], drawn.shape[0]) <= _PRDC_NEIGHBORS:
        msg = f"{test.shape[0]} real and {drawn.shape[0]} generated cells were found; at least "
        msg += f"{_PRDC_NEIGHBORS + 1} of each are needed."
        raise ValueError(msg)
    spaces = lsi_space(train, test, drawn, n_components=n_components, random_state=random_state)
    means = peak_mean_correlation(test, drawn, labels, generated_labels)
    scores = {
        "scc": means.scc,
        "pcc": means.pcc,
        **_space_scores(spaces[0], spaces[1], spaces[2], n_trees, random_state),
        "depth_ks": depth_ks(test, drawn),
        "peak_frequency_ks": peak_frequency_ks(test, drawn),
        "coaccessibility": coaccessibility_correlation(test, drawn, n_coaccessible),
    }
    if labels is not None and generated_labels is not None and train_labels is not None:
        kinds = check_cell_labels(train_labels, train.shape[0], "train_labels")
        accuracy = synthetic_training_accuracy(
            spaces[2], generated_labels, spaces[1], labels, spaces[0], kinds
        )
        scores |= {
            "scc_per_type": float(means.per_type["scc"].mean()),
            "pcc_per_type": float(means.per_type["pcc"].mean()),
            "label_recovery": label_recovery(spaces[0], kinds, spaces[2], generated_labels),
            "synthetic_training": accuracy.synthetic,
            "real_training": accuracy.real,
        }
    return scores


def _space_scores(
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    drawn: NDArray[np.float32],
    n_trees: int,
    seed: int,
) -> dict[str, float]:
    from scipy.spatial.distance import pdist

    sample = at_most(test.astype(np.float64), _MMD_CELLS, np.random.default_rng(seed))
    bandwidth = float(pdist(sample, "sqeuclidean").mean())
    n_neighbors = min(_LISI_NEIGHBORS, (test.shape[0] + drawn.shape[0]) // _LISI_SHARE)
    return {
        "mmd": rbf_mmd(test, drawn, bandwidth=bandwidth, random_state=seed),
        "wasserstein": wasserstein(test, drawn, random_state=seed),
        "ilisi": ilisi(test, drawn, n_neighbors=n_neighbors, random_state=seed),
        "rf_auc": real_fake_auc(test, drawn, n_trees=n_trees, random_state=seed),
        "knn_auc": real_fake_auc(test, drawn, "knn", random_state=seed),
        **prdc(test, drawn, n_neighbors=_PRDC_NEIGHBORS, random_state=seed)._asdict(),
        "nearest_train_ratio": nearest_train_ratio(drawn, test, train),
    }
