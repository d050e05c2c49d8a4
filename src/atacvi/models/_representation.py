"""Getters of the latent space: representation, clusters, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from atacvi.models._streaming import StreamingMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

Modality = Literal["joint", "rna", "atac"]
_MODALITIES = ("joint", "rna", "atac")


def check_modality(modality: str) -> None:
    """Raise if `modality` is none of joint, rna and atac.

    Raises
    ------
    ValueError
        In that case.
    """
    if not isinstance(modality, str) or modality not in _MODALITIES:
        msg = f"modality={modality!r} is unknown; choose one of {', '.join(_MODALITIES)}."
        raise ValueError(msg)


class RepresentationMixin(StreamingMixin):
    """Where cells lie, and which cluster they belong to."""

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        modality: Modality = "joint",
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        mc_samples: int = 5000,
        batch_size: int | None = None,
        return_dist: bool = False,
        weighted: bool = True,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the latent of each cell.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        modality
            What the encoder may see: ``"joint"`` takes what each cell has, ``"rna"`` and ``"atac"``
            one modality alone. A cell without counts there lies at the prior's mean, zero.
        indices
            Positions of cells; all when ``None``.
        give_mean
            Return the posterior mean instead of a sample.
        mc_samples
            Kept for the signature of scvi-tools; the mean needs no sampling here.
        batch_size
            Cells per minibatch.
        return_dist
            Return mean and variance of z instead; they are never weighted.
        weighted
            Multiply the latent by the weights with which neighbours know most of counts of held-out
            cells (`atacvi.training.choose_weights`): the model's `latent_units_` is ``"noise"``
            where training chose to measure directions in units of their noise, and its
            `latent_exponent_` is the power of their spread that weights them. ``False`` gives z
            itself, as the decoders take it.

        Returns
        -------
        float32 of shape (cells, n_latent), or two of them.

        Raises
        ------
        ValueError
            If the modality is unknown.

        Examples
        --------
        >>> import atacvi
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=100, n_genes=50, n_peaks=200)
        >>> atacvi.MultiViewModel.setup_mudata(mdata)
        >>> model = atacvi.MultiViewModel(mdata, n_clusters=3)
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> model.get_latent_representation(modality="rna").shape
        (100, 20)
        """
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        check_modality(modality)
        adata, cells = self._cells(adata, indices)
        n_latent = self.module.n_latent  # type: ignore[attr-defined]
        mean = np.empty((len(cells), n_latent), dtype=np.float32)
        variance = np.empty_like(mean)
        for where, tensors in self._minibatches(adata, cells, batch_size):
            posterior = self._posterior(tensors, modality)
            mean[where] = posterior.mean.cpu().numpy()
            variance[where] = posterior.variance.cpu().numpy()
        if return_dist:
            return mean, variance
        latent = mean
        if not give_mean:
            latent = mean + np.sqrt(variance) * torch.randn(mean.shape).numpy()
        if weighted:
            latent = latent @ self.module.latent_weights.cpu().numpy()  # type: ignore[attr-defined]
        return latent

    def _posterior(self, tensors: dict[str, torch.Tensor], modality: Modality) -> Any:
        module = self.module  # type: ignore[attr-defined]
        return module.inference(module.read_batch(tensors), modality)["posterior"]

    @torch.inference_mode()
    def get_cluster_probabilities(
        self,
        adata: AnnData | MuData | None = None,
        modality: Modality = "joint",
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Return the posterior of the cluster of each cell, q(c | x, y).

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        modality
            What the encoder may see.
        indices
            Positions of cells; all when ``None``.
        batch_size
            Cells per minibatch.

        Returns
        -------
        Shape (cells, clusters); rows sum to one.

        Raises
        ------
        ValueError
            If the modality is unknown, or the model has no mixture: its training ended before.

        Examples
        --------
        >>> model.get_cluster_probabilities().shape
        (60, 3)
        >>> from_rna = model.get_cluster_probabilities(modality="rna", indices=[0, 1])
        >>> bool(abs(from_rna.sum(axis=1) - 1).max() < 1e-5)
        True
        """
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        check_modality(modality)
        module = self.module  # type: ignore[attr-defined]
        if not module.mixture_active:
            msg = (
                "The model has no clusters: its training ended before the mixture began. Train for "
                "more epochs, or give an earlier `mixture_start`."
            )
            raise ValueError(msg)
        adata, cells = self._cells(adata, indices)
        probabilities = np.empty((len(cells), module.n_clusters), dtype=np.float32)
        for where, tensors in self._minibatches(adata, cells, batch_size):
            out = module.inference(module.read_batch(tensors), modality)
            probabilities[where] = out["log_responsibilities"].exp().cpu().numpy()
        return pd.DataFrame(
            probabilities,
            index=adata.obs_names[cells],
            columns=[str(k) for k in range(module.n_clusters)],
        )

    def predict_clusters(
        self,
        adata: AnnData | MuData | None = None,
        modality: Modality = "joint",
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Return the most probable cluster of each cell.

        Parameters
        ----------
        adata, modality, indices, batch_size
            As in `get_cluster_probabilities`.

        Returns
        -------
        Categorical of names "0", "1", ..., one per cell, indexed by cell.

        Examples
        --------
        >>> clusters = model.predict_clusters()
        >>> list(clusters.cat.categories), len(clusters)
        (['0', '1', '2'], 60)
        """
        table = self.get_cluster_probabilities(adata, modality, indices, batch_size)
        codes = table.to_numpy().argmax(axis=1)
        values = pd.Categorical.from_codes(codes, categories=list(table.columns))
        return pd.Series(values, index=table.index, name="cluster")

    @torch.inference_mode()
    def get_attention(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """Return which genome block attends to which, averaged over cells.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells, e.g. of one cluster; all when ``None``.
        batch_size
            Cells per minibatch.

        Returns
        -------
        Weights of shape (heads, query blocks, key blocks), whose last axis sums to one, and the
        table of blocks in genome coordinates (chrom, start, end, n_regions), one row a block.

        Raises
        ------
        ValueError
            If the model has no attention over tokens.

        Examples
        --------
        >>> weights, blocks = model.get_attention()
        >>> weights.shape[1:] == (len(blocks), len(blocks))
        True
        >>> list(blocks.columns)
        ['chrom', 'start', 'end', 'n_regions']
        """
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        module = self.module  # type: ignore[attr-defined]
        if module.atac_encoder.attention_type != "tokens":
            msg = (
                f"The model was built with attention={module.atac_encoder.attention_type!r}, which "
                "has no tokens in the genome. Build it with attention='tokens'."
            )
            raise ValueError(msg)
        adata, cells = self._cells(adata, indices)
        n_blocks = module.atac_encoder.n_blocks
        n_heads = module.atac_encoder.attention.n_heads
        total = torch.zeros(n_heads, n_blocks, n_blocks, device=module.device)
        for _, tensors in self._minibatches(adata, cells, batch_size):
            atac = module.read_batch(tensors).atac
            tokens = module.atac_encoder.tokens(atac, module.peak_table, None)
            total += module.atac_encoder.attention.weights(tokens).sum(0)
        return (total / len(cells)).cpu().numpy(), self.peak_block_table.copy()  # type: ignore[attr-defined]
