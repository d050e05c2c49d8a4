"""Minibatches that stay sparse on their way from the data to the module."""

from __future__ import annotations

from typing import Any

import numpy as np
from scvi.dataloaders import DataSplitter

from atacvi._constants import COMPONENTS_KEY


class SparseDataSplitter(DataSplitter):
    """`DataSplitter` whose sparse minibatches are not made dense.

    scvi-tools fills them in once they are on the device. Our modules read the non-zeros: to fill
    in 128 cells of 100,000 peaks and to find the non-zeros again costs more than a step.
    """

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Return the minibatch as it is."""
        return batch


class CrossFittedSplitter(SparseDataSplitter):
    """`SparseDataSplitter` whose minibatches carry components that are not in the data.

    Parameters
    ----------
    *args, **kwargs
        Those of `DataSplitter`.
    components
        Shape (all cells, components), or ``None`` for none.
    """

    def __init__(self, *args: Any, components: np.ndarray | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.components = components

    def train_dataloader(self) -> Any:
        """Return the loader of the training cells."""
        return self._with_components(super().train_dataloader())

    def val_dataloader(self) -> Any:
        """Return the loader of the validation cells, if there are any."""
        return self._with_components(super().val_dataloader())

    def _with_components(self, loader: Any) -> Any:
        if loader is None or self.components is None:
            return loader
        cells = getattr(loader.dataset, "dataset", loader.dataset)  # of a subset, all
        cells.data[COMPONENTS_KEY] = self.components
        cells._keys_and_dtypes[COMPONENTS_KEY] = np.float32
        return loader
