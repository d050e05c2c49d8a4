"""Number of clusters of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from atacvi.data import check_key

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def select_n_clusters(
    data: AnnData | MuData,
    use_rep: str,
    *,
    method: Literal["leiden", "bic"] = "leiden",
    max_clusters: int = 30,
    resolution: float = 1.0,
    random_state: int = 0,
) -> int:
    """Choose the number of clusters, for a mixture prior or k-means.

    Parameters
    ----------
    data
        Annotated data with the embedding in ``obsm``.
    use_rep
        Entry of ``obsm``.
    method
        ``"leiden"``: clusters of the neighbour graph with at least 0.5 % of the cells. ``"bic"``:
        the Gaussian mixture of lowest Bayesian information criterion.
    max_clusters
        Largest number considered.
    resolution
        Leiden resolution.
    random_state
        Seed.

    Returns
    -------
    The number.

    Raises
    ------
    KeyError
        If the embedding does not exist.
    ValueError
        If the method is unknown or coordinates are not finite.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi.tl import select_n_clusters
    >>> adata = anndata.AnnData(np.zeros((90, 1)))
    >>> centres = np.repeat([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]], 30, axis=0)
    >>> adata.obsm["X_latent"] = centres + np.random.default_rng(0).normal(size=(90, 2))
    >>> select_n_clusters(adata, "X_latent", method="bic")
    3
    """
    from atacvi.priors import choose_n_components

    z = check_key(data, "obsm", use_rep, "data", argument="use_rep")
    return choose_n_components(
        z,
        method,
        max_components=max_clusters,
        resolution=resolution,
        random_state=random_state,
    )
