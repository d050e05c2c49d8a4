"""Two modalities in one space: how well cells find their match, and where both lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atacvi.pl._style import bare, legend_beside, new_axes, palette

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

_MODALITIES = ("RNA", "ATAC")
_CHANCE = "#888888"


def retrieval_recall(
    embeddings: Mapping[str, tuple[ArrayLike, ArrayLike]] | tuple[ArrayLike, ArrayLike],
    k: Sequence[int] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of cells whose match is among their k nearest in the other modality.

    Parameters
    ----------
    embeddings
        Embeddings of the two modalities of the same cells, each of shape ``(n_cells,
        n_dimensions)``; or several such pairs by name, one curve each. The mean over both
        directions is drawn.
    k
        Numbers of neighbours; by default 1 to all cells, evenly spaced on the logarithmic axis.
    ax
        Axes to draw into.

    Returns
    -------
    The Axes. The dashed line is what chance gives.

    Raises
    ------
    ValueError
        If shapes disagree, or there is nothing to draw.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.pl import retrieval_recall
    >>> rng = np.random.default_rng(0)
    >>> rna = rng.normal(size=(40, 5))
    >>> retrieval_recall((rna, rna + rng.normal(size=(40, 5)))).get_ylabel()
    'cells whose match is found'
    """
    from atacvi.metrics import recall_at_k

    pairs = {"": embeddings} if isinstance(embeddings, tuple) else dict(embeddings)
    if not pairs:
        msg = "There is no pair of embeddings to draw."
        raise ValueError(msg)
    n_cells = max(len(np.asarray(pair[0])) for pair in pairs.values())
    if k is None:
        k = np.unique(np.geomspace(1, n_cells, 30).round().astype(int)).tolist()
    axes = new_axes(ax, (5.4 if len(pairs) > 1 else 4.0, 3.4))
    lines = []
    for (name, (first, second)), colour in zip(pairs.items(), palette(len(pairs)), strict=True):
        both = [recall_at_k(*pair, k) for pair in ((first, second), (second, first))]
        curve = [np.mean([found[number] for found in both]) for number in k]
        lines += axes.plot(list(k), curve, color=colour, lw=1.8, label=name)
    chance = np.minimum(np.asarray(k) / n_cells, 1.0)
    lines += axes.plot(list(k), chance, color=_CHANCE, ls="--", lw=1.2, label="chance")
    axes.set(
        xscale="log",
        xlabel="nearest cells looked at",
        ylabel="cells whose match is found",
        ylim=(0, 1.03),
    )
    bare(axes)
    if len(pairs) > 1 or next(iter(pairs)):
        legend_beside(axes, lines, [str(line.get_label()) for line in lines])
    else:
        axes.annotate(
            "chance",
            (k[-1], 1.0),
            color=_CHANCE,
            xytext=(-6, -26),
            ha="right",
            textcoords="offset points",
            size="small",
        )
    return axes


