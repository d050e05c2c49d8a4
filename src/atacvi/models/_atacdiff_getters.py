"""Getters of ATACDiffModel: latents, clusters, accessibility, imputation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from atacvi.diffusion import cell_generators, draw_noise
from atacvi.models._imputation import LibrarySize, _make_sink, _scale
from atacvi.models._streaming import StreamingMixin
from atacvi.modules import SamplerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

Space = Literal["aux", "ae"]
ImputationMode = Literal["ae", "aux", "diffusion", "partial"]
_SPACES = ("aux", "ae")
_MODES = ("ae", "aux", "diffusion", "partial")
_NEEDED = {
    "ae": ("autoencoder",),
    "aux": ("auxiliary",),
    "diffusion": ("autoencoder", "auxiliary", "diffusion"),
    "partial": ("autoencoder", "auxiliary", "diffusion"),
}


class ATACDiffGettersMixin(StreamingMixin):
    """Where cells lie, and what is accessible in them."""

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        space: Space = "aux",
        give_mean: bool = True,
        normalize: bool = False,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the latent of each cell.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells; all when ``None``.
        space
            ``"aux"`` for the semantic latent z, ``"ae"`` for the autoencoder's h.
        give_mean
            Return the posterior mean instead of a sample.
        normalize
            Scale to unit length, as the publication does for clustering.
        batch_size
            Cells per minibatch.
        return_dist
            Return mean and variance instead.

        Returns
        -------
        float32 of shape (cells, dimensions), or two of them.

        Raises
        ------
        ValueError
            If the space is unknown.

        Examples
        --------
        >>> model.get_latent_representation().shape
        (60, 4)
        >>> mean, variance = model.get_latent_representation(space="ae", return_dist=True)
        >>> mean.shape == variance.shape
        True
        """
        if space not in _SPACES:
            msg = f"space={space!r} is unknown; choose one of {', '.join(_SPACES)}."
            raise ValueError(msg)
        self._require_stages("auxiliary" if space == "aux" else "autoencoder")  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        means, variances = [], []
        for _, out in self._inferred(adata, cells, batch_size):
            mean, variance = out["auxiliary" if space == "aux" else "posterior"]
            means.append(mean.cpu().numpy())
            variances.append(variance.cpu().numpy())
        mean, variance = np.concatenate(means), np.concatenate(variances)
        if return_dist:
            return mean, variance
        if not give_mean:
            mean = mean + np.sqrt(variance) * torch.randn(mean.shape).numpy()
        if normalize:
            mean = mean / np.linalg.norm(mean, axis=1, keepdims=True).clip(min=1e-12)
        return mean

    def _inferred(
        self, adata: Any, cells: np.ndarray, batch_size: int | None
    ) -> Iterator[tuple[slice, dict[str, Any]]]:
        module = self.module  # type: ignore[attr-defined]
        for where, tensors in self._minibatches(adata, cells, batch_size):
            yield where, module.inference(module.read_batch(tensors))

    @torch.inference_mode()
    def get_cluster_probabilities(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Return the posterior of the mixture component of each cell, q(c | x).

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.

        Returns
        -------
        Shape (cells, clusters); rows sum to one.

        Examples
        --------
        >>> probabilities = model.get_cluster_probabilities()
        >>> bool(abs(probabilities.sum(axis=1) - 1).max() < 1e-5)
        True
        """
        self._require_stages("auxiliary")  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        parts = [
            out["log_responsibilities"].exp().cpu().numpy()
            for _, out in self._inferred(adata, cells, batch_size)
        ]
        columns = [str(k) for k in range(self.module.n_clusters)]  # type: ignore[attr-defined]
        return pd.DataFrame(np.concatenate(parts), index=adata.obs_names[cells], columns=columns)

    def predict_clusters(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Return the most probable component of each cell.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.

        Returns
        -------
        Categorical of names "0", "1", ..., one per cell, indexed by cell.

        Examples
        --------
        >>> clusters = model.predict_clusters()
        >>> len(clusters), clusters.dtype.name
        (60, 'category')
        """
        table = self.get_cluster_probabilities(adata, indices, batch_size)
        codes = table.to_numpy().argmax(axis=1)
        values = pd.Categorical.from_codes(codes, categories=list(table.columns))
        return pd.Series(values, index=table.index, name="cluster")

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
        mode: ImputationMode = "ae",
        batch_size: int | None = None,
        return_numpy: bool = False,
        output: str | Path | None = None,
        **sampling: Any,
    ) -> Any:
        """Return expected accessibility, as the mean of the Poisson process.

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
            Samples to average over, where there is chance.
        use_z_mean
            Decode posterior means, which always gives the same result.
        threshold
            Set values below it to zero and return a `scipy.sparse.csr_matrix`.
        mode
            Where it is decoded from, see `impute`.
        batch_size
            Cells per minibatch.
        return_numpy
            Return an array without names.
        output
            Path of a zarr array to write, float32 of shape (cells, regions), cut by minibatch.
        **sampling
            ``t_start``, ``n_steps``, ``sampler``, ``eta``, ``guidance_scale`` and ``seed`` of the
            modes with diffusion.

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
        >>> peaks = adata.var_names[:5]
        >>> model.get_normalized_accessibility(region_list=peaks).shape
        (60, 5)
        >>> model.get_normalized_accessibility(threshold=0.1).format  # values above it, sparse
        'csr'
        """
        if mode not in _MODES:
            msg = f"mode={mode!r} is unknown; choose one of {', '.join(_MODES)}."
            raise ValueError(msg)
        self._require_stages(*_NEEDED[mode])  # type: ignore[attr-defined]
        if n_samples < 1:
            msg = f"n_samples={n_samples}; at least one is needed."
            raise ValueError(msg)
        known, module = self.region_names, self.module  # type: ignore[attr-defined]
        regions = self._names(region_list, known, "region_list")
        adata, cells = self._cells(adata, indices)
        code = self._batch_code(transform_batch)
        columns = None if region_list is None else torch.as_tensor(regions, device=module.device)
        sink = _make_sink(output, threshold, (len(cells), len(regions)), batch_size or 128)
        n_draws = n_samples if mode in ("diffusion", "partial") or not use_z_mean else 1
        for where, tensors in self._minibatches(adata, cells, batch_size):
            out = module.inference(module.read_batch(tensors))
            covariates = module.read_covariates(tensors, code)
            scale = _scale(library_size, out["batch"].depth, module.atac_median_depth)
            total: Any = 0.0
            for draw in range(n_draws):
                log_rates = self._log_rates(
                    mode, out, covariates, columns, cells[where], use_z_mean, draw, **sampling
                )
                total = total + log_rates.exp()
            sink.write(where, (total * (scale / n_draws)).cpu().numpy())
        result = sink.result()
        if return_numpy or threshold is not None or output is not None:
            return result
        return pd.DataFrame(result, index=adata.obs_names[cells], columns=known[regions])

    def _log_rates(
        self,
        mode: ImputationMode,
        out: dict[str, Any],
        covariates: torch.Tensor,
        columns: torch.Tensor | None,
        cells: np.ndarray,
        use_z_mean: bool,
        draw: int,
        t_start: float = 0.3,
        seed: int = 0,
        guidance_scale: float = 1.0,
        sampler: str | None = None,
        n_steps: int | None = None,
        eta: float = 0.0,
    ) -> torch.Tensor:
        """Return log-rates of a minibatch, decoded from what `mode` says."""
        module, batch = self.module, out["batch"]  # type: ignore[attr-defined]
        if not 0 <= t_start <= 1:
            msg = f"t_start={t_start}; it must lie between 0 (the cell as it is) and 1 (noise)."
            raise ValueError(msg)
        z, h = (
            mean if use_z_mean else mean + variance.sqrt() * torch.randn_like(mean)
            for mean, variance in (out["auxiliary"], out["posterior"])
        )
        if mode == "aux":
            return module.auxiliary_log_rates(z, covariates, columns)
        if mode != "ae":
            start = 1.0 if mode == "diffusion" else t_start
            # A number for each cell and draw, whichever minibatch the cell is in
            numbers = (int(cell) * 1_000_003 + draw for cell in cells)
            generators = cell_generators(seed, numbers)
            noise = draw_noise(tuple(h.shape), generators, device=h.device)
            if start < 1.0:
                known = (h - module.latent_mean) / module.latent_scale
                time = torch.full((len(h),), start, device=h.device)
                noise = module.process.corrupt(known, noise, time)
            options = SamplerOptions(guidance_scale, sampler, n_steps, eta, start)
            h = module.sample_latents(
                z, batch.label, batch.batch, batch.depth.view(-1), noise, options, generators
            )
        return module.peak_log_rates(module.autoencoder.decode(h, covariates), columns)

    def impute(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        mode: ImputationMode = "ae",
        n_samples: int = 1,
        t_start: float = 0.3,
        **kwargs: Any,
    ) -> Any:
        """Return expected accessibility of cells with their gaps filled.

        Parameters
        ----------
        adata, indices
            As in `get_normalized_accessibility`.
        mode
            ``"ae"`` decodes the autoencoder's latent, ``"aux"`` the semantic latent z through the
            auxiliary decoder, ``"diffusion"`` a latent drawn given z, ``"partial"`` the
            autoencoder's latent, noised up to `t_start` and denoised given z.
        n_samples
            Draws to average over, for the modes with diffusion.
        t_start
            Time up to which ``"partial"`` noises, between 0 and 1.
        **kwargs
            Further arguments of `get_normalized_accessibility`, such as ``region_list``.

        Returns
        -------
        As `get_normalized_accessibility`.

        Examples
        --------
        >>> for mode in ("ae", "aux", "diffusion", "partial"):
        ...     print(mode, model.impute(indices=[0, 1], mode=mode).shape)
        ae (2, 100)
        aux (2, 100)
        diffusion (2, 100)
        partial (2, 100)
        """
        if mode in ("diffusion", "partial"):
            kwargs = {"t_start": t_start, **kwargs}
        return self.get_normalized_accessibility(
            adata, indices, mode=mode, n_samples=n_samples, **kwargs
        )

    def denoise(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 10,
        t_start: float = 0.3,
        **kwargs: Any,
    ) -> Any:
        """Return accessibility after partial diffusion: `impute` with ``mode="partial"``.

        Parameters
        ----------
        adata, indices, n_samples, t_start, **kwargs
            As in `impute`.

        Returns
        -------
        As `get_normalized_accessibility`.

        Examples
        --------
        >>> model.denoise(indices=[0, 1], n_samples=2).shape
        (2, 100)
        """
        return self.impute(
            adata, indices, mode="partial", n_samples=n_samples, t_start=t_start, **kwargs
        )

    @torch.inference_mode()
    def posterior_predictive_sample(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
    ) -> sp.csr_matrix | list[sp.csr_matrix]:
        """Draw accessibility from the posterior predictive of the autoencoder.

        Parameters
        ----------
        adata, indices, batch_size
            As in `get_latent_representation`.
        n_samples
            Draws per cell.

        Returns
        -------
        Sparse counts of shape (cells, peaks), a list of them where `n_samples` is more than one.

        Examples
        --------
        >>> model.posterior_predictive_sample(indices=[0, 1, 2]).shape
        (3, 100)
        """
        self._require_stages("autoencoder")  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        draws: list[list[sp.csr_matrix]] = [[] for _ in range(n_samples)]
        for _, tensors in self._minibatches(adata, cells, batch_size):
            for parts in draws:
                drawn = self.module.sample(tensors)  # type: ignore[attr-defined]
                place = (drawn.rows.cpu().numpy(), drawn.cols.cpu().numpy())
                values = drawn.values.cpu().numpy().astype(np.int32)
                parts.append(sp.csr_matrix((values, place), shape=drawn.shape))
        stacked = [sp.vstack(parts, format="csr") for parts in draws]
        return stacked[0] if n_samples == 1 else stacked
