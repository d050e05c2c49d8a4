"""Weights of the latent directions when cells are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.training.clear_choice import clearly_best
from atacvi.training.neighbour_gain import gain_by_cell, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from numpy.typing import ArrayLike, NDArray

# The first leaves the latent alone. With -1 all directions would be equally wide, those of noise
# among them; with 1 variances would be squared, which hides rare types: their directions are narrow,
# and they count for little in a sum over cells. Half the way to either is enough.
EXPONENTS = (0.0, -0.5, -0.25, 0.25, 0.5)

# Directions of less than this share of the largest variance hold nothing; they would be blown up.
_LEAST_VARIANCE = 1e-3


class EmbeddedCells(NamedTuple):
    """Cells where the latent puts them, and features of theirs.

    Parameters
    ----------
    latent
        Posterior means, shape (cells, n_latent).
    tokens
        By modality: features that are not zero, CSR of shape (cells, features); of cells whose
        counts are split those that the encoder did not see.
    """

    latent: NDArray[np.floating]
    tokens: dict[str, sp.csr_matrix]


def emphasis_of(mean: ArrayLike, exponent: float = 1.0) -> NDArray[np.float32]:
    r"""Return the symmetric matrix that weights each principal direction by its deviation.

    The prior pulls the directions that separate cells and those that hold little but noise to like
    widths, so that plain distances count them alike; or a few wide directions hide many that each
    tell one type apart. With :math:`C = \mathrm{cov}(m)` of the posterior means,
    :math:`m\,C^{e/2}` weights a direction by how far it spreads the cells to the power e: with
    e = 1 differences count more, with e < 0 less. The root is symmetric, so that axes keep their
    meaning.

    Parameters
    ----------
    mean
        Posterior means of the training cells, shape (cells, n_latent).
    exponent
        The power e.

    Returns
    -------
    Shape (n_latent, n_latent), of unit mean squared weight; the identity where the means are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import emphasis_of
    >>> emphasis_of([[3.0, 1.0], [-3.0, -1.0], [3.0, -1.0], [-3.0, 1.0]]).astype(float).round(
    ...     2
    ... ).tolist()
    [[1.34, 0.0], [0.0, 0.45]]
    """
    mean = np.asarray(mean, dtype=np.float64)
    n_latent = mean.shape[1]
    centred = mean - mean.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred / max(1, len(mean)))
    values = np.clip(values, 0.0, None)
    if exponent == 0 or values.sum() <= np.finfo(np.float64).tiny:
        return np.eye(n_latent, dtype=np.float32)
    if exponent < 0:
        kept = values > _LEAST_VARIANCE * values.max()
        values = np.where(kept, values, 1.0) ** exponent * kept
    else:
        values = values**exponent
    root = (axes * np.sqrt(values * n_latent / values.sum())) @ axes.T
    return root.astype(np.float32)


def choose_exponent(reference: EmbeddedCells, held_out: Sequence[EmbeddedCells]) -> float:
    """Return the exponent of `emphasis_of` with which neighbours know most of held-out counts.

    Each split of the counts of the other cells hides some of their features from the encoder.
    What the nearest reference cells say of those (`gain_by_cell`, summed over modalities) tells
    without labels whether wide directions deserve more weight or less.

    Parameters
    ----------
    reference
        Cells with their features.
    held_out
        Other cells, always the same, once for each split of their counts.

    Returns
    -------
    The best of `EXPONENTS`; 0 unless another is clearly better, see `clearly_best`.
    """
    gains = [_gains(reference, held_out, exponent) for exponent in EXPONENTS]
    return EXPONENTS[clearly_best(gains)]


def _gains(
    reference: EmbeddedCells, held_out: Sequence[EmbeddedCells], exponent: float
) -> NDArray[np.float64]:
    """Return nats of each of the other cells over all splits and modalities, shape (cells,)."""
    weights = emphasis_of(reference.latent, exponent)
    total = np.zeros(len(held_out[0].latent))
    for cells in held_out:
        near = nearest(reference.latent @ weights, cells.latent @ weights)
        for name, tokens in reference.tokens.items():
            total += gain_by_cell(near, tokens, cells.tokens[name])
    return total
