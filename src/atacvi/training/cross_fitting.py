"""Spectral components of cells from maps that were fitted without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.pp import fit_spectral, map_spectral, own_entry_weights

if TYPE_CHECKING:
    import scipy.sparse as sp

# Maps of half the cells are nearly as good as those of all from this number on.
_MANY_CELLS = 5_000
_FOLDS, _FOLDS_MANY = 5, 2
# With fewer, a map without some of the cells has next to nothing in common with that of all.
_MIN_CELLS = 20


class CrossFit(NamedTuple):
    """Components as unseen cells have them.

    Parameters
    ----------
    components
        Shape (cells, components), in the basis of the map of all cells.
    own
        Sum over the counts of a peak in the learning cells of what that very peak adds to their
        components, shape (peaks, components).
    """

    components: np.ndarray
    own: np.ndarray


def cross_fit(
    counts: sp.csr_matrix, components: np.ndarray, learning: np.ndarray, random_state: int = 0
) -> CrossFit:
    """Return components of each cell from a map that was fitted to the other folds.

    The map of a set of cells places them further out than any other cell of their kind: its axes
    follow their noise. What is learnt from such components holds for those cells alone (Bair et
    al., J. Am. Stat. Assoc. 101:119, 2006, on supervised components; Chernozhukov et al.,
    Econom. J. 21:C1, 2018, on cross-fitting). A map of a fold is turned into the basis of all cells
    by least squares over the cells that it was fitted to.

    Parameters
    ----------
    counts
        Open peaks, shape (cells, peaks).
    components
        Components of the same cells in the map of all, shape (cells, components).
    learning
        Which cells decoders learn from, boolean, shape (cells,).
    random_state
        Seed of the folds.
    """
    n_cells, n_comps = components.shape
    n_folds = min(n_cells, _FOLDS if n_cells < _MANY_CELLS else _FOLDS_MANY)
    fold = np.random.default_rng(random_state).permutation(n_cells) % n_folds
    own = np.zeros((counts.shape[1], n_comps), dtype=np.float64)
    if n_cells < _MIN_CELLS:
        return CrossFit(components, own)
    crossed = np.zeros((n_cells, n_comps), dtype=np.float64)
    for i in range(n_folds):
        others, these = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        fit = fit_spectral(
            counts[others],
            min(n_comps, len(others) - 3, counts.shape[1] - 1),
            random_state=random_state,
            above_noise=False,
        )
        known = map_spectral(counts[others], fit, scaled=False).astype(np.float64)
        turn = np.linalg.lstsq(known, components[others], rcond=None)[0]
        mapped = map_spectral(counts[these], fit, scaled=False)
        crossed[these] = mapped @ turn
        of_peak = own_entry_weights(counts[these[learning[these]]], fit)
        own += of_peak[:, None] * (fit.table @ turn)
    return CrossFit(crossed, own)
