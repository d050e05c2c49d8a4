"""Training of ATACDiffModel: three stages over one split and one history."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scvi.train import Trainer, TrainRunner

from atacvi.models._atacdiff_cells import StageCellsMixin
from atacvi.models._atacdiff_resume import FinishedStages
from atacvi.models._atacdiff_stages import StagesMixin
from atacvi.models._seed import session_seed
from atacvi.modules import MIN_CELLS_REFINEMENT
from atacvi.training import (
    BeginMixture,
    CellLatents,
    CheckpointEachEpoch,
    DenoiserPlan,
    LatentDataModule,
    LearnNewColumns,
    MultiViewTrainingPlan,
    SelectDenoiser,
    SelectFromStart,
    SparseDataSplitter,
    StopOnNonFinite,
    check_plan_kwargs,
    checkpoint_path,
    read_checkpoint,
    standardise_latents,
    start_denoiser,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from atacvi.modules import Stage

logger = logging.getLogger(__name__)

# Arguments of plans that the denoiser's alone has
_OF_DENOISER = {"ema_decay", "n_warmup"}


class _Run(NamedTuple):
    """What all stages of one call of `train` share."""

    split: tuple[np.ndarray, np.ndarray, np.ndarray]
    batch_size: int
    patience: int | None
    plan_kwargs: dict[str, Any]
    trainer_kwargs: dict[str, Any]
    checkpoint_dir: str | Path | None
    resume: bool


class ATACDiffTrainingMixin(StagesMixin, StageCellsMixin):
    """`train` and what it needs of the data."""

    module: Any
    adata: Any
    adata_manager: Any
    n_clusters: int | None
    is_trained_: bool
    history_: Any
    stages_done_: list[str]
    init_params_: dict[str, Any]

    _data_splitter_cls = SparseDataSplitter
    _training_plan_cls = MultiViewTrainingPlan
    _train_runner_cls = TrainRunner

    def train(
        self,
        max_epochs: int | None = None,
        *,
        max_epochs_autoencoder: int | None = None,
        max_epochs_auxiliary: int | None = None,
        max_epochs_diffusion: int | None = None,
        stages: Sequence[Stage] | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train autoencoder, auxiliary branch and denoiser, and fit the prior of z.

        Each stage keeps the weights that explain held-out cells best. The denoiser is trained on
        stored latents, so that its steps cost the same for any number of peaks.

        Parameters
        ----------
        max_epochs
            Epochs at most of each stage; ``None`` chooses by the number of cells.
        max_epochs_autoencoder, max_epochs_auxiliary, max_epochs_diffusion
            Epochs at most of one stage, before `max_epochs`.
        stages
            Stages to run, of ``"autoencoder"``, ``"auxiliary"``, ``"diffusion"`` and ``"prior"``;
            ``None`` runs all. ``["auxiliary"]`` is all that the latent z and the clusters need. A
            stage alone can be run again on a trained model; what rests on it must then be run
            again as well.
        accelerator, devices
            Hardware, as in Lightning.
        train_size, validation_size, shuffle_set_split
            Split of the cells, one for all stages.
        batch_size
            Cells per minibatch; ``None`` takes 128, or 256 from 50,000 cells on.
        early_stopping
            End a stage when held-out cells gain no more, and keep its best weights.
        early_stopping_patience
            Epochs to wait for an improvement.
        checkpoint_dir
            Folder for checkpoints: of the running stage after each epoch, and of each that ended.
        resume
            Go on from what `checkpoint_dir` holds, where it holds anything.
        datasplitter_kwargs
            Further arguments of the splitter.
        plan_kwargs
            Further arguments of the training plans, such as ``lr``.
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If a stage is unknown, needs one that was not trained, or arguments contradict each
            other.

        Examples
        --------
        >>> model = atacvi.ATACDiffModel(adata, n_latent=4, n_latent_ae=4, n_hidden=8, n_embed=4)
        >>> model.train(max_epochs=2, stages=["auxiliary"], enable_progress_bar=False)
        >>> model.get_latent_representation().shape
        (60, 4)
        """
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        wanted, noted = self._check_stages(stages), None
        shared = {k: v for k, v in (plan_kwargs or {}).items() if k not in _OF_DENOISER}
        check_plan_kwargs(self._training_plan_cls, shared, self.module.loss)
        finished = None if checkpoint_dir is None else FinishedStages(checkpoint_dir)
        if resume and finished is not None:
            done = finished.take_up(self)
            wanted = [stage for stage in wanted if stage not in done]
            noted = None if done else finished.stopped_split()
        watch = early_stopping and validation_size != 0 and train_size < 1
        epochs = self._epochs(
            {
                "autoencoder": max_epochs_autoencoder or max_epochs,
                "auxiliary": max_epochs_auxiliary or max_epochs,
                "diffusion": max_epochs_diffusion or max_epochs,
            }
        )
        run = _Run(
            split=noted
            or self._split(
                train_size=train_size,
                validation_size=validation_size,
                shuffle_set_split=shuffle_set_split,
                **(datasplitter_kwargs or {}),
            ),
            batch_size=batch_size or (128 if self.adata.n_obs < 50_000 else 256),
            patience=(early_stopping_patience or 0) if watch else None,
            plan_kwargs=dict(plan_kwargs or {}),
            trainer_kwargs={"accelerator": accelerator, "devices": devices, **trainer_kwargs},
            checkpoint_dir=checkpoint_dir,
            resume=resume,
        )
        self.train_indices_, self.validation_indices_, self.test_indices_ = run.split
        try:
            for stage in wanted:
                logger.info("Stage %s begins.", stage)
                self._run_stage(stage, epochs.get(stage, 0), run)
                if stage not in self.stages_done_:
                    self.stages_done_.append(stage)
                if finished is not None:
                    finished.write(self, stage)
        finally:  # also of an interrupted training: what was trained before still is
            self.module.eval()
            self.module.requires_grad_(True)
            self.is_trained_ = bool(self.stages_done_)

    def _epochs(self, given: dict[str, int | None]) -> dict[str, int]:
        """Return the epochs of each stage: small data get about as many steps as large data."""
        share = 10_000 / max(1, self.adata.n_obs)
        chosen = {
            "autoencoder": int(np.clip(round(40 * share), 20, 200)),
            # Without a network to refine z only its decoder learns, from a good start.
            "auxiliary": int(np.clip(round(20 * share), 15, 60)) if self._refines() else 15,
            "diffusion": 60,
        }
        return {stage: given[stage] or n for stage, n in chosen.items()}

    def _refines(self) -> bool:
        """Return whether the network of z will learn: given, or by the number of cells."""
        module = self.module
        if module.auxiliary_encoder.spectral is None or module.refine is not None:
            return module.refine is not False
        return bool(self.adata.n_obs >= MIN_CELLS_REFINEMENT)

    def _split(self, **kwargs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cells of each part: those of an earlier call, else as asked for."""
        earlier = getattr(self, "train_indices_", None)
        if earlier is not None and self.stages_done_:
            parts = (earlier, self.validation_indices_, self.test_indices_)
        else:
            splitter = self._data_splitter_cls(self.adata_manager, **kwargs)
            splitter.setup()
            parts = (splitter.train_idx, splitter.val_idx, splitter.test_idx)
        train, validation, test = (np.sort(np.asarray(p, dtype=np.int64)) for p in parts)
        return train, validation, test

    # ---- the stages -----------------------------------------------------------------------------

    def _run_stage(self, stage: Stage, max_epochs: int, run: _Run) -> None:
        self.module.begin(stage)
        try:
            if stage in ("autoencoder", "auxiliary"):
                self._train_on_counts(stage, max_epochs, run)
            elif stage == "diffusion":
                self._train_denoiser(max_epochs, run)
        finally:
            self.module.stage = "autoencoder"
            self.module.eval()
        if stage == "autoencoder" and not self._is_query:  # its denoiser is the reference's
            latents = self._latents(run.split[0])
            standardise_latents(self.module, latents.h_mean.numpy(), latents.h_variance.numpy())
        if stage == "auxiliary":
            self.init_params_["non_kwargs"]["n_clusters"] = self.module.n_clusters
        if stage == "prior":
            self._fit_prior(run.split[0])
        if stage in ("diffusion", "prior") and self._can_calibrate(stage):
            self._calibrate_generation(run.split[0])

    def _train_on_counts(self, stage: Stage, max_epochs: int, run: _Run) -> None:
        """Run a stage whose minibatches are counts."""
        module, train = self.module, run.split[0]
        checkpoint = None if run.checkpoint_dir is None else f"{run.checkpoint_dir}/{stage}"
        started = run.resume and checkpoint is not None and checkpoint_path(checkpoint).exists()
        if not (started or self._is_query or self.stages_done_):
            self._start(run.split)
            module.begin(stage)  # which parts learn depends on the number of cells
        splitter = self._data_splitter_cls(
            self.adata_manager,
            batch_size=run.batch_size,
            external_indexing=[part for part in run.split if len(part)],
            load_sparse_tensor=True,
        )
        patience = self._patience(max_epochs, run)
        select = None
        if patience is not None and len(run.split[1]):
            select = SelectFromStart("", self._probe(stage, run.split[1]), patience=patience)
        callbacks: list[Any] = [StopOnNonFinite(lambda: stage)]
        if stage == "auxiliary":
            if module.auxiliary_encoder.spectral is not None and not started:
                self._begin_mixture(train)
            begin = max(1, max_epochs // 3)
            callbacks.append(BeginMixture(begin, lambda: self._begin_mixture(train), select))
        if self._is_query:
            callbacks.append(LearnNewColumns(self.query_columns_))  # type: ignore[attr-defined]
        if select is not None:
            callbacks.append(select)
        kwargs = dict(run.trainer_kwargs)
        callbacks += list(kwargs.pop("callbacks", []))
        if checkpoint is not None:
            callbacks.append(CheckpointEachEpoch(checkpoint))
            if started:
                noted = read_checkpoint(checkpoint)
                if noted is not None and noted["n_clusters"] != module.n_clusters:
                    module.resize_mixture(noted["n_clusters"])
                kwargs["ckpt_path"] = str(checkpoint_path(checkpoint))
        lr = {"autoencoder": 2e-3, "auxiliary": 5e-4}[stage]
        warmup = max(1, min(10, max_epochs // 2)) if stage == "autoencoder" else None
        given = {k: v for k, v in run.plan_kwargs.items() if k not in _OF_DENOISER}
        plan = self._training_plan_cls(module, **{"lr": lr, "n_epochs_kl_warmup": warmup, **given})
        runner = self._train_runner_cls(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            early_stopping=False,  # SelectFromStart stops
            callbacks=callbacks,
            **{"gradient_clip_val": 10.0, **kwargs},
        )
        module.train()
        with self._own_history(stage):
            runner()

    def _patience(self, max_epochs: int, run: _Run) -> int | None:
        if run.patience is None:
            return None
        return run.patience or max(8, max_epochs // 5)

    def _train_denoiser(self, max_epochs: int, run: _Run) -> None:
        """Run the stage whose minibatches are latents."""
        everything = np.concatenate(run.split)
        latents = self._within_groups(self._latents(everything), len(run.split[0]))
        exact = self.module.gaussian_denoiser
        # A network that was trained without the closed form, by an earlier version, has learnt all;
        # a query's denoiser is the reference's.
        if not self._is_query and (exact.fitted or "diffusion" not in self.stages_done_):
            train = CellLatents(*(part[: len(run.split[0])] for part in latents))
            start_denoiser(self.module, train, session_seed())
        where = np.split(np.arange(len(everything)), np.cumsum([len(p) for p in run.split])[:2])
        data = LatentDataModule(latents, where[0], where[1], where[2], 2 * run.batch_size)
        known = {"lr", "weight_decay", *_OF_DENOISER} & set(run.plan_kwargs)
        plan = DenoiserPlan(
            self.module,
            max_epochs * data.steps_per_epoch,
            **{key: run.plan_kwargs[key] for key in known},
        )
        callbacks: list[Any] = [StopOnNonFinite(lambda: "diffusion")]
        kwargs = dict(run.trainer_kwargs)
        callbacks += list(kwargs.pop("callbacks", []))
        held_out = CellLatents(*(part[torch.as_tensor(where[1])] for part in latents))
        if len(where[1]):
            callbacks.append(SelectDenoiser(held_out, self._patience(max_epochs, run)))
        path = None
        if run.checkpoint_dir is not None:
            folder = f"{run.checkpoint_dir}/diffusion"
            callbacks.append(CheckpointEachEpoch(folder))  # with the score of the epoch
            if run.resume and checkpoint_path(folder).exists():
                path = str(checkpoint_path(folder))
        kwargs = {"gradient_clip_val": 1.0, **kwargs}
        trainer = Trainer(max_epochs=max_epochs, callbacks=callbacks, **kwargs)
        device = self.module.device  # Lightning leaves the module on the CPU
        self.module.train()
        trainer.fit(plan, datamodule=data, ckpt_path=path)
        plan.take_average()
        self.module.to(device)
        history = trainer.logger.history if trainer.logger is not None else {}
        self._add_history("diffusion", history)
