"""What the stages of ATACDiffModel take from the cells: starts, latents, mixtures, scores."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi._constants import LABELS_KEY
from atacvi.diffusion import cell_generators
from atacvi.models._probe import probe_cells
from atacvi.models._seed import session_seed
from atacvi.models._streaming import StreamingMixin
from atacvi.modules import SamplerOptions
from atacvi.nn import Posterior
from atacvi.training import (
    CellLatents,
    at_most,
    calibrate_guidance,
    fit_latent_prior,
    match_spread,
    mixture_of,
    posteriors_within_groups,
    start_from_data,
    unseen_components,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp

    from atacvi.modules import Stage
    from atacvi.training import UnseenComponents

# Statistics of this many cells are as good as those of all, and bound time and memory.
_MAX_CELLS_START = 20_000
_PROBE_BATCH = 512
# Cells that are drawn to see how far they lie apart.
_CELLS_DRAWN = 500


class StageCellsMixin(StreamingMixin):
    """Passes over the cells between the epochs."""

    module: Any
    adata: Any
    adata_manager: Any
    n_clusters: int | None

    def _start(self, split: tuple[np.ndarray, ...]) -> None:
        """Set the starting values from the training cells, the map also from the validation's."""
        train, validation = split[:2]
        self.module.n_train.fill_(float(len(train)))
        rng = np.random.default_rng(session_seed())
        cells = np.sort(np.concatenate([train, validation]))
        cells = at_most(cells, _MAX_CELLS_START, rng)
        counts = self._counts_of(cells)
        start_from_data(self.module, counts, np.isin(cells, train), session_seed())

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
    def _latents(self, cells: np.ndarray) -> CellLatents:
        """Return the posteriors of cells, in memory."""
        module = self.module
        training = module.training
        module.eval()
        parts: list[tuple[torch.Tensor, ...]] = []
        for _, tensors in self._minibatches(self.adata, cells, _PROBE_BATCH):
            batch = module.read_batch(tensors)
            h, z = module.latent_posterior(batch), module.auxiliary_posterior(batch)
            values = (*h, *z, batch.label, batch.batch, batch.depth.view(-1))
            parts.append(tuple(value.cpu() for value in values))
        module.train(training)
        return CellLatents(*(torch.cat(values).clone() for values in zip(*parts, strict=True)))

    def _begin_mixture(self, train: np.ndarray) -> None:
        """Fit the mixture to the posteriors of z of the training cells."""
        module, seed = self.module, session_seed()
        latents = self._latents(train)
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
        validation = probe_cells(validation, self.module.n_peaks, rng)

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
        cells = at_most(train, _MAX_CELLS_START, np.random.default_rng(session_seed()))
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
                batch=latents.batch.numpy(),
                n_batch=self.module.n_batch,
            )
        )

    def _within_groups(self, latents: CellLatents, n_train: int) -> CellLatents:
        """Return latents with posteriors of h as they are if each group has a prior of its own.

        Groups are the labels; cells without one are of the component of the mixture of z.
        """
        module = self.module
        if module.unit_sphere:  # no variance, no prior
            return latents
        posterior = Posterior(
            latents.z_mean.to(module.device), latents.z_variance.to(module.device)
        )
        cluster = module.log_responsibilities(posterior).argmax(1).cpu()
        known = latents.label < module.n_labels
        groups = torch.where(known, latents.label, module.n_labels + cluster)
        train = torch.arange(len(groups)) < n_train
        mean, variance = posteriors_within_groups(latents.h_mean, latents.h_variance, groups, train)
        return latents._replace(h_mean=mean, h_variance=variance)

    @torch.inference_mode()
    def _calibrate_generation(self, train: np.ndarray) -> None:
        """Set how far apart generated cells lie, and the guidance of those of a label."""
        rng = np.random.default_rng(session_seed())
        train = at_most(train, _MAX_CELLS_START, rng)
        counts = self._counts_of(train)
        components = unseen_components(counts, session_seed())
        self._calibrate_spread(components, 1.0)
        self._calibrate_guidance(train, counts)
        guidance = float(self.module.label_guidance)
        if guidance != 1.0:  # which stretches what labels differ in
            self._calibrate_spread(components, guidance)

    def _calibrate_spread(self, components: list[UnseenComponents], guidance: float) -> None:
        """Stretch what generated cells differ in until they lie as far apart as unseen ones."""
        module, seed, n = self.module, session_seed(), _CELLS_DRAWN
        generator = torch.Generator().manual_seed(seed)
        cells = module.sample_latent_prior(torch.full((n,), -1), generator)
        drawn, _ = self._draw(cells, SamplerOptions(guidance), "latent", _PROBE_BATCH, seed)  # type: ignore[attr-defined]
        h = torch.as_tensor(drawn, device=module.device)
        module.set_spread(None)
        vectors = module.generated_vectors(h, cells.batch)
        centre = vectors.mean(0)

        def draw(matrix: np.ndarray, of_draw: int) -> sp.csr_matrix:
            module.set_spread(torch.as_tensor(matrix, dtype=torch.float), centre)
            generators = cell_generators(seed + 1 + of_draw, range(n))
            return self._draw_peaks(h, cells, "counts", generators)  # type: ignore[attr-defined]

        matrix = None  # also where this is interrupted
        try:
            found = match_spread(vectors.cpu().numpy(), draw, components)
            matrix = torch.as_tensor(found, dtype=torch.float)
        finally:
            module.set_spread(matrix, centre)

    def _calibrate_guidance(self, train: np.ndarray, counts: sp.csr_matrix) -> None:
        """Set how far guidance goes where cells of a label are asked for."""
        module, seed = self.module, session_seed()
        if module.n_labels < 2:
            return
        labels = np.asarray(self.adata_manager.get_from_registry(LABELS_KEY)).ravel()[train]
        labels = np.where(labels >= module.n_labels, -1, labels)
        draw = partial(self._draw_of_labels, seed=seed)  # type: ignore[attr-defined]
        scale = calibrate_guidance(counts, labels, draw, seed)
        module.label_guidance.fill_(scale)

    def _mean_covariates(self, cells: np.ndarray) -> torch.Tensor:
        module, total = self.module, torch.zeros(self.module.n_covariates)
        for _, tensors in self._minibatches(self.adata, cells, _PROBE_BATCH):
            total += module.read_covariates(tensors, None).sum(0).cpu()
        return total / len(cells)
