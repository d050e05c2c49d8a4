"""Order cells along a trajectory by diffusion pseudotime on an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import UNS_KEY
from atacvi.data import check_key
from atacvi.metrics import ordering_correlation

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray


def trajectory(
    data: AnnData | MuData,
    use_rep: str,
    *,
    root: str | None = None,
    root_group: tuple[str, str] | None = None,
    known_time: str | None = None,
    groups: str | None = None,
    n_neighbors: int = 15,
    n_components: int = 10,
    key_added: str = "pseudotime",
) -> dict[str, float]:
    """Write the diffusion pseudotime of each cell, and compare it with known time.

    The neighbour graph is that of exact neighbours in the embedding; diffusion map, pseudotime and
    PAGA are scanpy's.

    Parameters
    ----------
    data
        Annotated data with the embedding in ``obsm``.
    use_rep
        Entry of ``obsm``.
    root
        Name of the cell where the trajectory starts.
    root_group
        Column of ``obs`` and the group in it that comes first, such as ``("time", "0h")``, in place
        of a cell: of its cells, the one furthest in diffusion space from the centre of the others
        is the root.
    known_time
        Column of ``obs`` with the known time, numbers or ordered categories, to compare with.
    groups
        Column of ``obs`` with clusters, between which PAGA estimates connections.
    n_neighbors
        Neighbours of a cell, itself included.
    n_components
        Components of the diffusion map, fewer where there are fewer cells.
    key_added
        Column of ``obs`` for the pseudotime.

    Returns
    -------
    ``"n_unreached"`` (cells that the graph does not connect with the root, whose pseudotime is
    NaN) and, with a known time, ``"spearman"`` and ``"kendall"`` over the cells reached. Writes
    ``obs[key_added]``, ``obsm["X_diffmap"]``, ``uns["atacvi"][key_added]`` (the same numbers) and,
    with groups, the table ``uns[key_added + "_paga"]``: ``group1``, ``group2``, ``connectivity``.

    Raises
    ------
    KeyError
        If a column, embedding or cell does not exist.
    ValueError
        If neither or both of `root` and `root_group` are given, or a group is unknown.

    References
    ----------
    Haghverdi et al., Nature Methods 13, 845 (2016); Wolf et al., Genome Biology 20, 59 (2019).

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.tl import trajectory
    >>> adata = anndata.AnnData(np.zeros((100, 1)))
    >>> adata.obs["time"] = np.linspace(0, 1, 100)
    >>> adata.obsm["X_latent"] = np.c_[adata.obs["time"], adata.obs["time"] ** 2]
    >>> round(trajectory(adata, "X_latent", root="0", known_time="time")["spearman"], 3)
    1.0
    """
    import scanpy as sc

    if (root is None) == (root_group is None):
        msg = "give either root= (the name of a cell) or root_group=(column, group), not both"
        raise ValueError(msg)
    z = np.asarray(check_key(data, "obsm", use_rep, "data", argument="use_rep"), dtype=np.float64)
    times = None if known_time is None else _times(data, known_time)
    graph = _with_graph(z, data.obs_names, n_neighbors)
    sc.tl.diffmap(graph, n_comps=min(n_components, data.n_obs - 2))
    graph.uns["iroot"] = _root(data, graph.obsm["X_diffmap"], root, root_group)
    sc.tl.dpt(graph)
    pseudotime = graph.obs["dpt_pseudotime"].to_numpy(dtype=np.float64)
    # Cells of another component lie infinitely far.
    pseudotime = np.where(_reached(graph), pseudotime, np.nan)
    data.obs[key_added] = pseudotime
    data.obsm["X_diffmap"] = graph.obsm["X_diffmap"]
    result = {"n_unreached": float(np.isnan(pseudotime).sum())}
    if times is not None:
        for method in ("spearman", "kendall"):
            result[method] = ordering_correlation(pseudotime, times, method)
    if groups is not None:
        data.uns[f"{key_added}_paga"] = _paga(data, graph, groups)
    data.uns[UNS_KEY] = {**data.uns.get(UNS_KEY, {}), key_added: result}
    return dict(result)


def _times(data: AnnData | MuData, key: str) -> NDArray[np.float64]:
    column = check_key(data, "obs", key, "data", argument="known_time")
    if isinstance(column.dtype, pd.CategoricalDtype):
        if not column.cat.ordered and not pd.api.types.is_numeric_dtype(column.cat.categories):
            msg = (
                f"the categories of obs[{key!r}], {list(column.cat.categories)}, have no order; "
                "give numbers, or order them: obs[...].cat.as_ordered() after reorder_categories"
            )
            raise ValueError(msg)
        if column.cat.ordered:
            codes = column.cat.codes.to_numpy(dtype=np.float64)
            return np.where(codes < 0, np.nan, codes)
    return pd.to_numeric(column.astype(object), errors="raise").to_numpy(dtype=np.float64)


def _with_graph(z: NDArray[np.float64], names: pd.Index, n_neighbors: int) -> Any:
    """Return an AnnData whose neighbours are set as scanpy's tools read them."""
    import anndata
    from sklearn.neighbors import NearestNeighbors

    from atacvi.priors._leiden import neighbour_graph

    if not np.isfinite(z).all():
        msg = "the embedding has coordinates that are not finite; check the training"
        raise ValueError(msg)
    if not 2 <= n_neighbors <= len(z):
        msg = f"n_neighbors={n_neighbors} for {len(z)} cells: 2 to the number of cells are possible"
        raise ValueError(msg)
    graph = anndata.AnnData(obs=pd.DataFrame(index=names))
    graph.obsp["connectivities"] = neighbour_graph(z, n_neighbors)
    search = NearestNeighbors(n_neighbors=n_neighbors - 1).fit(z)
    graph.obsp["distances"] = sp.csr_matrix(search.kneighbors_graph(mode="distance"))
    graph.obsm["X_latent"] = z
    graph.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"n_neighbors": n_neighbors, "method": "umap", "use_rep": "X_latent"},
    }
    return graph


