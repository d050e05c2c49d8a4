"""Trunks of the two modalities: from the counts of a minibatch to one hidden vector a cell."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from atacvi.likelihoods import SparseTarget
from atacvi.nn.attention import FeatureSelfAttention, TokenSelfAttention
from atacvi.nn.sparse_input import inverse_row_norms, scale_rows_to_unit, weighted_feature_sum

Attention = Literal["tokens", "feature", "none"]

# Standardised expression beyond this is an outlier of one cell, not a direction to learn from.
_MAX_STANDARDISED = 10.0


class LearntRows(NamedTuple):
    """The embeddings that a step learns, where it learns those of some peaks only.

    Parameters
    ----------
    peaks
        The peaks, int64, shape (peaks learnt,).
    rows
        Their embeddings, shape (peaks learnt, n_embed).
    counts
        Their counts, shape (cells, peaks learnt).
    weight
        For how many peaks each of them stands.
    """

    peaks: Tensor
    rows: Tensor
    counts: SparseTarget
    weight: float


class RnaEncoder(nn.Module):
    """Mask-gated encoder of expression (scMVP, Methods: mask attention).

    Counts are scaled to the median depth, logged and standardised by statistics of the training
    cells. A gate in (0, 1) multiplies each hidden unit. Standardising is folded into the sum over
    the non-zeros, so that genes without counts cost nothing.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_hidden
        Width of the hidden layer.
    n_covariates
        Width of the covariates that enter, 0 for none.
    dropout_rate
        Dropout on the hidden layer.
    separate_gate
        Give the gate its own first layer, as in the publication.
    """

    median_depth: Tensor
    mean: Tensor
    inverse_deviation: Tensor

    def __init__(
        self,
        n_genes: int,
        n_hidden: int,
        n_covariates: int = 0,
        dropout_rate: float = 0.1,
        *,
        separate_gate: bool = False,
    ) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n_genes, n_hidden) / n_genes**0.5)
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.covariates = nn.Linear(n_covariates, n_hidden, bias=False) if n_covariates else None
        self.gate_table = (
            nn.Parameter(torch.randn(n_genes, n_hidden) / n_genes**0.5) if separate_gate else None
        )
        self.gate = nn.Linear(n_hidden, n_hidden)
        nn.init.constant_(self.gate.bias, 1.0)
        self.norm = nn.LayerNorm(n_hidden)
        self.dropout = nn.Dropout(dropout_rate)
        self.register_buffer("median_depth", torch.tensor(1e4))
        self.register_buffer("mean", torch.zeros(n_genes))
        self.register_buffer("inverse_deviation", torch.ones(n_genes))

    def set_statistics(self, median_depth: float, mean: Tensor, deviation: Tensor) -> None:
        """Set the statistics of scaled and logged expression over the training cells."""
        self.median_depth.fill_(median_depth)
        self.mean.copy_(mean)
        self.inverse_deviation.copy_(1.0 / deviation.clamp(min=1e-2))

    def forward(
        self, x: SparseTarget | Tensor, depth: Tensor, covariates: Tensor | None = None
    ) -> Tensor:
        """Encode counts, sparse or dense of shape (cells, genes).

        Parameters
        ----------
        x
            Counts.
        depth
            Total counts of each cell, shape (cells, 1).
        covariates
            Shape (cells, covariates).

        Returns
        -------
        Hidden layer of shape (cells, n_hidden).
        """
        before = self._project(x, depth, self.table) + self.bias
        if self.covariates is not None and covariates is not None:
            before = before + self.covariates(covariates)
        into_gate = before
        if self.gate_table is not None:
            into_gate = self._project(x, depth, self.gate_table)
        hidden = torch.relu(self.norm(before))
        return self.dropout(hidden * torch.sigmoid(self.gate(into_gate)))

    def _project(self, x: SparseTarget | Tensor, depth: Tensor, table: Tensor) -> Tensor:
        scale = self.median_depth / depth.clamp(min=1.0)
        if isinstance(x, SparseTarget):
            logged = torch.log1p(x.values * scale.squeeze(-1)[x.rows])
            values = (logged * self.inverse_deviation[x.cols]).clamp(max=_MAX_STANDARDISED)
            projected = weighted_feature_sum(x, values, table)
        else:
            values = torch.log1p(x * scale) * self.inverse_deviation
            projected = values.clamp(max=_MAX_STANDARDISED) @ table
        return projected - (self.mean * self.inverse_deviation) @ table


class AtacEncoder(nn.Module):
    """Encoder of open peaks: per-peak embeddings, summed by genome block, attended and pooled.

    Open peaks are weighted by their inverse document frequency and scaled to unit norm per cell,
    so that depth drops out. With ``attention="tokens"`` the sums over blocks of neighbouring peaks
    are tokens of a self-attention layer; with ``"feature"`` attention runs over hidden scalars as
    in the scMVP code.

    Parameters
    ----------
    n_peaks
        Number of peaks.
    n_embed
        Width of a peak's embedding.
    n_hidden
        Width of the hidden layer.
    n_covariates
        Width of the covariates that enter, 0 for none.
    attention
        ``"tokens"``, ``"feature"`` or ``"none"``.
    n_heads
        Number of attention heads.
    block
        Genome block of each peak, int64, shape (peaks,).
    dropout_rate
        Dropout on the hidden layer.
    """

    block: Tensor
    idf: Tensor

    def __init__(
        self,
        n_peaks: int,
        n_embed: int,
        n_hidden: int,
        n_covariates: int = 0,
        *,
        attention: Attention = "tokens",
        n_heads: int = 8,
        block: Tensor | None = None,
        dropout_rate: float = 0.1,
    ) -> None:
        super().__init__()
        block = torch.zeros(n_peaks, dtype=torch.long) if block is None else block
        self.register_buffer("block", block)
        self.register_buffer("idf", torch.ones(n_peaks))
        self.n_blocks = int(block.max()) + 1
        self.attention_type = attention
        self.position: nn.Parameter | None = None
        self.attention: TokenSelfAttention | FeatureSelfAttention | None = None
        if attention == "tokens":
            self.position = nn.Parameter(0.02 * torch.randn(self.n_blocks, n_embed))
            self.attention = TokenSelfAttention(n_embed, n_heads, dropout_rate)
        elif attention == "feature":
            self.attention = FeatureSelfAttention(n_hidden, n_heads, dropout_rate)
        self.project = nn.Linear(n_embed, n_hidden)
        self.covariates = nn.Linear(n_covariates, n_hidden, bias=False) if n_covariates else None
        self.norm = nn.LayerNorm(n_hidden)
        self.dropout = nn.Dropout(dropout_rate)

    def set_statistics(self, idf: Tensor) -> None:
        """Set the inverse document frequency of each peak over the training cells."""
        self.idf.copy_(idf)

    def forward(
        self,
        y: SparseTarget | Tensor,
        table: Tensor,
        covariates: Tensor | None = None,
        peaks: Tensor | None = None,
        learnt: LearntRows | None = None,
    ) -> Tensor:
        """Encode accessibility.

        Parameters
        ----------
        y
            Counts of shape (cells, peaks), sparse; or a dense expected accessibility.
        table
            Embedding of each peak that `y` holds, shape (peaks, n_embed).
        covariates
            Shape (cells, covariates).
        peaks
            The peaks that a dense `y` and `table` hold, int64; all when ``None``.
        learnt
            The rows of the table that get a gradient, of all others an unbiased estimate; the
            whole table when ``None``.

        Returns
        -------
        Hidden layer of shape (cells, n_hidden).
        """
        if isinstance(self.attention, TokenSelfAttention):
            pooled = self.attention(self.tokens(y, table, peaks, learnt)).sum(1)
        else:
            pooled = self._sum(y, table, peaks, None, learnt)
        hidden = self.project(pooled)
        if self.covariates is not None and covariates is not None:
            hidden = hidden + self.covariates(covariates)
        hidden = torch.relu(self.norm(hidden))
        if isinstance(self.attention, FeatureSelfAttention):
            hidden = self.attention(hidden)
        return self.dropout(hidden)

    def tokens(
        self,
        y: SparseTarget | Tensor,
        table: Tensor,
        peaks: Tensor | None,
        learnt: LearntRows | None = None,
    ) -> Tensor:
        """Return the sums of embeddings by block, with positions, (cells, blocks, n_embed)."""
        sums = self._sum(y, table, peaks, self.block, learnt)
        return sums if self.position is None else sums + self.position

    def _sum(
        self,
        y: SparseTarget | Tensor,
        table: Tensor,
        peaks: Tensor | None,
        block: Tensor | None,
        learnt: LearntRows | None = None,
    ) -> Tensor:
        if isinstance(y, SparseTarget) and learnt is not None:
            return self._sum_learning(y, table, block, learnt)
        if isinstance(y, SparseTarget):
            weights = scale_rows_to_unit(y, self.idf[y.cols])
            return weighted_feature_sum(y, weights, table, block, self.n_blocks)
        idf = self.idf if peaks is None else self.idf[peaks]
        weights = nn.functional.normalize(y * idf, dim=1)
        if block is None:
            return weights @ table
        of_peak = block if peaks is None else block[peaks]
        return _block_products(weights, table, of_peak, self.n_blocks)

    def _sum_learning(
        self, y: SparseTarget, table: Tensor, block: Tensor | None, learnt: LearntRows
    ) -> Tensor:
        """Return the sums over all peaks, with a gradient to the rows learnt.

        The gradient of all rows costs several times what the sums cost. That of a random part,
        each row of it standing for several, is the same on average.
        """
        with torch.no_grad():
            idf = self.idf.index_select(0, y.cols)
            inverse_norm = inverse_row_norms(y, idf)
            weights = idf * inverse_norm.index_select(0, y.rows)
            sums = weighted_feature_sum(y, weights, table, block, self.n_blocks)
            part_idf = self.idf[learnt.peaks][learnt.counts.cols]
            part_weights = part_idf * inverse_norm[learnt.counts.rows]
        of_part = None if block is None else block[learnt.peaks]
        part = weighted_feature_sum(
            learnt.counts, part_weights, learnt.rows, of_part, self.n_blocks
        )
        return sums + learnt.weight * (part - part.detach())


def _block_products(weights: Tensor, table: Tensor, block: Tensor, n_blocks: int) -> Tensor:
    """Return the product of each block's columns and rows, shape (cells, blocks, width)."""
    order = torch.argsort(block, stable=True)
    sizes = torch.bincount(block, minlength=n_blocks).tolist()
    columns = weights[:, order].split(sizes, dim=1)
    rows = table[order].split(sizes, dim=0)
    return torch.stack([c @ r for c, r in zip(columns, rows, strict=True)], dim=1)
