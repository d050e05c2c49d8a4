"""What the stages of ATACDiffModel take from the cells: starts, latents, mixtures, scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi._constants import COMPONENTS_KEY, LABELS_KEY, SIZE_FACTOR_KEY
from atacvi.models._seed import session_seed
from atacvi.models._streaming import StreamingMixin
from atacvi.training import (
    CellLatents,
    cross_fit,
    fit_latent_prior,
    mixture_of,
    start_autoencoder,
    start_from_data,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import scipy.sparse as sp

    from atacvi.modules import Stage

# Statistics of this many cells are as good as those of all, and bound time and memory.
_MAX_CELLS_START = 20_000
_MAX_CELLS_PROBE = 2_000
# Entries, cells times peaks, that the score after each epoch decodes: it must not outlast the epoch.
_MAX_ENTRIES_PROBE = 50_000_000
_MIN_CELLS_PROBE = 250
_PROBE_BATCH = 512


class StageCellsMixin(StreamingMixin):
    """Passes over the cells between the epochs."""

    module: Any
    adata: Any
    adata_manager: Any
    n_clusters: int | None
    #: Spectral components of training cells from maps without them; by name and number of counts
    cross_fitted_: dict[str, np.ndarray] | None = None

    def _start(self, split: tuple[np.ndarray, ...]) -> None:
        """Set the starting values from the training cells, the map also from the validation's."""
        self.module.n_train.fill_(float(len(split[0])))
        train, mapped = self._cells_of_start(split)
        counts, every = self._counts_of(train), self._counts_of(mapped)
        start_from_data(self.module, counts, every, session_seed())

    def _cells_of_start(self, split: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the training cells, and those that the map is fitted to; a sample of many."""
        rng = np.random.default_rng(session_seed())
        train, mapped = split[0], np.sort(np.concatenate(split[:2]))
        if len(train) > _MAX_CELLS_START:
            train = np.sort(rng.choice(train, _MAX_CELLS_START, replace=False))
        if len(mapped) > _MAX_CELLS_START:
            mapped = np.sort(rng.choice(mapped, _MAX_CELLS_START, replace=False))
        return train, mapped

    def _cross_fit(self, split: tuple[np.ndarray, ...], *, start: bool) -> None:
        """Find where training cells lie in maps without them; start the autoencoder from there.

        Without spectral components there is nothing to do.
        """
        module = self.module
        spectral = module.auxiliary_encoder.spectral
        if spectral is None or not (start or self.cross_fitted_ is None):
            return
        mapped = self._cells_of_start(split)[1]
        counts = self._counts_of(mapped)
        filled = np.asarray(counts.sum(1)).ravel() > 0
        mapped, counts = mapped[filled], counts[filled]
        with torch.random.fork_rng(devices=[]):  # a resumed run draws what the whole one did
            components = self._components_of(mapped)
        used = np.flatnonzero(np.abs(components).max(0) > 0)
        learning = np.isin(mapped, split[0])
        # The folds are the same under every seed: a run may be resumed under another.
        found = cross_fit(counts, components[:, used], learning)
        crossed = np.zeros(components.shape, dtype=np.float32)
        crossed[:, used] = found.components
        self.cross_fitted_ = {
            "names": np.asarray(self.adata.obs_names[mapped], dtype=str),
            "totals": self._totals(self.adata, mapped),
            "components": crossed,
        }
        if start:
            own = np.zeros((counts.shape[1], components.shape[1]))
            own[:, used] = found.own
            start_autoencoder(module, counts[learning], crossed[learning], own)
            self._take_size_factors(mapped[learning], counts[learning])

    @torch.no_grad()
    def _take_size_factors(self, cells: np.ndarray, counts: sp.csr_matrix) -> None:
        """Shift the rates, which were fitted to library sizes, to size factors where given."""
        if SIZE_FACTOR_KEY not in self.adata_manager.data_registry:
            return
        factors = np.asarray(self.adata_manager.get_from_registry(SIZE_FACTOR_KEY)).ravel()[cells]
        shift = np.log(np.asarray(counts.sum(1)).ravel()) - np.log(factors.astype(np.float64))
        self.module.autoencoder.head.offset.add_(float(shift.mean()))

    @torch.inference_mode()
    def _components_of(self, cells: np.ndarray) -> np.ndarray:
        """Return the spectral components of cells by the map, shape (cells, components)."""
        spectral = self.module.auxiliary_encoder.spectral
        parts = [
            spectral.components(self.module.read_batch(tensors).atac).cpu().numpy()
            for _, tensors in super()._minibatches(self.adata, cells, _PROBE_BATCH)
        ]
        return np.concatenate(parts).astype(np.float64)

    def _totals(self, adata: Any, cells: np.ndarray) -> np.ndarray:
        """Return the number of counts of cells."""
        counts = self.get_anndata_manager(adata, required=True).get_from_registry("X")  # type: ignore[attr-defined]
        if hasattr(counts, "sum"):  # in memory, and not to be copied
            return np.asarray(counts.sum(1), dtype=np.float64).ravel()[cells]
        return np.asarray(counts[cells].sum(1), dtype=np.float64).ravel()

    def _crossed_components(self, adata: Any, cells: np.ndarray) -> np.ndarray | None:
        """Return components of those cells that shaped the map, not a number for all others."""
        import pandas as pd

        known = self.cross_fitted_
        if known is None:
            return None
        where = pd.Index(known["names"]).get_indexer(adata.obs_names[cells].astype(str))
        # Under the same name there can be other counts, such as those of a corrupted copy.
        where[known["totals"][where] != self._totals(adata, cells)] = -1
        components = known["components"][where]
        components[where < 0] = np.nan
        return components

    def _minibatches(
        self, adata: Any, cells: np.ndarray, batch_size: int | None
    ) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
        """Yield minibatches with the components of the cells that shaped the map."""
        crossed = self._crossed_components(adata, cells)
        for where, tensors in super()._minibatches(adata, cells, batch_size):
            if crossed is not None:
                tensors[COMPONENTS_KEY] = torch.as_tensor(crossed[where], device=self.module.device)
            yield where, tensors

    def _counts_of(self, cells: np.ndarray) -> sp.csr_matrix:
        """Return the counts of cells as the likelihood sees them."""
        import scipy.sparse as sp

        counts = sp.csr_matrix(self.adata_manager.get_from_registry("X")[cells], dtype=np.float32)
        if self.module.insertions:
            counts.data = np.ceil(counts.data / 2)
        if self.module.likelihood == "bernoulli":
            counts.data = (counts.data > 0).astype(np.float32)
        return counts

    @torch.inference_mode()
    def _latents(self, cells: np.ndarray, *, crossed: bool = True) -> CellLatents:
        """Return the posteriors of cells, in memory; `crossed`, as unseen cells have them."""
        module = self.module
        training = module.training
        module.eval()
        parts: list[tuple[torch.Tensor, ...]] = []
        for _, tensors in self._minibatches(self.adata, cells, _PROBE_BATCH):
            batch = module.read_batch(tensors)
            h = module.latent_posterior(batch)
            z = module.auxiliary_posterior(batch, crossed=crossed)
            values = (*h, *z, batch.label, batch.batch, batch.depth.view(-1))
            parts.append(tuple(value.cpu() for value in values))
        module.train(training)
        return CellLatents(*(torch.cat(values).clone() for values in zip(*parts, strict=True)))

    def _begin_mixture(self, train: np.ndarray) -> None:
        """Fit the mixture to the posteriors of z of the training cells."""
        module, seed = self.module, session_seed()
        latents = self._latents(train, crossed=False)
        mean, variance = latents.z_mean.numpy(), latents.z_variance.numpy()
        labels = None
        if self.n_clusters is None and module.n_labels:
            codes = np.asarray(self.adata_manager.get_from_registry(LABELS_KEY)).ravel()[train]
            if (codes < module.n_labels).all():
                labels = codes
        fit = mixture_of(mean, variance, labels, self.n_clusters, seed, resolution=1.0, weigh=False)
        if len(fit.weights) != module.n_clusters:
            module.resize_mixture(len(fit.weights))
        module.prior.initialize(fit.means, fit.variances, fit.weights)
        module.mixture_active.fill_(True)

    def _probe(self, stage: Stage, validation: np.ndarray) -> Callable[[], dict[str, float]]:
        """Return a function that scores held-out cells, higher is better, with fixed draws."""
        rng = np.random.default_rng(session_seed())
        n_cells = np.clip(
            _MAX_ENTRIES_PROBE // self.module.n_peaks, _MIN_CELLS_PROBE, _MAX_CELLS_PROBE
        )
        if len(validation) > n_cells:
            validation = np.sort(rng.choice(validation, n_cells, replace=False))

        @torch.no_grad()
        def probe() -> dict[str, float]:
            module = self.module
            training = module.training
            module.eval()
            total = 0.0
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(session_seed())
                for where, tensors in self._minibatches(self.adata, validation, _PROBE_BATCH):
                    share = (where.stop - where.start) / len(validation)
                    if stage == "auxiliary":
                        losses = module.auxiliary_loss(module.read_batch(tensors))
                    else:
                        losses = module(tensors)[2]
                    total -= share * float(losses.loss)
            module.train(training)
            return {"held_out": total}

        return probe

    def _fit_prior(self, train: np.ndarray) -> None:
        """Fit what generation draws z and depth from, and note the mean of the covariates."""
        cells = train
        if len(cells) > _MAX_CELLS_START:
            cells = np.sort(
                np.random.default_rng(session_seed()).choice(cells, _MAX_CELLS_START, False)
            )
        latents = self._latents(cells)
        labels = latents.label.numpy().copy()
        labels[labels >= self.module.n_labels] = -1
        self.module.covariate_mean.copy_(self._mean_covariates(cells))
        self.module.set_latent_prior(
            fit_latent_prior(
                latents.z_mean.numpy(),
                latents.z_variance.numpy(),
                latents.depth.numpy(),
                labels,
                session_seed(),
            )
        )

    def _mean_covariates(self, cells: np.ndarray) -> torch.Tensor:
        module, total = self.module, torch.zeros(self.module.n_covariates)
        for _, tensors in self._minibatches(self.adata, cells, _PROBE_BATCH):
            total += module.read_covariates(tensors, None).sum(0).cpu()
        return total / len(cells)
