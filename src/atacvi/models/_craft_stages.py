"""The stages of CRAFTModel's training: alignment of both modalities, then imputation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from atacvi._constants import BATCH_KEY, LABELS_KEY, X_KEY
from atacvi.models._craft_profiles import fit_retrieval_scale, fit_ridge
from atacvi.models._seed import session_seed
from atacvi.models._token_fit import TokenFitMixin, read_finished, write_finished
from atacvi.training import (
    AlignmentPlan,
    AlignmentViews,
    BatchPlan,
    DecoderPlan,
    DecoderViews,
    SelectFromStart,
    TokenDataModule,
    TokenDataset,
    TokenRows,
    at_most,
    best_logit_scale,
    checkpoint_path,
    read_checkpoint,
    start_alignment,
    start_atacformer,
    start_decoder,
    start_embedding_encoder,
    start_expression_encoder,
    start_region_components,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAGES = ("alignment", "imputation")
_N_PROBE = 2_000
_MAX_START = 20_000
# Cells a fine cluster holds on average; two cells of one are taken to be the same in all but name
_CLUSTER_SIZE = 10
_MAX_CLUSTERS = 500
# Strengths with which the loadings of the decoder start; held-out cells choose
_DECODER_RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)


class CRAFTStagesMixin(TokenFitMixin):
    """`_align` and `_learn_imputation`."""

    start_scores_: dict[str, float] | None
    start_correlation_: np.ndarray | None
    ridge_: dict[str, np.ndarray] | None
    retrieval_scale_: float | None
    imputation_scores_: dict[str, float] | None
    decoder_is_trained_: bool

    # ---- alignment ------------------------------------------------------------------------

    def _align(
        self,
        split: tuple[np.ndarray, ...],
        max_epochs: int,
        plan: AlignmentPlan,
        *,
        folder: Path | None,
        start: str,
        use_transformer: bool | None,
        max_tokens: int | None,
        token_dropout: float,
        count_dropout: float,
        freeze_encoders: bool,
        false_negatives: str,
        negatives: str,
        batch_size: int,
        resume: bool,
        **common: Any,
    ) -> None:
        tokens, (rna, _, _) = self._tokens(None), self._rna_input(None)  # type: ignore[attr-defined]
        seed = session_seed()
        if not self.started_:
            self._start(tokens, rna, split[:2], start, use_transformer)
            self.started_ = True
        self.start_scores_ = None
        finished = read_finished(folder) if resume else None
        if finished is not None:
            self.module.load_state_dict(finished["weights"])
            self.history_ = finished["history"]
            self._set_means(split[0])
            return
        context: int | None = self.atac_side._context(max_tokens)  # type: ignore[attr-defined]
        columns = self._pair_columns(tokens, rna, false_negatives, negatives)
        if self.module.component_encoder is None:
            rows, context = TokenRows(tokens, context, seed=seed), None
        else:  # the linear components see all tokens
            rows = TokenRows(tokens, seed=seed)
            context = context if self.module.uses_transformer else None
        dropout: dict[str, Any] = {"token_dropout": token_dropout, "count_dropout": count_dropout}
        views: dict[str, Any] = {"max_tokens": context, "seed": seed}
        data = TokenDataModule(
            TokenDataset(rows, AlignmentViews(rna, **dropout, **views), columns),
            TokenDataset(rows, AlignmentViews(rna, **views), columns),
            *split,
            token_budget=int(rows.lengths.sum()) + 1,
            max_cells=batch_size,
            seed=seed,
            n_workers=common["n_workers"],
        )
        fixed = ["gene_encoder", "atac_encoder", "component_encoder"] if freeze_encoders else []
        if not self.module.uses_transformer:
            fixed += ["atac_encoder", "atac_projection"]
        trained = {p for name in fixed for p in self._parameters(name) if p.requires_grad}
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            probe = self._contrast_probe(tokens, rna, split[1]) if common["watch"] else None
            self._run(
                plan, data, max_epochs, probe, folder, kind="alignment", resume=resume, **common
            )
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        self._set_means(split[0])
        write_finished(folder, self.module, self.history_)

    def _start(
        self,
        tokens: sp.csr_matrix,
        rna: Any,
        split: tuple[np.ndarray, ...],
        start: str,
        use_transformer: bool | None,
    ) -> None:
        """Set starting values from the training cells; held-out cells choose among a few."""
        seed, module = session_seed(), self.module
        cells = at_most(split[0], _MAX_START, np.random.default_rng(seed))
        is_given = self.atac_side.started_  # type: ignore[attr-defined]
        takes_part = is_given if use_transformer is None else use_transformer
        module.transformer_is_used.fill_(takes_part or module.component_encoder is None)
        if not is_given and module.uses_transformer:
            start_atacformer(module.atac_encoder, tokens[split[0]], seed)
            self.atac_side.started_ = True  # type: ignore[attr-defined]
        if self.rna_encoder == "mlp":  # type: ignore[attr-defined]
            start_expression_encoder(module.gene_encoder, rna[split[0]], seed)
        elif self.rna_encoder == "obsm":  # type: ignore[attr-defined]
            start_embedding_encoder(module.gene_encoder, rna[split[0]])
        encoded = self._encoded_rna(rna, cells)  # type: ignore[attr-defined]
        if module.component_encoder is not None:
            active = module.atac_encoder.active_ids.cpu().numpy()
            known = tokens if len(active) == tokens.shape[1] else tokens[:, active]
            held_out = known[split[1]], self._encoded_rna(rna, split[1])  # type: ignore[attr-defined]
            start_region_components(module.component_encoder, known[cells], encoded, held_out, seed)
        if start == "canonical":
            atac = self._encoded_atac(tokens, cells, max_tokens=2048, seed=seed)  # type: ignore[attr-defined]
            self.start_correlation_ = start_alignment(module, encoded, atac, seed).correlation

    def _pair_columns(
        self, tokens: sp.csr_matrix, rna: Any, false_negatives: str, negatives: str
    ) -> dict[str, np.ndarray]:
        """Return what tells which cells are no negatives of each other."""
        columns: dict[str, np.ndarray] = {}
        if negatives == "batch" and int(self.summary_stats.n_batch) > 1:  # type: ignore[attr-defined]
            columns["batch"] = _codes(self.adata_manager, BATCH_KEY)
        if false_negatives == "labels":
            columns["group"] = _codes(self.adata_manager, LABELS_KEY)
        elif false_negatives == "clusters":
            from sklearn.cluster import MiniBatchKMeans

            latent = self._joint_start(tokens, rna)
            n_clusters = int(np.clip(len(latent) // _CLUSTER_SIZE, 1, _MAX_CLUSTERS))
            found = MiniBatchKMeans(n_clusters, n_init=3, random_state=session_seed()).fit(latent)
            columns["group"] = found.labels_.astype(np.int64)
        return columns

    def _joint_start(self, tokens: sp.csr_matrix, rna: Any) -> np.ndarray:
        cells = np.arange(tokens.shape[0])
        atac = self._encoded_atac(tokens, cells, max_tokens=2048, seed=session_seed())  # type: ignore[attr-defined]
        parts = (
            self._projected("rna", self._encoded_rna(rna, cells), centre=False),  # type: ignore[attr-defined]
            self._projected("atac", atac, centre=False),  # type: ignore[attr-defined]
        )
        return parts[0] + parts[1]

    def _contrast_probe(
        self, tokens: sp.csr_matrix, rna: Any, cells: np.ndarray
    ) -> Callable[[], dict[str, float]]:
        """Return the function that scores the alignment of held-out cells.

        The temperature is the best one for these cells: one that training has made too sharp says
        nothing against the vectors.
        """
        from atacvi.metrics import foscttm, recall_at_k

        chosen = at_most(cells, _N_PROBE, np.random.default_rng([session_seed(), 7]))

        def probe() -> dict[str, float]:
            one = self._projected("rna", self._encoded_rna(rna, chosen), centre=False)  # type: ignore[attr-defined]
            encoded = self._encoded_atac(tokens, chosen, max_tokens=2048, seed=session_seed())  # type: ignore[attr-defined]
            two = self._projected("atac", encoded, centre=False)  # type: ignore[attr-defined]
            scores = {"contrast": -best_logit_scale(one, two)[1]}
            if len(chosen) > 2:
                scores["foscttm"] = foscttm(one, two)
                scores["recall_at_10"] = recall_at_k(two, one, [10])[10]
            self.start_scores_ = self.start_scores_ or scores
            return scores

        return probe

    @torch.no_grad()
    def _set_means(self, cells: np.ndarray) -> None:
        """Set the mean vector of each modality over the training cells."""
        for name in ("rna", "atac"):
            vectors = getattr(self, f"_{name}_vectors")(None, cells, centre=False)[0]
            mean = torch.as_tensor(vectors.mean(axis=0))
            getattr(self.module, f"{name}_mean").copy_(mean)

    # ---- imputation -----------------------------------------------------------------------

    def _learn_imputation(
        self,
        split: tuple[np.ndarray, ...],
        max_epochs: int,
        plan: DecoderPlan,
        *,
        folder: Path | None,
        batch_size: int,
        resume: bool,
        **common: Any,
    ) -> None:
        counts = sp.csr_matrix(self.adata_manager.get_from_registry(X_KEY))
        tokens = self._tokens(None)  # type: ignore[attr-defined]
        seed, n_tokens = session_seed(), np.diff(tokens.indptr)
        encoded = self._encoded_atac(tokens, np.arange(len(n_tokens)), max_tokens=2048, seed=seed)  # type: ignore[attr-defined]
        # not of unit length: what few regions tell of a cell is little
        cells = self._coordinates(encoded)  # type: ignore[attr-defined]
        # one token a cell: the rows only number the cells
        n_cells = len(cells)
        ones = (np.ones(n_cells), np.zeros(n_cells, dtype=np.int64), np.arange(n_cells + 1))
        rows = TokenRows(sp.csr_matrix(ones, shape=(n_cells, 1)))
        views = DecoderViews(cells, counts)
        data = TokenDataModule(
            TokenDataset(rows, views),
            TokenDataset(rows, views),
            *split,
            token_budget=n_cells,
            max_cells=batch_size,
            seed=session_seed(),
            n_workers=common["n_workers"],
        )
        held_out = split[1][:_N_PROBE]

        def probe() -> dict[str, float]:
            batch = views(BatchPlan(0, 0, held_out), np.empty(0), np.empty(0))
            device = self.module.device
            with torch.inference_mode():
                found = self.module.decoder.log_prob(
                    batch["cells"].to(device), batch["counts"].to(device)
                )
            return {"imputation": float(found.mean())}

        known = (cells[split[0]], counts[split[0]], n_tokens[split[0]])
        ridge = _DECODER_RIDGES[0]
        if common["watch"]:
            found = {}
            for ridge in _DECODER_RIDGES:
                start_decoder(self.module, *known, ridge)
                found[ridge] = probe()["imputation"]
            ridge = max(found, key=found.__getitem__)
        start_decoder(self.module, *known, ridge)
        chosen = probe if common["watch"] else None
        self._run(
            plan, data, max_epochs, chosen, folder, kind="imputation", resume=resume, **common
        )
        self.ridge_ = fit_ridge(cells, counts, split[0], split[1])
        rna, _ = self._rna_vectors(None, None)  # type: ignore[attr-defined]
        atac = self._projected("atac", encoded, centre=True)  # type: ignore[attr-defined]
        self.retrieval_scale_ = fit_retrieval_scale(
            rna, atac, counts, split[0], split[1], float(self.module.logit_scale.detach())
        )
        self.imputation_scores_ = self._score_imputation(encoded, counts, split[1])  # type: ignore[attr-defined]
        self.decoder_is_trained_ = True

    # ---- pieces ---------------------------------------------------------------------------

    def _run(
        self,
        plan: Any,
        data: TokenDataModule,
        max_epochs: int,
        probe: Callable[[], dict[str, float]] | None,
        folder: Path | None,
        *,
        kind: str,
        resume: bool,
        early_stopping_patience: int | None,
        watch: bool,
        n_workers: int,
        trainer_kwargs: dict[str, Any],
        **hardware: Any,
    ) -> None:
        """Train one stage, with the best epoch kept."""
        patience = early_stopping_patience or max(5, max_epochs // 4)
        select = SelectFromStart("", probe, patience=patience) if probe is not None else None
        arguments = dict(trainer_kwargs)
        noted = read_checkpoint(folder) if resume and folder is not None else None
        if noted is not None and folder is not None:
            if noted.get("kind") != kind:
                msg = f"{folder} holds a checkpoint of {noted.get('kind')!r}, not of {kind!r}."
                raise ValueError(msg)
            arguments["ckpt_path"] = str(checkpoint_path(folder))
        place = None if folder is None else str(folder)
        self._fit(plan, data, max_epochs, select, place, kind=kind, **{**hardware, **arguments})

    def _paired_split(
        self, folder: Path | None, **kwargs: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return training, validation and test cells, of those that have both modalities."""
        noted = None
        for stage in STAGES:
            noted = noted or (None if folder is None else read_checkpoint(folder / stage))
        if noted is not None:
            parts = [np.asarray(part) for part in noted["split"]]
        else:
            parts = list(self._split(**kwargs))
        counts = self.adata_manager.get_from_registry(X_KEY)
        paired = np.asarray(counts.sum(axis=1)).ravel() > 0
        paired &= np.diff(self._tokens(None).indptr) > 0  # type: ignore[attr-defined]
        split = [part[paired[part]] for part in parts]
        if len(split[0]) < 2:
            msg = f"{len(split[0])} training cells have both modalities; at least 2 are needed."
            raise ValueError(msg)
        return split[0], split[1], split[2]

    def _parameters(self, name: str) -> list[torch.nn.Parameter]:
        part = getattr(self.module, name)
        return [] if part is None else list(part.parameters())


def default_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 10 to 40."""
    return int(np.clip(round(10 * 10_000 / max(1, n_cells)), 10, 40))


def _codes(manager: Any, key: str) -> np.ndarray:
    return np.asarray(manager.get_from_registry(key)).ravel().astype(np.int64)
