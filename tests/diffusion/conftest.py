"""Gaussian data, for which the best denoiser and velocity are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianData:
    """Data N(mean, variance) and what an ideal network predicts for it."""

    variance: float
    mean: float = 1.0

    def x0(self, x: Tensor, signal: Tensor | float, noise_scale: Tensor | float) -> Tensor:
        """Return E[x0 | x] for x = signal * x0 + noise_scale * noise."""
        gain = signal * self.variance / (signal**2 * self.variance + noise_scale**2)
        return self.mean + gain * (x - signal * self.mean)

    def denoise(self, alpha_bar: Tensor) -> Callable[[Tensor, int], Tensor]:
        def denoise(x: Tensor, step: int) -> Tensor:
            left = alpha_bar[step].item()
            return self.x0(x, left**0.5, (1 - left) ** 0.5)

        return denoise

    def velocity(self, x: Tensor, time: float) -> Tensor:
        """Return E[x0 - noise | x] for x = (1 - time) * x0 + time * noise."""
        total = (1 - time) ** 2 * self.variance + time**2
        noise = time / total * (x - (1 - time) * self.mean)
        return self.x0(x, 1 - time, time) - noise


class LinearNoise:
    """Stands in for random noise: reads a linear sampler's mean and variance off one exact run.

    Row 0 of x gets no noise and carries the mean; row 1 starts at 1; each later row gets 1 at one
    step. What arrives in a row, less the mean, is the factor of that noise in the sample.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.drawn = 0

    def start(self) -> Tensor:
        return self._one_hot(1)

    def __call__(self, shape: object, *args: object, **kwargs: object) -> Tensor:
        self.drawn += 1
        return self._one_hot(1 + self.drawn)

    def _one_hot(self, row: int) -> Tensor:
        x = torch.zeros(self.n_steps + 2, 1, dtype=torch.float64)
        x[row] = 1.0
        return x

    @staticmethod
    def moments(x: Tensor) -> tuple[float, float]:
        return x[0].item(), (x[1:] - x[0]).square().sum().item()


@pytest.fixture
def gaussian_data() -> type[GaussianData]:
    return GaussianData


@pytest.fixture
def linear_noise(monkeypatch) -> Callable[[int], LinearNoise]:
    def install(n_steps: int) -> LinearNoise:
        noise = LinearNoise(n_steps)
        monkeypatch.setattr("atacvi.diffusion.samplers.draw_noise", noise)
        return noise

    return install
