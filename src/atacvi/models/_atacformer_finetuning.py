"""Fine-tuning of AtacformerModel with labels or against batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from atacvi.models._atacformer_fit import (
    AtacformerFitMixin,
    default_epochs,
    make_selection,
    start_rates,
)
from atacvi.models._atacformer_objectives import (
    Task,
    check_task,
    task_objectives,
    trained_parts,
)
from atacvi.models._seed import session_seed
from atacvi.models._token_fit import check_ranges, check_run, make_plan, n_epochs
from atacvi.training import FinetuningPlan, FinetuningViews, TokenRows

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp

    from atacvi.training import TokenCorruption, TokenDataModule


class FinetuningMixin(AtacformerFitMixin):
    """`finetune`."""

    def finetune(
        self,
        task: Task = "clustering",
        max_epochs: int | None = None,
        *,
        loss: Literal["supcon", "triplet", "ce"] | None = None,
        lr: float = 5e-4,
        unfreeze_last_n: int | None = None,
        lora_rank: int | None = None,
        adversary_weight: float = 1.0,
        label_smoothing: float = 0.1,
        token_dropout: float = 0.5,
        objective_kwargs: dict[str, Any] | None = None,
        p: float = 0.15,
        negatives: Literal["uniform", "unigram", "batch", "local"] = "unigram",
        start: Literal["spectral", "random"] = "spectral",
        token_budget: int | None = None,
        batch_size: int | None = None,
        max_tokens: int | None = 2048,
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
        """Train with labels or against batches.

        Parameters
        ----------
        task
            ``"clustering"`` brings cells of a label together, ``"classification"`` trains a head
            that tells labels, ``"multi"`` does both, ``"batch"`` makes batches hard to tell apart
            while replaced tokens stay detectable, and then takes out of the latent the directions in
            which batches differ within clusters (one fewer than batches; of no effect with
            ``normalize=False``). With several batches, ``"multi"`` works against them, too.
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells, 0 leaves the encoder as it is:
            under a head that is a logistic regression, or with ``"batch"`` under the directions
            alone.
        loss
            ``"supcon"`` or ``"triplet"`` for clustering, ``"ce"`` for classification; ``None`` takes
            the task's own.
        lr
            Highest learning rate, that of the heads and the table of regions; layers learn at a
            tenth of it unless the start is random (``encoder_lr_factor`` in `plan_kwargs`).
        unfreeze_last_n
            Train only that many last layers, the layer norms and the heads.
        lora_rank
            Train low-rank adapters and heads in place of the weights.
        adversary_weight
            Weight of the batch adversary; its gradient rises over the first half of the training.
        label_smoothing
            Of the classification.
        token_dropout
            Largest share of a cell's tokens that is left out at random in each step.
        objective_kwargs
            Further fields of :class:`atacvi.modules.AtacformerObjectives`.
        p, negatives
            Replaced tokens, as in `pretrain`.
        start, token_budget, batch_size, max_tokens, warmup
            As in `pretrain`.
        early_stopping, early_stopping_patience
            End when the held-out score no longer rises, and keep the best epoch. The task ``"batch"``
            always trains to the end: its losses work against each other.
        train_size, validation_size, shuffle_set_split
            Split of the cells.
        checkpoint_dir, resume
            As in `pretrain`.
        accelerator, devices, precision, n_workers
            As in `pretrain`.
        datasplitter_kwargs, plan_kwargs
            Further arguments of the splitter and of :class:`atacvi.training.FinetuningPlan`.
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If the task needs labels or batches that there are not, or arguments contradict each
            other.

        Examples
        --------
        >>> atacvi.AtacformerModel.setup_anndata(adata, labels_key="cell_type")
        >>> model = atacvi.AtacformerModel(adata, n_embed=8, n_layers=1, n_heads=1, n_feedforward=8)
        >>> model.pretrain(max_epochs=1, enable_progress_bar=False)
        >>> model.finetune("classification", max_epochs=1, enable_progress_bar=False)
        >>> len(model.annotate(adata[:3].copy(), method="head"))
        3
        """
        n_labels, n_batch = self._n_labels(), int(self.summary_stats.n_batch)  # type: ignore[attr-defined]
        check_task(task, loss, n_labels, n_batch, unfreeze_last_n, lora_rank)
        check_ranges(
            token_dropout=(token_dropout, 0 <= token_dropout < 1, "a share below 1"),
        )
        check_run(early_stopping_patience, n_workers, batch_size, token_budget)
        objectives = task_objectives(
            task,
            loss,
            adversary_weight if n_batch > 1 else 0.0,
            label_smoothing,
            objective_kwargs,
        )
        tokens, split = self._prepare(
            start,
            checkpoint_dir,
            resume=resume,
            kind="finetuning",
            trainer_kwargs=trainer_kwargs,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            datasplitter_kwargs=datasplitter_kwargs,
        )
        if self.latent_centre_ is None:
            self._set_centre(tokens, split[0])
        max_epochs = n_epochs("max_epochs", max_epochs, default_epochs(len(split[0])))
        if max_epochs == 0 and objectives.classification == 0 and task != "batch":
            msg = (
                f"max_epochs=0: without training there is only the start of a head, and "
                f"task={task!r} has none."
            )
            raise ValueError(msg)
        of_labels_alone = objectives.replaced == 0 and objectives.adversary == 0
        used = self._labelled_only(split) if of_labels_alone else split
        corruption = None
        if objectives.replaced > 0:
            corruption = self._corruption(tokens[split[0]], p, negatives)
        data = self._finetuning_data(
            tokens,
            used,
            corruption,
            token_dropout,
            max_tokens,
            token_budget=token_budget,
            max_cells=batch_size,
            n_workers=n_workers,
        )
        if objectives.classification > 0 and "ckpt_path" not in trainer_kwargs:
            self._start_head(tokens, split)
        watch = early_stopping and task != "batch" and len(used[1]) > 0
        with trained_parts(self.module, unfreeze_last_n, lora_rank):
            plan = make_plan(
                FinetuningPlan,
                self.module,
                plan_kwargs,
                objectives=objectives,
                centre=torch.as_tensor(self.latent_centre_),
                n_ramp_epochs=max(1, max_epochs // 2),
                lr=lr,
                warmup=warmup,
                **start_rates(start),
            )
            self._fit(
                plan,
                data,
                max_epochs,
                make_selection(max_epochs, early_stopping_patience, watch=watch),
                checkpoint_dir,
                kind="finetuning",
                accelerator=accelerator,
                devices=devices,
                precision=precision,
                **trainer_kwargs,
            )
        self.train_indices, self.validation_indices, self.test_indices = split
        self.task_ = task
        if task == "batch":
            self._set_centre(tokens, split[0])
            self._set_batch_directions(tokens, split[0])

    def _finetuning_data(
        self,
        tokens: sp.csr_matrix,
        split: tuple[np.ndarray, np.ndarray, np.ndarray],
        corruption: TokenCorruption | None,
        token_dropout: float,
        max_tokens: int | None,
        **options: Any,
    ) -> TokenDataModule:
        """Return minibatches with labels and batches; held-out cells keep all their tokens."""
        seed = session_seed()
        rows = TokenRows(tokens, self._context(max_tokens), seed=seed)  # type: ignore[attr-defined]
        return self._data(
            rows,
            FinetuningViews(rows, corruption, token_dropout=token_dropout, seed=seed),
            FinetuningViews(rows, corruption, token_dropout=0.0, seed=seed),
            split,
            columns={"labels": self._labels()[:, None], "batch": self._batches()[:, None]},  # type: ignore[attr-defined]
            **options,
        )
