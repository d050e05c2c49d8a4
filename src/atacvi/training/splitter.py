"""Minibatches that stay sparse on their way from the data to the module."""

from __future__ import annotations

from typing import Any

from scvi.dataloaders import DataSplitter


class SparseDataSplitter(DataSplitter):
    """`DataSplitter` whose sparse minibatches are not made dense.

    scvi-tools fills them in once they are on the device. Our modules read the non-zeros: to fill
    in 128 cells of 100,000 peaks and to find the non-zeros again costs more than a step.
    """

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Return the minibatch as it is."""
        return batch
