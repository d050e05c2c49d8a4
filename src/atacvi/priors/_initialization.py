"""Fitting a diagonal Gaussian mixture to latents: moments, k-means, EM, and choosing K."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from atacvi.priors._leiden import leiden, neighbour_graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.mixture import GaussianMixture

logger = logging.getLogger(__name__)

FitMethod = Literal["kmeans", "gmm", "leiden"]
_METHODS = ("kmeans", "gmm", "leiden")


class MixtureFit(NamedTuple):
    """A diagonal Gaussian mixture and the hard assignment it came from.

    Parameters
    ----------
    means
        Component means, shape (components, dimensions).
    variances
        Component variances, shape (components, dimensions).
    weights
        Component weights, summing to one, shape (components,).
    labels
        Component of each row of the data, shape (cells,).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.priors import moments_by_label
    >>> fit = moments_by_label(np.array([[0.0], [2.0], [9.0]]), ["a", "a", "b"])
    >>> fit.means.ravel(), fit.labels
    (array([1., 9.]), array([0, 0, 1]))
    """

    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    weights: NDArray[np.float64]
    labels: NDArray[np.int64]


def moments_by_label(z: ArrayLike, labels: ArrayLike) -> MixtureFit:
    """Return mean, population variance and fraction of each label, labels in sorted order.

    Parameters
    ----------
    z
        Latents, shape (cells, dimensions).
    labels
        One label per cell, shape (cells,), of any sortable type.

    Raises
    ------
    ValueError
        If the numbers of cells differ.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.priors import moments_by_label
    >>> moments_by_label(np.array([[0.0], [2.0], [9.0]]), ["a", "a", "b"]).variances.ravel()
    array([1., 0.])
    """
    z = _as_latents(z)
    labels = np.asarray(labels)
    if labels.shape != (z.shape[0],):
        msg = (
            f"Found {z.shape[0]} latents but labels of shape {labels.shape}. "
            "Pass one label per cell, in the order of the latents."
        )
        raise ValueError(msg)
    _, codes = np.unique(labels, return_inverse=True)
    groups = [z[codes == k] for k in range(codes.max() + 1)]
    return MixtureFit(
        means=np.stack([g.mean(0) for g in groups]),
        variances=np.stack([g.var(0) for g in groups]),
        weights=np.array([len(g) for g in groups]) / len(z),
        labels=codes.astype(np.int64),
    )


def fit_mixture(
    z: ArrayLike,
    method: FitMethod = "gmm",
    n_components: int | None = None,
    *,
    n_init: int = 10,
    reg_covar: float = 1e-3,
    resolution: float = 1.0,
    max_cells: int = 20_000,
    random_state: int = 0,
) -> MixtureFit:
    """Fit a diagonal Gaussian mixture to latents.

    Parameters
    ----------
    z
        Latents, shape (cells, dimensions).
    method
        ``"kmeans"``: moments of k-means clusters. ``"gmm"``: EM from k-means starts, the best
        of `n_init`. ``"leiden"``: moments of Leiden clusters of the neighbour graph.
    n_components
        Number of components; chosen by `choose_n_components` when ``None``. With ``"leiden"``
        the resolution is searched until the graph gives this number, and clusters are merged or
        split by k-means where no resolution does.
    n_init
        Number of k-means / EM starts.
    reg_covar
        Floor of the variances (added by EM), in squared units of the latents.
    resolution
        Leiden resolution, when it decides the number of components.
    max_cells
        At most so many cells, drawn at random, are fitted; all cells are then assigned.
    random_state
        Seed of the subsample and of every start.

    Returns
    -------
    Means, variances, weights and labels, float64.

    Raises
    ------
    ValueError
        If `method` is unknown, latents are not finite, or there are fewer cells than components.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.priors import fit_mixture
    >>> z = np.concatenate([np.zeros((20, 2)), np.full((60, 2), 9.0)])
    >>> z = z + np.random.default_rng(0).normal(size=z.shape)
    >>> np.sort(fit_mixture(z, "kmeans", n_components=2).weights).tolist()
    [0.25, 0.75]
    """
    z = _as_latents(z)
    if method not in _METHODS:
        msg = f"Found method={method!r}; choose one of {', '.join(map(repr, _METHODS))}."
        raise ValueError(msg)
    if n_components is not None and not 1 <= n_components <= len(z):
        msg = (
            f"Found n_components={n_components} for {len(z)} cells. "
            "Ask for at least one component and at most one per cell."
        )
        raise ValueError(msg)
    fitted = _subsample(z, max_cells, random_state)
    if method != "leiden":
        n_components = n_components or choose_n_components(
            fitted, "leiden", resolution=resolution, random_state=random_state
        )
    if method == "gmm" and n_components is not None:
        fit = _fit_em(fitted, n_components, n_init, reg_covar, random_state)
    else:
        if method == "kmeans" and n_components is not None:
            labels = _kmeans(fitted, n_components, n_init, random_state)
        else:
            labels = _leiden_labels(fitted, n_components, resolution, n_init, random_state)
        fit = moments_by_label(fitted, labels)
        # A cluster of a few equal cells would otherwise become a spike that no gradient leaves.
        fit = fit._replace(variances=np.maximum(fit.variances, reg_covar))
    logger.info("Fitted a mixture of %d components by %s.", len(fit.weights), method)
    if len(fitted) == len(z):
        return fit
    return fit._replace(labels=_assign(z, fit))


def choose_n_components(
    z: ArrayLike,
    method: Literal["leiden", "bic"] = "leiden",
    *,
    max_components: int = 30,
    resolution: float = 1.0,
    max_cells: int = 20_000,
    random_state: int = 0,
) -> int:
    """Choose the number of mixture components for latents.

    Parameters
    ----------
    z
        Latents, shape (cells, dimensions).
    method
        ``"leiden"``: number of Leiden clusters that hold at least 0.5 % of the cells.
        ``"bic"``: the diagonal mixture of lowest Bayesian information criterion; the search
        stops after three larger mixtures in a row are worse.
    max_components
        Largest number considered.
    resolution
        Leiden resolution.
    max_cells
        At most so many cells, drawn at random, are used.
    random_state
        Seed.

    Raises
    ------
    ValueError
        If `method` is unknown or latents are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.priors import choose_n_components
    >>> z = np.repeat([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], 60, axis=0)
    >>> z = z + np.random.default_rng(0).normal(size=z.shape)
    >>> choose_n_components(z, "bic")
    3
    """
    z = _subsample(_as_latents(z), max_cells, random_state)
    if method == "leiden":
        labels = leiden(neighbour_graph(z), resolution, random_state)
        counts = np.bincount(labels)
        return int(np.clip((counts >= 0.005 * len(z)).sum(), 1, max_components))
    if method != "bic":
        msg = f"Found method={method!r}; choose 'leiden' or 'bic'."
        raise ValueError(msg)
    best, best_score, worse = 1, np.inf, 0
    for k in range(1, min(max_components, len(z)) + 1):
        score = _em(z, k, n_init=3, reg_covar=1e-3, random_state=random_state).bic(z)
        if score < best_score:
            best, best_score, worse = k, score, 0
        else:
            worse += 1
        if worse == 3:
            break
    return best


def _as_latents(z: ArrayLike) -> NDArray[np.float64]:
    if hasattr(z, "detach"):
        z = z.detach().cpu().numpy()
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or 0 in z.shape:
        msg = f"Latents must have shape (cells, dimensions), found {z.shape}."
        raise ValueError(msg)
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        msg = (
            f"{bad.sum()} of {len(z)} cells have latents that are not finite (first: cell "
            f"{np.flatnonzero(bad)[0]}). Check the training loss before fitting the prior."
        )
        raise ValueError(msg)
    return z


def _subsample(z: NDArray[np.float64], max_cells: int, random_state: int) -> NDArray[np.float64]:
    if len(z) <= max_cells:
        return z
    chosen = np.random.default_rng(random_state).choice(len(z), max_cells, replace=False)
    return z[np.sort(chosen)]


def _kmeans(z: NDArray, n_components: int, n_init: int, random_state: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    model = KMeans(n_components, n_init=n_init, random_state=random_state)
    return model.fit_predict(z).astype(np.int64)


def _em(
    z: NDArray, n_components: int, n_init: int, reg_covar: float, random_state: int
) -> GaussianMixture:
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(
        n_components,
        covariance_type="diag",
        n_init=n_init,
        reg_covar=reg_covar,
        max_iter=200,
        random_state=random_state,
    ).fit(z)


def _fit_em(
    z: NDArray, n_components: int, n_init: int, reg_covar: float, random_state: int
) -> MixtureFit:
    model = _em(z, n_components, n_init, reg_covar, random_state)
    return MixtureFit(
        means=model.means_,
        variances=model.covariances_,
        weights=model.weights_,
        labels=model.predict(z).astype(np.int64),
    )


def _leiden_labels(
    z: NDArray, n_components: int | None, resolution: float, n_init: int, random_state: int
) -> NDArray[np.int64]:
    """Return Leiden clusters, of exactly `n_components` unless that is ``None``."""
    graph = neighbour_graph(z)
    if n_components is None:
        return leiden(graph, resolution, random_state)
    low, high = np.log(0.01), np.log(10.0)
    labels = np.zeros(len(z), dtype=np.int64)
    for _ in range(15):
        middle = (low + high) / 2
        labels = leiden(graph, float(np.exp(middle)), random_state)
        found = int(labels.max()) + 1
        if found == n_components:
            return labels
        low, high = (middle, high) if found < n_components else (low, middle)
    # No resolution gives the number asked for: start k-means from the nearest clustering.
    from sklearn.cluster import KMeans

    centres = moments_by_label(z, labels).means
    if len(centres) > n_components:
        sizes = np.bincount(labels)
        centres = centres[np.argsort(-sizes, kind="stable")[:n_components]]
    elif len(centres) < n_components:
        return _kmeans(z, n_components, n_init, random_state)
    model = KMeans(n_components, init=centres, n_init=1, random_state=random_state)
    return model.fit_predict(z).astype(np.int64)


def _assign(z: NDArray, fit: MixtureFit) -> NDArray[np.int64]:
    """Return the component of highest responsibility of each cell, block by block."""
    variances = np.maximum(fit.variances, 1e-6)
    offset = np.log(np.maximum(fit.weights, 1e-12)) - 0.5 * np.log(variances).sum(1)
    labels = np.empty(len(z), dtype=np.int64)
    for start in range(0, len(z), 10_000):
        block = z[start : start + 10_000, None, :]
        distance = ((block - fit.means) ** 2 / variances).sum(-1)
        labels[start : start + 10_000] = np.argmax(offset - 0.5 * distance, axis=1)
    return labels
