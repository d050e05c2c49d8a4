"""Training of CRAFTModel: alignment of both modalities, then imputation of expression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atacvi.models._craft_stages import STAGES, CRAFTStagesMixin, default_epochs
from atacvi.models._token_fit import check_ranges, check_run, make_plan, n_epochs
from atacvi.training import AlignmentPlan, DecoderPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

Stage = Literal["alignment", "imputation"]
_BATCH_SIZE = 256
_BOTH: tuple[Stage, ...] = ("alignment", "imputation")


class CRAFTTrainingMixin(CRAFTStagesMixin):
    """`train`."""

    def train(
        self,
        max_epochs: int | None = None,
        *,
        stages: Sequence[Stage] = _BOTH,
        imputation_epochs: int | None = None,
        lr: float = 5e-4,
        imputation_lr: float = 2e-3,
        batch_size: int | None = None,
        max_tokens: int | None = 512,
        token_dropout: float = 0.5,
        count_dropout: float = 0.5,
        freeze_encoders: bool = False,
        false_negatives: Literal["keep", "labels", "clusters"] = "keep",
        negatives: Literal["batch", "all"] = "batch",
        start: Literal["canonical", "random"] = "canonical",
        use_transformer: bool | None = None,
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
        and the linear components of the open regions, whose weights and number held-out cells
        choose; a training epoch is kept only if the held-out contrast is below that of the start.

        Parameters
        ----------
        max_epochs
            Epochs of the alignment at most; ``None`` chooses by the number of cells, 0 keeps the
            start.
        stages
            ``"alignment"``, ``"imputation"`` or both.
        imputation_epochs
            Epochs of the decoder at most; ``None`` chooses by the number of cells, but no more than
            a given `max_epochs`; 0 keeps its start.
        lr, imputation_lr
            Highest learning rates of the projections and of the decoder.
        batch_size
            Cells of a minibatch; each has the others as its negatives. ``None`` takes 256.
        max_tokens
            Tokens of a cell that the transformer sees in training; longer cells are sampled anew in
            each epoch. The linear components see all.
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
        use_transformer
            Whether the transformer takes part beside the linear components of the open regions;
            ``None`` lets it where it was taken over from a pretrained model. Decided with the first
            training of a model.
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
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If arguments are out of range or contradict each other.

        Examples
        --------
        >>> sizes = {"n_embed": 8, "n_layers": 1, "n_heads": 1, "n_feedforward": 8}
        >>> model = atacvi.CRAFTModel(mdata, n_latent=8, **sizes)
        >>> model.train(max_epochs=1, stages=["alignment"], enable_progress_bar=False)
        >>> model.get_latent_representation(modality="atac").shape
        (60, 8)
        """
        self._require_data()  # type: ignore[attr-defined]
        batch_size = _BATCH_SIZE if batch_size is None else batch_size
        self._check_training(
            stages,
            start,
            false_negatives,
            negatives,
            use_transformer,
            batch_size,
            checkpoint_dir,
            resume,
        )
        check_ranges(
            max_tokens=(max_tokens, max_tokens is None or max_tokens >= 1, "at least 1, or None"),
            token_dropout=(token_dropout, 0 <= token_dropout < 1, "a share below 1"),
            count_dropout=(count_dropout, 0 <= count_dropout < 1, "a share below 1"),
        )
        check_run(early_stopping_patience, n_workers, batch_size, token_budget=None)
        folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        split = self._paired_split(
            folder if resume else None,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            **(datasplitter_kwargs or {}),
        )
        common = {
            "batch_size": batch_size,
            "early_stopping_patience": early_stopping_patience,
            "watch": early_stopping and len(split[1]) > 1,
            "resume": resume,
            "n_workers": n_workers,
            "accelerator": accelerator,
            "devices": devices,
            "precision": precision,
            "trainer_kwargs": trainer_kwargs,
        }
        by_size = default_epochs(len(split[0]))
        epochs = n_epochs("max_epochs", max_epochs, by_size)
        decoder_epochs = n_epochs("imputation_epochs", imputation_epochs, min(epochs, by_size))
        options = {"warmup": warmup}
        align_plan = make_plan(AlignmentPlan, self.module, plan_kwargs, lr=lr, **options)
        decoder_plan = make_plan(DecoderPlan, self.module, plan_kwargs, lr=imputation_lr, **options)
        if "alignment" in stages:
            self._align(
                split,
                epochs,
                align_plan,
                folder=None if folder is None else folder / "alignment",
                start=start,
                use_transformer=use_transformer,
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
                decoder_epochs,
                decoder_plan,
                folder=None if folder is None else folder / "imputation",
                **common,
            )
        self.is_trained_ = True
        self.module.eval()

    def _check_training(
        self,
        stages: Sequence[str],
        start: str,
        false_negatives: str,
        negatives: str,
        use_transformer: bool | None,
        batch_size: int,
        checkpoint_dir: str | None,
        resume: bool,
    ) -> None:
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown or not stages or isinstance(stages, str):
            msg = f"stages={stages!r}; give a list of {', '.join(map(repr, STAGES))}."
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
        if use_transformer is False and self.module.component_encoder is None:
            msg = (
                "use_transformer=False leaves nothing that sees accessibility: the model has no "
                "linear components. Build it with n_components above 0."
            )
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
