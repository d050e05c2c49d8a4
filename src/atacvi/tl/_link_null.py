"""Score every candidate pair, and pairs of a gene with the windows of genes elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp

from atacvi.tl._link_scores import (
    Design,
    Method,
    lasso_coefficients,
    lasso_path,
    pls_coefficients,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from atacvi.tl._windows import Windows

_GENES_PER_BLOCK = 64
_MAX_POOL = 20_000_000  # null scores kept, 80 MB
#: Windows on the same chromosome count as elsewhere from this distance on, in base pairs.
_ELSEWHERE = 5_000_000


class Scored(NamedTuple):
    """Scores of the pairs, and how they compare with a null where one was asked for.

    Parameters
    ----------
    score
        Signed, shape (pairs,).
    p_value
        Two-sided, shape (pairs,); NaN without a null.
    low, high
        Interval that holds the z score: the shares of null scores below and up to the score, at
        the quantiles of a standard normal, each of shape (pairs,); NaN without a null.
    """

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def score_pairs(
    design: Design,
    expression: sp.csc_matrix | NDArray[np.float32],
    pairs: Windows,
    genes: pd.DataFrame,
    stratum: NDArray[np.int64],
    *,
    method: Method,
    n_components: int,
    n_permutations: int,
    window: int,
    rng: np.random.Generator,
) -> Scored:
    """Score all pairs and compare each with null scores of its stratum.

    Parameters
    ----------
    design
        Accessibility; its columns are what `pairs.peak` counts.
    expression
        Shape (observations, genes).
    pairs
        Candidate pairs, sorted by gene.
    genes
        Chromosome and TSS of the genes.
    stratum
        Stratum of each pair.
    method, n_components, n_permutations, window, rng
        As in `link_peaks_to_genes`.
    """
    fit = _Fit(design, pairs, len(genes), method, n_components)
    apart = _Elsewhere(genes, window)
    score = np.zeros(len(pairs.gene))
    standard = np.full(len(pairs.gene), np.nan)
    scored = np.flatnonzero(np.diff(fit.bounds))
    null = _NullPool(len(scored), len(pairs.gene), n_permutations, stratum, rng)
    for start in range(0, len(scored), _GENES_PER_BLOCK):
        block = scored[start : start + _GENES_PER_BLOCK]
        y = _standardized(expression, block)
        drawn = rng.choice(scored, min(n_permutations, len(scored)), replace=False)
        columns = np.unique(np.concatenate([fit.peaks(gene) for gene in (*block, *drawn)]))
        cross = design.cross(columns, y)
        for k, gene in enumerate(block):
            of_gene = {"columns": columns, "cross": cross[:, k], "y": y[:, k]}
            here = slice(fit.bounds[gene], fit.bounds[gene + 1])
            score[here], penalty = fit.own(gene, **of_gene)
            others = drawn[apart(gene, drawn)]
            if not others.size or not y[:, k].any():
                continue
            values = np.concatenate([fit.other(other, penalty, **of_gene) for other in others])
            mean, sd = fit.scale(values)
            if sd > 0:
                standard[here] = (score[here] - mean) / sd
                where = np.concatenate([fit.places(other) for other in others])
                null.add((values - mean) / sd, where)
    return Scored(score, *null.compare(standard))


class _Fit:
    """Scores of a window, for the gene that it belongs to and for others."""

    def __init__(
        self, design: Design, pairs: Windows, n_genes: int, method: Method, n_components: int
    ) -> None:
        self.design, self.pairs, self.method = design, pairs, method
        self.n_components = n_components
        self.bounds = np.searchsorted(pairs.gene, np.arange(n_genes + 1))
        self.grams: dict[int, NDArray[np.float64]] = {}

    def places(self, gene: int) -> NDArray[np.int64]:
        """Positions of a gene's pairs."""
        return np.arange(self.bounds[gene], self.bounds[gene + 1])

    def peaks(self, gene: int) -> NDArray[np.int64]:
        """Peaks of a gene's window."""
        return self.pairs.peak[self.bounds[gene] : self.bounds[gene + 1]]

    def gram(self, gene: int) -> NDArray[np.float64]:
        """Gram matrix of a gene's window, kept: windows serve as null of many genes."""
        if gene not in self.grams:
            self.grams[gene] = self.design.gram(self.peaks(gene))
        return self.grams[gene]

    def own(
        self,
        gene: int,
        columns: NDArray[np.int64],
        cross: NDArray[np.float64],
        y: NDArray[np.float32],
    ) -> tuple[NDArray[np.float64], float]:
        """Return the scores of a gene's own window, and the penalty of its lasso."""
        if self.method != "lasso":
            return self.other(gene, 0.0, columns, cross, y), 0.0
        folds = self.design.fold_products(self.peaks(gene), y)
        mine = cross[np.searchsorted(columns, self.peaks(gene))]
        return lasso_coefficients(self.gram(gene), mine, folds)

    def other(
        self,
        gene: int,
        penalty: float,
        columns: NDArray[np.int64],
        cross: NDArray[np.float64],
        y: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Return the scores of a window for expression whose cross-products are given."""
        mine = cross[np.searchsorted(columns, self.peaks(gene))]
        if self.method == "lasso":
            return lasso_path(self.gram(gene), mine, np.array([penalty]))[:, 0]
        if self.method == "pls":
            return pls_coefficients(self.gram(gene), mine, self.n_components)
        return mine

    def scale(self, null: NDArray[np.float64]) -> tuple[float, float]:
        """Return centre and spread of a gene's null scores.

        Genes differ in how strongly they follow anything. A lasso has too few non-zeros for that.
        """
        return (0.0, 1.0) if self.method == "lasso" else (float(null.mean()), float(null.std()))


class _Elsewhere:
    """Which windows are too far from a gene to regulate it."""

    def __init__(self, genes: pd.DataFrame, window: int) -> None:
        self.chrom = np.asarray(list(genes["chrom"]), dtype=object)
        self.tss = genes["tss"].to_numpy(np.int64)
        self.far = max(_ELSEWHERE, 2 * window + 1)

    def __call__(self, gene: int, others: NDArray[np.int64]) -> NDArray[np.bool_]:
        same = self.chrom[others] == self.chrom[gene]
        return ~same | (np.abs(self.tss[others] - self.tss[gene]) >= self.far)


class _NullPool:
    """Null scores by stratum, thinned at random where there are very many."""

    def __init__(
        self,
        n_genes: int,
        n_pairs: int,
        n_permutations: int,
        stratum: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        expected = n_pairs * min(n_permutations, n_genes)
        self.keep = min(1.0, _MAX_POOL / max(1, expected))
        self.stratum, self.rng = stratum, rng
        self.values: list[NDArray[np.float32]] = []
        self.strata: list[NDArray[np.int32]] = []

    def add(self, scores: NDArray[np.float64], pairs: NDArray[np.int64]) -> None:
        """Add null scores; each stands for the stratum of the pair whose peak it took."""
        if self.keep < 1.0:
            kept = self.rng.random(len(scores)) < self.keep
            scores, pairs = scores[kept], pairs[kept]
        self.values.append(scores.astype(np.float32))
        self.strata.append(self.stratum[pairs].astype(np.int32))

    def compare(
        self, standard: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return p values, (1 + null scores at least as large) / (1 + null scores), and intervals.

        The p values are two-sided. Of N null scores with r below a score and t equal to it, its z
        score lies between the standard normal quantiles of r and r + t + 1 of N + 1.
        """
        p_value, low, high = np.full((3, len(standard)), np.nan)
        if not self.values:
            return p_value, low, high
        from scipy.special import ndtri

        values, strata = np.concatenate(self.values), np.concatenate(self.strata)
        order = np.lexsort((values, strata))
        values, strata = values[order], strata[order]
        for s in np.unique(self.stratum):
            first, last = np.searchsorted(strata, [s, s + 1])
            mine = np.flatnonzero((self.stratum == s) & ~np.isnan(standard))
            if first == last or not mine.size:
                continue
            n, null = last - first, values[first:last]
            asked = standard[mine].astype(np.float32)
            larger = n - np.searchsorted(np.sort(np.abs(null)), np.abs(asked), side="left")
            p_value[mine] = (1.0 + larger) / (1.0 + n)
            low[mine] = ndtri(np.searchsorted(null, asked, side="left") / (1.0 + n))
            high[mine] = ndtri((1.0 + np.searchsorted(null, asked, side="right")) / (1.0 + n))
        return p_value, low, high


def _standardized(
    expression: sp.csc_matrix | NDArray[np.float32], genes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return expression of some genes, centred and divided by its deviation; zero if constant."""
    block = expression[:, genes]
    dense = np.asarray(block.toarray() if sp.issparse(block) else block, dtype=np.float64)
    dense = dense - dense.mean(axis=0)
    sd = dense.std(axis=0)
    return (dense / np.where(sd > 1e-12, sd, np.inf)).astype(np.float32)