def _root(
    data: AnnData | MuData,
    diffusion: NDArray[np.float64],
    root: str | None,
    root_group: tuple[str, str] | None,
) -> int:
    if root is not None:
        if root not in data.obs_names:
            msg = f"root={root!r} is no cell of the data; names look like {data.obs_names[0]!r}"
            raise KeyError(msg)
        return int(data.obs_names.get_loc(root))
    column, group = root_group if root_group is not None else ("", "")
    labels = check_key(data, "obs", column, "data", argument="root_group").astype(str).to_numpy()
    mine = np.flatnonzero(labels == str(group))
    if not 0 < len(mine) < len(labels):
        msg = f"obs[{column!r}] has {len(mine)} cells of {group!r}; some must be and others not"
        raise ValueError(msg)
    space = diffusion[:, 1:]  # the first component is constant
    centre = np.delete(space, mine, axis=0).mean(axis=0)
    return int(mine[np.linalg.norm(space[mine] - centre, axis=1).argmax()])


def _reached(graph: Any) -> NDArray[np.bool_]:
    from scipy.sparse.csgraph import connected_components

    component = connected_components(graph.obsp["connectivities"], directed=False)[1]
    return component == component[graph.uns["iroot"]]


def _paga(data: AnnData | MuData, graph: Any, groups: str) -> pd.DataFrame:
    import scanpy as sc

    labels = check_key(data, "obs", groups, "data", argument="groups")
    graph.obs["groups"] = pd.Categorical(labels.astype(str))
    sc.tl.paga(graph, groups="groups")
    names = [str(name) for name in graph.obs["groups"].cat.categories]
    values = np.asarray(graph.uns["paga"]["connectivities"].todense(), dtype=np.float64)
    one, two = np.triu_indices(len(names), k=1)
    labelled = np.array(names, dtype=object)
    # One row a pair: names of groups may hold a slash, which no column of an h5ad file may.
    return pd.DataFrame(
        {"group1": labelled[one], "group2": labelled[two], "connectivity": values[one, two]},
        index=[str(i) for i in range(len(one))],
    )
