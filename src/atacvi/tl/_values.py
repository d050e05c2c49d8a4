"""Values by cell and feature, whoever holds them: a layer, an array, a table or a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from atacvi._constants import ATAC, RNA
from atacvi.data import check_counts, get_matrix
from atacvi.data._messages import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

#: Cells of a minibatch of dense values.
BATCH = 512
#: Transcripts a cell to which expression is scaled before its logarithm.
TARGET_SUM = 1e4
_GETTERS = {RNA: "get_normalized_expression", ATAC: "get_normalized_accessibility"}


def get_modality(data: AnnData | MuData, modality: str) -> AnnData:
    """Give the AnnData itself, or one modality of a MuData.

    Raises
    ------
    KeyError
        If there is no such modality.
    TypeError
        If `data` is neither.
    """
    if hasattr(data, "mod"):
        if modality not in data.mod:
            msg = (
                f"the MuData has no modality {modality!r}, only {list(data.mod)}"
                f"{suggestion(modality, list(data.mod))}"
            )
            raise KeyError(msg)
        return data.mod[modality]
    if not hasattr(data, "obs_names"):
        msg = f"an AnnData or a MuData is needed, this is {type(data).__name__}"
        raise TypeError(msg)
    return data


def is_model(values: object) -> bool:
    """Whether values come from a fitted model, by the getters it has."""
    return any(hasattr(values, getter) for getter in _GETTERS.values())


class Values:
    """A matrix (cells, features) that is read in parts.

    Parameters
    ----------
    source
        Name of a layer or of an entry of ``obsm``, array, sparse matrix, table or fitted model;
        ``None`` takes ``X``.
    adata
        The modality that the values belong to.
    kind
        ``"rna"`` or ``"atac"``.
    where
        What the source is called in messages.

    Raises
    ------
    KeyError
        If a layer is unknown.
    ValueError
        If shapes disagree or values are not finite.
    TypeError
        If the source is of an unknown type.
    """

    def __init__(self, source: Any, adata: AnnData, kind: str, where: str) -> None:
        self.adata, self.kind, self.names = adata, kind, adata.var_names
        self.shape = (adata.n_obs, adata.n_vars)
        self.stored = source is None or isinstance(source, str)
        self.model = source if is_model(source) else None
        if self.model is not None:
            if not hasattr(self.model, _GETTERS[kind]):
                msg = f"{where} is a {type(source).__name__}, which has no {_GETTERS[kind]}"
                raise TypeError(msg)
            _check_cells(self.model, adata, where)
            return
        matrix = self._find(source) if self.stored else source
        self.matrix = _as_matrix(matrix, adata, where)
        if self.matrix.shape != self.shape:
            msg = f"{where} has shape {self.matrix.shape}, the data {self.shape}"
            raise ValueError(msg)
        names = {"obs_names": adata.obs_names, "var_names": adata.var_names}
        check_counts(self.matrix, where, integer=False, allow_negative=True, **names)

    def _find(self, key: str | None) -> Any:
        if key is not None and key in self.adata.obsm:
            return self.adata.obsm[key]
        return get_matrix(self.adata, key, "adata")

    def columns(self, columns: NDArray[np.int64]) -> sp.csc_matrix | NDArray[np.float32]:
        """Give some features of all cells, sparse where they are stored so."""
        if self.model is not None:
            parts = [block for _, block in self.batches(columns)]
            return np.concatenate(parts)
        if sp.issparse(self.matrix):
            return sp.csc_matrix(sp.csc_matrix(self.matrix)[:, columns], dtype=np.float32)
        return np.asarray(self.matrix[:, columns], dtype=np.float32)

    def batches(
        self, columns: NDArray[np.int64] | None = None, batch_size: int = BATCH
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield dense minibatches of cells, all features or some."""
        n_cells = self.shape[0]
        for start in range(0, n_cells, batch_size):
            rows = slice(start, min(start + batch_size, n_cells))
            yield rows, self._dense_rows(rows, columns)

    def _dense_rows(self, rows: slice, columns: NDArray[np.int64] | None) -> NDArray[np.float32]:
        if self.model is None:
            part = self.matrix[rows]
            part = part if columns is None else part[:, columns]
            return np.asarray(part.toarray() if sp.issparse(part) else part, dtype=np.float32)
        wanted = {} if columns is None else {_list_name(self.kind): self.names[columns].tolist()}
        getter = getattr(self.model, _GETTERS[self.kind])
        values = getter(indices=np.arange(rows.start, rows.stop), return_numpy=True, **wanted)
        dense = np.asarray(values, dtype=np.float32)
        # Every model gives fractions of a cell's transcripts unless told otherwise.
        return np.log1p(TARGET_SUM * dense) if self.kind == RNA else dense


def _check_cells(model: Any, adata: AnnData, where: str) -> None:
    """Refuse a model of other cells: its values would be taken for those of ours by position."""
    held = getattr(model, "adata", None)
    if held is not None and not held.obs_names.equals(adata.obs_names):
        msg = (
            f"{where} is a model of {held.n_obs} cells that are not the {adata.n_obs} of the data "
            "in the same order; take the cells that it was trained on, or impute the others with "
            "its getters and pass the result"
        )
        raise ValueError(msg)


def _list_name(kind: str) -> str:
    return "gene_list" if kind == RNA else "region_list"


def _as_matrix(matrix: Any, adata: AnnData, where: str) -> Any:
    if isinstance(matrix, pd.DataFrame):
        if not matrix.index.equals(adata.obs_names):
            msg = f"the cells of the table {where} are not those of the data in the same order"
            raise ValueError(msg)
        missing = adata.var_names.difference(matrix.columns)
        if len(missing):
            msg = f"the table {where} lacks {len(missing)} of {adata.n_vars} features"
            raise ValueError(msg)
        return matrix[adata.var_names].to_numpy()
    if sp.issparse(matrix):
        matrix = sp.csc_matrix(matrix) if matrix.format == "csc" else sp.csr_matrix(matrix)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        return matrix
    if not isinstance(matrix, np.ndarray):
        msg = (
            f"{where} is of type {type(matrix).__name__}; give an array, a sparse matrix, a table, "
            "the name of a layer, or a fitted model (backed data: adata.to_memory())"
        )
        raise TypeError(msg)
    return np.asarray(matrix)


def normalized(values: Values) -> sp.csr_matrix | NDArray[np.float32]:
    """Scale the stored counts of each cell to a common depth; expression is then ``log1p``-ed.

    Expression is scaled to 10,000 transcripts, accessibility to the median depth of the cells.
    """
    matrix = values.matrix
    depth = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    positive = depth > 0
    target = TARGET_SUM if values.kind == RNA else float(np.median(depth[positive]))
    factor = np.where(positive, target / np.where(positive, depth, 1.0), 0.0)
    if sp.issparse(matrix):
        out = sp.csr_matrix(matrix, dtype=np.float32, copy=True)
        out.data *= np.repeat(factor, np.diff(out.indptr)).astype(np.float32)
        if values.kind == RNA:
            np.log1p(out.data, out=out.data)
        return out
    dense = np.asarray(matrix, dtype=np.float32) * factor[:, None].astype(np.float32)
    return np.log1p(dense) if values.kind == RNA else dense
