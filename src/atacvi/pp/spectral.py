"""Spectral embedding as a preprocessing step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ._matrix import checked_matrix, get_modality
from ._spectral import MAX_LANDMARKS, fit_spectral, map_spectral

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def spectral(
    data: AnnData | MuData,
    n_comps: int = 30,
    *,
    layer: str | None = None,
    key_added: str = "X_spectral",
    above_noise: bool = True,
    random_state: int = 0,
    modality: str = "atac",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed cells by the leading eigenvectors of the similarity of their open peaks.

    The similarity is the cosine of open peaks weighted by IDF, normalised by degree, as in
    SnapATAC2 (Zhang et al., Nature Methods 21:217, 2024). Memory grows with the non-zeros; beyond
    20,000 cells the eigenvectors of a sample are extended to all.

    Parameters
    ----------
    data
        Counts or open peaks, or a MuData of which `modality` is used.
    n_comps
        Number of components, the first (which follows the depth) left out.
    layer
        Layer with the counts; `X` by default.
    key_added
        Key in `obsm`.
    above_noise
        Weight components by what their eigenvalue exceeds that of a matrix of the same depths and
        frequencies without structure, so that components of noise are zero.
    random_state
        Seed of that matrix and of the sample of cells.
    modality
        Modality of a MuData.
    copy
        Return a changed copy and leave `data` alone.

    Returns
    -------
    `None`, or the changed copy. Sets `obsm[key_added]` (cells, n_comps), float32, and
    `uns[key_added]` with ``eigenvalues`` and ``noise_eigenvalue``.

    Raises
    ------
    KeyError
        If the layer or the modality does not exist.
    ValueError
        If the counts are negative or not finite, or too few for `n_comps`.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(100, 50, 300, 3, random_state=0)
    >>> atacvi.pp.spectral(mdata, n_comps=5)
    >>> mdata["atac"].obsm["X_spectral"].shape
    (100, 5)
    """
    data = data.copy() if copy else data
    adata = get_modality(data, modality)
    matrix = sp.csr_matrix(checked_matrix(adata, layer))
    largest = min(adata.n_obs - 3, adata.n_vars - 1)
    if not 1 <= n_comps <= largest:
        msg = f"`n_comps` is {n_comps}; {adata.n_obs} cells x {adata.n_vars} peaks give 1 to "
        msg += f"{largest} components."
        raise ValueError(msg)
    fit = fit_spectral(matrix, n_comps, random_state=random_state, above_noise=above_noise)
    if adata.n_obs <= MAX_LANDMARKS:
        embedding = np.zeros((adata.n_obs, fit.embedding.shape[1]), dtype=np.float32)
        filled = np.asarray(matrix.sum(axis=1)).ravel() > 0
        embedding[filled] = fit.embedding
    else:
        embedding = map_spectral(matrix, fit)
    adata.obsm[key_added] = embedding
    adata.uns[key_added] = {
        "eigenvalues": fit.eigenvalues,
        "noise_eigenvalue": fit.noise_eigenvalue,
    }
    return data if copy else None
