"""How far generated cells lie apart, beside cells that nothing was fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.pp import fit_spectral, map_spectral
from atacvi.training.cell_parts import at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp
    from numpy.typing import NDArray

    from atacvi.pp import SpectralFit

# Components that are looked at, those of them that stand out of noise.
_MAX_COMPONENTS = 15
_FOLDS = 5
# Cells at most that a map is fitted to, and that are seen through it.
_MAX_FITTED, _MAX_SEEN = 4_000, 1_000
# With fewer cells folds say nothing.
_LEAST_CELLS = 50
# Rates are not linear in the effects, so that a step goes but a part of the way.
_N_STEPS, _DAMPING = 4, 0.7
# Variances count as if so many cells had been seen where generated ones are right.
_CELLS_OF_PRIOR = 10.0
# No component is pressed or stretched by more than that in a step.
_FACTORS = (0.1, 3.0)


class UnseenComponents(NamedTuple):
    """Cells in spectral components that were fitted without them.

    Parameters
    ----------
    fit
        Components of other cells.
    rotation
        What turns them into the components of all folds together, (components, kept).
    observed
        Cells there, shape (cells, kept).
    """

    fit: SpectralFit
    rotation: NDArray[np.floating]
    observed: NDArray[np.floating]

    def of(self, counts: sp.csr_matrix) -> NDArray[np.float64]:
        """Return where cells lie, centred, shape (cells, kept)."""
        return _place(counts, self.fit, self.rotation)


def unseen_components(counts: sp.csr_matrix, random_state: int) -> list[UnseenComponents]:
    """Return cells in components fitted without them, a fold each time; none of too few cells.

    Components fitted to a cell follow its noise, too, and place it further out than any other cell.
    So each fold is seen through components of the other folds, turned to agree, where those cells
    lie, with the components of all.

    Parameters
    ----------
    counts
        Counts of cells, shape (cells, peaks).
    random_state
        Seed of the folds.
    """
    n_cells, n_peaks = counts.shape
    n_comps = min(_MAX_COMPONENTS, n_cells * (_FOLDS - 1) // _FOLDS - 3, n_peaks - 1)
    if n_cells < _LEAST_CELLS or n_comps < 1:
        return []
    rng = np.random.default_rng(random_state)
    whole = fit_spectral(
        counts[at_most(np.arange(n_cells), _MAX_FITTED, rng)], n_comps, random_state=random_state
    )
    kept = max(1, int(np.count_nonzero(whole.scale)))
    folds, parts = rng.permutation(n_cells) % _FOLDS, []
    for fold in range(_FOLDS):
        fitted = counts[at_most(np.flatnonzero(folds != fold), _MAX_FITTED, rng)]
        seen = counts[at_most(np.flatnonzero(folds == fold), _MAX_SEEN, rng)]
        fit = fit_spectral(fitted, n_comps, random_state=random_state, above_noise=False)
        of_fold, of_all = (map_spectral(fitted, part, scaled=False) for part in (fit, whole))
        rotation = np.linalg.lstsq(
            of_fold - of_fold.mean(0), (of_all - of_all.mean(0))[:, :kept], rcond=None
        )[0].astype(np.float64)
        parts.append(UnseenComponents(fit, rotation, _place(seen, fit, rotation)))
    return parts


def _place(
    counts: sp.csr_matrix, fit: SpectralFit, rotation: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return cells in turned components, centred, shape (cells, kept)."""
    values = map_spectral(counts, fit, scaled=False).astype(np.float64) @ rotation
    return values - values.mean(0)


def match_spread(
    vectors: NDArray[np.floating],
    draw: Callable[[NDArray[np.float64], int], sp.csr_matrix],
    components: list[UnseenComponents],
) -> NDArray[np.float64]:
    r"""Return the matrix of effects with which generated cells lie as far apart as real ones.

    Peaks of which few counts were seen have their effects shrunk towards zero, which is best for
    each cell and leaves types of generated cells too near to each other; and weak directions, in
    which training cells lie far out by the noise that they were fitted to, are too wide. With
    :math:`R_k` the variance of unseen real cells in component k, less that of the noise of counts,
    and :math:`S_k` the same of generated cells, component k is stretched by
    :math:`\sqrt{R_k / S_k}`: cell vectors u become :math:`\bar{u} + A (u - \bar{u})`, with

    .. math::

        A = I + C J^\top (J C J^\top)^{-1} (B - I) J

    where J is the slope of the components in u, C the covariance of u, and B holds the factors.
    What no component sees stays as it was.

    Parameters
    ----------
    vectors
        Vectors that give the log-rates of generated cells, shape (cells, n_embed).
    draw
        Function of a matrix A and a seed that gives counts of these cells.
    components
        Real cells, see `unseen_components`; none leaves the vectors as they are.

    Returns
    -------
    A, shape (n_embed, n_embed).
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    centred = vectors - vectors.mean(0)
    matrix = np.eye(vectors.shape[1])
    for step in range(_N_STEPS if components else 0):
        pair = [draw(matrix, 2 * step + k) for k in (0, 1)]
        factors, places = _compare(pair, components)
        matrix = _stretch(centred @ matrix.T, places, factors) @ matrix
    return matrix


def _compare(
    pair: list[sp.csr_matrix], components: list[UnseenComponents]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factor of each component and where the cells lie, from two draws of each cell.

    What both draws of a cell share is not noise.
    """
    n_cells, kept = sum(len(part.observed) for part in components), components[0].rotation.shape[1]
    shared, noise, observed = np.zeros((3, kept))
    places = np.zeros((pair[0].shape[0], kept))
    for part in components:
        one, two = (part.of(counts) for counts in pair)
        common = (one * two).mean(0)
        shared += common / len(components)
        noise += ((one**2 + two**2).mean(0) / 2 - common) / len(components)
        observed += (part.observed**2).sum(0) / n_cells
        places += (one + two) / (2 * len(components))
    wanted = np.clip(observed - noise, 0.0, None)
    ratio = wanted / np.clip(shared, 1e-9, None)
    ratio = (n_cells * ratio + _CELLS_OF_PRIOR) / (n_cells + _CELLS_OF_PRIOR)
    return np.clip(np.sqrt(ratio), *_FACTORS) ** _DAMPING, places


def _stretch(
    centred: NDArray[np.float64], places: NDArray[np.float64], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the matrix that multiplies components, linear in vectors, and nothing else."""
    n_cells, width = centred.shape
    covariance = centred.T @ centred / n_cells
    floor = 1e-6 * max(np.trace(covariance) / width, 1e-12)
    slopes = np.linalg.solve(covariance + floor * np.eye(width), centred.T @ places / n_cells).T
    along = covariance @ slopes.T
    back = along @ np.linalg.pinv(slopes @ along, rcond=1e-6)
    return np.eye(width) + back @ ((factors - 1.0)[:, None] * slopes)
