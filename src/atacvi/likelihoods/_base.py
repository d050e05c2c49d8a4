"""What the element-wise count distributions share: parameters, expansion, validation."""

from __future__ import annotations

from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions.utils import broadcast_all


class ElementwiseDistribution(TorchDistribution):
    """A univariate distribution whose parameters broadcast to one batch shape.

    Subclasses name their parameters in ``_parameter_names``; each is stored under that name with
    a leading underscore, so that a parameter may be called ``mean``.

    Parameters
    ----------
    parameters
        The parameters by name, broadcastable with each other.
    validate_args
        Whether to check parameters and values. ``None`` means no, unlike torch: the checks cost
        as much as the density, and continuous targets such as TF-IDF lie outside the support.
    """

    _parameter_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, parameters: dict[str, Tensor | float], validate_args: bool | None = None
    ) -> None:
        values = broadcast_all(*(parameters[name] for name in self._parameter_names))
        for name, value in zip(self._parameter_names, values, strict=True):
            setattr(self, f"_{name}", value)
        super().__init__(values[0].shape, validate_args=bool(validate_args))

    def expand(
        self, batch_shape: torch.Size | tuple[int, ...], _instance: TorchDistribution | None = None
    ) -> ElementwiseDistribution:
        """Return the same distribution with its parameters expanded to `batch_shape`."""
        new = type(self).__new__(type(self)) if _instance is None else _instance
        batch_shape = torch.Size(batch_shape)
        for name in self._parameter_names:
            setattr(new, f"_{name}", getattr(self, f"_{name}").expand(batch_shape))
        TorchDistribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _checked(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return value
