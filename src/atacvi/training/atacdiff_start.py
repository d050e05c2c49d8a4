"""Starting values of ATACDiffModule from the training cells, and what is fitted between stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.modules import LatentPrior
from atacvi.pp import fit_spectral, map_spectral
from atacvi.training.starts import spectral_peak_embeddings

if TYPE_CHECKING:
    import scipy.sparse as sp

# Embeddings of peaks need no more cells than these.
_MAX_CELLS_EMBEDDING = 4_000
# Loadings start as if the prior of this many average cells had been seen beside the data.
_SHRINKAGE = 100.0


@torch.no_grad()
def start_autoencoder(module: Any, counts: sp.csr_matrix, rng: np.random.Generator) -> None:
    """Set input statistics, offsets and rows of peaks of both branches.

    Parameters
    ----------
    module
        An `ATACDiffModule`.
    counts
        Counts of training cells as the likelihood sees them, shape (cells, peaks).
    rng
        Generator.
    """
    depth = np.asarray(counts.sum(1)).ravel()
    counts, depth = counts[depth > 0], depth[depth > 0]
    total = np.asarray(counts.sum(0)).ravel().astype(np.float64)
    n_open = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.log1p(len(depth) / (1.0 + n_open))
    module.atac_median_depth.fill_(float(np.median(depth)))
    logged = np.log(depth)
    module.depth_statistics.copy_(torch.tensor([logged.mean(), max(logged.std(), 1e-3)]))
    # Half a count for each peak keeps the offset of an unseen peak finite.
    offset = torch.as_tensor(np.log((total + 0.5) / (total.sum() + 0.5 * len(total))))
    module.autoencoder.head.offset.copy_(offset)
    module.auxiliary_decoder.offset.copy_(offset)
    if len(depth) > _MAX_CELLS_EMBEDDING:
        counts = counts[np.sort(rng.choice(len(depth), _MAX_CELLS_EMBEDDING, replace=False))]
    table = spectral_peak_embeddings(counts, idf, module.autoencoder.table.shape[1], rng)
    for branch in (module.autoencoder, module.auxiliary_encoder):
        branch.encoder.set_statistics(torch.as_tensor(idf))
        branch.table.copy_(torch.as_tensor(table))


@torch.no_grad()
def start_auxiliary(module: Any, counts: sp.csr_matrix, random_state: int) -> None:
    """Set the spectral map of z, and the loadings of the auxiliary decoder to go with it.

    A loading is the first Newton step from zero: the covariance of the peak's counts with z over
    the expected counts, shrunk by a prior.
    """
    encoder, decoder = module.auxiliary_encoder, module.auxiliary_decoder
    if encoder.spectral is None:
        return
    n_comps = min(module.n_latent, counts.shape[0] - 3, counts.shape[1] - 1)
    fit = fit_spectral(counts, n_comps, random_state=random_state)
    encoder.spectral.set_map(*(torch.as_tensor(part) for part in fit[1:4]))
    z = map_spectral(counts, fit).astype(np.float64)
    depth = np.asarray(counts.sum(1)).ravel().astype(np.float64)
    total = np.asarray(counts.sum(0)).ravel().astype(np.float64)
    centre = (depth @ z) / depth.sum()
    z -= centre
    variance = (depth @ z**2) / depth.sum()
    known = variance > 1e-12
    covariance = counts.T @ z[:, known]
    loadings = covariance / ((total[:, None] + _SHRINKAGE) * variance[known])
    start = np.zeros((counts.shape[1], module.n_latent))
    start[:, np.flatnonzero(known)] = loadings
    decoder.loadings.copy_(torch.as_tensor(start))
    full = np.zeros(module.n_latent)
    full[: len(centre)] = centre
    decoder.offset.sub_(torch.as_tensor(start @ full, dtype=decoder.offset.dtype))


@torch.no_grad()
def standardise_latents(module: Any, mean: np.ndarray, variance: np.ndarray) -> None:
    """Set centre and scale of h over the training cells; none for latents on the unit sphere."""
    if module.unit_sphere:
        return
    module.latent_mean.copy_(torch.as_tensor(mean.mean(0)))
    scale = np.sqrt(mean.var(0) + variance.mean(0)).clip(min=1e-4)
    module.latent_scale.copy_(torch.as_tensor(scale))


def fit_latent_prior(
    mean: np.ndarray,
    variance: np.ndarray,
    depth: np.ndarray,
    labels: np.ndarray,
    random_state: int,
    max_components: int = 40,
) -> LatentPrior:
    """Fit a Gaussian mixture to samples of z and log depth of the training cells.

    Where there are labels each label has a mixture of its own; cells without a label form another.
    The number of components is that of the lowest BIC (Schwarz, 1978).

    Parameters
    ----------
    mean, variance
        Posteriors of z, each of shape (cells, n_latent).
    depth
        Library sizes, shape (cells,).
    labels
        Codes, -1 for none, shape (cells,).
    random_state
        Seed.
    max_components
        Components at most, of each label.
    """
    rng = np.random.default_rng(random_state)
    sample = mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    values = np.column_stack([sample, np.log(depth)]).astype(np.float64)
    parts = []
    for label in np.unique(labels):
        of_label = values[labels == label]
        weights, means, factors = _fit_mixture(of_label, max_components, random_state)
        parts.append((weights * len(of_label) / len(values), means, factors, label))
    return LatentPrior(
        torch.as_tensor(np.concatenate([p[1] for p in parts]), dtype=torch.float),
        torch.as_tensor(np.concatenate([p[2] for p in parts]), dtype=torch.float),
        torch.as_tensor(np.concatenate([p[0] for p in parts]), dtype=torch.float),
        torch.as_tensor(np.concatenate([np.full(len(p[0]), p[3]) for p in parts])).long(),
    )


def _fit_mixture(
    values: np.ndarray, max_components: int, random_state: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means and triangular roots of the covariances."""
    from sklearn.mixture import GaussianMixture

    n, width = values.shape
    # Dimensions differ in scale by orders of magnitude; EM and its floor need one scale.
    centre, scale = values.mean(0), values.std(0).clip(min=1e-6)
    scaled = (values - centre) / scale
    fits = []
    for n_components in (1, 2, 3, 5, 8, 12, 20, 30, 40):
        if n_components > max_components or (n_components > 1 and n < 3 * width * n_components):
            break
        # A floor that fades with the cells: covariances of few cells are not to be trusted.
        model = GaussianMixture(
            n_components, reg_covar=max(1e-3, width / (10.0 * n)), random_state=random_state
        ).fit(scaled)
        fits.append((model.bic(scaled), n_components, model))
        if len(fits) > 2 and fits[-1][0] > fits[-2][0] > fits[-3][0]:
            break
    best = min(fits, key=lambda fit: fit[:2])[2]
    factors = np.linalg.cholesky(best.covariances_) * scale[None, :, None]
    return best.weights_, best.means_ * scale + centre, factors
