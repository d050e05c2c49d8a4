"""Starting values of ATACDiffModule from the training cells, and what is fitted between stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.modules import LatentPrior
from atacvi.pp import fit_spectral, map_spectral
from atacvi.training.cell_parts import at_most, cell_blocks
from atacvi.training.starts import spectral_peak_embeddings

if TYPE_CHECKING:
    import scipy.sparse as sp

# Embeddings of peaks need no more cells than these.
_MAX_CELLS_EMBEDDING = 4_000
# Loadings start as if the prior of this many average cells had been seen beside the data.
_SHRINKAGE = 10.0
# One in so many cells is held out to choose the mixture of the latent prior.
_HELD_OUT_SHARE = 5
_NUMBERS_OF_COMPONENTS = (1, 2, 3, 5, 8, 12, 20, 30, 40)


@torch.no_grad()
def start_from_data(
    module: Any, counts: sp.csr_matrix, train: np.ndarray, random_state: int
) -> None:
    """Set statistics, the spectral map and the decoders of both branches.

    Parameters
    ----------
    module
        An `ATACDiffModule`.
    counts
        Counts as the likelihood sees them, shape (cells, peaks). The spectral map is fitted to all
        of these cells: with validation cells among them those lie where training cells of their
        kind do.
    train
        Which of them are training cells, bool of shape (cells,): statistics and decoders see no
        others.
    random_state
        Seed.
    """
    depth = np.asarray(counts.sum(1, dtype=np.float64)).ravel()
    train = train & (depth > 0)
    module.atac_median_depth.fill_(float(np.median(depth[train])))
    logged = np.log(depth[train])
    module.depth_statistics.copy_(torch.tensor([logged.mean(), max(logged.std(), 1e-3)]))
    total = _sums_over_cells(counts, train[:, None].astype(np.float64))[:, 0]
    # Half a count for each peak keeps the offset of an unseen peak finite.
    offset = np.log((total + 0.5) / (total.sum() + 0.5 * len(total)))
    for head in (module.autoencoder.head, module.auxiliary_decoder):
        head.offset.copy_(torch.as_tensor(offset))
    if module.auxiliary_encoder.spectral is None:
        _start_tables(module, counts, train, random_state)
    else:
        _start_spectral(module, counts, np.where(train, depth, 0.0), total, random_state)


def _sums_over_cells(counts: sp.csr_matrix, of_cells: np.ndarray) -> np.ndarray:
    """Return ``counts.T @ of_cells``, by blocks: SciPy would first copy all counts as float64."""
    sums = np.zeros((counts.shape[1], of_cells.shape[1]))
    for rows in cell_blocks(counts.shape[0]):
        sums += counts[rows].T @ of_cells[rows]
    return sums


def _start_tables(module: Any, counts: sp.csr_matrix, train: np.ndarray, random_state: int) -> None:
    """Set the rows of peaks of encoders that see open peaks."""
    rng = np.random.default_rng(random_state)
    cells = np.flatnonzero(train)
    of_train = counts[cells]
    n_open = np.bincount(of_train.indices, of_train.data > 0, counts.shape[1])
    idf = np.log1p(len(cells) / (1.0 + n_open))
    if len(cells) > _MAX_CELLS_EMBEDDING:
        of_train = of_train[at_most(np.arange(len(cells)), _MAX_CELLS_EMBEDDING, rng)]
    table = spectral_peak_embeddings(of_train, idf, module.autoencoder.table.shape[1], rng)
    for branch in (module.autoencoder, module.auxiliary_encoder):
        branch.encoder.set_statistics(torch.as_tensor(idf))
        branch.table.copy_(torch.as_tensor(table))


def _start_spectral(
    module: Any,
    counts: sp.csr_matrix,
    depth: np.ndarray,
    total: np.ndarray,
    random_state: int,
) -> None:
    """Set the spectral map, and decoders that go with it.

    The loading of a peak on a component is the first Newton step from zero: the covariance of its
    counts with the component over the expected counts, shrunk by a prior, and by the share of the
    component that is noise. `depth` is zero for cells that the decoders must not see, and `total`
    are the counts of each peak in the others.
    """
    spectral = module.auxiliary_encoder.spectral
    n_comps = min(spectral.table.shape[1], counts.shape[0] - 3, counts.shape[1] - 1)
    fit = fit_spectral(counts, n_comps, random_state=random_state)
    input_scale = np.sqrt(np.maximum(fit.eigenvalues, 0.0) / fit.eigenvalues[0])
    parts = (fit.table, fit.degree_weights, fit.idf, fit.scale, input_scale)
    spectral.set_map(*(torch.as_tensor(part) for part in parts))
    components = map_spectral(counts, fit, scaled=False).astype(np.float64)
    centre = (depth @ components) / depth.sum()
    components -= centre
    variance = ((depth @ components**2) / depth.sum()).clip(min=1e-12)
    signal = np.clip(1.0 - fit.noise_eigenvalue / np.maximum(fit.eigenvalues, 1e-12), 0.0, 1.0)
    covariance = _sums_over_cells(counts, components * (depth > 0)[:, None])
    loadings = covariance / (total[:, None] + _SHRINKAGE) * (signal / variance)
    offset = module.autoencoder.head.offset.detach().cpu().numpy()
    _start_autoencoder_head(module.autoencoder, loadings, offset, centre)
    _start_auxiliary_decoder(module.auxiliary_decoder, loadings, offset, centre, fit.scale)


def _start_autoencoder_head(
    autoencoder: Any, loadings: np.ndarray, offset: np.ndarray, centre: np.ndarray
) -> None:
    """Let latents, which start as the components, have these loadings."""
    table, linear = autoencoder.table, autoencoder.head.loadings.weight
    n = min(loadings.shape[1], table.shape[1], linear.shape[1])
    table.zero_()
    table[:, :n].copy_(torch.as_tensor(loadings[:, :n]))
    # Columns without a start are free directions for the correction, small at random.
    free = table[:, n:]
    free.copy_(0.01 * torch.randn(free.shape, generator=torch.Generator().manual_seed(0)))
    torch.nn.init.eye_(linear)
    autoencoder.head.offset.copy_(torch.as_tensor(offset - loadings[:, :n] @ centre[:n]))


def _start_auxiliary_decoder(
    decoder: Any, loadings: np.ndarray, offset: np.ndarray, centre: np.ndarray, scale: np.ndarray
) -> None:
    """Let z, which starts as the components times their scale, have the same effect."""
    n = min(len(centre), decoder.loadings.shape[1])
    known = np.flatnonzero(scale[:n] > 0)
    start = np.zeros((len(offset), decoder.loadings.shape[1]))
    start[:, known] = loadings[:, known] / scale[known]
    decoder.loadings.copy_(torch.as_tensor(start))
    decoder.offset.copy_(torch.as_tensor(offset - loadings[:, known] @ centre[known]))


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
    *,
    batch: np.ndarray | None = None,
    n_batch: int = 1,
) -> LatentPrior:
    """Fit a Gaussian mixture to samples of z and log depth of the training cells.

    Where there are labels each label has a mixture of its own; cells without a label form another.
    Their number, and whether their covariances are full or diagonal, are those under which held-out
    cells are most probable: full ones need many cells, and a few wide ones fill the gaps between
    types with cells that are of none.

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
    batch, n_batch
        Codes of the batches, shape (cells,), and their number; ``None`` is one batch.
    """
    rng = np.random.default_rng(random_state)
    sample = mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    values = np.column_stack([sample, np.log(depth)]).astype(np.float64)
    of_batch = np.eye(n_batch)[np.zeros(len(values), int) if batch is None else batch]
    parts: list[tuple[np.ndarray, ...]] = []
    for label in np.unique(labels):
        cells = labels == label
        weights, means, factors, shares = _fit_mixture(values[cells], max_components, random_state)
        batches = shares.T @ of_batch[cells]
        own = np.full(len(weights), label)
        parts.append(
            (means, factors, weights * cells.mean(), own, batches / batches.sum(1)[:, None])
        )
    means, factors, weights, own, batches = map(np.concatenate, zip(*parts, strict=True))
    return LatentPrior(
        means=torch.as_tensor(means, dtype=torch.float),
        factors=torch.as_tensor(factors, dtype=torch.float),
        weights=torch.as_tensor(weights, dtype=torch.float),
        labels=torch.as_tensor(own).long(),
        batches=torch.as_tensor(batches, dtype=torch.float),
    )


def _fit_mixture(
    values: np.ndarray, max_components: int, random_state: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, means, triangular roots of the covariances, and responsibilities."""
    n, width = values.shape
    if n == 1:  # no covariance: the cell stands for itself
        return np.ones(1), values, np.zeros((1, width, width)), np.ones((1, 1))
    # Dimensions differ in scale by orders of magnitude; EM and its floor need one scale.
    centre, scale = values.mean(0), values.std(0).clip(min=1e-6)
    scaled = (values - centre) / scale
    order = np.random.default_rng(random_state).permutation(n)
    n_held_out = n // _HELD_OUT_SHARE
    seen, held_out = scaled[order[n_held_out:]], scaled[order[:n_held_out]]
    best: tuple[float, str, int] = (-np.inf, "full" if n > 2 * width else "diag", 1)
    for kind, cells_a_component in (("full", 3 * width), ("diag", 10)):
        scores: list[float] = []
        for n_components in _NUMBERS_OF_COMPONENTS:
            too_many = n_components > 1 and len(seen) < cells_a_component * n_components
            if n_held_out == 0 or n_components > max_components or too_many:
                break
            mixture = _mixture(seen, kind, n_components, random_state)
            scores.append(float(mixture.score(held_out)))
            best = max(best, (scores[-1], kind, n_components), key=lambda found: found[0])
            if len(scores) > 3 and max(scores[-3:]) < max(scores[:-3]):
                break  # three in a row without a gain
    mixture = _mixture(scaled, best[1], best[2], random_state)
    if best[1] == "full":
        roots = np.linalg.cholesky(mixture.covariances_)
    else:
        roots = np.stack([np.diag(np.sqrt(variance)) for variance in mixture.covariances_])
    means, factors = mixture.means_ * scale + centre, roots * scale[None, :, None]
    return mixture.weights_, means, factors, mixture.predict_proba(scaled)


def _mixture(values: np.ndarray, kind: str, n_components: int, random_state: int) -> Any:
    """Fit a mixture with full or diagonal covariances."""
    from sklearn.mixture import GaussianMixture

    # A floor that fades with the cells: covariances of few cells are not to be trusted.
    floor = max(1e-3, values.shape[1] / (10.0 * len(values))) if kind == "full" else 1e-2
    return GaussianMixture(
        n_components, covariance_type=kind, reg_covar=floor, random_state=random_state
    ).fit(values)
