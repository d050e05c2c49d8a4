"""Starting values of AtacformerModule: regions that are open together lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi.pp._spectral import fit_spectral

if TYPE_CHECKING:
    import scipy.sparse as sp

    from atacvi.modules import AtacformerModule

# Components of the start; further ones fit the cells they were found in rather than other cells.
_MAX_DIMENSIONS = 30
# Components no stronger than noise keep this standard deviation, relative to the first: neighbours
# hardly feel them, and a classifier can find in them what the leading ones lack.
_FLOOR = 0.05
_FEWEST_CELLS = 4
# With equal weights of the regions, loadings longer than those of this share of them are cut.
_LENGTH_QUANTILE = 0.98
# Squared length of all embeddings, in units of that of the longest loading: the part that fills up
# a short loading to the common length hardly differs between regions.
_COMMON_LENGTH = 4.0
# Size of queries and keys: small, so that attention starts as nearly a plain mean.
_QUERY_SCALE = 0.5


def spectral_loadings(
    tokens: sp.csr_matrix, n_dimensions: int, random_state: int = 0
) -> np.ndarray:
    r"""Return what each region adds to the spectral embedding of a cell.

    With :math:`w_t` the IDF of region t, the spectral embedding of cell c (`pp.spectral`) is

    .. math::

        z_c = \frac{1}{n_c \sqrt{d_c}} \sum_{t \in T_c} w_t\, \tau_t,
        \qquad n_c = \Big(\sum_{t \in T_c} w_t^2\Big)^{1/2},

    where :math:`d_c` is the degree of the cell and :math:`\tau_t` the eigenvectors, carried over to
    the regions and divided by their eigenvalues. But for a factor of the cell it is a sum over
    tokens of the loadings :math:`w_t \tau_t`, which are returned.

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
    Loadings, float64 of shape (regions, dimensions), of no dimension for fewer than four cells.
    Components are scaled by the root of what their eigenvalue is above that of noise.

    References
    ----------
    Zhang et al., "A fast, scalable and versatile tool for analysis of single-cell omics data",
    Nature Methods 21:217 (2024).

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.training import spectral_loadings
    >>> tokens = sp.random(200, 50, density=0.2, format="csr", random_state=0)
    >>> spectral_loadings(tokens, 8).shape
    (50, 8)
    """
    n_cells = int((np.diff(tokens.indptr) > 0).sum())
    n_found = min(n_dimensions, n_cells - 3, tokens.shape[1] - 2)
    if n_cells < _FEWEST_CELLS or n_found < 1:
        return np.zeros((tokens.shape[1], 0))
    fit = fit_spectral(tokens, n_found, random_state=random_state)
    scale = np.maximum(fit.scale, _FLOOR)
    return fit.idf[:, None].astype(np.float64) * fit.table * scale


def directed_rows(
    loadings: np.ndarray, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split loadings into rows that a layer norm leaves as they are, and weights.

    The mean of the rows, weighted so, is the sum of the loadings but for a factor: nothing is lost
    to the norm.

    Parameters
    ----------
    loadings
        Shape (regions, dimensions), with dimensions at most ``width - 1``.
    width
        Width of the rows.
    rng
        Generator of the turn, and of rows whose loading is zero.

    Returns
    -------
    Rows of mean 0 and mean square 1, float32 of shape (regions, width), and the lengths of the
    loadings relative to their mean, float32 of shape (regions,); ones if all loadings are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import directed_rows
    >>> rng = np.random.default_rng(0)
    >>> rows, weights = directed_rows(rng.normal(size=(30, 4)), 8, rng)
    >>> bool(np.allclose(rows.mean(1), 0, atol=1e-6) and np.allclose((rows**2).mean(1), 1))
    True
    >>> weights.shape, round(float(weights.mean()), 3)
    ((30,), 1.0)
    """
    length = np.linalg.norm(loadings, axis=1)
    n_used = loadings.shape[1]
    rows = np.zeros((len(loadings), max(n_used, 1)))
    rows[:, :n_used] = loadings
    silent = length <= 1e-12 * max(float(length.max(initial=0.0)), 1e-300)
    rows[silent] = rng.normal(size=(int(silent.sum()), rows.shape[1]))
    rows = rows @ _balanced_basis(width, rows.shape[1], rng).T
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True))
    mean = length.mean() if len(length) else 0.0
    weights = length / mean if mean > 0 else np.ones(len(length))
    return rows.astype(np.float32), weights.astype(np.float32)


def _balanced_basis(width: int, n_used: int, rng: np.random.Generator) -> np.ndarray:
    """Return orthonormal columns that are orthogonal to the ones, shape (width, n_used)."""
    directions = np.column_stack([np.ones(width), rng.normal(size=(width, n_used))])
    return np.linalg.qr(directions)[0][:, 1:]


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
    basis = _balanced_basis(width, loadings.shape[1] + 1, rng)
    rows = np.column_stack([cut, filling]) @ basis.T
    return (rows / np.sqrt((rows**2).mean(axis=1, keepdims=True))).astype(np.float32)


@torch.no_grad()
def start_atacformer(module: AtacformerModule, tokens: sp.csr_matrix, seed: int = 0) -> None:
    """Let the encoder start as the spectral embedding of its training cells.

    Embeddings of regions are the directions of their loadings, and the weights of the pooling
    ``"idf"`` their lengths. Attention and feed-forward blocks start by adding nothing, so that every
    layer passes the tokens through, and learns what to add: pooled cells lie in the direction of
    their spectral embedding. With other poolings, which have equal weights at the start, embeddings
    hold the loadings and a part that fills up their length, and pooled cells are close to it.

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
    loadings = spectral_loadings(tokens, min(width - 2, _MAX_DIMENSIONS), seed)
    rng = np.random.default_rng([seed, 1])
    if module.config.pooling == "idf":
        rows, weights = directed_rows(loadings, width, rng)
        module.set_pooling_weights(torch.as_tensor(weights))
    else:
        rows = balanced_rows(loadings, width, rng)
    table = module.embeddings.token_embeddings.weight
    table[: len(active)] = torch.as_tensor(rows).to(table)
    layer: Any
    for layer in module.encoder.layers:
        projection = layer.self_attn.in_proj_weight
        torch.nn.init.normal_(projection[: 2 * width], std=_QUERY_SCALE * width**-0.5)
        # what attention gathers is of use from the first step on that lets it pass
        torch.nn.init.eye_(projection[2 * width :])
        layer.self_attn.out_proj.weight.zero_()
        layer.linear2.weight.zero_()
        # hidden units of the size that the rows, of mean square 1, call for
        torch.nn.init.normal_(layer.linear1.weight, std=width**-0.5)
    for part in module.discriminator.modules():
        if isinstance(part, torch.nn.Linear) and part.out_features > 1:
            torch.nn.init.normal_(part.weight, std=width**-0.5)


@torch.no_grad()
def set_pooling_weights(module: AtacformerModule, tokens: sp.csr_matrix) -> None:
    """Set the weights of the pooling ``"idf"`` to the IDF of the active columns of training tokens."""
    if module.config.pooling != "idf":
        return
    n_cells = max(int((np.diff(tokens.indptr) > 0).sum()), 1)
    frequency = np.bincount(tokens.indices, minlength=tokens.shape[1]) / n_cells
    module.set_frequencies(torch.as_tensor(frequency, dtype=torch.float32))
