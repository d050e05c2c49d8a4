"""Two-dimensional coordinates of cells, computed once and kept with the data."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from atacvi._constants import UNS_KEY

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

_UNS_UMAP = "umap"


def umap_coordinates(
    data: AnnData | MuData, use_rep: str, n_neighbors: int, random_state: int
) -> NDArray[np.float32]:
    """UMAP of ``data.obsm[use_rep]``, from ``data.obsm[use_rep + "_umap"]`` or computed into it.

    ``data.uns["atacvi"]["umap"]`` keeps what it was computed from: with another embedding (a model
    trained anew), or other parameters, the coordinates are computed anew.
    """
    embedding = get_embedding(data, use_rep)
    key = f"{use_rep}_umap"
    stamp = {
        "n_neighbors": n_neighbors,
        "random_state": random_state,
        "checksum": zlib.crc32(np.ascontiguousarray(embedding).tobytes()),
    }
    kept = data.uns.get(UNS_KEY, {}).get(_UNS_UMAP, {}).get(key, {})
    same = key in data.obsm and all(int(kept.get(name, -1)) == stamp[name] for name in stamp)
    if not same:
        data.obsm[key] = _compute(embedding, n_neighbors, random_state)
        data.uns.setdefault(UNS_KEY, {}).setdefault(_UNS_UMAP, {})[key] = stamp
    return np.asarray(data.obsm[key])


def get_embedding(data: AnnData | MuData, key: str) -> NDArray[np.float32]:
    """Give ``data.obsm[key]`` as a finite float matrix, or say what there is instead."""
    if key not in data.obsm:
        found = sorted(name for name in data.obsm if np.ndim(data.obsm[name]) == 2)
        msg = (
            f"data.obsm has no {key!r}; it holds {found or 'nothing'}. Store the latent first: "
            f"data.obsm[{key!r}] = model.get_latent_representation()"
        )
        raise KeyError(msg)
    embedding = np.asarray(data.obsm[key], dtype=np.float32)
    if embedding.ndim != 2 or not np.isfinite(embedding).all():
        msg = (
            f"data.obsm[{key!r}] of shape {embedding.shape} must be a matrix (cells, dimensions) "
            "of finite numbers; drop the cells without an embedding."
        )
        raise ValueError(msg)
    return embedding


def _compute(
    embedding: NDArray[np.float32], n_neighbors: int, random_state: int
) -> NDArray[np.float32]:
    if embedding.shape[1] == 2:
        return embedding
    import anndata
    import scanpy as sc

    if embedding.shape[0] < 4:
        msg = f"UMAP needs at least 4 cells, these are {embedding.shape[0]}."
        raise ValueError(msg)
    # A copy of the embedding alone: the neighbour graph of the user's data stays as it is.
    cells = anndata.AnnData(embedding)
    neighbors = min(n_neighbors, embedding.shape[0] - 1)
    sc.pp.neighbors(cells, n_neighbors=neighbors, use_rep="X", random_state=random_state)
    sc.tl.umap(cells, random_state=random_state)
    return np.asarray(cells.obsm["X_umap"], dtype=np.float32)
