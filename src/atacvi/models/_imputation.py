"""Getters of expression and accessibility, streamed over cells and cut to the features asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from atacvi.models._representation import Modality, check_modality
from atacvi.models._streaming import StreamingMixin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

LibrarySize = float | Literal["latent", "median"]


class ImputationMixin(StreamingMixin):
    """Imputed profiles, from both modalities of a cell or from either alone."""

    @torch.inference_mode()
    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: LibrarySize = 1,
        n_samples: int = 1,
        use_z_mean: bool = True,
        from_modality: Modality = "joint",
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Return expected expression.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells; all when ``None``.
        transform_batch
            Batch as which to decode all cells; ``None`` keeps their own.
        gene_list
            Genes to return; all when ``None``. Values are fractions of all genes all the same.
        library_size
            Counts to which a cell's expression sums: a number, ``"latent"`` for the cell's own
            depth or ``"median"`` for the median depth of the training cells.
        n_samples
            Posterior samples to average over, where `use_z_mean` is false.
        use_z_mean
            Decode the posterior mean, which always gives the same result.
        from_modality
            Impute from ``"joint"``, ``"rna"`` or ``"atac"`` alone.
        batch_size
            Cells per minibatch.
        return_numpy
            Return an array without names.

        Returns
        -------
        Shape (cells, genes).

        Raises
        ------
        KeyError
            If a gene is unknown.
        ValueError
            If an argument is unknown or not positive.

        Examples
        --------
        >>> fractions = model.get_normalized_expression()
        >>> fractions.shape, bool(abs(fractions.sum(axis=1) - 1).max() < 1e-5)
        ((60, 20), True)
        >>> genes = mdata["rna"].var_names[:3]
        >>> model.get_normalized_expression(
        ...     gene_list=genes, from_modality="atac", library_size=1e4
        ... ).shape
        (60, 3)
        """
        genes = self._names(gene_list, self.gene_names, "gene_list")  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        columns = torch.as_tensor(genes, device=self.module.device)  # type: ignore[attr-defined]
        median = self.module.rna_encoder.median_depth  # type: ignore[attr-defined]
        values = np.empty((len(cells), len(genes)), dtype=np.float32)
        for where, batch, outs in self._decoded(
            adata, cells, batch_size, from_modality, transform_batch, n_samples, use_z_mean
        ):
            scale = _scale(library_size, batch.rna_depth, median)
            mean = sum(out["log_expression"][:, columns].exp() for out in outs) / len(outs)
            values[where] = (mean * scale).cpu().numpy()
        if return_numpy:
            return values
        names = self.gene_names[genes]  # type: ignore[attr-defined]
        return pd.DataFrame(values, index=adata.obs_names[cells], columns=names)

    @torch.inference_mode()
    def get_normalized_accessibility(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | int | None = None,
        region_list: Sequence[str] | None = None,
        library_size: LibrarySize = "median",
        n_samples: int = 1,
        use_z_mean: bool = True,
        threshold: float | None = None,
        from_modality: Modality = "joint",
        batch_size: int | None = None,
        return_numpy: bool = False,
        output: str | Path | None = None,
    ) -> Any:
        """Return expected accessibility, the Poisson mean without zero inflation.

        Only the regions asked for are multiplied out. For all regions of many cells give a
        `threshold`, which returns a sparse matrix, or an `output`, which is written as it comes.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells; all when ``None``.
        transform_batch
            Batch as which to decode all cells; ``None`` keeps their own.
        region_list
            Regions to return; all when ``None``.
        library_size
            Depth at which to give it: a number of counts, ``"latent"`` for the cell's own depth or
            ``"median"`` for the median depth of the training cells.
        n_samples
            Posterior samples to average over, where `use_z_mean` is false.
        use_z_mean
            Decode the posterior mean, which always gives the same result.
        threshold
            Set values below it to zero and return a `scipy.sparse.csr_matrix`.
        from_modality
            Impute from ``"joint"``, ``"rna"`` or ``"atac"`` alone.
        batch_size
            Cells per minibatch.
        return_numpy
            Return an array without names.
        output
            Path of a zarr array to write, float32 of shape (cells, regions), cut by minibatch.

        Returns
        -------
        DataFrame of shape (cells, regions); array, sparse matrix or path as asked for.

        Raises
        ------
        KeyError
            If a region is unknown.
        ValueError
            If an argument is unknown or not positive, or the output exists.

        Examples
        --------
        >>> peaks = mdata["atac"].var_names[:5]
        >>> model.get_normalized_accessibility(region_list=peaks).shape
        (60, 5)
        >>> from_rna = model.get_normalized_accessibility(indices=[0, 1], from_modality="rna")
        >>> from_rna.shape
        (2, 100)
        >>> model.get_normalized_accessibility(threshold=0.1).format  # values above it, sparse
        'csr'
        """
        known = self.region_names  # type: ignore[attr-defined]
        regions = self._names(region_list, known, "region_list")
        adata, cells = self._cells(adata, indices)
        module = self.module  # type: ignore[attr-defined]
        columns = None if region_list is None else torch.as_tensor(regions, device=module.device)
        sink = _make_sink(output, threshold, (len(cells), len(regions)), batch_size or 128)
        for where, batch, outs in self._decoded(
            adata, cells, batch_size, from_modality, transform_batch, n_samples, use_z_mean
        ):
            scale = _scale(library_size, batch.atac_depth, module.atac_median_depth)
            rates = sum(module.peak_log_rates(o["peak_vector"], columns).exp() for o in outs)
            sink.write(where, (rates * (scale / len(outs))).cpu().numpy())
        result = sink.result()
        if return_numpy or threshold is not None or output is not None:
            return result
        return pd.DataFrame(result, index=adata.obs_names[cells], columns=known[regions])

    def _decoded(
        self,
        adata: Any,
        cells: np.ndarray,
        batch_size: int | None,
        modality: Modality,
        transform_batch: str | int | None,
        n_samples: int,
        use_z_mean: bool,
    ) -> Iterator[tuple[slice, Any, list[dict[str, torch.Tensor]]]]:
        """Yield place, minibatch and decoder outputs of each sample."""
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        check_modality(modality)
        code = self._batch_code(transform_batch)
        module = self.module  # type: ignore[attr-defined]
        for where, tensors in self._minibatches(adata, cells, batch_size):
            inference = module.inference(module.read_batch(tensors), modality)
            covariates = module.read_covariates(tensors, code)
            responsibilities = inference["log_responsibilities"].exp()
            draws = 1 if use_z_mean else n_samples
            outs = [
                module.generative(
                    inference["qz"].loc if use_z_mean else inference["qz"].sample(),
                    responsibilities,
                    covariates,
                )
                for _ in range(draws)
            ]
            yield where, inference["batch"], outs

    @torch.inference_mode()
    def posterior_predictive_sample(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
    ) -> dict[str, sp.csr_matrix | list[sp.csr_matrix]]:
        """Draw counts of both modalities from the posterior predictive.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells; all when ``None``.
        n_samples
            Draws per cell.
        batch_size
            Cells per minibatch.

        Returns
        -------
        ``"rna"`` and ``"atac"``: sparse counts of shape (cells, features), a list of them where
        `n_samples` is more than one.

        Examples
        --------
        >>> drawn = model.posterior_predictive_sample(indices=[0, 1, 2])
        >>> drawn["rna"].shape, drawn["atac"].shape
        ((3, 20), (3, 100))
        """
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        draws: list[dict[str, list[sp.csr_matrix]]] = [
            {"rna": [], "atac": []} for _ in range(n_samples)
        ]
        for _, tensors in self._minibatches(adata, cells, batch_size):
            for draw in draws:
                rna, atac = self.module.sample(tensors)  # type: ignore[attr-defined]
                draw["rna"].append(sp.csr_matrix(rna.cpu().numpy().astype(np.int32)))
                draw["atac"].append(sp.csr_matrix(atac.cpu().numpy().astype(np.int32)))
        stacked = {
            name: [sp.vstack(draw[name], format="csr") for draw in draws]
            for name in ("rna", "atac")
        }
        return {name: parts[0] if n_samples == 1 else parts for name, parts in stacked.items()}


