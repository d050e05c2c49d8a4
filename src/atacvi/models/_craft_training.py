"""Training of CRAFTModel: alignment of both modalities, then imputation of expression."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
import scvi
import torch
from scvi.train import TrainRunner

from atacvi._constants import BATCH_KEY, LABELS_KEY, X_KEY
from atacvi.models._atacformer_training import AtacformerTrainingMixin
from atacvi.models._craft_imputation import fit_ridge, fit_retrieval_scale
from atacvi.training import (
    AlignmentPlan,
    AlignmentViews,
    DecoderPlan,
    DecoderViews,
    SelectFromStart,
    TokenDataModule,
    TokenDataset,
    TokenRows,
    best_logit_scale,
    checkpoint_path,
    read_checkpoint,
    start_alignment,
    start_atacformer,
    start_decoder,
    start_embedding_encoder,
    start_expression_encoder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

Stage = Literal["alignment", "imputation"]
_STAGES = ("alignment", "imputation")
_N_PROBE = 2_000
# Cells a fine cluster holds on average; two cells of one are taken to be the same in all but name
_CLUSTER_SIZE = 10
_MAX_CLUSTERS = 500
_FINISHED = "finished.pt"


class CRAFTTrainingMixin:
    """`train`."""

    module: Any
    adata: Any
    adata_manager: Any
    registry_: dict[str, Any]
    is_trained_: bool
    history_: Any
    started_: bool

    _train_runner_cls = TrainRunner
    _fit = AtacformerTrainingMixin._fit
    _split = AtacformerTrainingMixin._split

    def train(
        self,
        max_epochs: int | None = None,
        *,
        stages: Sequence[Stage] = _STAGES,
        imputation_epochs: int | None = None,
        lr: float = 1e-3,
        imputation_lr: float = 2e-3,
        batch_size: int = 256,
        max_tokens: int | None = 512,
        token_dropout: float = 0.5,
        count_dropout: float = 0.5,
        freeze_encoders: bool = False,
        false_negatives: Literal["keep", "labels", "clusters"] = "keep",
        negatives: Literal["batch", "all"] = "batch",
        start: Literal["canonical", "random"] = "canonical",
        warmup: float = 0.1,
        early_stopping: bool = True,
        early_stopping_patience: int | None = None,
        train_size: float = 0.9,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        checkpoint_dir: str | None = None,
        resume: bool = False,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        precision: Any = None,
        n_workers: int = 0,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Align RNA and accessibility, then learn to impute expression.

        The alignment starts as the canonical correlations of the principal components of the RNA
        and the spectral embedding of the accessibility; a training epoch is kept only if the
        held-out contrast is below that of the start.

        Parameters
        ----------
        max_epochs
            Epochs of the alignment at most; ``None`` chooses by the number of cells, 0 keeps the
            start.
        stages
            ``"alignment"``, ``"imputation"`` or both.
        imputation_epochs
            Epochs of the decoder at most; ``None`` chooses by the number of cells.
        lr, imputation_lr
            Highest learning rates of the projections and of the decoder.
        batch_size
            Cells of a minibatch; each has the others as its negatives.
        max_tokens
            Tokens of a cell in training; longer cells are sampled anew in each epoch.
        token_dropout, count_dropout
            Largest shares of a cell's regions and RNA reads that are left out at random.
        freeze_encoders
            Train projections and temperature alone.
        false_negatives
            Which cells are no negatives of each other: ``"labels"``, those of one label;
            ``"clusters"``, those of one fine cluster of the start; ``"keep"``, none.
        negatives
            ``"batch"`` contrasts cells of one batch with each other only, so that telling batches
            apart earns nothing; ``"all"`` does not mind.
        start
            ``"canonical"`` or ``"random"`` projections of a new model; encoders start from the
            data in both.
        warmup
            Share of the steps over which the learning rate rises.
        early_stopping, early_stopping_patience
            End when the held-out score no longer rises, and keep the best epoch, the start among
            them.
        train_size, validation_size, shuffle_set_split
            Split of the cells. Cells that lack a modality are in no part.
        checkpoint_dir, resume
            Folder for a checkpoint after each epoch of each stage, and whether to go on from it.
        accelerator, devices, precision, n_workers
            Hardware, as in Lightning, and processes that prepare minibatches.
        datasplitter_kwargs, plan_kwargs
            Further arguments of the splitter and of the plans (``encoder_lr_factor``,
            ``weight_decay``).
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        RuntimeError
            If only imputation is asked for and the model is not aligned.
        ValueError
            If arguments are out of range or contradict each other.
        """
        self._require_data()  # type: ignore[attr-defined]
        self._check_training(stages, start, false_negatives, negatives, batch_size, checkpoint_dir, resume)
        folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        split = self._paired_split(
            folder if resume else None,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            **(datasplitter_kwargs or {}),
        )
        watch = early_stopping and len(split[1]) > 1
        common = {
            "batch_size": batch_size,
            "early_stopping_patience": early_stopping_patience,
            "watch": watch,
            "resume": resume,
            "n_workers": n_workers,
            "accelerator": accelerator,
            "devices": devices,
            "precision": precision,
            "trainer_kwargs": trainer_kwargs,
        }
        options = {"warmup": warmup, **(plan_kwargs or {})}
        if "alignment" in stages:
            self._align(
                split,
                max_epochs,
                AlignmentPlan(self.module, lr=lr, **options),
                folder=None if folder is None else folder / "alignment",
                start=start,
                max_tokens=max_tokens,
                token_dropout=token_dropout,
                count_dropout=count_dropout,
                freeze_encoders=freeze_encoders,
                false_negatives=false_negatives,
                negatives=negatives,
                **common,
            )
        if "imputation" in stages:
            self._learn_imputation(
                split,
                imputation_epochs,
                DecoderPlan(self.module, lr=imputation_lr, **options),
                folder=None if folder is None else folder / "imputation",
                **common,
            )
        self.is_trained_ = True
        self.module.eval()

    # ---- alignment ------------------------------------------------------------------------

    def _align(
        self,
        split: tuple[np.ndarray, ...],
        max_epochs: int | None,
        plan: AlignmentPlan,
        *,
        folder: Path | None,
        start: str,
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
        seed = _seed()
        if not self.started_:
            self._start(tokens, rna, split[0], start)
            self.started_ = True
        finished = _finished(folder) if resume else None
        if finished is not None:
            self.module.load_state_dict(finished)
            self._set_means(split[0])
            return
        context = self.atac_side._context(max_tokens)  # type: ignore[attr-defined]
        rows = TokenRows(tokens, context, seed=seed)
        columns = self._pair_columns(tokens, rna, false_negatives, negatives)
        views = {"token_dropout": token_dropout, "count_dropout": count_dropout, "seed": seed}
        data = TokenDataModule(
            TokenDataset(rows, AlignmentViews(rna, **views), columns),  # type: ignore[arg-type]
            TokenDataset(rows, AlignmentViews(rna), columns),
            *split,
            token_budget=int(rows.lengths.sum()) + 1,
            max_cells=batch_size,
            seed=seed,
            n_workers=common["n_workers"],
        )
        epochs = default_epochs(len(split[0])) if max_epochs is None else max_epochs
        encoders = [p for n in ("gene_encoder", "atac_encoder") for p in self._parameters(n)]
        trained = [p for p in encoders if p.requires_grad] if freeze_encoders else []
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            probe = self._contrast_probe(tokens, rna, split[1]) if common["watch"] else None
            self._run(plan, data, epochs, probe, folder, kind="alignment", resume=resume, **common)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        self._set_means(split[0])
        _write_finished(folder, self.module)

    def _start(self, tokens: sp.csr_matrix, rna: Any, cells: np.ndarray, start: str) -> None:
        """Set starting values from the training cells."""
        seed = _seed()
        encoder = self.module.atac_encoder
        if not self.atac_side.started_:  # type: ignore[attr-defined]
            start_atacformer(encoder, tokens[cells], seed)
            self.atac_side.started_ = True  # type: ignore[attr-defined]
        if self.rna_encoder == "mlp":  # type: ignore[attr-defined]
            start_expression_encoder(self.module.gene_encoder, rna[cells], seed)
        elif self.rna_encoder == "obsm":  # type: ignore[attr-defined]
            start_embedding_encoder(self.module.gene_encoder, rna[cells])
        if start == "canonical":
            chosen = cells
            if len(chosen) > 10 * _N_PROBE:
                chosen = np.sort(np.random.default_rng(seed).choice(cells, 10 * _N_PROBE, False))
            found = start_alignment(
                self.module,
                self._encoded_rna(rna, chosen),  # type: ignore[attr-defined]
                self._encoded_atac(tokens, chosen, max_tokens=2048, seed=seed),  # type: ignore[attr-defined]
                seed,
            )
            self.start_correlation_ = found.correlation

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
            found = MiniBatchKMeans(n_clusters, n_init=3, random_state=_seed()).fit(latent)
            columns["group"] = found.labels_.astype(np.int64)
        return columns

    def _joint_start(self, tokens: sp.csr_matrix, rna: Any) -> np.ndarray:
        cells = np.arange(tokens.shape[0])
        atac = self._encoded_atac(tokens, cells, max_tokens=2048, seed=_seed())  # type: ignore[attr-defined]
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

        rng = np.random.default_rng([_seed(), 7])
        chosen = cells
        if len(cells) > _N_PROBE:
            chosen = np.sort(rng.choice(cells, _N_PROBE, replace=False))

        def probe() -> dict[str, float]:
            one = self._projected("rna", self._encoded_rna(rna, chosen), centre=False)  # type: ignore[attr-defined]
            encoded = self._encoded_atac(tokens, chosen, max_tokens=2048, seed=_seed())  # type: ignore[attr-defined]
            two = self._projected("atac", encoded, centre=False)  # type: ignore[attr-defined]
            scores = {"contrast": -best_logit_scale(one, two)[1]}
            if len(chosen) > 2:
                scores["foscttm"] = foscttm(one, two)
                scores["recall_at_10"] = recall_at_k(two, one, [10])[10]
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
        max_epochs: int | None,
        plan: DecoderPlan,
        *,
        folder: Path | None,
        batch_size: int,
        resume: bool,
        **common: Any,
    ) -> None:
        counts = sp.csr_matrix(self.adata_manager.get_from_registry(X_KEY))
        tokens = self._tokens(None)  # type: ignore[attr-defined]
        cells, _ = self._atac_vectors(None, None, seed=_seed())  # type: ignore[attr-defined]
        n_tokens = np.diff(tokens.indptr)
        start_decoder(self.module, cells[split[0]], counts[split[0]], n_tokens[split[0]])
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
            seed=_seed(),
            n_workers=common["n_workers"],
        )
        epochs = default_epochs(len(split[0])) if max_epochs is None else max_epochs
        held_out = split[1][:_N_PROBE]

        def probe() -> dict[str, float]:
            batch = views(_Numbered(held_out), np.empty(0), np.empty(0))
            device = self.module.device
            with torch.inference_mode():
                found = self.module.decoder.log_prob(
                    batch["cells"].to(device), batch["counts"].to(device)
                )
            return {"imputation": float(found.mean())}

        chosen = probe if common["watch"] else None
        self._run(plan, data, epochs, chosen, folder, kind="imputation", resume=resume, **common)
        self.ridge_ = fit_ridge(cells, counts, split[0], split[1])
        rna, _ = self._rna_vectors(None, None)  # type: ignore[attr-defined]
        self.retrieval_scale_ = fit_retrieval_scale(
            rna, cells, counts, split[0], split[1], float(self.module.logit_scale)
        )
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
        if max_epochs < 1:
            return
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
        for stage in _STAGES:
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
        return list(getattr(self.module, name).parameters())

    def _check_training(
        self,
        stages: Sequence[str],
        start: str,
        false_negatives: str,
        negatives: str,
        batch_size: int,
        checkpoint_dir: str | None,
        resume: bool,
    ) -> None:
        unknown = [stage for stage in stages if stage not in _STAGES]
        if unknown or not stages or isinstance(stages, str):
            msg = f"stages={stages!r}; give a list of {', '.join(map(repr, _STAGES))}."
            raise ValueError(msg)
        for name, value, known in (
            ("start", start, ("canonical", "random")),
            ("false_negatives", false_negatives, ("keep", "labels", "clusters")),
            ("negatives", negatives, ("batch", "all")),
        ):
            if value not in known:
                msg = f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}."
                raise ValueError(msg)
        if false_negatives == "labels" and int(self.summary_stats.n_labels) < 2:  # type: ignore[attr-defined]
            msg = "false_negatives='labels' needs labels: setup_mudata(mdata, labels_key=...)."
            raise ValueError(msg)
        if batch_size < 2:
            msg = f"batch_size={batch_size}; a contrast needs at least 2 cells."
            raise ValueError(msg)
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        if "alignment" not in stages and not self.started_:
            msg = "The model is not aligned; train with stages=['alignment', 'imputation']."
            raise RuntimeError(msg)


class _Numbered:
    """A minibatch of given cells."""

    def __init__(self, cells: np.ndarray) -> None:
        self.cells = cells


def default_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 10 to 40."""
    return int(np.clip(round(10 * 10_000 / max(1, n_cells)), 10, 40))


def _codes(manager: Any, key: str) -> np.ndarray:
    return np.asarray(manager.get_from_registry(key)).ravel().astype(np.int64)


def _seed() -> int:
    return scvi.settings.seed if scvi.settings.seed is not None else 0


def _finished(folder: Path | None) -> dict[str, torch.Tensor] | None:
    """Return the weights at the end of a stage that was finished."""
    if folder is None or not (folder / _FINISHED).exists():
        return None
    return torch.load(folder / _FINISHED, map_location="cpu", weights_only=True)


def _write_finished(folder: Path | None, module: torch.nn.Module) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{_FINISHED}.tmp"
        torch.save(module.state_dict(), unfinished)
        unfinished.replace(folder / _FINISHED)
