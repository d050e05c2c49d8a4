"""Starting values of CRAFTModule: principal components, and canonical directions shared by both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    import scipy.sparse as sp

    from atacvi.modules import CRAFTModule
    from atacvi.nn import EmbeddingEncoder, ExpressionEncoder

# Shares of the mean variance that are added to each variance; the best of them is taken
_RIDGES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
_N_FOLDS = 3
_MAX_CORRELATION = 0.99
# Directions that no held-out correlation speaks for keep a little weight, so that they can learn
_MIN_WEIGHT = 0.02
_LOGIT_SCALES = np.linspace(0.0, 4.6, 24)
_MAX_CELLS_PCA = 20_000
_N_PROBE = 2_000
# Average cells whose worth of counts at the mean is added to what a gene's cells say
_SHRINK_CELLS = 50.0


class CanonicalDirections(NamedTuple):
    """Directions in two spaces whose coordinates correlate, best first.

    Parameters
    ----------
    first, second
        Directions as columns, shapes (width, directions); coordinates have variance about 1.
    correlation
        Held-out correlation of each pair of coordinates, shape (directions,), within [0, 1).
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray


def canonical_directions(
    first: np.ndarray, second: np.ndarray, random_state: int = 0
) -> CanonicalDirections:
    r"""Regularised canonical correlation analysis, judged on held-out cells.

    The ridge is the one of a few with the largest held-out information
    :math:`-\tfrac12 \sum_i \log(1 - \rho_i^2)`; the correlations returned are the held-out ones,
    since those of the training cells say little where cells are few.

    Parameters
    ----------
    first, second
        Centred coordinates of the same cells, shapes (cells, widths).
    random_state
        Seed of the folds.

    Returns
    -------
    As many directions as the narrower space has.

    References
    ----------
    Vinod, "Canonical ridge and econometrics of joint production", J. Econometrics 4, 147 (1976).

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import canonical_directions
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(300, 1))
    >>> one, two = (np.hstack([shared, rng.normal(size=(300, 2))]) for _ in range(2))
    >>> canonical_directions(one, two).correlation.round(1).tolist()
    [1.0, 0.1, 0.0]
    """
    fold = np.random.default_rng(random_state).permutation(len(first)) % _N_FOLDS
    best: tuple[float, float, np.ndarray] | None = None
    for ridge in _RIDGES:
        found = np.zeros(min(first.shape[1], second.shape[1]))
        for number in range(_N_FOLDS):
            train, test = fold != number, fold == number
            one, two = _solve(first[train], second[train], ridge)
            found += _correlations(first[test] @ one, second[test] @ two) / _N_FOLDS
        found = np.clip(found, 0.0, _MAX_CORRELATION)
        information = float(-0.5 * np.log1p(-(found**2)).sum())
        if best is None or information > best[0]:
            best = (information, ridge, found)
    assert best is not None
    return CanonicalDirections(*_solve(first, second, best[1]), best[2])


