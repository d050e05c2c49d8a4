"""Replaced tokens for pretraining, and the loss that knowing no context reaches on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import pandas as pd

Negatives = Literal["uniform", "unigram", "batch", "local"]
NEGATIVES: tuple[Negatives, ...] = ("uniform", "unigram", "batch", "local")

# Draws that hit a token which the cell holds are repeated; what is left after so many rounds (a cell
# that holds nearly all candidates) keeps its token.
_MAX_ROUNDS = 20
_MIN_NEIGHBOURS = 5


class TokenCorruption:
    """Replace tokens of cells by others, as in replaced-token detection.

    Each token is replaced with probability `rate` by a draw from the negatives. A draw that the cell
    holds is repeated, else an open region would be called a replaced one; with
    ``forbid_held=False`` it is kept, as in the publication, and a token that is drawn in its own
    place counts as not replaced.

    Parameters
    ----------
    tokens
        Token sets of the training cells, CSR of shape (cells, regions); their frequencies give the
        negatives.
    rate
        Probability of a replacement.
    negatives
        ``"uniform"`` over the regions that occur; ``"unigram"`` by frequency to the power `alpha`;
        ``"batch"`` tokens of the other cells of the minibatch; ``"local"`` regions nearby.
    alpha
        Power of the frequencies.
    regions
        Table of the regions (chrom, start, end), for ``"local"``.
    window
        Distance in base pairs that is nearby; the five regions on either side always are.
    forbid_held
        Whether never to draw a token that the cell holds.

    Raises
    ------
    ValueError
        If `rate` is not between 0 and 1, `negatives` is unknown, there are no tokens, or regions
        are missing for ``"local"``.

    References
    ----------
    Clark et al., "ELECTRA: Pre-training text encoders as discriminators rather than generators",
    ICLR (2020). LeRoy et al., "Atacformer: A transformer-based foundation model for analysis and
    interpretation of ATAC-seq data", bioRxiv (2025).

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from atacvi.training import TokenCorruption
    >>> tokens = sp.csr_matrix([[1, 1, 0, 0], [0, 0, 1, 1]])
    >>> corruption = TokenCorruption(tokens, rate=0.5, negatives="uniform")
    >>> ids, offsets = np.array([0, 1]), np.array([0, 2])
    >>> changed, labels = corruption(ids, offsets, ids, offsets, np.random.default_rng(0))
    >>> bool(((changed != ids) == labels).all()), bool(set(changed[labels]) <= {2, 3})
    (True, True)
    """

    def __init__(
        self,
        tokens: sp.csr_matrix,
        rate: float = 0.45,
        negatives: Negatives = "unigram",
        *,
        alpha: float = 1.0,
        regions: pd.DataFrame | None = None,
        window: int = 100_000,
        forbid_held: bool = True,
    ) -> None:
        if not 0 < rate < 1:
            msg = (
                f"rate={rate}; the probability of a replacement lies between 0 and 1, without both."
            )
            raise ValueError(msg)
        if negatives not in NEGATIVES:
            msg = f"negatives={negatives!r} is unknown; choose one of {', '.join(NEGATIVES)}."
            raise ValueError(msg)
        if tokens.nnz == 0:
            msg = "The training cells hold no tokens; nothing can be replaced."
            raise ValueError(msg)
        self.rate, self.negatives, self.forbid_held = rate, negatives, forbid_held
        self.n_regions = int(tokens.shape[1])
        count = np.bincount(tokens.indices, minlength=self.n_regions).astype(np.float64)
        self.frequency = count / count.sum()
        seen = count > 0
        if negatives == "uniform":
            weight = seen.astype(np.float64)
        else:
            weight = np.where(seen, self.frequency, 0.0) ** (alpha if negatives == "unigram" else 1)
            weight[~seen] = 0.0
        self.weight = weight / weight.sum()
        self._cumulative = np.cumsum(self.weight)
        self._neighbours: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
        if negatives == "local":
            if regions is None:
                msg = "negatives='local' needs the coordinates of the regions; give `regions`."
                raise ValueError(msg)
            self._neighbours = _neighbourhoods(regions, seen, window)

    def __call__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        held_ids: np.ndarray,
        held_offsets: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Replace tokens of packed cells.

        Parameters
        ----------
        ids, offsets
            Packed tokens, shapes (tokens,) and (cells + 1,).
        held_ids, held_offsets
            All tokens of the same cells, also those that the context did not hold.
        rng
            Generator.

        Returns
        -------
        Tokens after replacement, int64, and whether each was changed, bool; shape (tokens,).
        """
        cell = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        held = None
        if self.forbid_held:
            held_cell = np.repeat(np.arange(len(held_offsets) - 1), np.diff(held_offsets))
            held = np.sort(held_cell * self.n_regions + held_ids)
        corrupted = ids.astype(np.int64, copy=True)
        open_places = np.flatnonzero(rng.random(len(ids)) < self.rate)
        for _ in range(_MAX_ROUNDS):
            if len(open_places) == 0:
                break
            drawn = self._draw(ids, cell, open_places, rng)
            good = drawn >= 0
            if held is not None:
                good &= ~_contains(held, cell[open_places] * self.n_regions + drawn)
            corrupted[open_places[good]] = drawn[good]
            open_places = open_places[~good]
        return corrupted, corrupted != ids

    def _draw(
        self, ids: np.ndarray, cell: np.ndarray, places: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw a region for each place; -1 where the draw failed and has to be repeated."""
        if self.negatives == "batch":
            drawn_at = rng.integers(0, len(ids), len(places))
            drawn = ids[drawn_at].astype(np.int64)
            only_cell = cell[0] == cell[-1]
            return drawn if only_cell else np.where(cell[drawn_at] == cell[places], -1, drawn)
        if self._neighbours is not None:
            rank, low, high, order = self._neighbours
            known = ids[places]
            # the place of the region itself is left out of its neighbourhood
            drawn_rank = rng.integers(low[known], np.maximum(high[known] - 1, low[known] + 1))
            drawn_rank += drawn_rank >= rank[known]
            usable = (rank[known] >= 0) & (drawn_rank < high[known])
            return np.where(usable, order[np.minimum(drawn_rank, len(order) - 1)], -1)
        uniform = rng.random(len(places)) * self._cumulative[-1]
        drawn = np.searchsorted(self._cumulative, uniform, side="right")
        return np.minimum(drawn, self.n_regions - 1)

    def unigram_bayes_loss(self, tokens: sp.csr_matrix) -> float:
        """Return the loss of the best prediction from a token alone, without its context.

        With f the distribution of tokens and q that of replacements, a token v was replaced with
        probability ``p q_v / (p q_v + (1 - p) f_v)``; the loss is the entropy of that, averaged over
        the tokens. A model that learnt nothing from context cannot go below it.

        Parameters
        ----------
        tokens
            Token sets of the cells that are scored, CSR of shape (cells, regions).

        Returns
        -------
        Mean binary cross-entropy in nats per token. Exact for ``"uniform"`` and ``"unigram"``; for
        ``"batch"`` and ``"local"`` in the limit of minibatches, or neighbourhoods, much larger than
        a cell.
        """
        lengths = np.diff(tokens.indptr).astype(np.float64)
        count = np.bincount(tokens.indices, minlength=self.n_regions).astype(np.float64)
        original = count / count.sum()
        share = lengths / lengths.sum()
        if self._neighbours is not None:
            drawn = self._local_marginal(original)
        elif not self.forbid_held:
            drawn = self.weight
        else:
            drawn = self._marginal_outside(tokens, share)
        replaced, kept = self.rate * drawn, (1 - self.rate) * original
        if not self.forbid_held and self._neighbours is None:
            same = self.rate * drawn * original  # drawn in its own place: not replaced
            replaced, kept = replaced - same, kept + same
        total = replaced + kept
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -replaced * np.log(replaced / total) - kept * np.log(kept / total)
        return float(np.nansum(np.where((replaced > 0) & (kept > 0), entropy, 0.0)))

    def _marginal_outside(self, tokens: sp.csr_matrix, share: np.ndarray) -> np.ndarray:
        """Return the distribution of draws that avoid the tokens of their cell, over all cells."""
        pattern = sp.csr_matrix(
            (np.ones(tokens.nnz), tokens.indices, tokens.indptr), shape=tokens.shape
        )
        left = np.maximum(1.0 - pattern @ self.weight, 1e-12)
        scale = share / left
        return np.maximum(self.weight * (scale.sum() - pattern.T @ scale), 0.0)

    def _local_marginal(self, original: np.ndarray) -> np.ndarray:
        """Return the distribution of draws from the neighbourhoods of the tokens."""
        rank, low, high, order = self._neighbours  # type: ignore[misc]
        n_near = np.maximum(high - low - 1, 1)
        known = rank >= 0
        each = np.where(known, original / n_near, 0.0)
        # a region receives from all whose range of ranks covers it: a running sum of starts and ends
        change = np.zeros(len(order) + 1)
        np.add.at(change, low[known], each[known])
        np.add.at(change, high[known], -each[known])
        received = np.zeros(len(original))
        received[order] = np.cumsum(change[:-1])
        return np.maximum(received - each, 0.0)  # none is drawn in its own place


def _contains(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is among the sorted ones."""
    at = np.minimum(np.searchsorted(sorted_values, values), max(len(sorted_values) - 1, 0))
    return sorted_values[at] == values if len(sorted_values) else np.zeros(len(values), dtype=bool)


def _neighbourhoods(
    regions: pd.DataFrame, seen: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rank of each region along the genome, and the range of ranks that is nearby.

    Regions that do not occur have rank -1 and are nobody's neighbours.
    """
    chrom = np.unique(np.asarray(regions["chrom"], dtype=str), return_inverse=True)[1]
    start = regions["start"].to_numpy(dtype=np.int64)
    used = np.flatnonzero(seen)
    order = used[np.lexsort((start[used], chrom[used]))]
    spacing = int(start.max()) + 2 * window + 1
    place = chrom[order].astype(np.int64) * spacing + start[order]
    first = np.searchsorted(chrom[order], chrom[order], side="left")
    last = np.searchsorted(chrom[order], chrom[order], side="right")
    at = np.arange(len(order))
    near_low = np.minimum(np.searchsorted(place, place - window), at - _MIN_NEIGHBOURS)
    near_high = np.maximum(
        np.searchsorted(place, place + window, side="right"), at + _MIN_NEIGHBOURS + 1
    )
    rank = np.full(len(seen), -1, dtype=np.int64)
    low, high = np.zeros_like(rank), np.ones_like(rank)
    rank[order] = at
    low[order], high[order] = np.maximum(near_low, first), np.minimum(near_high, last)
    return rank, low, high, order
