"""Pretraining of AtacformerModel: replaced tokens, and agreement of two parts of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from atacvi.models._atacformer_fit import (
    AtacformerFitMixin,
    default_epochs,
    make_selection,
    start_rates,
)
from atacvi.models._seed import session_seed
from atacvi.models._token_fit import check_ranges, check_run, make_plan, n_epochs
from atacvi.training import PretrainingPlan, PretrainingViews, TokenRows

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp


class PretrainingMixin(AtacformerFitMixin):
    """`pretrain`."""

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
        token_budget: int | None = None,
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
        (``unigram_bayes_loss``) and by how much the model is below it (``context_gain``). The start
        and the epochs are judged by the probe where there is one, and else by what the neighbours of
        held-out cells tell of tokens that were hidden (``probe_neighbour_gain``,
        :func:`atacvi.training.neighbour_gain`), not by the losses; the best weights are kept.

        Parameters
        ----------
        max_epochs
            Epochs at most; ``None`` chooses by the number of cells, 0 keeps the start.
        lr
            Highest learning rate, that of the heads and the table of regions; layers learn at a
            tenth of it unless the start is random (``encoder_lr_factor`` in `plan_kwargs`).
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
            ``"spectral"`` starts a new model in the directions of the spectral embedding of its
            training cells.
        token_budget
            Tokens of a minibatch. ``None`` takes 32,768, or fewer where an epoch would have less
            than 32 steps, but no fewer than 64 average cells have.
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
            End when the score no longer rises, and keep the best weights, which may be those of the
            start.
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
        )
        check_run(early_stopping_patience, n_workers, batch_size, token_budget)
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
        corruption, bayes = None, {}
        if replaced_weight > 0:
            training = tokens[split[0]]
            corruption = self._corruption(
                training, p, negatives, alpha=alpha, window=window, forbid_held=forbid_held
            )
            # of the training cells, also beside the loss of held-out ones: their own frequencies,
            # known exactly, would make the rule without context look better than it is
            bayes = dict.fromkeys(("train", "validation"), corruption.unigram_bayes_loss(training))
        if replaced_share is None:
            replaced_share = 0.5 if agreement_weight > 0 else 1.0
        seed = session_seed()
        rows = TokenRows(tokens, self._context(max_tokens), truncation, seed)  # type: ignore[attr-defined]
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
            n_workers=n_workers,
        )
        plan = make_plan(
            PretrainingPlan,
            self.module,
            plan_kwargs,
            lr=lr,
            warmup=warmup,
            **start_rates(start),
            bayes_losses=bayes,
            replaced_weight=replaced_weight,
            agreement_weight=agreement_weight,
            temperature=temperature,
        )
        max_epochs = n_epochs("max_epochs", max_epochs, default_epochs(len(split[0])))
        probe = self._pretraining_probe(probe_key, tokens, split)
        watch = early_stopping and probe is not None
        select = make_selection(
            max_epochs, early_stopping_patience, probe, probe_every, watch=watch
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

    def _pretraining_probe(
        self,
        key: str | None,
        tokens: sp.csr_matrix,
        split: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> Callable[[], dict[str, float]] | None:
        """Return what scores an epoch: known groups, else hidden tokens of the held-out cells."""
        if key is not None:
            return self._probe(key, tokens)
        held_out = np.diff(tokens.indptr)[split[1]].any()
        return self._neighbour_probe(tokens, split) if held_out else None
