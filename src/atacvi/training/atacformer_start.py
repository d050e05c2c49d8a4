"""Starting values of AtacformerModule: regions that are open together lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

if TYPE_CHECKING:
    from atacvi.modules import AtacformerModule

# Cells of the decomposition; more change little and cost time.
_MAX_CELLS = 50_000
# Dimensions of the start; further ones fit the cells they were found in rather than other cells.
_MAX_DIMENSIONS = 30
# Regions whose loadings are longer than those of this share of the regions are cut to their length.
_LENGTH_QUANTILE = 0.98
# Squared length of all embeddings, in units of that of the longest loading: the part that fills up
# a short loading to the common length hardly differs between regions.
_COMMON_LENGTH = 4.0
_MIN_FREQUENCY = 1e-12
# Share of the cell's mean that each layer adds to a token at the start. More speeds the learning of
# replaced tokens up, less leaves the embedding of cells nearer to the spectral one.
_CONTEXT_SHARE = 0.25
# Size of queries and keys: small, so that attention starts as nearly a plain mean.
_QUERY_SCALE = 0.5


def spectral_loadings(
    tokens: sp.csr_matrix, n_dimensions: int, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each region adds to the spectral embedding of a cell.

    The similarity of two cells is the cosine of their IDF-weighted token sets, divided by the root
    of both cells' degrees; its leading eigenvectors, without the constant one and scaled by their
    eigenvalues, are linear in the tokens of a cell up to its length, so that a mean over tokens gives
    them.

    Parameters
    ----------
    tokens
        Token sets, CSR of shape (cells, regions); cells without tokens take no part.
    n_dimensions
        Dimensions wanted; fewer where there are not as many cells or regions.
    random_state
        Seed.

    Returns
    -------
    Loadings, float64 of shape (regions, dimensions), centred such that the mean cell lies at 0; and
    the IDF weights, shape (regions,).

    References
    ----------
    Zhang et al., "A fast, scalable and versatile tool for analysis of single-cell omics data",
    Nature Methods 21:217 (2024).

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.training import spectral_loadings
    >>> tokens = sp.random(200, 50, density=0.2, format="csr", random_state=0)
    >>> loadings, idf = spectral_loadings(tokens, 8)
    >>> loadings.shape, idf.shape
    ((50, 8), (50,))
    """
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    rng = np.random.default_rng(random_state)
    cells = np.flatnonzero(np.diff(tokens.indptr))
    frequency = np.bincount(tokens.indices, minlength=tokens.shape[1]) / max(len(cells), 1)
    seen = frequency[frequency > 0]
    idf = -np.log(np.maximum(frequency, seen.min() if len(seen) else 1.0))
    if len(cells) > _MAX_CELLS:
        cells = np.sort(rng.choice(cells, _MAX_CELLS, replace=False))
    kept = tokens[cells]
    n_found = min(n_dimensions, len(cells) - 2, tokens.shape[1] - 2)
    if n_found < 1 or idf.max(initial=0.0) <= 0:
        return np.zeros((tokens.shape[1], 0)), idf
    weighted = sp.csr_matrix((idf[kept.indices], kept.indices, kept.indptr), shape=kept.shape)
    weighted = normalize(weighted)
    degree = weighted @ np.asarray(weighted.sum(axis=0)).ravel()
    scaled = sp.diags(1.0 / np.sqrt(np.maximum(degree, _MIN_FREQUENCY))) @ weighted
    seed = int(rng.integers(2**31 - 1))
    _, values, vectors = randomized_svd(scaled, n_found + 1, n_iter=4, random_state=seed)
    loadings = vectors[1:].T * values[1:]
    mass = frequency * idf
    return loadings - mass @ loadings / mass.sum(), idf


