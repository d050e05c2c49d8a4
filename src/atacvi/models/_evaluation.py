"""How well the model explains data: ELBO, reconstruction error, marginal likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from atacvi.models._streaming import StreamingMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


class EvaluationMixin(StreamingMixin):
    """Scores of the fit, in nats per cell."""

    def _losses(self, adata: object, indices: object, batch_size: int | None) -> dict:
        """Return reconstruction terms and KL of each cell, at a sample of z."""
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)  # type: ignore[arg-type]
        module = self.module  # type: ignore[attr-defined]
        parts: dict[str, list[torch.Tensor]] = {}
        for _, tensors in self._minibatches(adata, cells, batch_size):
            inference, _, losses = module(tensors)
            terms = {**losses.reconstruction_loss, **losses.kl_local}
            for name, value in terms.items():
                parts.setdefault(name, []).append(value.cpu())
        return {name: torch.cat(values) for name, values in parts.items()}

    @torch.inference_mode()
    def get_elbo(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> torch.Tensor:
        """Return the evidence lower bound; higher is better.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        indices
            Positions of cells; all when ``None``.
        batch_size
            Cells per minibatch.
        return_mean
            Return the mean over cells, else one value a cell.

        Returns
        -------
        Nats per cell; a scalar or shape (cells,).

        Examples
        --------
        >>> model.get_elbo().ndim, model.get_elbo(return_mean=False).shape
        (0, torch.Size([60]))
        """
        terms = self._losses(adata, indices, batch_size)
        elbo = -torch.stack(list(terms.values())).sum(0)
        return elbo.mean() if return_mean else elbo

    @torch.inference_mode()
    def get_reconstruction_error(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Return the negative log-likelihood of each modality; lower is better.

        Parameters
        ----------
        adata, indices, batch_size, return_mean
            As in `get_elbo`.

        Returns
        -------
        ``"reconstruction_rna"``, ``"reconstruction_atac"`` and their sum
        ``"reconstruction_loss"``, in nats per cell.

        Examples
        --------
        >>> sorted(model.get_reconstruction_error())
        ['reconstruction_atac', 'reconstruction_loss', 'reconstruction_rna']
        """
        terms = self._losses(adata, indices, batch_size)
        errors = {k: v for k, v in terms.items() if k.startswith("reconstruction")}
        errors["reconstruction_loss"] = torch.stack(list(errors.values())).sum(0)
        return {k: v.mean() if return_mean else v for k, v in errors.items()}

    @torch.inference_mode()
    def get_marginal_ll(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        n_mc_samples: int = 1000,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> float | np.ndarray:
        """Estimate the marginal log-likelihood by importance sampling.

        Parameters
        ----------
        adata, indices, batch_size, return_mean
            As in `get_elbo`.
        n_mc_samples
            Samples of each cell's posterior.

        Returns
        -------
        Nats per cell; a number or shape (cells,).

        Raises
        ------
        ValueError
            If `n_mc_samples` is below one.

        Examples
        --------
        >>> bool(model.get_marginal_ll(indices=[0, 1], n_mc_samples=50) < 0)
        True
        """
        if n_mc_samples < 1:
            msg = f"n_mc_samples={n_mc_samples}; at least one is needed."
            raise ValueError(msg)
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        adata, cells = self._cells(adata, indices)
        module = self.module  # type: ignore[attr-defined]
        values = [
            np.asarray(module.marginal_ll(tensors, n_mc_samples))
            for _, tensors in self._minibatches(adata, cells, batch_size)
        ]
        joined = np.concatenate(values)
        return float(joined.mean()) if return_mean else joined