def _solve(first: np.ndarray, second: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return directions of both spaces, their coordinates scaled to variance 1."""
    whiten = [_inverse_root(x.T @ x / len(x), ridge) for x in (first, second)]
    cross = whiten[0] @ (first.T @ second / len(first)) @ whiten[1]
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    directions = []
    for coordinates, rotation in ((first, whiten[0] @ left), (second, whiten[1] @ right.T)):
        deviation = np.sqrt(((coordinates @ rotation) ** 2).mean(axis=0))
        directions.append(rotation / np.maximum(deviation, 1e-12))
    return directions[0], directions[1]


def _inverse_root(covariance: np.ndarray, ridge: float) -> np.ndarray:
    width = len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0) + ridge * max(np.trace(covariance) / width, 1e-12)
    return (vectors / np.sqrt(values)) @ vectors.T


def _correlations(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    norm = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return (one * two).sum(axis=0) / np.maximum(norm, 1e-12)


@torch.no_grad()
def start_expression_encoder(
    encoder: ExpressionEncoder, counts: sp.csr_matrix, random_state: int = 0
) -> None:
    """Set the statistics of expression, and let the linear map be its principal components.

    Parameters
    ----------
    encoder
        Changed in place.
    counts
        Counts of the training cells, CSR of shape (cells, genes).
    random_state
        Seed.
    """
    import scipy.sparse as sp
    from scipy.sparse.linalg import LinearOperator

    rng = np.random.default_rng(random_state)
    if counts.shape[0] > _MAX_CELLS_PCA:
        chosen = rng.choice(counts.shape[0], _MAX_CELLS_PCA, replace=False)
        counts = counts[np.sort(chosen)]
    depth = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    median = float(np.median(depth))
    logged = counts.astype(np.float64)
    per_entry = np.repeat(median / np.maximum(depth, 1.0), np.diff(counts.indptr))
    logged.data = np.log1p(logged.data * per_entry)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    square = np.asarray(logged.multiply(logged).mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    encoder.set_statistics(median, torch.as_tensor(mean), torch.as_tensor(deviation))
    scaled = sp.csr_matrix(logged @ sp.diags(encoder.inverse_deviation.double().cpu().numpy()))
    scaled.data = np.minimum(scaled.data, 10.0)
    shift = np.asarray(scaled.mean(axis=0)).ravel()
    # centred without making zeros dense
    ones = np.ones(scaled.shape[0])
    centred = LinearOperator(
        scaled.shape,
        matvec=lambda v: scaled @ v - ones * (shift @ v),
        rmatvec=lambda v: scaled.T @ v - shift * (ones @ v),
        matmat=lambda v: scaled @ v - np.outer(ones, shift @ v),
        rmatmat=lambda v: scaled.T @ v - np.outer(shift, ones @ v),
        dtype=np.float64,
    )
    n_found = min(encoder.n_output, min(scaled.shape) - 1)
    if n_found < 1:
        return
    seed = int(rng.integers(2**31 - 1))
    directions = _leading_directions(centred, n_found, seed)
    variance = max(float((encoder.inverse_deviation > 0).sum()) / max(n_found, 1), 1e-12)
    encoder.table.zero_()
    encoder.table[:, :n_found] = torch.as_tensor(directions / variance**0.5).to(encoder.table)


def _leading_directions(matrix: Any, n_found: int, seed: int, n_power: int = 4) -> np.ndarray:
    """Return leading right singular vectors as columns, by subspace iteration."""
    rng = np.random.default_rng(seed)
    width = min(n_found + 10, min(matrix.shape))
    basis = np.linalg.qr(rng.normal(size=(matrix.shape[1], width)))[0]
    for _ in range(n_power):
        basis = np.linalg.qr(matrix.rmatmat(np.linalg.qr(matrix.matmat(basis))[0]))[0]
    _, _, rotation = np.linalg.svd(matrix.matmat(basis), full_matrices=False)
    found = basis @ rotation.T[:, :n_found]
    # the sign of a direction is arbitrary: its largest entry is positive
    largest = np.abs(found).argmax(axis=0)
    return found * np.sign(found[largest, np.arange(n_found)])


@torch.no_grad()
def start_embedding_encoder(encoder: EmbeddingEncoder, embedding: np.ndarray) -> None:
    """Set centre and scale of a given embedding from the training cells."""
    mean = embedding.mean(axis=0)
    encoder.set_statistics(torch.as_tensor(mean), float((embedding - mean).std()))


@torch.no_grad()
def start_alignment(
    module: CRAFTModule, rna: np.ndarray, atac: np.ndarray, random_state: int = 0
) -> CanonicalDirections:
    r"""Let both projections start as canonical directions, and the temperature as what fits them.

    Directions are weighted by the root of their held-out correlation, so that the inner product of
    a cell's two vectors adds up what both modalities tell of each other.

    Parameters
    ----------
    module
        Changed in place.
    rna, atac
        What the two encoders give for the training cells, shapes (cells, widths).
    random_state
        Seed.

    Returns
    -------
    The directions.
    """
    rna, atac = rna.astype(np.float64), atac.astype(np.float64)
    centres = rna.mean(axis=0), atac.mean(axis=0)
    spreads = [max(float((x - m).std()), 1e-6) for x, m in zip((rna, atac), centres, strict=True)]
    module.gene_spread.fill_(spreads[0])
    module.atac_spread.fill_(spreads[1])
    one, two = ((x - m) / s for x, m, s in zip((rna, atac), centres, spreads, strict=True))
    found = canonical_directions(one, two, random_state)
    n_latent = module.gene_projection.out_features
    n_used = min(n_latent, len(found.correlation))
    weight = np.sqrt(np.maximum(found.correlation[:n_used], _MIN_WEIGHT**2))
    rng = np.random.default_rng([random_state, 1])
    for projection, buffer, directions, centre in (
        (module.gene_projection, module.gene_centre, found.first, centres[0]),
        (module.atac_projection, module.atac_centre, found.second, centres[1]),
    ):
        rows = 1e-3 * rng.normal(size=projection.weight.shape)
        rows[:n_used] = (directions[:, :n_used] * weight).T
        projection.weight.copy_(torch.as_tensor(rows))
        buffer.copy_(torch.as_tensor(centre))
    chosen = rng.permutation(len(rna))[:_N_PROBE]
    device = module.logit_scale.device
    module.eval()  # in training the mean would be that of these cells
    one, two = (
        project(torch.as_tensor(x[chosen], dtype=torch.float32, device=device)).cpu().numpy()
        for project, x in ((module.project_rna, rna), (module.project_atac, atac))
    )
    module.logit_scale.fill_(best_logit_scale(one, two)[0])
    return found


def best_logit_scale(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the logarithm of the inverse temperature at which the contrast is least, and it.

    Parameters
    ----------
    first, second
        Unit vectors of both modalities, shapes (cells, width).

    Returns
    -------
    Scale and loss.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import best_logit_scale
    >>> scale, loss = best_logit_scale(np.eye(4), np.eye(4))
    >>> scale > 3, loss < 1e-6
    (True, True)
    """
    from scipy.special import logsumexp

    cosine = first.astype(np.float64) @ second.T.astype(np.float64)
    matched = np.diag(cosine)
    losses = []
    for scale in np.exp(_LOGIT_SCALES):
        sums = logsumexp(scale * cosine, axis=1) + logsumexp(scale * cosine, axis=0)
        losses.append(float((sums / 2 - scale * matched).mean()))
    best = int(np.argmin(losses))
    return float(_LOGIT_SCALES[best]), losses[best]


@torch.no_grad()
def start_decoder(
    module: CRAFTModule, cells: np.ndarray, counts: sp.csr_matrix, n_tokens: np.ndarray
) -> None:
    """Let the decoder start as a log-linear model, and set its prediction of the depth.

    For normal embeddings the loadings of a gene are its count-weighted mean of the embedding,
    divided by the embedding's covariance; that mean is shrunk by some average cells' worth of
    counts, so that rare genes start at the average profile.

    Parameters
    ----------
    module
        Changed in place.
    cells
        Accessibility embedding of the training cells, shape (cells, n_latent).
    counts
        Their counts of genes, CSR of shape (cells, genes).
    n_tokens
        Their numbers of open regions, shape (cells,).
    """
    decoder = module.decoder
    centre = cells.mean(axis=0)
    scale = max(float((cells - centre).std()), 1e-6)
    z = (cells - centre).astype(np.float64) / scale
    total = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
    shares = (total + 0.5) / (total.sum() + 0.5 * len(total))
    prior = _SHRINK_CELLS * total.sum() / counts.shape[0] * shares
    depth = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    drift = depth @ z / max(depth.sum(), 1.0)
    weighted = np.asarray(counts.T @ z) - np.outer(total, drift)
    covariance = z.T @ z / len(z) + 0.1 * np.eye(z.shape[1])
    loadings = np.linalg.solve(covariance, (weighted / (total + prior + 1.0)[:, None]).T).T
    decoder.centre.copy_(torch.as_tensor(centre))
    decoder.scale.fill_(scale)
    assert decoder.head.loadings is not None
    decoder.head.loadings.weight.copy_(torch.as_tensor(loadings))
    # shares of the average cell: the spread of the loadings over cells is taken off
    spread = 0.5 * np.einsum("gi,ij,gj->g", loadings, z.T @ z / len(z), loadings)
    decoder.head.offset.copy_(torch.as_tensor(np.log(shares) - spread))
    known = np.column_stack([z, np.log1p(n_tokens)])
    middle = known.mean(axis=0)
    spread_of = known - middle
    wanted = np.log(np.maximum(depth, 1.0))
    ridge = 0.01 * len(z) * np.eye(known.shape[1])
    weights = np.linalg.solve(
        spread_of.T @ spread_of + ridge, spread_of.T @ (wanted - wanted.mean())
    )
    residual = wanted - wanted.mean() - spread_of @ weights
    decoder.library_weights.copy_(torch.as_tensor(weights))
    # the mean of a log-normal lies above its median
    decoder.library_offset.fill_(float(wanted.mean() - middle @ weights + 0.5 * residual.var()))
