"""The run of a training: split, minibatches, Lightning, checkpoints, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi.dataloaders import DataSplitter
from scvi.train import TrainRunner

from atacvi.models._seed import session_seed
from atacvi.training import (
    SelectBest,
    StopOnNonFinite,
    TokenCheckpoint,
    TokenDataModule,
    TokenDataset,
    checkpoint_path,
    read_checkpoint,
    set_pooling_weights,
    start_atacformer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import scipy.sparse as sp

    from atacvi.training import TokenRows, TokenTrainingPlan

_N_CENTRE = 10_000
_N_PROBE = 2_000
_CLIP = 1.0


class TokenFitMixin:
    """What pretraining and fine-tuning share."""

    module: Any
    adata: Any
    adata_manager: Any
    is_trained_: bool
    history_: Any
    started_: bool
    latent_centre_: np.ndarray | None

    _train_runner_cls = TrainRunner

    def _prepare(
        self,
        start: str,
        checkpoint_dir: str | None,
        *,
        resume: bool,
        kind: str,
        trainer_kwargs: dict[str, Any],
        datasplitter_kwargs: dict[str, Any] | None,
        **split_kwargs: Any,
    ) -> tuple[sp.csr_matrix, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return tokens and split, and give a new model its starting values."""
        if start not in ("spectral", "random"):
            msg = f"start={start!r} is unknown; choose 'spectral' or 'random'."
            raise ValueError(msg)
        if resume and checkpoint_dir is None:
            msg = "resume=True needs the `checkpoint_dir` of the run that was stopped."
            raise ValueError(msg)
        tokens, _ = self._tokens_of(None)  # type: ignore[attr-defined]
        noted = read_checkpoint(checkpoint_dir) if resume and checkpoint_dir else None
        if noted is not None:
            if noted.get("kind") != kind:
                msg = (
                    f"{checkpoint_dir} holds a checkpoint of {noted.get('kind', 'another model')}, "
                    f"not of {kind}; give another `checkpoint_dir`."
                )
                raise ValueError(msg)
            split = tuple(part.numpy() for part in noted["split"])
            trainer_kwargs["ckpt_path"] = str(checkpoint_path(str(checkpoint_dir)))
        else:
            split = self._split(**split_kwargs, **(datasplitter_kwargs or {}))
        if not np.diff(tokens.indptr)[split[0]].any():
            msg = f"None of the {len(split[0])} training cells holds a token that the model embeds."
            raise ValueError(msg)
        if not self.started_:
            training = tokens[split[0]]
            if start == "spectral":
                start_atacformer(self.module, training, session_seed())
            else:
                set_pooling_weights(self.module, training[:, self.module.active_ids.cpu().numpy()])
            self.started_ = True
        return tokens, split  # type: ignore[return-value]

    def _split(self, **kwargs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        splitter = DataSplitter(self.adata_manager, **kwargs)
        splitter.setup()
        parts = (splitter.train_idx, splitter.val_idx, splitter.test_idx)
        return tuple(np.asarray(part, dtype=np.int64) for part in parts)  # type: ignore[return-value]

    def _data(
        self,
        rows: TokenRows,
        training: Any,
        validation: Any,
        split: tuple[np.ndarray, np.ndarray, np.ndarray],
        *,
        columns: dict[str, np.ndarray] | None = None,
        **kwargs: Any,
    ) -> TokenDataModule:
        return TokenDataModule(
            TokenDataset(rows, training, columns),
            TokenDataset(rows, validation, columns),
            *split,
            **kwargs,
        )

    def _fit(
        self,
        plan: TokenTrainingPlan,
        data: TokenDataModule,
        max_epochs: int,
        select: SelectBest | None,
        checkpoint_dir: str | None,
        *,
        kind: str,
        precision: Any,
        callbacks: list[Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Run Lightning; keep the history of earlier trainings, also of terms that are new."""
        found = [*(callbacks or []), StopOnNonFinite()]
        if select is not None:
            found.insert(0, select)
        if checkpoint_dir is not None:
            found.append(TokenCheckpoint(checkpoint_dir, kind))
        if precision is not None:
            trainer_kwargs["precision"] = precision
        if len(data.val_idx):
            trainer_kwargs.setdefault("check_val_every_n_epoch", 1)
        trainer_kwargs.setdefault("gradient_clip_val", _CLIP)
        before, was_trained = self.history_, self.is_trained_
        self.module.train()  # Lightning takes the mode it finds
        torch.manual_seed(session_seed())
        self.history_, self.is_trained_ = None, False
        runner = self._train_runner_cls(
            self,  # type: ignore[arg-type]
            training_plan=plan,
            data_splitter=data,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            early_stopping=False,  # SelectBest stops
            use_distributed_sampler=False,  # minibatches are shared out by TokenBatchSampler
            callbacks=found,
            **trainer_kwargs,
        )
        try:
            runner()
        finally:
            self.is_trained_ = self.is_trained_ or was_trained
            self.history_ = _join_histories(before, self.history_)
            self.module.eval()

    def _set_centre(self, tokens: sp.csr_matrix, cells: np.ndarray) -> None:
        """Set the mean embedding of the training cells."""
        chosen = cells[np.diff(tokens.indptr)[cells] > 0]
        if len(chosen) > _N_CENTRE:
            chosen = np.random.default_rng(session_seed()).choice(chosen, _N_CENTRE, replace=False)
        latent = self._embed(tokens, np.sort(chosen), max_tokens=2048, normalize=False)  # type: ignore[attr-defined]
        self.latent_centre_ = latent.mean(axis=0)

    def _probe(self, key: str, tokens: sp.csr_matrix) -> Callable[[], dict[str, float]]:
        """Return the function that scores the embedding against known groups."""
        from atacvi.data import check_key
        from atacvi.metrics import kmeans_ari_nmi, knn_accuracy

        groups = check_key(self.adata, "obs", key, "adata", argument="probe_key").astype(str)
        usable = np.flatnonzero(np.diff(tokens.indptr) > 0)
        rng = np.random.default_rng(session_seed())
        if len(usable) > _N_PROBE:
            usable = np.sort(rng.choice(usable, _N_PROBE, replace=False))
        labels = groups.to_numpy()[usable]

        def probe() -> dict[str, float]:
            latent = self._embed(tokens, usable, max_tokens=2048, normalize=True)  # type: ignore[attr-defined]
            return {
                "knn_accuracy": knn_accuracy(latent, labels),
                "kmeans_ari": kmeans_ari_nmi(latent, labels, n_runs=1, n_init=1)["kmeans_ari"],
            }

        return probe


def default_epochs(n_cells: int) -> int:
    """Return the epochs that give small data about as many steps as large data, 10 to 100."""
    return int(np.clip(round(20 * 10_000 / max(1, n_cells)), 10, 100))


def make_selection(
    monitor: str,
    probe: Callable[[], dict[str, float]] | None,
    every: int,
    patience: int,
    *,
    watch: bool,
) -> SelectBest | None:
    return SelectBest(monitor, probe, every=every, patience=patience) if watch else None


def _join_histories(before: Any, after: Any) -> Any:
    """Append one history to another; epochs count on, and terms of either stay."""
    if not before:
        return after
    if not after:
        return before
    import pandas as pd

    first = max(len(table) for table in before.values())
    joined = dict(before)
    for name, table in after.items():
        moved = table.copy()
        moved.index = pd.Index(np.asarray(moved.index) + first, name=table.index.name)
        joined[name] = pd.concat([before[name], moved]) if name in before else moved
    return joined
