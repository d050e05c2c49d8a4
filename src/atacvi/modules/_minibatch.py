"""The tensors of a minibatch, as the modules read them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from atacvi._constants import (
    ATAC_X_KEY,
    BATCH_KEY,
    CAT_COVS_KEY,
    CONT_COVS_KEY,
    SIZE_FACTOR_KEY,
    X_KEY,
)
from atacvi.likelihoods import SparseTarget


class PairedBatch(NamedTuple):
    """Counts of both modalities and the covariates of the same cells.

    Parameters
    ----------
    rna, atac
        Counts, shapes (cells, genes) and (cells, peaks).
    rna_depth, atac_depth
        Library sizes, shape (cells, 1): a given size factor, else the total of the counts.
    has_rna, has_atac
        Whether a cell has any counts, bool, shape (cells, 1).
    covariates
        One-hot batch and categorical covariates and the continuous ones, (cells, covariates).
    """

    rna: SparseTarget
    atac: SparseTarget
    rna_depth: Tensor
    atac_depth: Tensor
    has_rna: Tensor
    has_atac: Tensor
    covariates: Tensor


class PeakBatch(NamedTuple):
    """Accessibility of a minibatch and what is known of its cells.

    Parameters
    ----------
    atac
        Counts, shape (cells, peaks).
    depth
        Library size: a given size factor, else the total of the counts, shape (cells, 1).
    covariates
        One-hot batch and categorical covariates and the continuous ones, (cells, covariates).
    label, batch
        Codes, shape (cells,); the unlabelled category is `n_labels`.
    condition
        Embedding of another view of the cell, shape (cells, n_condition), or ``None``.
    components
        Spectral components, which both encoders see, shape (cells, n_spectral); ``None`` without.
    """

    atac: SparseTarget
    depth: Tensor
    covariates: Tensor
    label: Tensor
    batch: Tensor
    condition: Tensor | None
    components: Tensor | None


def row_sums(x: SparseTarget) -> Tensor:
    """Return the sum of each row, shape (cells, 1)."""
    sums = torch.zeros(x.shape[0], dtype=x.values.dtype, device=x.values.device)
    return sums.index_add(0, x.rows, x.values).unsqueeze(1)


def split_counts(x: SparseTarget, fraction: float) -> tuple[SparseTarget, SparseTarget]:
    """Split counts at random in two: each count goes to the first part with probability `fraction`.

    Given the rates, the parts of Poisson counts are independent (count splitting: Neufeld et al.,
    Biostatistics 2024), so that what one part says of the other is signal, not noise.
    """
    # Nearly all counts are one: a coin each, and a binomial draw for the few others.
    first = (torch.rand_like(x.values) < fraction).to(x.values.dtype)
    several = (x.values != 1).nonzero().squeeze(1)
    if several.numel():
        counts = x.values[several]
        first[several] = torch.binomial(counts, torch.full_like(counts, fraction))
    return _without_zeros(x, first), _without_zeros(x, x.values - first)


def _without_zeros(x: SparseTarget, values: Tensor) -> SparseTarget:
    keep = (values > 0).nonzero().squeeze(1)
    return SparseTarget(
        x.rows.index_select(0, keep),
        x.cols.index_select(0, keep),
        values.index_select(0, keep),
        x.shape,
    )


def encode_covariates(
    tensors: dict[str, Tensor],
    n_batch: int,
    n_cats_per_cov: tuple[int, ...],
    n_continuous_cov: int,
    transform_batch: int | None = None,
) -> Tensor:
    """Return one-hot and continuous covariates side by side, shape (cells, covariates).

    A single batch carries no information and takes no column.
    """
    n_cells = tensors[BATCH_KEY].shape[0]
    device = tensors[BATCH_KEY].device
    parts = []
    if n_batch > 1:
        batch = tensors[BATCH_KEY].long().view(-1)
        if transform_batch is not None:
            batch = torch.full_like(batch, transform_batch)
        parts.append(F.one_hot(batch, n_batch).float())
    if n_cats_per_cov:
        categories = tensors[CAT_COVS_KEY].long()
        for column, n_categories in enumerate(n_cats_per_cov):
            parts.append(F.one_hot(categories[:, column], n_categories).float())
    if n_continuous_cov:
        parts.append(tensors[CONT_COVS_KEY].float())
    return torch.cat(parts, dim=1) if parts else torch.zeros(n_cells, 0, device=device)


def read_counts(
    tensors: dict[str, Tensor], n_genes: int, gene_columns: Tensor | None, peak_columns: Tensor
) -> tuple[SparseTarget, SparseTarget]:
    """Return the counts of both modalities, from two matrices or from one that holds both."""
    if ATAC_X_KEY in tensors:
        return (
            SparseTarget.from_tensor(tensors[X_KEY]),
            SparseTarget.from_tensor(tensors[ATAC_X_KEY]),
        )
    joint = SparseTarget.from_tensor(tensors[X_KEY])
    if gene_columns is None or gene_columns.numel() != n_genes:
        found = "none" if gene_columns is None else str(gene_columns.numel())
        msg = (
            f"One matrix holds both modalities, so the module needs {n_genes} `gene_columns`; "
            f"found {found}. Build the model from data set up with `setup_anndata`."
        )
        raise ValueError(msg)
    return joint.select_features(gene_columns), joint.select_features(peak_columns)


def rna_library_size(tensors: dict[str, Tensor], totals: Tensor) -> Tensor:
    """Return the size factor where one is registered, else the totals; at least one."""
    given = tensors.get(SIZE_FACTOR_KEY)
    return (totals if given is None else given.float().view(-1, 1)).clamp(min=1e-6)
