"""Whether real and generated cells mix: in neighbourhoods, and for a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from atacvi.metrics._generation_checks import at_most, check_spaces

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_SEARCH_STEPS = 50
_TREE_DEPTH = 5


def ilisi(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    n_neighbors: int = 90,
    perplexity: float | None = None,
    max_cells: int = 5000,
    random_state: int | np.random.Generator = 0,
) -> float:
    """Local inverse Simpson's index of real against generated cells, scaled to 0-1.

    Around each cell its nearest others are weighted by a Gaussian of given perplexity; the inverse
    Simpson's index of the two origins is 1 (one origin only) to 2 (both alike). The median over
    cells, less one: 0 for sets apart, towards 1 for sets that mix. Chance alone keeps a finite
    neighbourhood below 1: even for equal distributions about 0.9 at a perplexity of 30, but 0.4
    at 3, so few neighbours make good generators hard to tell from fair ones.

    Parameters
    ----------
    real, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``; equally many cells.
    n_neighbors
        Nearest other cells looked at.
    perplexity
        Effective number of neighbours; a third of `n_neighbors` by default, as usual for LISI.
    max_cells
        Cells of each set that are compared; more are sampled.
    random_state
        Seed or generator of that sample.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, there are too few cells, or the perplexity
        is not between 1 and `n_neighbors`.

    References
    ----------
    Korsunsky et al., "Fast, sensitive and accurate integration of single-cell data with Harmony",
    Nat. Methods 16, 1289-1296 (2019); scaled as in Luecken et al., Nat. Methods 19, 41-50 (2022).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import ilisi
    >>> cells = np.random.default_rng(0).normal(size=(400, 2))
    >>> round(ilisi(cells[::2], cells[1::2]), 1), round(ilisi(cells[::2], cells[1::2] + 9), 1)
    (0.9, 0.0)
    """
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(random_state)
    x, y = (at_most(cells, max_cells, rng) for cells in check_spaces(real, generated))
    cells = np.concatenate([x, y])
    if not 2 <= n_neighbors < cells.shape[0]:
        msg = f"n_neighbors={n_neighbors} was found; {cells.shape[0]} cells allow 2 to one less."
        raise ValueError(msg)
    perplexity = float(max(n_neighbors // 3, 1)) if perplexity is None else float(perplexity)
    if not 1 <= perplexity < n_neighbors:
        msg = f"perplexity={perplexity} was found; it has to lie from 1 to below {n_neighbors}."
        raise ValueError(msg)
    # Asked without a matrix, scikit-learn leaves each cell out of its own neighbours.
    distances, nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(cells).kneighbors()
    weights = _perplexity_weights(distances, perplexity)
    from_real = np.where(nearest < x.shape[0], weights, 0.0).sum(axis=1)
    index = 1 / (from_real**2 + (1 - from_real) ** 2)
    return float(np.median(index) - 1)


def real_fake_auc(
    real: ArrayLike,
    generated: ArrayLike,
    method: Literal["random_forest", "knn"] = "random_forest",
    *,
    n_folds: int = 4,
    n_trees: int = 200,
    n_neighbors: int = 5,
    max_cells: int = 5000,
    random_state: int = 0,
) -> float:
    """Area under the ROC curve with which a classifier tells generated from real held-out cells.

    Mean over stratified folds; each classifier scores cells it has not seen. The area is not
    folded at one half: 0.5 cannot be told apart, 1 is told apart, and below 0.5, above all for
    neighbours, generated cells are copies of, or drawn towards, single real ones.

    Parameters
    ----------
    real, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.
    method
        ``"random_forest"`` (balanced, depth 5) or the vote of the nearest neighbours ``"knn"``.
    n_folds
        Folds; with 4, each classifier learns from three quarters of the cells.
    n_trees, n_neighbors
        Size of the forest, number of voters.
    max_cells
        Cells of each set that are used; more are sampled.
    random_state
        Seed of sample, folds and forest.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, the method is unknown, or there are fewer
        cells than folds or voters.

    References
    ----------
    Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import real_fake_auc
    >>> cells = np.random.default_rng(0).normal(size=(60, 2))
    >>> real_fake_auc(cells, cells + 9, n_trees=10), real_fake_auc(cells, cells + 9, "knn")
    (1.0, 1.0)
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    if method not in ("random_forest", "knn"):
        msg = f"method={method!r} was found; allowed are 'random_forest' and 'knn'."
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    x, y = (at_most(cells, max_cells, rng) for cells in check_spaces(real, generated))
    smaller, n_all = min(x.shape[0], y.shape[0]), x.shape[0] + y.shape[0]
    if smaller < n_folds or n_all - -(-n_all // n_folds) < n_neighbors:
        msg = f"{x.shape[0]} real and {y.shape[0]} generated cells are too few for {n_folds} folds "
        msg += f"and {n_neighbors} neighbours; pass more cells or fewer folds."
        raise ValueError(msg)
    if method == "knn":
        classifier = KNeighborsClassifier(n_neighbors)
    else:
        classifier = RandomForestClassifier(
            n_trees, max_depth=_TREE_DEPTH, class_weight="balanced", random_state=random_state
        )
    origin = np.repeat([1, 0], [x.shape[0], y.shape[0]])
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    cells = np.concatenate([x, y])
    return float(cross_val_score(classifier, cells, origin, cv=folds, scoring="roc_auc").mean())


def _perplexity_weights(distances: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """Weights exp(-beta d) of each row, beta searched so that their entropy is log(perplexity)."""
    # Shifting a row changes neither its weights nor their entropy, and avoids underflow.
    shifted = distances - distances[:, :1]
    scale = shifted.mean(axis=1, keepdims=True)
    shifted = np.divide(shifted, scale, out=np.zeros_like(shifted), where=scale > 0)
    n_rows = shifted.shape[0]
    beta, low, high = np.ones(n_rows), np.zeros(n_rows), np.full(n_rows, np.inf)
    for _ in range(_SEARCH_STEPS):
        weights = np.exp(-beta[:, None] * shifted)
        total = weights.sum(axis=1)
        entropy = np.log(total) + beta * (shifted * weights).sum(axis=1) / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        # Ties at the least distance can keep the entropy up for any beta: it stays finite.
        doubled = np.minimum(2 * beta, 1e12)
        beta = np.where(np.isinf(high), doubled, (low + np.where(np.isinf(high), 0, high)) / 2)
    weights = np.exp(-beta[:, None] * shifted)
    return weights / weights.sum(axis=1, keepdims=True)
