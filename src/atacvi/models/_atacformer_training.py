"""Training of AtacformerModel: pretraining without labels, then fine-tuning where a task is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from atacvi.models._atacformer_finetuning import FinetuningMixin
from atacvi.models._atacformer_objectives import Task, check_task
from atacvi.models._atacformer_pretraining import PretrainingMixin
from atacvi.models._token_fit import read_finished, write_finished


class AtacformerTrainingMixin(PretrainingMixin, FinetuningMixin):
    """`pretrain`, `finetune`, and `train`, which does both."""

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