def balanced_rows(loadings: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Place loadings in a wider space such that a layer norm leaves them as they are.

    All rows get mean 0 and the same length: the loadings are turned into the space of mean 0, and
    one more dimension there fills up the length.

    Parameters
    ----------
    loadings
        Shape (regions, dimensions), with dimensions at most ``width - 2``.
    width
        Width of the rows.
    rng
        Generator of the turn.

    Returns
    -------
    Rows of mean 0 and mean square 1, float32 of shape (regions, width). Differences between rows
    have the proportions of those between loadings, but for the filling.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import balanced_rows
    >>> rng = np.random.default_rng(0)
    >>> rows = balanced_rows(rng.normal(size=(30, 4)), 8, rng)
    >>> bool(np.allclose(rows.mean(1), 0, atol=1e-6) and np.allclose((rows**2).mean(1), 1))
    True
    """
    square = (loadings**2).sum(axis=1)
    longest = np.quantile(square, _LENGTH_QUANTILE) if square.any() else 1.0
    cut = loadings * np.sqrt(np.minimum(1.0, longest / np.maximum(square, 1e-300)))[:, None]
    filling = np.sqrt(_COMMON_LENGTH * longest - (cut**2).sum(axis=1))
    n_used = loadings.shape[1] + 1
    directions = np.column_stack([np.ones(width), rng.normal(size=(width, n_used))])
    basis = np.linalg.qr(directions)[0][:, 1:]  # orthogonal to the ones: rows of mean 0
    rows = np.column_stack([cut, filling]) @ basis.T
    return (rows / np.sqrt((rows**2).mean(axis=1, keepdims=True))).astype(np.float32)


@torch.no_grad()
def start_atacformer(module: AtacformerModule, tokens: sp.csr_matrix, seed: int = 0) -> None:
    """Let the encoder start as the spectral embedding of its training cells.

    Embeddings of regions are their loadings; attention and feed-forward blocks start by adding
    nothing, so that every layer passes the tokens through and learns what to add.

    Parameters
    ----------
    module
        Changed in place.
    tokens
        Token sets of the training cells, columns are the universe's regions.
    seed
        Seed.

    References
    ----------
    Zhang, Dauphin & Ma, "Fixup initialization: residual learning without normalization", ICLR
    (2019), for branches that start at zero.
    """
    active = module.active_ids.cpu().numpy()
    tokens = tokens[:, active] if len(active) < tokens.shape[1] else tokens
    width = module.config.hidden_size
    loadings, _ = spectral_loadings(tokens, min(width - 2, _MAX_DIMENSIONS), seed)
    rows = balanced_rows(loadings, width, np.random.default_rng([seed, 1]))
    table = module.embeddings.token_embeddings.weight
    table[: len(active)] = torch.as_tensor(rows).to(table)
    layer: Any
    for layer in module.encoder.layers:
        # attention starts as nearly the mean of the cell, of which a share is added to each token: the
        # mean over the tokens stays what it was, up to scale, and context is there to learn from
        projection = layer.self_attn.in_proj_weight
        torch.nn.init.normal_(projection[: 2 * width], std=_QUERY_SCALE * width**-0.5)
        torch.nn.init.eye_(projection[2 * width :])
        torch.nn.init.eye_(layer.self_attn.out_proj.weight).mul_(_CONTEXT_SHARE)
        layer.linear2.weight.zero_()
        # hidden units of the size that the rows, of mean square 1, call for
        torch.nn.init.normal_(layer.linear1.weight, std=width**-0.5)
    for part in module.discriminator.modules():
        if isinstance(part, torch.nn.Linear) and part.out_features > 1:
            torch.nn.init.normal_(part.weight, std=width**-0.5)
    set_pooling_weights(module, tokens)


@torch.no_grad()
def set_pooling_weights(module: AtacformerModule, tokens: sp.csr_matrix) -> None:
    """Set the weights of the pooling ``"idf"`` from the active columns of training tokens."""
    if module.config.pooling != "idf":
        return
    n_cells = max(int((np.diff(tokens.indptr) > 0).sum()), 1)
    frequency = np.bincount(tokens.indices, minlength=tokens.shape[1]) / n_cells
    module.set_frequencies(torch.as_tensor(frequency, dtype=torch.float32))
