"""Differential expression, streamed over genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from atacvi.models._change import ChangeTest, Decoder
from atacvi.models._differential import DifferentialAccessibilityMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

# Logits of a block of genes that are held at once, 20 MB
_LOGITS_PER_BLOCK = 5_000_000


class DifferentialMixin(DifferentialAccessibilityMixin):
    """Genes and regions that differ between groups of cells."""

    @property
    def _decoders(self) -> dict[str, Callable[..., Decoder]]:
        return {**super()._decoders, "rna": _expression_decoder}

    def differential_expression(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        group1: str | Iterable[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | np.ndarray | str | None = None,
        idx2: Sequence[int] | np.ndarray | str | None = None,
        mode: Literal["vanilla", "change"] = "change",
        delta: float | None = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Iterable[str] | None = None,
        batchid2: Iterable[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Compare the expression of groups of cells by its log2 fold change.

        Parameters
        ----------
        adata
            Data set up like the training data; ``None`` takes those.
        groupby
            Column of ``obs`` that holds the groups.
        group1
            Groups to compare, each in turn; ``None`` takes all.
        group2
            Group to compare with; ``None`` takes all other cells.
        idx1, idx2
            Cells in place of groups: positions, a mask, or a query of ``obs``.
        mode
            ``"change"`` or ``"vanilla"``, see :cite:p:`Boyeau19` and :cite:p:`Lopez18`.
        delta
            Smallest log2 fold change that counts; ``None`` estimates it.
        batch_size
            Cells per minibatch.
        all_stats
            Whether to add statistics of the counts.
        batch_correction
            Decode the cells of both groups as each batch, and compare within batches.
        batchid1, batchid2
            Batches as which to decode the groups, where `batch_correction`; ``None`` takes all.
        fdr_target
            False discovery rate of the calls.
        silent
            Show no progress.
        **kwargs
            Further arguments of `atacvi.models._change.ChangeTest`: ``n_samples_overall``,
            ``use_permutation``, ``m_permutation``, ``change_fn``, ``m1_domain_fn``,
            ``pseudocounts``, ``threshold_counts``, ``test_mode``, ``cred_interval_lvls``.

        Returns
        -------
        One row a gene and comparison, sorted by ``proba_de``: ``proba_de``, ``proba_not_de``,
        ``bayes_factor``, ``scale1``, ``scale2`` (mean fractions of expression), ``pseudocounts``,
        ``delta``, ``lfc_mean``, ``lfc_median``, ``lfc_std``, ``lfc_min``, ``lfc_max``,
        ``raw_mean1`` and others of the counts, ``is_de_fdr_0.05``, ``comparison``, ``group1`` and
        ``group2``. Statistics of the counts are over the cells that have any RNA.

        Raises
        ------
        KeyError
            If `groupby` is not found.
        ValueError
            If a group is unknown or empty, or an argument is out of range.

        Examples
        --------
        >>> mdata.obs["half"] = ["one"] * 30 + ["two"] * 30
        >>> table = model.differential_expression(groupby="half", group1="one", silent=True)
        >>> len(table), set(table["group2"])
        (20, {'Rest'})
        >>> bool(table["proba_de"].is_monotonic_decreasing)
        True
        """
        test = ChangeTest(mode=mode, delta=delta, **kwargs)
        tables = self._compare(
            "rna",
            adata,
            resolve={
                "groupby": groupby,
                "group1": group1,
                "group2": group2,
                "idx1": idx1,
                "idx2": idx2,
            },
            test=test,
            batch_size=batch_size,
            all_stats=all_stats,
            batches=self._batches(batch_correction, batchid1, batchid2),
            fdr_target=fdr_target,
            silent=silent,
        )
        return pd.concat(tables, axis=0)


def _expression_decoder(
    module: Any, z: torch.Tensor, shares: torch.Tensor, covariates: torch.Tensor
) -> Decoder:
    """Return a function that gives the fractions of expression of a block of genes.

    One pass over the blocks takes the normaliser of each sample.
    """
    trunk = module.trunk(z, covariates, shares)
    step = max(1, _LOGITS_PER_BLOCK // max(1, len(z)))
    totals = torch.full((len(z), 1), -torch.inf, device=z.device)
    for start in range(0, module.n_genes, step):
        logits = module.rna_head.logits(z, covariates, trunk, slice(start, start + step)).float()
        totals = torch.logaddexp(totals, logits.logsumexp(1, keepdim=True))

    def decode(block: slice) -> torch.Tensor:
        return (module.rna_head.logits(z, covariates, trunk, block).float() - totals).exp_()

    return decode
