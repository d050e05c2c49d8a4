"""Starting values of CRAFTModule: principal components, and canonical directions shared by both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from atacvi.training._leading import leading_directions
from atacvi.training.canonical import CanonicalDirections, best_logit_scale, canonical_directions
from atacvi.training.cell_parts import at_most

if TYPE_CHECKING:
    import scipy.sparse as sp

    from atacvi.modules import CRAFTModule
    from atacvi.nn import EmbeddingEncoder, ExpressionEncoder

_MAX_CELLS_PCA = 20_000
_N_PROBE = 2_000
_FEWEST_SPREAD = 1e-6
# Weights of dimensions that no canonical direction fills
_SMALL = 1e-3
# Average cells whose worth of counts at the mean is added to what a gene's cells say
_SHRINK_CELLS = 50.0


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
        counts = counts[at_most(np.arange(counts.shape[0]), _MAX_CELLS_PCA, rng)]
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
    directions = leading_directions(centred, n_found, seed)
    variance = max(float((encoder.inverse_deviation > 0).sum()) / max(n_found, 1), 1e-12)
    encoder.table.zero_()
    encoder.table[:, :n_found] = torch.as_tensor(directions / variance**0.5).to(encoder.table)


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
    a cell's two vectors adds up what both modalities tell of each other. A part of the
    accessibility that is constant, as the transformer's where it takes no part, gets no weight.

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
    scaled = [(rna - rna.mean(axis=0)) / _set_scale(module, "gene", rna)]
    hidden, components = module.parts_of_atac(atac)
    blocks = []
    for name, part in (("atac", hidden), ("component", components)):
        spread = _set_scale(module, name, part) if part.shape[1] else 1.0
        # what hardly varies says nothing, and divided by its spread would be noise of rounding
        blocks.append((part - part.mean(axis=0)) / spread if spread > _FEWEST_SPREAD else 0 * part)
    scaled.append(np.hstack(blocks))
    found = canonical_directions(scaled[0], scaled[1], random_state)
    weighted = found.weighted(module.gene_projection.out_features)
    rng = np.random.default_rng([random_state, 1])
    n_hidden = hidden.shape[1]
    for projection, directions in (
        (module.gene_projection, weighted[0]),
        (module.atac_projection, weighted[1][:n_hidden]),
        (module.component_projection, weighted[1][n_hidden:]),
    ):
        if projection is None:
            continue
        # dimensions beyond the canonical ones can learn
        rows = _SMALL * rng.normal(size=projection.weight.shape)
        rows[: directions.shape[1]] = directions.T
        projection.weight.copy_(torch.as_tensor(rows))
    chosen = rng.permutation(len(rna))[:_N_PROBE]
    device = module.logit_scale.device
    module.eval()  # in training the mean would be that of these cells
    one, two = (
        project(torch.as_tensor(x[chosen], dtype=torch.float32, device=device)).cpu().numpy()
        for project, x in ((module.project_rna, rna), (module.project_atac, atac))
    )
    module.logit_scale.fill_(best_logit_scale(one, two)[0])
    return found


def _set_scale(module: CRAFTModule, name: str, cells: np.ndarray) -> float:
    """Set centre and spread of what an encoder gives; return the spread."""
    centre = cells.mean(axis=0)
    spread = float((cells - centre).std())
    getattr(module, f"{name}_centre").copy_(torch.as_tensor(centre))
    getattr(module, f"{name}_spread").fill_(max(spread, _FEWEST_SPREAD))
    return max(spread, _FEWEST_SPREAD)


@torch.no_grad()
def start_decoder(
    module: CRAFTModule,
    cells: np.ndarray,
    counts: sp.csr_matrix,
    n_tokens: np.ndarray,
    ridge: float = 0.1,
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
    ridge
        Added to the variances of the embedding, which are 1 on average.
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
    covariance = z.T @ z / len(z) + ridge * np.eye(z.shape[1])
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
    penalty = 0.01 * len(z) * np.eye(known.shape[1])
    weights = np.linalg.solve(
        spread_of.T @ spread_of + penalty, spread_of.T @ (wanted - wanted.mean())
    )
    residual = wanted - wanted.mean() - spread_of @ weights
    decoder.library_weights.copy_(torch.as_tensor(weights))
    # the mean of a log-normal lies above its median
    decoder.library_offset.fill_(float(wanted.mean() - middle @ weights + 0.5 * residual.var()))
