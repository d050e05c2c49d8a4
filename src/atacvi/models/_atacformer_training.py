"""Training of AtacformerModel: pretraining without labels, fine-tuning with labels or batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from atacvi.models._atacformer_fit import (
    AtacformerFitMixin,
    default_epochs,
    make_selection,
)
from atacvi.models._atacformer_objectives import check_task, task_objectives, trained_parts
from atacvi.models._seed import session_seed
from atacvi.models._token_fit import (
    check_ranges,
    make_plan,
    n_epochs,
    read_finished,
    write_finished,
)
from atacvi.training import (
    FinetuningPlan,
    FinetuningViews,
    PretrainingPlan,
    PretrainingViews,
    TokenCorruption,
    TokenRows,
)

Task = Literal["clustering", "classification", "batch", "multi"]


class AtacformerTrainingMixin(AtacformerFitMixin):
    """`pretrain`, `finetune` and `train`."""

    universe: Any

    def pretrain(
        self,
        max_epochs: int | None = None,
        *,
        lr: float = 5e-4,
        p: float = 0.45,
        negatives: Literal["uniform", "unigram", "batch", "local"] = "unigram",
        alpha: float = 1.0,
        window: int = 100_000,
        forbid_held: bool = True,
        replaced_weight: float = 1.0,
        agreement_weight: float = 1.0,
        replaced_share: float | None = None,
        temperature: float = 0.1,
        start: Literal["spectral", "random"] = "spectral",
        token_budget: int = 32_768,
        batch_size: int | None = None,
        max_tokens: int | None = 2048,
        truncation: Literal["random", "first"] = "random",
        warmup: float = 0.1,
        probe_key: str | None = None,
        probe_every: int = 1,
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
        """Train without labels: replaced-token detection and agreement of two parts of a cell.

        The history holds, beside the losses, the loss of the best prediction without context
        (``unigram_bayes_loss``) and by how much the model is below it (``context_gain``). The best
        epoch is chosen by the probe where there is one, and else by held-out ``context_gain`` plus
        the information that the two parts share, never by the loss of replaced tokens alone.

        Parameters
        ----------
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells, 0 keeps the start.
        lr
            Highest learning rate.
        p
            Probability that a token is replaced.
        negatives
            What replaces it: ``"uniform"``, ``"unigram"`` (by frequency), ``"batch"`` (from other
            cells) or ``"local"`` (regions nearby).
        alpha
            Power of the frequencies of ``"unigram"``.
        window
            What is nearby, in base pairs.
        forbid_held
            Never replace by a region that is open in the cell.
        replaced_weight, agreement_weight
            Weights of both terms.
        replaced_share
            Share of a minibatch's cells in which tokens are replaced; ``None`` takes half of them
            beside the agreement, which bounds the time, and else all.
        temperature
            Of the agreement.
        start
            ``"spectral"`` starts a new model as the spectral embedding of its training cells.
        token_budget
            Tokens of a minibatch.
        batch_size
            Cells of a minibatch at most; ``None`` goes by the tokens alone.
        max_tokens, truncation
            Context in training, and how longer cells are cut.
        warmup
            Share of the steps over which the learning rate rises.
        probe_key
            Column of ``obs`` with groups; they choose the epoch by the accuracy of nearest
            neighbours, and are not trained on.
        probe_every
            Epochs between probes.
        early_stopping, early_stopping_patience
            End when the score no longer rises, and keep the best epoch.
        train_size, validation_size, shuffle_set_split
            Split of the cells.
        checkpoint_dir
            Folder for a checkpoint after each epoch.
        resume
            Go on from the checkpoint in `checkpoint_dir`, where there is one.
        accelerator, devices, precision
            Hardware, as in Lightning.
        n_workers
            Processes that prepare minibatches.
        datasplitter_kwargs, plan_kwargs
            Further arguments of the splitter and of :class:`atacvi.training.PretrainingPlan`.
        **trainer_kwargs
            Further arguments of the Lightning trainer.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        KeyError
            If `probe_key` is no column.
        TypeError
            If `plan_kwargs` holds an unknown argument.
        ValueError
            If arguments are out of range or contradict each other.

        Examples
        --------
        >>> atacvi.AtacformerModel.setup_anndata(adata, labels_key="cell_type")
        >>> model = atacvi.AtacformerModel(adata, n_embed=8, n_layers=1, n_heads=1, n_feedforward=8)
        >>> model.pretrain(max_epochs=1, enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        check_ranges(
            temperature=(temperature, temperature > 0, "positive"),
            replaced_share=(
                replaced_share,
                replaced_share is None or 0 < replaced_share <= 1,
                "a share above 0, or None",
            ),
            window=(window, window > 0, "positive, in base pairs"),
            probe_every=(probe_every, probe_every >= 1, "at least 1"),
            early_stopping_patience=(
                early_stopping_patience,
                early_stopping_patience is None or early_stopping_patience >= 1,
                "at least 1, or None",
            ),
            n_workers=(n_workers, n_workers >= 0, "at least 0"),
            batch_size=(batch_size, batch_size is None or batch_size >= 1, "at least 1, or None"),
            token_budget=(token_budget, token_budget >= 1, "at least 1"),
        )
        tokens, split = self._prepare(
            start,
            checkpoint_dir,
            resume=resume,
            kind="pretraining",
            trainer_kwargs=trainer_kwargs,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            datasplitter_kwargs=datasplitter_kwargs,
        )
        seed = session_seed()
        corruption = None
        bayes: dict[str, float] = {}
        if replaced_weight > 0:
            training = tokens[split[0]]
            corruption = TokenCorruption(
                training,
                p,
                negatives,
                alpha=alpha,
                window=window,
                forbid_held=forbid_held,
                regions=self.universe.regions if negatives == "local" else None,
            )
            # of the training cells, also beside the loss of held-out ones: their own frequencies,
            # known exactly, would make the rule without context look better than it is
            bayes = dict.fromkeys(("train", "validation"), corruption.unigram_bayes_loss(training))
        rows = TokenRows(tokens, self._context(max_tokens), truncation, seed)  # type: ignore[attr-defined]
        if replaced_share is None:
            replaced_share = 0.5 if agreement_weight > 0 else 1.0
        views = PretrainingViews(
            rows,
            corruption,
            split=agreement_weight > 0,
            replaced_share=replaced_share,
            seed=seed,
        )
        data = self._data(
            rows,
            views,
            views,
            split,
            token_budget=token_budget,
            max_cells=batch_size,
            seed=seed,
            n_workers=n_workers,
        )
        plan = make_plan(
            PretrainingPlan,
            self.module,
            plan_kwargs,
            lr=lr,
            warmup=warmup,
            bayes_losses=bayes,
            replaced_weight=replaced_weight,
            agreement_weight=agreement_weight,
            temperature=temperature,
        )
        max_epochs = n_epochs("max_epochs", max_epochs, default_epochs(len(split[0])))
        probe = None if probe_key is None else self._probe(probe_key, tokens)
        select = make_selection(
            "score_validation",
            probe,
            probe_every,
            early_stopping_patience or max(5, max_epochs // 4),
            watch=early_stopping and (probe is not None or len(split[1]) > 0),
        )
        self._fit(
            plan,
            data,
            max_epochs,
            select,
            checkpoint_dir,
            kind="pretraining",
            accelerator=accelerator,
            devices=devices,
            precision=precision,
            **trainer_kwargs,
        )
        self._set_centre(tokens, split[0])

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
        token_budget: int = 32_768,
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
            while replaced tokens stay detectable. With several batches, ``"multi"`` works against
            them, too.
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells.
        loss
            ``"supcon"`` or ``"triplet"`` for clustering, ``"ce"`` for classification; ``None`` takes
            the task's own.
        lr
            Highest learning rate.
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
            early_stopping_patience=(
                early_stopping_patience,
                early_stopping_patience is None or early_stopping_patience >= 1,
                "at least 1, or None",
            ),
            n_workers=(n_workers, n_workers >= 0, "at least 0"),
            batch_size=(batch_size, batch_size is None or batch_size >= 1, "at least 1, or None"),
            token_budget=(token_budget, token_budget >= 1, "at least 1"),
        )
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
        seed = session_seed()
        if self.latent_centre_ is None:
            self._set_centre(tokens, split[0])
        corruption = None
        if objectives.replaced > 0:
            regions = self.universe.regions if negatives == "local" else None
            corruption = TokenCorruption(tokens[split[0]], p, negatives, regions=regions)
        rows = TokenRows(tokens, self._context(max_tokens), seed=seed)  # type: ignore[attr-defined]
        data = self._data(
            rows,
            FinetuningViews(rows, corruption, token_dropout=token_dropout, seed=seed),
            FinetuningViews(rows, corruption, token_dropout=0.0, seed=seed),
            split,
            token_budget=token_budget,
            max_cells=batch_size,
            seed=seed,
            n_workers=n_workers,
            columns={"labels": self._labels()[:, None], "batch": self._batches()[:, None]},  # type: ignore[attr-defined]
        )
        max_epochs = n_epochs("max_epochs", max_epochs, default_epochs(len(split[0])))
        if max_epochs == 0:
            msg = "max_epochs=0: fine-tuning needs an epoch at least."
            raise ValueError(msg)
        if objectives.classification > 0 and "ckpt_path" not in trainer_kwargs:
            self._start_head(tokens, split)
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
            )
            select = make_selection(
                "score_validation",
                None,
                1,
                early_stopping_patience or max(5, max_epochs // 4),
                watch=early_stopping and task != "batch" and len(split[1]) > 0,
            )
            self._fit(
                plan,
                data,
                max_epochs,
                select,
                checkpoint_dir,
                kind="finetuning",
                accelerator=accelerator,
                devices=devices,
                precision=precision,
                **trainer_kwargs,
            )
        self.task_ = task
        if task == "batch":
            self._set_centre(tokens, split[0])

    def train(
        self,
        max_epochs: int | None = None,
        *,
        task: Task | None = None,
        pretrain_kwargs: dict[str, Any] | None = None,
        finetune_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pretrain, unless that was done, and then fine-tune if a task is given.

        Parameters
        ----------
        max_epochs
            Epochs at most, of each part.
        task
            As in `finetune`; ``None`` pretrains only.
        pretrain_kwargs, finetune_kwargs
            Arguments of `pretrain` and of `finetune`.
        **kwargs
            Arguments of both, those of scvi-tools among them: ``accelerator``, ``devices``,
            ``train_size``, ``validation_size``, ``batch_size``, ``early_stopping``, ``plan_kwargs``,
            ``checkpoint_dir`` and ``resume``.

        Raises
        ------
        FloatingPointError, TypeError, ValueError
            As `pretrain` and `finetune`.

        Examples
        --------
        >>> atacvi.AtacformerModel.setup_anndata(adata, labels_key="cell_type")
        >>> model = atacvi.AtacformerModel(adata, n_embed=8, n_layers=1, n_heads=1, n_feedforward=8)
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        if task is not None:
            n_labels, n_batch = self._n_labels(), int(self.summary_stats.n_batch)  # type: ignore[attr-defined]
            check_task(task, None, n_labels, n_batch, None, None)
        first = {"max_epochs": max_epochs, **kwargs, **(pretrain_kwargs or {})}
        if task is None:
            self.pretrain(**first)
            return
        second = {"max_epochs": max_epochs, **kwargs, **(finetune_kwargs or {})}
        folder = kwargs.get("checkpoint_dir")
        if folder is not None:  # one checkpoint a part
            first["checkpoint_dir"] = str(Path(folder) / "pretraining")
            second["checkpoint_dir"] = str(Path(folder) / "finetuning")
        if not self.is_trained_:
            self._pretrain_once(first)
        self.finetune(task, **second)

    def _pretrain_once(self, arguments: dict[str, Any]) -> None:
        """Pretrain, or take up the end of a pretraining that is resumed after it."""
        place = arguments.get("checkpoint_dir")
        folder = None if place is None else Path(place)
        finished = read_finished(folder) if arguments.get("resume") else None
        if finished is None:
            self.pretrain(**arguments)
            centre = torch.as_tensor(self.latent_centre_)
            write_finished(folder, self.module, self.history_, centre=centre)
            return
        self.module.load_state_dict(finished["weights"])
        self.latent_centre_ = finished["centre"].numpy()
        self.history_ = finished["history"]
        self.started_ = self.is_trained_ = True
