"""The mixture prior: its weights, and how surely cells belong to its components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi.pl._style import CMAP_SHARE, bare, integer_axis, new_axes, shorten
from atacvi.pl._values import as_categories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["cluster_confusion", "mixture_weights", "responsibilities"]


def mixture_weights(model: Any, ax: Axes | None = None) -> Axes:
    """Draw the weight of each component of the prior beside the share of cells it explains.

    Bars are the weights pi_c of the prior; dots are the means over the cells of q(c | x). Where the
    two differ, or where many components have neither, the mixture has not settled.

    Parameters
    ----------
    model
        Trained model with a mixture prior and ``get_cluster_probabilities``.
    ax
        Axes to draw into.

    Raises
    ------
    TypeError
        If the model has no mixture prior.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(100, 60, 200, 3, random_state=0)
    >>> atacvi.MultiViewModel.setup_mudata(mdata)
    >>> model = atacvi.MultiViewModel(mdata, n_clusters=3)
    >>> model.train(max_epochs=3, enable_progress_bar=False)
    >>> atacvi.pl.mixture_weights(model).get_xlabel()
    'component'
    """
    prior: Any = getattr(getattr(model, "module", None), "prior", None)
    if not hasattr(prior, "weights") or not hasattr(model, "get_cluster_probabilities"):
        msg = (
            f"{type(model).__name__} has no mixture prior; pass a trained MultiViewModel, or draw "
            "probabilities of your own with pl.responsibilities(DataFrame)."
        )
        raise TypeError(msg)
    probabilities = model.get_cluster_probabilities()
    weights = np.asarray(prior.weights.detach().cpu(), dtype=np.float64)
    shares = probabilities.to_numpy().mean(axis=0)
    ax = new_axes(ax, (max(4.5, 0.26 * len(weights) + 2.0), 3.2))
    positions = np.arange(len(weights))
    ax.bar(positions, weights, color="#9ecae1", label="weight in the prior")
    ax.plot(
        positions, shares, "o", ms=5, color="#08519c", label="share of the cells", clip_on=False
    )
    # Perplexity of the shares: the number of equal components with the same entropy.
    present = shares[shares > 0]
    effective = float(np.exp(-(present * np.log(present)).sum()))
    integer_axis(ax.xaxis, len(weights), probabilities.columns)
    ax.set(xlabel="component", ylabel="share", ylim=(0, 1.2 * max(weights.max(), shares.max())))
    ax.set_title(f"{effective:.1f} effective of {len(weights)} components", loc="left")
    ax.legend(loc="upper right", frameon=False, ncols=2, fontsize="small")
    bare(ax)
    return ax


def responsibilities(
    model: Any,
    n_cells: int = 500,
    *,
    random_state: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the cluster probabilities of cells, sorted by cluster, as a heat map.

    Parameters
    ----------
    model
        Trained model, of which ``get_cluster_probabilities()`` is drawn, or a table of
        probabilities (cells, clusters).
    n_cells
        Number of cells to draw; of more a random sample is taken, which keeps the clusters' shares.
    random_state
        Seed of the sample.
    ax
        Axes to draw into.

    Raises
    ------
    TypeError
        If `model` is neither a table nor has cluster probabilities.
    ValueError
        If the table is empty or holds values outside [0, 1], or `n_cells` is below 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from atacvi.pl import responsibilities
    >>> table = pd.DataFrame(np.random.default_rng(0).dirichlet([0.1] * 3, 20))
    >>> responsibilities(table).get_ylabel()
    '20 cells'
    """
    if n_cells < 1:
        msg = f"n_cells is {n_cells}; it must be at least 1."
        raise ValueError(msg)
    table = _probabilities(model)
    rows = np.arange(len(table))
    if len(table) > n_cells:
        rows = np.random.default_rng(random_state).choice(len(table), n_cells, replace=False)
    values = table.to_numpy(dtype=float)[rows]
    best = values.argmax(axis=1)
    # Within a cluster the sure cells come first.
    order = np.lexsort((-values.max(axis=1), best))
    ax = new_axes(ax, (max(4.0, 0.24 * values.shape[1] + 2.2), 4.2))
    picture = ax.imshow(
        values[order], aspect="auto", cmap=CMAP_SHARE, vmin=0, vmax=1, interpolation="nearest"
    )
    integer_axis(ax.xaxis, values.shape[1], [shorten(name, 16) for name in table.columns])
    if max(len(str(name)) for name in table.columns) > 3:
        ax.tick_params(axis="x", rotation=90)
    shown = f"{len(rows):,} cells" + (f" of {len(table):,}" if len(rows) < len(table) else "")
    ax.set(xlabel="cluster", ylabel=shown, yticks=[])
    sure = float((table.to_numpy(dtype=float).max(axis=1) > 0.9).mean())
    ax.set_title(f"{sure:.0%} of the cells above 0.9", loc="left")
    ax.figure.colorbar(picture, ax=ax, label="probability", shrink=0.7, aspect=18)
    return ax


