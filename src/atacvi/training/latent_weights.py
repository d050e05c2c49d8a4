"""Weights of the latent when cells are compared, chosen by held-out counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from atacvi.training.clear_choice import clearly_best
from atacvi.training.emphasis import emphasis_of, symmetric_weights
from atacvi.training.neighbour_gain import gain_by_cell, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from numpy.typing import ArrayLike, NDArray

LatentUnits = Literal["latent", "noise"]

# The first leaves the latent alone. With -1 all directions would be equally wide, those of noise
# among them; with 1 variances would be squared, which hides rare types: their directions are narrow,
# and they count for little in a sum over cells. Half the way to either is enough.
EXPONENTS = (0.0, -0.5, -0.25, 0.25, 0.5)

# Share of the noise of the noisiest direction that every direction has at least. One in which the
# encoder puts all cells at one point has no noise and no cells to tell apart; it would be blown up.
_LEAST_NOISE = 1e-3


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


class LatentWeights(NamedTuple):
    """How the latent is weighted when cells are compared.

    Parameters
    ----------
    units
        ``"noise"`` measures each direction in units of its noise (`noise_units`), ``"latent"`` in
        those that it has.
    exponent
        Power of the spread of the cells that weights its principal directions (`emphasis_of`).
    matrix
        What multiplies the latent, shape (n_latent, n_latent).
    """

    units: LatentUnits
    exponent: float
    matrix: NDArray[np.float32]


def noise_units(splits: ArrayLike) -> NDArray[np.float32]:
    r"""Return the symmetric matrix that measures a latent in units of its noise.

    Each random part of the counts puts a cell elsewhere. With :math:`W` the covariance of these
    places within cells, noise spreads :math:`m\,W^{-1/2}` alike in all directions, so that
    distances count what tells cells apart and not what their counts happen to be.

    Parameters
    ----------
    splits
        Posterior means of the same cells by different random parts of their counts, shape
        (parts, cells, n_latent).

    Returns
    -------
    Shape (n_latent, n_latent), of unit mean squared weight; the identity where there is but one
    part, or no noise.

    References
    ----------
    Hatch, Kajarekar & Stolcke, "Within-class covariance normalization for SVM-based speaker
    recognition", Interspeech (2006), with a cell as the class.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.training import noise_units
    >>> cells = np.zeros((4, 2))
    >>> noise = np.array([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
    >>> noise_units([cells + noise, cells - noise]).astype(float).round(2).tolist()
    [[0.45, 0.0], [0.0, 1.34]]
    """
    splits = np.asarray(splits, dtype=np.float64)
    n_latent = splits.shape[2]
    around = (splits - splits.mean(0)).reshape(-1, n_latent)
    values, axes = np.linalg.eigh(around.T @ around / max(1, len(around)))
    if len(splits) < 2 or values[-1] <= np.finfo(np.float64).tiny:
        return np.eye(n_latent, dtype=np.float32)
    return symmetric_weights(1.0 / np.maximum(values, _LEAST_NOISE * values[-1]), axes)


def choose_weights(reference: EmbeddedCells, held_out: Sequence[EmbeddedCells]) -> LatentWeights:
    """Return the weights with which neighbours know most of held-out counts.

    Each split of the counts of the other cells hides some of their features from the encoder.
    What the nearest reference cells say of those (`gain_by_cell`, summed over modalities) tells
    without labels whether wide directions deserve more weight or less, or each the weight that its
    noise leaves it.

    Parameters
    ----------
    reference
        Cells with their features.
    held_out
        Other cells, always the same, once for each split of their counts.

    Returns
    -------
    The latent as it is unless other weights are clearly better, see `clearly_best`.
    """
    candidates = [
        LatentWeights("latent", exponent, emphasis_of(reference.latent, exponent))
        for exponent in EXPONENTS
    ]
    by_noise = noise_units([cells.latent for cells in held_out])
    candidates.append(LatentWeights("noise", 0.0, by_noise))
    gains = [_gains(reference, held_out, weights.matrix) for weights in candidates]
    return candidates[clearly_best(gains)]


def _gains(
    reference: EmbeddedCells, held_out: Sequence[EmbeddedCells], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return nats of each of the other cells over all splits and modalities, shape (cells,)."""
    total = np.zeros(len(held_out[0].latent))
    for cells in held_out:
        near = nearest(reference.latent @ weights, cells.latent @ weights)
        for name, tokens in reference.tokens.items():
            total += gain_by_cell(near, tokens, cells.tokens[name])
    return total
