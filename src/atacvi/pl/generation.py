"""Generated cells beside real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from atacvi.metrics import coaccessibility, depth_ks, lsi_space
from atacvi.pl._coordinates import umap_coordinates
from atacvi.pl._generation_panels import (
    ORIGINS,
    draw_agreement,
    draw_depth,
    draw_origin,
    draw_profiles,
    draw_types,
    open_share,
)
from atacvi.pl._values import cell_values

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

__all__ = ["generation"]

_UMAP_CELLS = 100  # fewer have too few neighbours for it
_PANEL = (4.3, 3.7)


def generation(
    real: AnnData | Any,
    generated: AnnData | Any,
    labels: str | ArrayLike | None = None,
    generated_labels: ArrayLike | None = None,
    *,
    basis: str | None = None,
    n_components: int = 30,
    n_coaccessible: int = 500,
    max_cells: int = 3000,
    random_state: int = 0,
) -> NDArray[np.object_]:
    """Draw generated beside real cells: space, depth, peak frequencies, co-accessibility, types.

    All cells are compared as open / closed. The space is the LSI of both sets together (components
    2 to ``n_components + 1``), so that neither is favoured.

    Parameters
    ----------
    real, generated
        Counts (cells, peaks) with the same peaks: AnnData (``X`` is used), arrays or sparse
        matrices. As many cells of the same types make the fairest picture.
    labels
        Type of each real cell, or the column of ``obs`` of both AnnData that holds it. Adds the
        cells by type, and the correlations of the types' profiles.
    generated_labels
        Type of each generated cell, unless `labels` names a column.
    basis
        ``"umap"`` of the LSI, or its first two components, ``"lsi"``; by default the UMAP of 100
        cells or more.
    n_components
        Components of the LSI.
    n_coaccessible
        Peaks whose pairs are compared, those of highest variance in the real cells.
    max_cells
        Cells of each set in the panels of the space; more are sampled.
    random_state
        Seed of sample, LSI and UMAP.

    Returns
    -------
    Axes: origin, depth, peak frequencies, co-accessibility; with labels also types and profiles.
    The profiles are the types' shares of open cells less their mean over types; 1 on the diagonal
    of real against generated types is the aim.

    Raises
    ------
    KeyError
        If `labels` names a column that is missing.
    ValueError
        If peaks or labels do not fit, values are no counts, or the basis is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.pl import generation
    >>> cells = np.random.default_rng(0).poisson(0.5, (200, 40))
    >>> generation(cells[:100], cells[100:], basis="lsi")[1].get_title(loc="left")
    'depth: KS 0.12'
    """
    import matplotlib.pyplot as plt

    if basis not in (None, "umap", "lsi"):
        msg = f"basis is {basis!r}; it must be 'umap', 'lsi' or None."
        raise ValueError(msg)
    types = _types(real, generated, labels, generated_labels)
    first, second = _matrix(real), _matrix(generated)
    # Everything that can be refused is computed before anything is drawn.
    distance = depth_ks(first, second)
    truth, drawn = coaccessibility(first, second, n_coaccessible)
    rows = [_sample(m.shape[0], max_cells, random_state) for m in (first, second)]
    points, axis_name = _space(first[rows[0]], second[rows[1]], basis, n_components, random_state)
    n_columns = 2 if types is None else 3
    figure, grid = plt.subplots(
        2, n_columns, figsize=(_PANEL[0] * n_columns, _PANEL[1] * 2), layout="constrained"
    )
    origin, frequency = grid[0, 0], grid[1, 0]
    depth, pairs = grid[0, 1], grid[1, 1]
    n_real = rows[0].size
    draw_origin(origin, points, n_real, axis_name, random_state)
    draw_depth(depth, first, second, distance)
    draw_agreement(frequency, open_share(first), open_share(second), "peaks", "share of open cells")
    draw_agreement(pairs, truth, drawn, "peak pairs", "co-accessibility")
    axes = [origin, depth, frequency, pairs]
    if types is not None:
        draw_types(grid[0, 2], points, [t[r] for t, r in zip(types, rows, strict=True)], axis_name)
        draw_profiles(grid[1, 2], (first, second), types)
        axes += [grid[0, 2], grid[1, 2]]
    return np.array(axes, dtype=object)


def _matrix(cells: AnnData | Any) -> sparse.csr_matrix:
    return sparse.csr_matrix(cells.X if hasattr(cells, "obs") else cells)


def _types(
    real: Any, generated: Any, labels: str | ArrayLike | None, generated_labels: ArrayLike | None
) -> list[NDArray[np.str_]] | None:
    """Types of real and of generated cells as text, or None."""
    if labels is None and generated_labels is None:
        return None
    if isinstance(labels, str):
        if not (hasattr(real, "obs") and hasattr(generated, "obs")):
            msg = f"labels={labels!r} names a column of obs; pass AnnData, or one label a cell."
            raise ValueError(msg)
        if generated_labels is None:
            generated_labels = cell_values(generated, labels)
        labels = cell_values(real, labels)
    if labels is None or generated_labels is None:
        msg = "Only one of `labels` and `generated_labels` was given; give both or neither."
        raise ValueError(msg)
    both = [pd.Series(np.asarray(part).ravel()) for part in (labels, generated_labels)]
    for values, cells, name in zip(both, (real, generated), ORIGINS, strict=True):
        if len(values) != cells.shape[0] or values.isna().any():
            found = f"{int(values.notna().sum())} known labels for {cells.shape[0]} {name} cells"
            msg = f"There are {found}; pass one label a cell and leave out cells without."
            raise ValueError(msg)
    return [values.astype(str).to_numpy(dtype=np.str_) for values in both]


def _sample(n_cells: int, max_cells: int, seed: int) -> NDArray[np.int64]:
    if n_cells <= max_cells:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, max_cells, replace=False))


def _space(
    first: sparse.csr_matrix,
    second: sparse.csr_matrix,
    basis: str | None,
    n_components: int,
    seed: int,
) -> tuple[NDArray[np.float32], str]:
    together = sparse.vstack([first, second])
    space = lsi_space(together, n_components=max(n_components, 2), random_state=seed)[0]
    if basis == "lsi" or (basis is None and len(space) < _UMAP_CELLS):
        return space[:, :2], "LSI"
    import anndata

    cells = anndata.AnnData(obsm={"X_lsi": space}, shape=(len(space), 0))
    return umap_coordinates(cells, "X_lsi", 15, seed), "UMAP"