def cluster_confusion(
    clusters: ArrayLike | pd.Series,
    labels: ArrayLike | pd.Series,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw which share of each labelled group falls into which cluster.

    Rows are the labels and sum to 1 with their numbers of cells in brackets; clusters are ordered
    so that matches lie near the diagonal.

    Parameters
    ----------
    clusters
        Cluster of each cell, for example ``model.predict_clusters()``.
    labels
        Known group of each cell in the same order; cells without one are left out.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        If the lengths, or the cell names of two Series, differ, or no cell has a label.

    Examples
    --------
    >>> from atacvi.pl import cluster_confusion
    >>> cluster_confusion(["0", "1", "1"], ["B", "T", "T"]).get_xlabel()
    'cluster'
    """
    counts = _counts(clusters, labels)
    shares = counts.div(counts.sum(axis=1), axis=0)
    # Clusters stand in the order of the label that gives them most of their cells.
    home = counts.to_numpy().argmax(axis=0)
    order = np.lexsort((-counts.to_numpy().max(axis=0), home))
    shares = shares.iloc[:, order]
    n_rows, n_columns = shares.shape
    ax = new_axes(ax, (max(4.0, 0.26 * n_columns + 3.0), max(2.6, 0.26 * n_rows + 1.2)))
    picture = ax.imshow(shares.to_numpy(), aspect="auto", cmap=CMAP_SHARE, vmin=0, vmax=1)
    names = [
        f"{shorten(name)} ({n:,})" for name, n in zip(shares.index, counts.sum(axis=1), strict=True)
    ]
    integer_axis(ax.yaxis, n_rows, names)
    integer_axis(ax.xaxis, n_columns, [shorten(name, 16) for name in shares.columns])
    if max(len(str(name)) for name in shares.columns) > 3:
        ax.tick_params(axis="x", rotation=90)
    ax.set(xlabel="cluster", ylabel="")
    ax.figure.colorbar(picture, ax=ax, label="share of the group", aspect=18)
    return ax


def _probabilities(model: Any) -> pd.DataFrame:
    table = model if isinstance(model, pd.DataFrame) else None
    if table is None:
        if not hasattr(model, "get_cluster_probabilities"):
            msg = (
                f"{type(model).__name__} has no get_cluster_probabilities(); pass a trained model "
                "with clusters or a DataFrame (cells, clusters)."
            )
            raise TypeError(msg)
        table = model.get_cluster_probabilities()
    values = table.to_numpy(dtype=float)
    if not values.size or not ((values >= 0) & (values <= 1 + 1e-6)).all():
        msg = (
            f"the table of shape {values.shape} must hold probabilities between 0 and 1 of at "
            "least one cell and one cluster."
        )
        raise ValueError(msg)
    return table


def _counts(clusters: ArrayLike | pd.Series, labels: ArrayLike | pd.Series) -> pd.DataFrame:
    both: Sequence[Any] = (clusters, labels)
    if all(isinstance(part, pd.Series) for part in both) and not both[0].index.equals(
        both[1].index
    ):
        msg = "clusters and labels are of different cells, or in another order; align them first."
        raise ValueError(msg)
    found, known = (as_categories(pd.Series(part).reset_index(drop=True)) for part in both)
    if len(found) != len(known):
        msg = f"{len(found)} clusters were given for {len(known)} labels; pass one of each a cell."
        raise ValueError(msg)
    counts = pd.crosstab(pd.Series(known, name="label"), pd.Series(found, name="cluster"))
    if counts.empty:
        msg = "No cell has both a label and a cluster: there is nothing to draw."
        raise ValueError(msg)
    return counts
