"""The cells of a training: their split, and the loaders of both parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import LightningDataModule

from atacvi.training.token_batches import TokenBatchSampler, TokenDataset, token_loader

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class TokenDataModule(LightningDataModule):
    """Minibatches of training and validation cells with equal numbers of tokens.

    Cells without tokens are in no minibatch. Validation minibatches hold the same cells with the
    same draws in each epoch.

    Parameters
    ----------
    training, validation
        Data sets over the same cells with the views of each part.
    train_idx, val_idx, test_idx
        Rows of each part.
    token_budget
        Tokens of a minibatch.
    max_cells
        Cells of a minibatch at most.
    seed
        Seed of the order of the cells.
    by_length
        Keep cells of similar length together.
    n_workers
        Processes that prepare minibatches; 0 prepares them in this one.
    """

    def __init__(
        self,
        training: TokenDataset,
        validation: TokenDataset,
        train_idx: np.ndarray,
        val_idx: np.ndarray,
        test_idx: np.ndarray,
        *,
        token_budget: int,
        max_cells: int | None = None,
        seed: int = 0,
        by_length: bool = False,
        n_workers: int = 0,
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        parts = (train_idx, val_idx, test_idx)
        self.train_idx, self.val_idx, self.test_idx = (np.asarray(p, dtype=np.int64) for p in parts)
        self.token_budget, self.max_cells = token_budget, max_cells
        self.seed, self.by_length, self.n_workers = seed, by_length, n_workers

    @property
    def n_train(self) -> int:
        """Number of training cells."""
        return len(self.train_idx)

    @property
    def n_val(self) -> int:
        """Number of validation cells."""
        return len(self.val_idx)

    def sampler(self, cells: np.ndarray, *, shuffle: bool) -> TokenBatchSampler:
        """Return what cuts cells into minibatches; for validation they are mixed once, by seed."""
        lengths = self.training.rows.lengths
        cells = cells[lengths[cells] > 0]
        if not shuffle:
            # neighbours of one length in a minibatch would make telling them apart harder
            cells = np.random.default_rng([self.seed, 4]).permutation(cells)
        trainer = self.trainer
        return TokenBatchSampler(
            lengths,
            cells,
            self.token_budget,
            shuffle=shuffle,
            keep_order=not shuffle,
            seed=self.seed,
            by_length=self.by_length,
            max_cells=self.max_cells,
            rank=0 if trainer is None else trainer.global_rank,
            n_devices=1 if trainer is None else trainer.world_size,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the loader of the training cells, at the epoch that comes next."""
        sampler = self.sampler(self.train_idx, shuffle=True)
        if self.trainer is not None:
            # Lightning sets the epoch after it made the first iterator of a resumed run
            sampler.set_epoch(self.trainer.current_epoch)
        return token_loader(self.training, sampler, self.n_workers)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Return the loader of the validation cells; none where there are no such cells."""
        if not (self.training.rows.lengths[self.val_idx] > 0).any():
            return []
        return token_loader(self.validation, self.sampler(self.val_idx, shuffle=False))
