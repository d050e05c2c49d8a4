"""What a denoiser is told besides its input: the time, and conditions that may be dropped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

# Times in [0, 1] are stretched to those of a thousand steps, which the frequencies are made for.
_STEPS = 1000.0
_MAX_PERIOD = 1e4


class TimeEmbedding(nn.Module):
    """Cosines and sines of the time at geometric frequencies, through a small network.

    Parameters
    ----------
    n_features
        Number of cosines and sines together; even.
    n_hidden
        Width of the hidden layer.
    n_output
        Width of the embedding.
    """

    frequencies: Tensor

    def __init__(self, n_features: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        half = n_features // 2
        exponents = torch.arange(half) / half
        frequencies = torch.exp(-math.log(_MAX_PERIOD) * exponents)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.network = nn.Sequential(
            nn.Linear(2 * half, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_output)
        )

    def forward(self, time: Tensor) -> Tensor:
        """Embed times in [0, 1] of shape (n,) to (n, n_output)."""
        angles = _STEPS * time.reshape(-1, 1).to(self.frequencies.dtype) * self.frequencies
        return self.network(torch.cat([angles.cos(), angles.sin()], dim=1))


class ConditionEmbedding(nn.Module):
    """One vector a condition and cell, or the condition's learned null vector.

    The conditions are z, and if asked for the label, the batch and the log library size, in this
    order. Null vectors make one network both conditional and unconditional, as classifier-free
    guidance needs.

    Parameters
    ----------
    n_condition
        Width of z.
    n_hidden
        Width of the vectors.
    n_labels
        Number of labels; 0 leaves the condition out.
    n_batch
        Number of batches; 0 leaves the condition out.
    use_log_depth
        Take the log library size.
    """

    def __init__(
        self,
        n_condition: int,
        n_hidden: int,
        n_labels: int = 0,
        n_batch: int = 0,
        *,
        use_log_depth: bool = True,
    ) -> None:
        super().__init__()
        embeddings: dict[str, nn.Module] = {"z": nn.Linear(n_condition, n_hidden)}
        if n_labels:
            embeddings["label"] = nn.Embedding(n_labels, n_hidden)
        if n_batch:
            embeddings["batch"] = nn.Embedding(n_batch, n_hidden)
        if use_log_depth:
            embeddings["log_depth"] = nn.Sequential(
                nn.Linear(1, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden)
            )
        self.embeddings = nn.ModuleDict(embeddings)
        self.null = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(n_hidden)) for name in embeddings}
        )

    def forward(
        self,
        n_cells: int,
        z: Tensor | None,
        label: Tensor | None,
        batch: Tensor | None,
        log_depth: Tensor | None,
        drop: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """Embed the conditions.

        Parameters
        ----------
        n_cells
            Number of cells.
        z, label, batch, log_depth
            Shapes (cells, n_condition), and (cells,) or (cells, 1); ``None`` is null for all cells.
        drop
            For a condition's name, the cells for which it is null: bool, shape (cells,).

        Returns
        -------
        Shape (cells, conditions, n_hidden).

        Raises
        ------
        ValueError
            If a condition is given or dropped that this network does not have.
        """
        given = {
            "z": z,
            "label": None if label is None else label.reshape(-1).long(),
            "batch": None if batch is None else batch.reshape(-1).long(),
            "log_depth": None if log_depth is None else log_depth.reshape(-1, 1),
        }
        self._check({name for name, value in given.items() if value is not None}, drop or {})
        vectors = []
        for name, embed in self.embeddings.items():
            null = self.null[name].expand(n_cells, -1)
            value = given[name]
            if value is None:
                vectors.append(null)
                continue
            vector = embed(value)
            if drop is not None and name in drop:
                vector = torch.where(drop[name].reshape(-1, 1), null, vector)
            vectors.append(vector)
        return torch.stack(vectors, dim=1)

    def _check(self, given: set[str], drop: Mapping[str, Tensor]) -> None:
        if foreign := sorted(given - set(self.embeddings)):
            msg = (
                f"The network was built without the conditions {', '.join(foreign)}; it takes "
                f"{', '.join(self.embeddings)}."
            )
            raise ValueError(msg)
        if unknown := sorted(set(drop) - {"z", "label", "batch", "log_depth"}):
            msg = (
                f"No condition is called {', '.join(unknown)}; those that can be dropped are z, "
                "label, batch, log_depth."
            )
            raise ValueError(msg)
