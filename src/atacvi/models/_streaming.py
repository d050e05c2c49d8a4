"""Walk over the cells of a model's data in minibatches, on the model's device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from anndata import AnnData
    from mudata import MuData


def positions_of(indices: Sequence[int] | np.ndarray | None, n_cells: int) -> np.ndarray:
    """Return the positions of the cells asked for, from positions, a mask or ``None`` for all.

    Raises
    ------
    IndexError
        If a position lies outside the data, or a mask is of another length.
    TypeError
        If they are neither positions nor a mask.
    """
    if indices is None:
        return np.arange(n_cells)
    positions = np.asarray(indices)
    if positions.dtype == bool:
        if positions.shape != (n_cells,):
            msg = (
                f"indices is a mask of shape {positions.shape}, but there are {n_cells} cells: a "
                "mask has one value for each."
            )
            raise IndexError(msg)
        positions = np.flatnonzero(positions)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        msg = (
            f"indices hold {positions.dtype} of shape {positions.shape}; give a list of positions "
            "(whole numbers) or a boolean mask. Positions of names: "
            "adata.obs_names.get_indexer(names)."
        )
        raise TypeError(msg)
    if positions.size and (positions.min() < 0 or positions.max() >= n_cells):
        msg = (
            f"indices reach from {positions.min()} to {positions.max()}, but there are "
            f"{n_cells} cells: they must lie in 0 ... {n_cells - 1}."
        )
        raise IndexError(msg)
    return positions.astype(np.int64)


class StreamingMixin:
    """Access to the data behind a model in minibatches; sparse matrices stay sparse."""

    def _cells(
        self, adata: AnnData | MuData | None, indices: Sequence[int] | np.ndarray | None
    ) -> tuple[Any, np.ndarray]:
        """Return the checked object and the positions of the cells asked for.

        Raises
        ------
        IndexError
            If a position lies outside the object.
        """
        adata = self._validate_anndata(adata)  # type: ignore[attr-defined]
        return adata, positions_of(indices, adata.n_obs)

    def _minibatches(
        self, adata: Any, cells: np.ndarray, batch_size: int | None
    ) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
        """Yield where a minibatch lies among `cells`, and its tensors."""
        loader = self._make_data_loader(  # type: ignore[attr-defined]
            adata=adata, indices=cells, batch_size=batch_size, load_sparse_tensor=True
        )
        start = 0
        device = self.module.device  # type: ignore[attr-defined]
        for tensors in loader:
            moved = {key: value.to(device) for key, value in tensors.items()}
            n_cells = next(iter(tensors.values())).shape[0]
            yield slice(start, start + n_cells), moved
            start += n_cells

    def _names(self, wanted: Sequence[str] | None, known: np.ndarray, argument: str) -> np.ndarray:
        """Return the columns of the wanted features, all when ``None``, in the order wanted.

        Raises
        ------
        KeyError
            If a name is not known.
        """
        if wanted is None:
            return np.arange(len(known))
        if isinstance(wanted, slice):
            return np.arange(len(known))[wanted]
        position = {name: i for i, name in enumerate(known)}
        missing = [name for name in wanted if name not in position]
        if missing:
            msg = (
                f"{argument} holds {len(missing)} name(s) that the model does not know: "
                f"{', '.join(map(repr, missing[:5]))}. Known names look like {known[0]!r}."
            )
            raise KeyError(msg)
        return np.asarray([position[name] for name in wanted], dtype=np.int64)

    def _batch_code(self, batch: str | int | None, argument: str = "transform_batch") -> int | None:
        """Return the code of a batch given by name, or ``None``.

        Raises
        ------
        ValueError
            If there is no such batch.
        """
        if batch is None:
            return None
        state = self.adata_manager.get_state_registry("batch")  # type: ignore[attr-defined]
        known = np.asarray(state.categorical_mapping).tolist()
        if batch not in known:
            msg = (
                f"{argument}={batch!r} is not a batch of this model; "
                f"it knows {', '.join(map(repr, known))}."
            )
            raise ValueError(msg)
        return known.index(batch)
