"""The mixture that the posteriors of a warm-up ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from atacvi.priors import MixtureFit, fit_mixture, moments_by_label, split_to_number
from atacvi.training.emphasis import emphasis_of

if TYPE_CHECKING:
    import numpy as np

# Leiden resolution that chooses the number of components. At 1, usual for a picture, large types
# fall into several components, on which cells then agree with known types less well.
RESOLUTION = 0.3


def mixture_of(
    mean: np.ndarray,
    variance: np.ndarray,
    labels: np.ndarray | None = None,
    n_clusters: int | None = None,
    random_state: int = 0,
    *,
    resolution: float = RESOLUTION,
    weigh: bool = True,
) -> MixtureFit:
    """Fit a mixture to the posteriors of cells.

    Cells are grouped by their means; a component must then hold the posteriors, not the
    means alone: its variance is that of the means plus the mean of the variances. Without the
    second part the mixture would be far too narrow where posteriors are wide.

    Parameters
    ----------
    mean, variance
        Posterior of each cell, each of shape (cells, n_latent).
    labels
        Group of each cell, negative where unknown; ``None`` clusters the cells.
    n_clusters
        Number of components, which all get cells; ``None`` takes that of the Leiden clusters.
    random_state
        Seed.
    resolution
        Leiden resolution that chooses the number of components.
    weigh
        Group cells by the weighted latent, see `emphasis_of`.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import mixture_of
    >>> mean = np.repeat([[0.0, 0.0], [9.0, 9.0]], 30, axis=0)
    >>> mean = mean + np.random.default_rng(0).normal(size=mean.shape)
    >>> mixture_of(mean, np.full_like(mean, 0.5), n_clusters=2).weights.tolist()
    [0.5, 0.5]
    """
    if labels is None:
        method: Literal["leiden", "gmm"] = "leiden" if n_clusters is None else "gmm"
        weighted = mean @ emphasis_of(mean) if weigh else mean
        # A fit on a part of the cells labels all of them.
        labels = fit_mixture(
            weighted, method, n_clusters, resolution=resolution, random_state=random_state
        ).labels
        if n_clusters is not None:
            labels = split_to_number(weighted, labels, n_clusters, random_state)
    known = labels >= 0
    fit = moments_by_label(mean[known], labels[known])
    spread = moments_by_label(variance[known], labels[known]).means
    return fit._replace(variances=fit.variances + spread)
