"""Latent semantic indexing: a truncated SVD of the TF-IDF matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atacvi._constants import OBSM_LSI, UNS_LSI, VARM_LSI

from ._matrix import checked_matrix, get_modality

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def lsi(
    data: AnnData | MuData,
    n_comps: int = 50,
    *,
    layer: str | None = None,
    key_added: str = OBSM_LSI,
    scale_embeddings: bool = True,
    drop_first: bool = True,
    n_iter: int = 4,
    random_state: int | np.random.RandomState | None = 0,
    modality: str = "atac",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed cells by a randomised truncated SVD (Halko et al. 2011) of the matrix, not centred.

    Run :func:`tfidf` first. The slots are those of `muon.atac.tl.lsi`; the singular vectors agree
    with it up to sign and the precision of the randomised method, several times as fast.

    Parameters
    ----------
    data
        Annotated data, or a MuData of which `modality` is used.
    n_comps
        Number of components in the result.
    layer
        Layer with the TF-IDF values; `X` by default.
    key_added
        Key in `obsm` for the embedding.
    scale_embeddings
        Scale each component over the cells to mean 0 and variance 1, as muon does. Without, the
        component is its left singular vector times its singular value.
    drop_first
        Leave out the first component, which mostly follows the depth of the cells.
    n_iter
        Power iterations; more make small components more precise.
    random_state
        Seed of the random projection.
    modality
        Modality of a MuData.
    copy
        Return a changed copy and leave `data` alone.

    Returns
    -------
    `None`, or the changed copy with `copy=True`. Sets `obsm[key_added]` `(cells, n_comps)`,
    `varm["LSI"]` `(features, n_comps)` with the right singular vectors, and `uns["lsi"]` with
    `stdev`, `singular_values` and `params`. With another `key_added` than `"X_lsi"` the last two
    are named `key_added`.

    Raises
    ------
    KeyError
        If the layer or the modality does not exist.
    ValueError
        If the matrix is not finite, or is too small for `n_comps`.

    Examples
    --------
    >>> import atacvi
    >>> mdata = atacvi.datasets.simulate_multiome(60, 80, 200, 3, random_state=0)
    >>> atacvi.pp.tfidf(mdata)
    >>> atacvi.pp.lsi(mdata, n_comps=10)
    >>> mdata["atac"].obsm["X_lsi"].shape
    (60, 10)
    """
    from sklearn.utils.extmath import randomized_svd

    data = data.copy() if copy else data
    adata = get_modality(data, modality)
    matrix = checked_matrix(adata, layer, allow_negative=True)
    n_first = int(drop_first)
    largest = min(matrix.shape) - n_first
    if not 1 <= n_comps <= largest:
        msg = f"`n_comps` is {n_comps}; a matrix of {matrix.shape[0]} cells x {matrix.shape[1]} "
        msg += f"features with drop_first={drop_first} gives 1 to {largest} components."
        raise ValueError(msg)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    left, singular, right = randomized_svd(
        matrix, n_comps + n_first, n_iter=n_iter, random_state=random_state
    )
    left, singular, right = left[:, n_first:], singular[n_first:], right[n_first:]
    embedding = _scale(left) if scale_embeddings else left * singular
    own = key_added == OBSM_LSI
    adata.obsm[key_added] = np.ascontiguousarray(embedding)
    adata.varm[VARM_LSI if own else key_added] = np.ascontiguousarray(right.T)
    adata.uns[UNS_LSI if own else key_added] = {
        "stdev": singular / np.sqrt(max(1, matrix.shape[0] - 1)),
        "singular_values": singular,
        "params": {
            "n_comps": n_comps,
            "drop_first": drop_first,
            "scale_embeddings": scale_embeddings,
            "n_iter": n_iter,
        },
    }
    return data if copy else None


def _scale(embedding: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 per component; a constant one becomes zero."""
    spread = embedding.std(axis=0)
    return (embedding - embedding.mean(axis=0)) / np.where(spread > 0, spread, 1)
