"""Differential accessibility, and what any comparison of groups shares, streamed over features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scvi.utils import track

from atacvi._compat import fdr_de_prediction
from atacvi._constants import ATAC_X_KEY, X_KEY
from atacvi.models._change import ChangeTest, Decoder, Group, compare_groups
from atacvi.models._groups import Comparison, raw_statistics, resolve_groups
from atacvi.models._seed import session_seed
from atacvi.models._streaming import StreamingMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData

Kind = Literal["rna", "atac"]


class DifferentialAccessibilityMixin(StreamingMixin):
    """Features that differ between groups of cells, with scvi-tools' arguments and columns.

    Posterior samples of the latent are drawn and decoded to a short vector each, once; features
    are then multiplied out block by block, so that memory does not grow with them.
    """

    @property
    def _decoders(self) -> dict[str, Callable[..., Decoder]]:
        """What decodes samples of a modality."""
        return {"atac": _accessibility_decoder}

    def differential_accessibility(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        group1: str | Iterable[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | np.ndarray | str | None = None,
        idx2: Sequence[int] | np.ndarray | str | None = None,
        mode: Literal["vanilla", "change"] = "change",
        delta: float | None = 0.05,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Iterable[str] | None = None,
        batchid2: Iterable[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Compare the accessibility of groups of cells by its difference.

        Accessibility is the probability that a cell of the median depth shows at least one count
        in the region, ``1 - exp(-rate * median depth)``.

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
            Smallest difference of the probability that counts; ``None`` estimates it.
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
            ``change_fn="log-fold"`` compares by the log2 fold change, as scvi-tools does.

        Returns
        -------
        One row a region and comparison, sorted by ``prob_da``: ``prob_da``, ``is_da_fdr``,
        ``bayes_factor``, ``effect_size`` (``est_prob2 - est_prob1``), ``emp_effect``,
        ``est_prob1``, ``est_prob2``, ``emp_prob1``, ``emp_prob2``, and for groups
        ``comparison``, ``group1`` and ``group2``. Empirical values are over the cells that have
        any ATAC, and left out without `all_stats`.

        Raises
        ------
        KeyError
            If `groupby` is not found.
        ValueError
            If a group is unknown or empty, or an argument is out of range.

        Examples
        --------
        >>> import atacvi
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=100, n_genes=50, n_peaks=200)
        >>> atacvi.MultiViewModel.setup_mudata(mdata)
        >>> model = atacvi.MultiViewModel(mdata, n_clusters=3)
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> first = mdata.obs["cell_type"].iloc[0]
        >>> table = model.differential_accessibility(
        ...     groupby="cell_type", group1=first, n_samples_overall=100, silent=True
        ... )
        >>> list(table.columns[:4])
        ['prob_da', 'is_da_fdr', 'bayes_factor', 'effect_size']
        """
        kwargs = {"change_fn": None, **kwargs}
        kwargs["change_fn"] = kwargs["change_fn"] or "difference"
        test = ChangeTest(mode=mode, delta=delta, **kwargs)
        tables = self._compare(
            "atac",
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
        return pd.concat([_as_accessibility(table, fdr_target) for table in tables], axis=0)

    def _batches(
        self,
        batch_correction: bool,
        batchid1: Iterable[str] | None,
        batchid2: Iterable[str] | None,
    ) -> tuple[list[int | None], list[int | None]]:
        """Return the codes of the batches as which to decode each group, ``None`` for its own."""
        if not batch_correction:
            if batchid1 is not None or batchid2 is not None:
                msg = "batchid1 and batchid2 take effect with batch_correction=True only."
                raise ValueError(msg)
            return [None], [None]
        n_batch = self.module.n_batch  # type: ignore[attr-defined]
        codes: list[list[int | None]] = []
        for argument, wanted in (("batchid1", batchid1), ("batchid2", batchid2)):
            named = [wanted] if isinstance(wanted, str) else wanted
            every: list[int | None] = list(range(n_batch))
            codes.append(every if named is None else [self._batch_code(b, argument) for b in named])
        return codes[0], codes[1]

    @torch.inference_mode()
    def _compare(
        self,
        kind: Kind,
        adata: AnnData | MuData | None,
        *,
        resolve: dict[str, Any],
        test: ChangeTest,
        batch_size: int | None,
        all_stats: bool,
        batches: tuple[list[int | None], list[int | None]],
        fdr_target: float,
        silent: bool,
    ) -> list[pd.DataFrame]:
        """Return one table of scvi-tools' columns for each comparison."""
        self._check_if_trained(warn=False)  # type: ignore[attr-defined]
        adata, _ = self._cells(adata, None)
        names = self.gene_names if kind == "rna" else self.region_names  # type: ignore[attr-defined]
        counts = self._raw_counts(adata, kind)
        seed = session_seed()
        comparisons = resolve_groups(adata, **resolve)
        tables = []
        for comparison in track(comparisons, description="Comparing", disable=silent):
            rng = np.random.default_rng(seed)
            raw = raw_statistics(*counts, comparison.cells, kind)
            groups = []
            for cells, codes, mean in zip(
                comparison.cells, batches, raw.pop("counts_per_cell"), strict=True
            ):
                decode, of_batch = self._sample_group(
                    kind, adata, cells, codes, test.n_samples_overall, batch_size, rng
                )
                groups.append(Group(decode, of_batch, mean < test.threshold_counts))
            statistics = compare_groups(
                groups[0], groups[1], len(names), test, rng, describe=kind == "rna"
            )
            columns = statistics | (raw if all_stats else {})
            tables.append(_as_table(columns, names, comparison, test.mode, fdr_target))
        return tables

    def _raw_counts(self, adata: Any, kind: Kind) -> tuple[Any, np.ndarray | None]:
        """Return the counts that hold a modality, and its columns where they hold both."""
        manager = self.get_anndata_manager(adata, required=True)  # type: ignore[attr-defined]
        if ATAC_X_KEY in manager.data_registry:
            return manager.get_from_registry(X_KEY if kind == "rna" else ATAC_X_KEY), None
        module = self.module  # type: ignore[attr-defined]
        columns = module.gene_columns if kind == "rna" else module.peak_columns
        return manager.get_from_registry(X_KEY), columns.cpu().numpy()

    def _sample_group(
        self,
        kind: Kind,
        adata: Any,
        cells: np.ndarray,
        codes: list[int | None],
        n_samples: int,
        batch_size: int | None,
        rng: np.random.Generator,
    ) -> tuple[Decoder, np.ndarray]:
        """Draw posterior samples of a group; return their decoder and the batch of each."""
        module = self.module  # type: ignore[attr-defined]
        per_batch = max(2, n_samples // len(codes))
        chosen = [rng.choice(cells, per_batch) for _ in codes]
        unique, where = np.unique(np.concatenate(chosen), return_inverse=True)
        parts: list[tuple[torch.Tensor, ...]] = []
        for _, tensors in self._minibatches(adata, unique, batch_size):
            out = module.inference(module.read_batch(tensors))
            mean, variance = out["posterior"]
            shares = out["log_responsibilities"].exp()
            parts.append((mean, variance, shares, module.read_covariates(tensors, None)))
        rows = torch.as_tensor(where.ravel(), device=module.device)
        mean, variance, shares, covariates = (
            torch.cat(values)[rows] for values in zip(*parts, strict=True)
        )
        noise = rng.standard_normal(tuple(mean.shape), dtype=np.float32)
        z = mean + variance.sqrt() * torch.as_tensor(noise, device=mean.device)
        if module.n_batch > 1 and codes != [None]:
            code = torch.as_tensor(np.repeat(np.asarray(codes, dtype=np.int64), per_batch))
            one_hot = torch.nn.functional.one_hot(code, module.n_batch).to(covariates)
            covariates = torch.cat([one_hot, covariates[:, module.n_batch :]], dim=1)
        make = self._decoders[kind]
        of_batch = np.repeat([-1 if code is None else code for code in codes], per_batch)
        return make(module, z, shares, covariates), of_batch


def _accessibility_decoder(
    module: Any, z: torch.Tensor, shares: torch.Tensor, covariates: torch.Tensor
) -> Decoder:
    """Return a function that gives P(open) at the median depth of a block of peaks."""
    vectors = module.peak_vectors(z, covariates, shares)
    log_depth = module.atac_median_depth.log()

    def decode(block: slice) -> torch.Tensor:
        peaks = torch.arange(block.start, block.stop, device=vectors.device)
        rates = module.peak_log_rates(vectors, peaks).add_(log_depth).exp_()
        return rates.neg_().expm1_().neg_()

    return decode


def _as_table(
    columns: dict[str, Any],
    names: np.ndarray,
    comparison: Comparison,
    mode: str,
    fdr_target: float,
) -> pd.DataFrame:
    table = pd.DataFrame(columns, index=pd.Index(names))
    key = "proba_de" if mode == "change" else "bayes_factor"
    # Stable, so that ties stay in the order of the features.
    table = table.sort_values(key, ascending=False, kind="stable")
    if mode == "change":
        table[f"is_de_fdr_{fdr_target}"] = fdr_de_prediction(table["proba_de"], fdr=fdr_target)
    if comparison.names is not None:
        one, two = comparison.names
        table["comparison"] = f"{one} vs {two}"
        table["group1"], table["group2"] = one, two
    return table


def _as_accessibility(table: pd.DataFrame, fdr_target: float) -> pd.DataFrame:
    """Return the table under the names that PEAKVI gives its columns."""
    change = "proba_de" in table
    out = {
        "prob_da": table["proba_de"] if change else table["proba_m1"],
        "is_da_fdr": table[f"is_de_fdr_{fdr_target}"] if change else None,
        "bayes_factor": table["bayes_factor"],
        "effect_size": table["scale2"] - table["scale1"],
    }
    if "emp_mean1" in table:
        out["emp_effect"] = table["emp_mean2"] - table["emp_mean1"]
    out |= {"est_prob1": table["scale1"], "est_prob2": table["scale2"]}
    if "emp_mean1" in table:
        out |= {"emp_prob1": table["emp_mean1"], "emp_prob2": table["emp_mean2"]}
    out |= {name: table[name] for name in ("comparison", "group1", "group2") if name in table}
    return pd.DataFrame(out, index=table.index)
