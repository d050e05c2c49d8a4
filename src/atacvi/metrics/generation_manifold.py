"""Whether generated cells lie where real ones do, cover them, and are more than copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atacvi.metrics._generation_checks import at_most, check_spaces

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class PRDC(NamedTuple):
    """Fidelity and coverage of generated cells.

    Attributes
    ----------
    precision
        Share of generated cells inside the neighbourhood of some real cell.
    recall
        Share of real cells inside the neighbourhood of some generated cell.
    density
        Mean number of real neighbourhoods around a generated cell, over `n_neighbors`: near 1
        for equal distributions, above it where generated cells crowd in the densest places.
    coverage
        Share of real cells whose neighbourhood holds a generated cell.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import prdc
    >>> cells = np.random.default_rng(0).normal(size=(50, 3))
    >>> scores = prdc(cells, cells)
    >>> float(scores.precision), float(scores.coverage)
    (1.0, 1.0)
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    n_neighbors: int = 5,
    max_cells: int = 3000,
    random_state: int | np.random.Generator = 0,
) -> PRDC:
    """Precision, recall, density and coverage.

    The neighbourhood of a cell is the open ball that reaches to its `n_neighbors`-th nearest other
    cell of the same set, in Euclidean distance.

    Parameters
    ----------
    real, generated
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``; equally many cells.
    n_neighbors
        Size of the neighbourhoods.
    max_cells
        Cells of each set that are compared; more are sampled.
    random_state
        Seed or generator of that sample.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, or a set has no `n_neighbors` others.

    References
    ----------
    Kynkäänniemi et al., NeurIPS (2019), for precision and recall; Naeem et al., "Reliable fidelity
    and diversity metrics for generative models", ICML (2020), Eqs. 4 and 7.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import prdc
    >>> cells = np.random.default_rng(0).normal(size=(60, 2))
    >>> prdc(cells, cells)._asdict()["coverage"], prdc(cells, cells + 50).precision
    (1.0, 0.0)
    """
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(random_state)
    x, y = (at_most(cells, max_cells, rng) for cells in check_spaces(real, generated))
    smaller = min(x.shape[0], y.shape[0])
    if not 1 <= n_neighbors < smaller:
        msg = f"n_neighbors={n_neighbors} was found; sets of {smaller} cells allow 1 to one less."
        raise ValueError(msg)
    real_radius, drawn_radius = _radii(x, n_neighbors), _radii(y, n_neighbors)
    distance = cdist(x, y)
    in_real = distance < real_radius[:, None]
    return PRDC(
        precision=float(in_real.any(axis=0).mean()),
        recall=float((distance < drawn_radius).any(axis=1).mean()),
        density=float(in_real.sum(axis=0).mean() / n_neighbors),
        coverage=float(in_real.any(axis=1).mean()),
    )


def nearest_train_ratio(generated: ArrayLike, held_out: ArrayLike, train: ArrayLike) -> float:
    """Distance of generated cells to the nearest training cell, over that of held-out real cells.

    Medians over cells. Near 1, generated cells are as new as unseen real ones; towards 0 they are
    copies of training cells; above 1 they lie off the real cells.

    Parameters
    ----------
    generated, held_out, train
        Coordinates in one space, shapes ``(n_cells, n_dimensions)``.

    Raises
    ------
    ValueError
        If dimensions differ, values are not finite, or held-out cells are themselves copies.

    References
    ----------
    Meehan et al., "A non-parametric test to detect data-copying in generative models", AISTATS
    (2020), for the comparison with held-out data.

    Examples
    --------
    >>> import numpy as np
    >>> from atacvi.metrics import nearest_train_ratio
    >>> cells = np.random.default_rng(0).normal(size=(300, 2))
    >>> nearest_train_ratio(cells[:100], cells[200:], cells[:200])
    0.0
    """
    from sklearn.neighbors import NearestNeighbors

    drawn, unseen, reference = check_spaces(generated, held_out, train)
    search = NearestNeighbors(n_neighbors=1).fit(reference)
    of_drawn, of_unseen = (
        float(np.median(search.kneighbors(cells)[0])) for cells in (drawn, unseen)
    )
    if of_unseen == 0:
        msg = "Half of `held_out` coincide with cells of `train`; hold out cells not trained on."
        raise ValueError(msg)
    return of_drawn / of_unseen


def _radii(cells: NDArray[np.float64], n_neighbors: int) -> NDArray[np.float64]:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=n_neighbors).fit(cells).kneighbors()[0][:, -1]
