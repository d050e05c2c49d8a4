"""Cell states of the simulation: a binary tree of cell types, a trajectory, and their effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._genome import Genome

TRAJECTORY_FACTORS = ("trajectory_end", "trajectory_middle")
PSEUDOTIME_STEPS = 51

_MARKER_GENES = 0.08  # share of genes whose linked peaks a program opens or closes
_MARKER_PEAKS = 0.03  # share of further peaks, regulating nothing
_OPENING = 0.85  # share of the affected features that go up
_MAX_LOG_EFFECT = 3.0


@dataclass(frozen=True)
class Tree:
    """A binary tree of cell types: `parent[i]` of node `i` (-1: root), the leaves, the splits."""

    names: list[str]
    parent: NDArray[np.int64]
    leaves: NDArray[np.int64]
    splits: list[int]  # inner nodes, those with the fewest types below first

    def path(self, node: int) -> list[int]:
        """Nodes from `node` up to, not including, the root."""
        nodes = []
        while self.parent[node] >= 0:
            nodes.append(int(node))
            node = int(self.parent[node])
        return nodes


def make_tree(n_types: int) -> Tree:
    """Split `n_types` types in halves down to single ones."""
    digits = max(2, len(str(n_types)))
    types = [f"type_{i:0{digits}d}" for i in range(1, n_types + 1)]
    names: list[str] = []
    parent: list[int] = []
    leaf = np.zeros(n_types, dtype=np.int64)
    inner: list[tuple[int, int]] = []
    waiting = [(0, n_types, -1)]
    while waiting:
        first, stop, above = waiting.pop(0)
        node = len(names)
        parent.append(above)
        if stop - first == 1:
            names.append(types[first])
            leaf[first] = node
            continue
        names.append("root" if above < 0 else f"node_{node}")
        inner.append((stop - first, node))
        middle = (first + stop) // 2
        waiting += [(first, middle, node), (middle, stop, node)]
    splits = [node for _, node in sorted(inner)]
    return Tree(names, np.array(parent), leaf, splits)


def factor_names(tree: Tree, *, trajectory: bool, batches: list[str]) -> list[str]:
    """Names of the columns of activity and effect: tree nodes, trajectory, batches."""
    nodes = [name for name, above in zip(tree.names, tree.parent, strict=True) if above >= 0]
    return nodes + list(TRAJECTORY_FACTORS if trajectory else ()) + batches


def make_activity(
    tree: Tree,
    factors: list[str],
    cell_type: NDArray[np.int64],
    pseudotime: NDArray[np.float64],
    batch: NDArray[np.int64],
    batches: list[str],
) -> NDArray[np.float32]:
    """How strongly each factor acts in each cell, `(cells, factors)`.

    A node acts in all types below it; the trajectory adds a program that grows with pseudotime
    and one that comes and goes, so that the branch is curved.
    """
    column = {name: i for i, name in enumerate(factors)}
    by_type = np.zeros((tree.leaves.size, len(factors)), dtype=np.float32)
    for label, leaf in enumerate(tree.leaves):
        for node in tree.path(int(leaf)):
            by_type[label, column[tree.names[node]]] = 1.0
    activity = by_type[cell_type]
    moving = ~np.isnan(pseudotime)
    if moving.any():
        t = pseudotime[moving]
        activity[moving, column["trajectory_end"]] = 1.5 * t
        activity[moving, column["trajectory_middle"]] = 4.0 * t * (1.0 - t)
    if batches:
        first = column[batches[0]]
        activity[np.arange(batch.size), first + batch] = 1.0
    return activity


def make_effects(
    genome: Genome,
    tree: Tree,
    factors: list[str],
    *,
    n_batches: int,
    batch_effect: float,
    effect_size: float,
    hidden_in_rna: list[int],
    hidden_in_atac: list[int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log fold changes per factor: `(genes, factors)` and `(peaks, factors)`.

    A gene's change is the sum over its regulating peaks of link effect times the peak's change.
    """
    n_genes, n_peaks = len(genome.genes), len(genome.peaks)
    n_programs = len(factors) - n_batches
    atac = np.zeros((n_peaks, len(factors)), dtype=np.float32)
    for program in range(n_programs):
        atac[:, program] = effect_size * _peak_program(genome, rng)
    links = sp.csr_matrix(
        (genome.link_effect, (genome.link_gene, genome.link_peak)), shape=(n_genes, n_peaks)
    )
    rna = np.clip(1.5 * (links @ atac), -_MAX_LOG_EFFECT, _MAX_LOG_EFFECT).astype(np.float32)
    column = {name: i for i, name in enumerate(factors)}
    for matrix, hidden in ((rna, hidden_in_rna), (atac, hidden_in_atac)):
        for node in np.flatnonzero(np.isin(tree.parent, hidden)):
            matrix[:, column[tree.names[node]]] = 0.0
        if n_batches:
            shape = (matrix.shape[0], n_batches)
            matrix[:, n_programs:] = rng.normal(0.0, batch_effect, shape)
    return rna, atac


def _peak_program(genome: Genome, rng: np.random.Generator) -> NDArray[np.float64]:
    """One program's log fold change per peak: linked peaks of marker genes, and some others."""
    n_genes, n_peaks = len(genome.genes), len(genome.peaks)
    is_marker = np.zeros(n_genes, dtype=bool)
    is_marker[rng.choice(n_genes, max(1, round(_MARKER_GENES * n_genes)), replace=False)] = True
    gene_sign = np.where(rng.random(n_genes) < _OPENING, 1.0, -1.0)
    peak_sign = np.where(rng.random(n_peaks) < _OPENING, 1.0, -1.0)
    affected = rng.random(n_peaks) < _MARKER_PEAKS
    use = is_marker[genome.link_gene] & (rng.random(genome.link_gene.size) < 0.8)
    affected[genome.link_peak[use]] = True
    peak_sign[genome.link_peak[use]] = gene_sign[genome.link_gene[use]]
    size = np.clip(rng.normal(1.4, 0.4, n_peaks), 0.3, _MAX_LOG_EFFECT)
    # Promoters are open in most cells and vary less than enhancers.
    size[genome.peaks["promoter"].to_numpy()] *= 0.6
    return np.where(affected, peak_sign * size, 0.0)