def _scale(
    library_size: LibrarySize, own: torch.Tensor, median: torch.Tensor
) -> torch.Tensor | float:
    if library_size == "latent":
        return own
    if library_size == "median":
        return float(median)
    if isinstance(library_size, str) or not library_size > 0:
        msg = (
            f"library_size={library_size!r}: give a positive number, 'latent' for each cell's own "
            "depth, or 'median' for the median depth of the training cells."
        )
        raise ValueError(msg)
    return float(library_size)


class _DenseSink:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.values = np.empty(shape, dtype=np.float32)

    def write(self, where: slice, block: np.ndarray) -> None:
        self.values[where] = block

    def result(self) -> np.ndarray:
        return self.values


class _SparseSink:
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.blocks: list[sp.csr_matrix] = []

    def write(self, where: slice, block: np.ndarray) -> None:
        block[block < self.threshold] = 0.0
        self.blocks.append(sp.csr_matrix(block))

    def result(self) -> sp.csr_matrix:
        return sp.vstack(self.blocks, format="csr")


class _ZarrSink:
    """Writes to a passing name and renames at the end, so that no half array stays behind."""

    def __init__(self, path: Path, shape: tuple[int, int], rows: int) -> None:
        import zarr

        self.path, self.unfinished = path, path.with_name(path.name + ".tmp")
        self.array = zarr.create_array(
            store=str(self.unfinished),
            shape=shape,
            chunks=(max(1, min(rows, shape[0])), max(1, min(shape[1], 16_384))),
            dtype="float32",
            overwrite=True,
        )

    def write(self, where: slice, block: np.ndarray) -> None:
        self.array[where] = block

    def result(self) -> Path:
        self.unfinished.rename(self.path)
        return self.path


def _make_sink(
    output: str | Path | None, threshold: float | None, shape: tuple[int, int], rows: int
) -> _DenseSink | _SparseSink | _ZarrSink:
    if threshold is not None and output is not None:
        msg = "Give either `threshold` (a sparse matrix is returned) or `output`, not both."
        raise ValueError(msg)
    if threshold is not None:
        return _SparseSink(threshold)
    if output is None:
        return _DenseSink(shape)
    path = Path(output)
    if path.exists():
        msg = f"output={str(path)!r} exists; remove it or give another path."
        raise ValueError(msg)
    return _ZarrSink(path, shape, rows)
