"""What every noising process offers, so that a model can swap one for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from atacvi.diffusion.noise import Generators

Predict = Callable[[Tensor, Tensor], Tensor]


class Process(Protocol):
    """A path from data (time 0) to standard normal noise (time 1), and the way back.

    `GaussianDiffusion` and `FlowMatching` fulfil it. Times are floats in [0, 1], one a sample; a
    process of discrete noise levels rounds them to its nearest level.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import FlowMatching, GaussianDiffusion, Process
    >>> processes: list[Process] = [FlowMatching(), GaussianDiffusion()]
    >>> x0, noise = torch.ones(2, 3), torch.zeros(2, 3)
    >>> [bool((p.corrupt(x0, noise, torch.zeros(2)) == x0).all()) for p in processes]
    [True, True]
    """

    def corrupt(self, x0: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Return x at `time` (n,) of data `x0` and `noise`, all of shape (n, d)."""

    def target(self, x0: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Return what the network predicts at `time`, shape (n, d)."""

    def weight(self, time: Tensor) -> Tensor:
        """Return the weight of each sample's squared error, shape (n,)."""

    def to_x0(self, prediction: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Return the data that a prediction of the network at `x_t` means, shape (n, d)."""

    def sample_time(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        *,
        stratified: bool = True,
    ) -> Tensor:
        """Draw `n` times for a training step, shape (n,)."""

    def time_grid(self, n: int) -> Tensor:
        """Return `n` fixed times that cover (0, 1], for a loss of validation without noise."""

    def sample(
        self,
        predict: Predict,
        noise: Tensor,
        *,
        n_steps: int | None = None,
        sampler: str | None = None,
        eta: float = 0.0,
        start: float = 1.0,
        generator: Generators = None,
    ) -> Tensor:
        """Go from `noise` at time `start` back to data, shape (n, d).

        ``predict(x_t, time)`` is the network: it takes (n, d) and (n,) and gives its output in the
        parameterisation of the process.
        """
