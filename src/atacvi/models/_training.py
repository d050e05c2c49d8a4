"""Training of MultiViewModel: stages, split, callbacks, checkpoint and resume."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.train import TrainRunner

from atacvi._constants import ATAC_X_KEY, LABELS_KEY, X_KEY
from atacvi.models._calibration import HeldOutCalibrationMixin
from atacvi.models._presets import training_defaults
from atacvi.models._seed import session_seed
from atacvi.training import (
    CheckpointEachEpoch,
    LearnNewColumns,
    MultiViewStages,
    MultiViewTrainingPlan,
    SparseDataSplitter,
    StageSchedule,
    StartFromData,
    StopOnNonFinite,
    check_plan_kwargs,
    checkpoint_path,
    read_checkpoint,
)

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

# Cuts of the learning rate, each to a quarter, before a stage that stands still ends.
_LR_CUTS = 2


class MultiViewTrainingMixin(HeldOutCalibrationMixin):
    """`train` and what it needs of the data."""

    summary_stats: Any
    n_clusters: int | None
    is_trained: bool
    is_trained_: bool
    init_params_: dict[str, Any]

    _data_splitter_cls = SparseDataSplitter
    _training_plan_cls = MultiViewTrainingPlan
    _train_runner_cls = TrainRunner

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int | None = None,
        mixture_start: int | None = None,
        cycle_start: int | None = None,
        cycle_weight: float | None = None,
        n_epochs_kl_warmup: int | None = None,
        checkpoint_dir: str | None = None,
        resume: bool = False,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train in stages: warm-up under N(0, I), then the mixture, with the cycle term.

        Parameters
        ----------
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells.
        accelerator, devices
            Hardware, as in Lightning.
        train_size, validation_size, shuffle_set_split
            Split of the cells.
        batch_size
            Cells per minibatch; ``None`` takes 128, or 256 from 50,000 cells on.
        early_stopping
            Go by the held-out ELBO: where it no longer improves, cut the learning rate and go on
            from the best weights, twice; then end the stage with the best weights. At the end
            counts of held-out cells that were not encoded decide how far the effects of the latent
            on either modality are shrunk (`effect_scale_`) and what its directions weigh when cells
            are compared (`latent_units_`, `latent_exponent_`); not with ``preset="paper"``.
        early_stopping_patience
            Epochs to wait for an improvement, each time; ``None`` takes a twentieth of the run, at
            least 5.
        mixture_start
            Epoch at which the mixture is fitted to the latent; ``None`` takes 60 % of the run.
        cycle_start
            First epoch of the cycle term; ``None`` takes half of the run, -1 switches it off.
        cycle_weight
            Weight of the cycle term.
        n_epochs_kl_warmup
            Epochs over which the weight of the KL term rises to its full value; clipped to the
            warm-up stage. That is 2 by default, which spends fewer latent directions on noise;
            ``plan_kwargs={"max_kl_weight": 1.0}`` gives the plain ELBO.
        checkpoint_dir
            Folder for a checkpoint after each epoch.
        resume
            Go on from the checkpoint in `checkpoint_dir`, where there is one.
        datasplitter_kwargs, plan_kwargs
            Further arguments of the splitter and of the training plan.
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite; the model then holds the weights of the last epoch's end
            at which all was well.
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If arguments contradict each other.

        Examples
        --------
        >>> atacvi.MultiViewModel.setup_mudata(mdata, batch_key="batch")
        >>> model = atacvi.MultiViewModel(mdata, n_clusters=3, n_latent=4, n_hidden=8, n_embed=8)
        >>> model.train(max_epochs=3, mixture_start=1, enable_progress_bar=False)
        >>> len(model.history["elbo_validation"])
        3
        """
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        max_epochs = max_epochs or default_max_epochs(self.adata.n_obs)  # type: ignore[attr-defined]
        plan = self._plan(dict(plan_kwargs or {}), n_epochs_kl_warmup, max_epochs)
        datasplitter_kwargs = dict(datasplitter_kwargs or {})
        if resume and checkpoint_dir is not None:
            self._prepare_resume(checkpoint_dir, datasplitter_kwargs, trainer_kwargs)
        splitter = self._splitter(
            batch_size,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            **datasplitter_kwargs,
        )
        schedule = self._schedule(
            max_epochs, mixture_start, cycle_start, cycle_weight, early_stopping_patience
        )
        watch = early_stopping and validation_size != 0 and train_size < 1
        if watch:
            trainer_kwargs.setdefault("check_val_every_n_epoch", 1)
        trainer_kwargs.setdefault("gradient_clip_val", 10.0)
        stages = self._stages(schedule, splitter, watch=watch)
        given = trainer_kwargs.pop("callbacks", [])
        runner = self._train_runner_cls(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            early_stopping=False,  # MultiViewStages stops, and knows of the stages
            callbacks=self._callbacks(stages, given, checkpoint_dir),
            **trainer_kwargs,
        )
        if not self._is_query:  # a query has decoders and distances of its reference
            self._forget_calibration()
        self._run(runner, stages)
        if watch and self.preset != "paper" and not self._is_query:  # type: ignore[attr-defined]
            self._calibrate()

    def _run(self, runner: TrainRunner, stages: MultiViewStages) -> None:
        """Train, and note the stages and the clusters even when training is interrupted."""
        self.module.train()  # Lightning takes the mode it finds: of a trained model, evaluation
        try:
            runner()
        except FloatingPointError:
            # The module holds its last good weights: once an epoch has ended well they are a model.
            callbacks = runner.trainer.callbacks  # type: ignore[attr-defined]
            check = next(c for c in callbacks if isinstance(c, StopOnNonFinite))
            self.is_trained_ = self.is_trained_ or check.kept_epoch is not None
            self.module.eval()
            raise
        finally:
            self.training_stages_ = dict(stages.borders)
            self._note_clusters()

    def _splitter(self, batch_size: int | None, **kwargs: Any) -> SparseDataSplitter:
        """Return what splits the cells and makes the minibatches."""
        n_cells = self.adata.n_obs  # type: ignore[attr-defined]
        return self._data_splitter_cls(
            self.adata_manager,  # type: ignore[attr-defined]
            batch_size=batch_size or (128 if n_cells < 50_000 else 256),
            load_sparse_tensor=True,
            **kwargs,
        )

    def _plan(
        self, plan_kwargs: dict[str, Any], n_epochs_kl_warmup: int | None, max_epochs: int
    ) -> MultiViewTrainingPlan:
        """Return the training plan: the preset's arguments under those of the user."""
        check_plan_kwargs(self._training_plan_cls, plan_kwargs, self.module.loss)
        warmup = n_epochs_kl_warmup or plan_kwargs.pop("n_epochs_kl_warmup", None) or 10
        plan_kwargs["n_epochs_kl_warmup"] = max(1, min(warmup, max_epochs // 2))
        defaults = training_defaults(self.preset)  # type: ignore[attr-defined]
        return self._training_plan_cls(self.module, **{**defaults, **plan_kwargs})

    def _prepare_resume(
        self,
        checkpoint_dir: str,
        datasplitter_kwargs: dict[str, Any],
        trainer_kwargs: dict[str, Any],
    ) -> None:
        """Bring shapes and split to those of the checkpoint, where there is one."""
        noted = read_checkpoint(checkpoint_dir)
        if noted is None:
            return
        if noted["n_clusters"] != self.module.n_clusters:
            self.module.resize_mixture(noted["n_clusters"])
        parts = [part.numpy() for part in noted["split"]]
        datasplitter_kwargs["external_indexing"] = [part for part in parts if len(part)]
        trainer_kwargs["ckpt_path"] = str(checkpoint_path(checkpoint_dir))

    def _callbacks(
        self, stages: MultiViewStages, given: list[Callback], checkpoint_dir: str | None
    ) -> list[Callback]:
        check = StopOnNonFinite(lambda: stages.stage)
        callbacks: list[Callback] = [stages, check, *given]
        if not (self.is_trained or self._is_query):  # what was learnt is the better start
            callbacks.insert(0, StartFromData(self._counts_of, session_seed()))
        if self._is_query:
            callbacks.append(LearnNewColumns(self.query_columns_))  # type: ignore[attr-defined]
        if checkpoint_dir is not None:
            callbacks.append(CheckpointEachEpoch(checkpoint_dir))
        return callbacks

    def _schedule(
        self,
        max_epochs: int,
        mixture_start: int | None,
        cycle_start: int | None,
        cycle_weight: float | None,
        patience: int | None,
    ) -> StageSchedule:
        mixture: int | None = max(1, round(0.6 * max_epochs))
        if mixture_start is not None:
            mixture = mixture_start
        cycle: int | None = max_epochs // 2 if cycle_start is None else cycle_start
        if self.is_trained and bool(self.module.mixture_active):
            mixture, cycle = 0, 0 if cycle_start is None else cycle_start
        if self._is_query:  # the prior and the encoders are the reference's
            mixture, cycle = None, None
        if cycle is not None and cycle < 0:
            cycle = None
        return StageSchedule(
            mixture_start=mixture,
            cycle_start=cycle,
            cycle_ramp=max(1, max_epochs // 10),
            cycle_weight=1.0 if cycle_weight is None else cycle_weight,
            patience=patience or max(5, round(max_epochs / 20)),
            lr_cuts=_LR_CUTS,
        )

    @property
    def _is_query(self) -> bool:
        """Whether `load_query_data` built the model: only new covariate columns are learnt."""
        return getattr(self, "query_columns_", None) is not None

    def _stages(
        self, schedule: StageSchedule, splitter: SparseDataSplitter, *, watch: bool
    ) -> MultiViewStages:
        """Return the stages, which end early and keep the best weights if validation is watched."""
        if not watch:
            schedule = replace(schedule, patience=None)

        def get_latent() -> tuple[np.ndarray, np.ndarray]:
            training = self.module.training
            self.module.eval()
            self.is_trained_, before = True, self.is_trained_
            try:
                return self.get_latent_representation(  # type: ignore[attr-defined]
                    indices=np.sort(splitter.train_idx), return_dist=True
                )
            finally:
                self.is_trained_ = before
                self.module.train(training)

        labels = None
        if self.n_clusters is None and self.summary_stats.n_labels > 1:

            def labels() -> np.ndarray:
                codes = self.adata_manager.get_from_registry(LABELS_KEY).ravel()
                return np.asarray(codes)[np.sort(splitter.train_idx)]

        return MultiViewStages(
            schedule,
            get_latent,
            labels,
            self.n_clusters,
            restore_best=watch,
            random_state=session_seed(),
        )

    def _counts_of(self, cells: np.ndarray) -> tuple[Any, Any]:
        import scipy.sparse as sp

        manager = self.adata_manager
        first = sp.csr_matrix(manager.get_from_registry(X_KEY)[cells])
        if ATAC_X_KEY in manager.data_registry:
            return first, sp.csr_matrix(manager.get_from_registry(ATAC_X_KEY)[cells])
        genes, peaks = self.module.gene_columns, self.module.peak_columns
        return first[:, genes.cpu().numpy()], first[:, peaks.cpu().numpy()]

    def _note_clusters(self) -> None:
        """Keep the number of components, so that a saved model is built with it."""
        if self.module.mixture_active:
            self.init_params_["non_kwargs"]["n_clusters"] = self.module.n_clusters


def default_max_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 30 to 150."""
    return int(np.clip(round(50 * 10_000 / max(1, n_cells)), 30, 150))