def joint_space(
    rna: ArrayLike,
    atac: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    basis: ArrayLike | None = None,
    links: int = 0,
    size: float | None = None,
    n_neighbors: int = 15,
    random_state: int = 0,
    ax: Sequence[Axes] | None = None,
) -> NDArray[np.object_]:
    """Draw cells of both modalities in two dimensions, by modality and by label.

    Parameters
    ----------
    rna, atac
        Embeddings in one space, shapes ``(n_cells, n_dimensions)``; for `links` of the same cells.
    labels
        Group of each cell of the RNA, then of the accessibility, or one group a cell where both
        are of the same cells; a second panel shows them.
    basis
        Coordinates of both, the RNA first, shape (cells of both, 2); ``None`` computes their UMAP.
    links
        Number of cells, drawn at random, whose two points are joined by a line.
    size
        Area of a point in square points.
    n_neighbors, random_state
        Neighbours and seed of the UMAP (McInnes et al. 2018, arXiv:1802.03426).
    ax
        Axes to draw into: one, and another where there are labels.

    Returns
    -------
    The Axes.

    Raises
    ------
    ValueError
        If shapes or numbers disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.pl import joint_space
    >>> cells = np.random.default_rng(0).normal(size=(20, 2))
    >>> axes = joint_space(cells, cells + 0.1, ["a", "b"] * 10, basis=np.vstack([cells, cells]))
    >>> [panel.get_title(loc="left") for panel in axes]
    ['modality', 'label']
    """
    one, two = np.asarray(rna, dtype=np.float32), np.asarray(atac, dtype=np.float32)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        msg = f"Shapes {one.shape} and {two.shape}: both must be (cells, dimensions) of one space."
        raise ValueError(msg)
    n_cells = len(one) + len(two)
    groups = None if labels is None else _groups(labels, len(one), len(two))
    points = _coordinates(np.vstack([one, two]), basis, n_neighbors, random_state)
    if links and len(one) != len(two):
        msg = f"links join the same cells, but there are {len(one)} and {len(two)}."
        raise ValueError(msg)
    axes = _axes(ax, 1 if groups is None else 2)
    rng = np.random.default_rng(random_state)
    style: dict[str, Any] = {
        "s": size or float(np.clip(30_000 / max(n_cells, 1), 1.5, 30.0)),
        "linewidths": 0,
        "rasterized": True,
    }
    if links:
        from matplotlib.collections import LineCollection

        chosen = rng.permutation(len(one))[:links]
        segments = np.stack([points[chosen], points[len(one) + chosen]], axis=1)
        axes[0].add_collection(LineCollection(list(segments), colors="#555555", lw=0.5, alpha=0.6))
    modality = np.repeat(_MODALITIES, [len(one), len(two)])
    # cells in random order: the second modality must not hide the first
    order = rng.permutation(n_cells)
    _scatter(axes[0], points, modality, list(_MODALITIES), order, style)
    axes[0].set_title("modality", loc="left")
    if groups is not None:
        _scatter(axes[1], points, groups, sorted(set(groups)), order, style)
        axes[1].set_title("label", loc="left")
    return axes


def _groups(labels: ArrayLike, n_rna: int, n_atac: int) -> NDArray[np.str_]:
    groups = np.asarray(labels).astype(str).ravel()
    if len(groups) == n_rna == n_atac:
        groups = np.concatenate([groups, groups])
    if len(groups) != n_rna + n_atac:
        msg = (
            f"{len(groups)} labels were given for {n_rna} cells of RNA and {n_atac} of ATAC; give "
            "one for each of both, or one a cell where both are of the same cells."
        )
        raise ValueError(msg)
    return groups


def _coordinates(
    cells: NDArray[np.float32], basis: ArrayLike | None, n_neighbors: int, random_state: int
) -> NDArray[np.float32]:
    if basis is None:
        import anndata

        from atacvi.pl._coordinates import umap_coordinates

        both = anndata.AnnData(np.zeros((len(cells), 1), dtype=np.float32))
        both.obsm["X_joint"] = cells
        return umap_coordinates(both, "X_joint", n_neighbors, random_state)
    points = np.asarray(basis, dtype=np.float32)
    if points.ndim != 2 or points.shape[0] != len(cells) or points.shape[1] < 2:
        msg = f"basis has shape {points.shape}; it must be ({len(cells)}, 2), the RNA first."
        raise ValueError(msg)
    return points[:, :2]


def _axes(ax: Sequence[Axes] | None, n_panels: int) -> NDArray[np.object_]:
    if ax is not None:
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) != n_panels:
            msg = f"{len(given)} Axes were given for {n_panels} panels."
            raise ValueError(msg)
        return given
    import matplotlib.pyplot as plt

    _, grid = plt.subplots(
        1, n_panels, figsize=(4.8 * n_panels, 3.6), squeeze=False, layout="constrained"
    )
    return grid.ravel()


def _scatter(
    ax: Axes,
    points: NDArray[np.float32],
    groups: NDArray[np.str_],
    names: Sequence[str],
    order: NDArray[np.int64],
    style: dict[str, Any],
) -> None:
    from matplotlib.lines import Line2D

    colour_of = dict(zip(names, palette(len(names)), strict=True))
    colours = [colour_of[str(groups[i])] for i in order]
    ax.scatter(points[order, 0], points[order, 1], c=colours, **style)
    marks = [Line2D([], [], marker="o", ls="", ms=6, color=colour_of[name]) for name in names]
    legend_beside(ax, marks, list(names))
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    ax.set_box_aspect(1)
    bare(ax)
