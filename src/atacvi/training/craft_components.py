"""The linear map of open regions with which CRAFTModule starts, chosen on held-out cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from atacvi.pp import unit_rows
from atacvi.training._leading import leading_directions
from atacvi.training.canonical import canonical_directions, held_out_contrast

if TYPE_CHECKING:
    import scipy.sparse as sp

    from atacvi.nn import RegionComponents

# Cells on which the weights of the regions are chosen; the map is fitted to more.
_MAX_CELLS_CHOICE = 5_000
# With fewer held-out cells a choice would be chance: the first weighting and all components stay.
_FEWEST_HELD_OUT = 50
_MAX_HELD_OUT = 2_000
_SHARES = (0.25, 0.5, 1.0)


class RegionMap(NamedTuple):
    """Directions of weighted open regions.

    Parameters
    ----------
    table
        Right singular vectors as columns, shape (regions, components).
    weights
        Weight of each region, shape (regions,); that of regions never open is 0.
    """

    table: np.ndarray
    weights: np.ndarray

    def __call__(self, tokens: sp.csr_matrix) -> np.ndarray:
        """Return the components of cells, float64 of shape (cells, components)."""
        return np.asarray(unit_rows(tokens, self.weights) @ self.table, dtype=np.float64)


def region_weights(tokens: sp.csr_matrix, kind: str) -> np.ndarray:
    r"""Return weights of regions from the share f of the cells in which they are open.

    Parameters
    ----------
    tokens
        Token sets, CSR of shape (cells, regions).
    kind
        ``"idf"``, :math:`-\log f`; ``"root_idf"``, its root; ``"deviation"``,
        :math:`1 / \sqrt{f (1 - f)}`.

    Returns
    -------
    Shape (regions,); 0 for regions that are never open.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from atacvi.training import region_weights
    >>> region_weights(sp.csr_matrix([[1, 1, 0], [1, 0, 0]]), "idf").round(2).tolist()
    [0.0, 0.69, 0.0]
    """
    n_cells = max(int((np.diff(tokens.indptr) > 0).sum()), 1)
    n_open = np.bincount(tokens.indices, minlength=tokens.shape[1])
    share = np.clip(n_open / n_cells, 1.0 / n_cells, 1.0)
    if kind == "deviation":
        within = np.clip(share, 0.5 / n_cells, 1 - 0.5 / n_cells)
        weights = 1.0 / np.sqrt(within * (1 - within))
    else:
        weights = np.log(1.0 / share)
        weights = np.sqrt(weights) if kind == "root_idf" else weights
    return np.where(n_open > 0, weights, 0.0)


def fit_region_map(
    tokens: sp.csr_matrix, n_components: int, kind: str = "idf", random_state: int = 0
) -> RegionMap:
    """Return the leading singular vectors of weighted token sets of unit length.

    The first, which follows how much a cell resembles the average one, is among them: it tells
    depth and purity, and what RNA does not share of it gets no weight later.

    Parameters
    ----------
    tokens
        Token sets, CSR of shape (cells, regions).
    n_components
        Number of directions; fewer where there are not as many cells or regions.
    kind
        As in `region_weights`.
    random_state
        Seed.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from atacvi.training import fit_region_map
    >>> tokens = sp.random(100, 40, density=0.2, format="csr", random_state=0)
    >>> fit_region_map(tokens, 5)(tokens).shape
    (100, 5)
    """
    weights = region_weights(tokens, kind)
    n_found = min(n_components, min(tokens.shape) - 1)
    if n_found < 1 or not weights.any():
        return RegionMap(np.zeros((tokens.shape[1], 0), dtype=np.float32), weights)
    vectors = leading_directions(unit_rows(tokens, weights), n_found, random_state)
    return RegionMap(vectors.astype(np.float32), weights)


def start_region_components(
    encoder: RegionComponents,
    tokens: sp.csr_matrix,
    rna: np.ndarray,
    held_out: tuple[sp.csr_matrix, np.ndarray],
    random_state: int = 0,
) -> None:
    """Set the map of open regions: weights and number of components by held-out cells.

    Of a few weightings, and a quarter, half or all of the components, those are taken whose
    canonical correlations with the RNA give held-out cells the lowest contrast.

    Parameters
    ----------
    encoder
        Changed in place.
    tokens
        Token sets of training cells, columns are the rows of the encoder's table.
    rna
        RNA embedding of these cells, shape (cells, width).
    held_out
        Token sets and RNA embedding of held-out cells.
    random_state
        Seed.
    """
    rng = np.random.default_rng(random_state)
    kinds: tuple[str, ...] = ("idf", "root_idf", "deviation")
    shares: tuple[float, ...] = _SHARES
    if held_out[0].shape[0] < _FEWEST_HELD_OUT:
        kinds, shares = kinds[:1], shares[-1:]
    rows = np.sort(rng.permutation(held_out[0].shape[0])[:_MAX_HELD_OUT])
    asked = held_out[0][rows], held_out[1][rows]
    few = np.sort(rng.permutation(tokens.shape[0])[:_MAX_CELLS_CHOICE])
    is_part = len(few) < tokens.shape[0]
    part, part_rna = (tokens[few], rna[few]) if is_part else (tokens, rna)
    maps = {kind: fit_region_map(part, encoder.n_output, kind, random_state) for kind in kinds}
    scores = {
        (kind, share): _contrast(_leading(maps[kind], share), part, part_rna, *asked)
        for kind in (kinds if len(kinds) > 1 else ())
        for share in shares
    }
    kind, share = min(scores, key=scores.__getitem__) if scores else (kinds[0], shares[0])
    found = fit_region_map(tokens, encoder.n_output, kind, random_state) if is_part else maps[kind]
    found = _leading(found, share)
    cells = found(tokens)
    encoder.set_map(
        torch.as_tensor(found.table),
        torch.as_tensor(found.weights),
        torch.as_tensor(cells.mean(axis=0)),
        float((cells - cells.mean(axis=0)).std()) if cells.size else 1.0,
    )


def _leading(found: RegionMap, share: float) -> RegionMap:
    n_kept = int(np.ceil(share * found.table.shape[1]))
    return RegionMap(found.table[:, :n_kept], found.weights)


def _contrast(
    found: RegionMap,
    tokens: sp.csr_matrix,
    rna: np.ndarray,
    asked_tokens: sp.csr_matrix,
    asked_rna: np.ndarray,
) -> float:
    """Return the contrast of held-out cells."""
    atac, centre = found(tokens), rna.mean(axis=0)
    if not atac.shape[1]:
        return float("inf")
    middle = atac.mean(axis=0)
    spread = max(float((rna - centre).std()), 1e-12), max(float((atac - middle).std()), 1e-12)
    directions = canonical_directions(
        (rna - centre).astype(np.float64) / spread[0], (atac - middle) / spread[1]
    )
    return held_out_contrast(
        directions, (asked_rna - centre) / spread[0], (found(asked_tokens) - middle) / spread[1]
    )
