"""Low-rank adapters (LoRA): small trained matrices beside frozen weights, merged when done."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atacvi.nn.transformer import PackedSelfAttention


class LowRankAdapter(nn.Module):
    """A product of two thin matrices, which starts at zero.

    Parameters
    ----------
    weight
        The weight that it adapts, shape (out, in): gives sizes, device and type.
    rank
        Width between the two.
    scale
        Factor of the product.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the layer's output, shape (..., out)."""
        return self.scale * F.linear(F.linear(x, self.down), self.up)

    def delta(self) -> Tensor:
        """Return what the adapter adds to the weight, shape (out, in)."""
        return self.scale * (self.up @ self.down)


class LowRankLinear(nn.Linear):
    """A linear layer with an adapter; weight and bias keep their names.

    Parameters
    ----------
    linear
        Layer whose parameters are taken over, not copied.
    rank, scale
        Of the adapter.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.adapter = LowRankAdapter(linear.weight, rank, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted output, shape (..., out)."""
        return super().forward(x) + self.adapter(x)

    def merged(self) -> nn.Linear:
        """Return a plain layer with the adapter added to the weight."""
        linear = nn.Linear(self.in_features, self.out_features, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        linear.weight.data.add_(self.adapter.delta().detach())
        return linear


def add_low_rank(module: nn.Module, rank: int = 8, alpha: float | None = None) -> int:
    """Freeze all parameters and put adapters beside every linear layer and attention projection.

    Parameters
    ----------
    module
        Changed in place. The output does not change until the adapters are trained.
    rank
        Rank of the adapters.
    alpha
        The adapters are scaled by ``alpha / rank``; twice the rank when ``None``.

    Returns
    -------
    Number of adapters.

    Raises
    ------
    ValueError
        If the rank is not positive, adapters are there already, or nothing can be adapted.

    References
    ----------
    Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022, equation 3.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import PackedTransformer, add_low_rank, merge_low_rank
    >>> encoder = PackedTransformer(n_embed=16, n_layers=2, n_heads=4, n_feedforward=32)
    >>> add_low_rank(encoder, rank=4)
    8
    >>> sorted({name.split(".")[-1] for name, p in encoder.named_parameters() if p.requires_grad})
    ['down', 'up']
    >>> merge_low_rank(encoder)
    8
    """
    if rank < 1:
        msg = f"rank must be at least 1, found {rank}"
        raise ValueError(msg)
    if any(isinstance(part, LowRankAdapter) for part in module.modules()):
        msg = "the module has low-rank adapters already; call merge_low_rank first"
        raise ValueError(msg)
    module.requires_grad_(False)
    scale = (2 * rank if alpha is None else alpha) / rank
    n_adapters = 0
    for parent in list(module.modules()):
        if isinstance(parent, PackedSelfAttention):
            parent.in_proj_adapter = LowRankAdapter(parent.in_proj_weight, rank, scale)
            n_adapters += 1
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, LowRankLinear(child, rank, scale))
                n_adapters += 1
    if n_adapters == 0:
        msg = "the module has no linear layer or attention to adapt"
        raise ValueError(msg)
    return n_adapters


@torch.no_grad()
def merge_low_rank(module: nn.Module) -> int:
    """Add the adapters to the weights and remove them; the output stays the same.

    Parameters
    ----------
    module
        Changed in place. Its state dict has the names that it had before the adapters.

    Returns
    -------
    Number of adapters merged, 0 where there were none.
    """
    n_merged = 0
    for parent in list(module.modules()):
        if isinstance(parent, PackedSelfAttention) and parent.in_proj_adapter is not None:
            parent.in_proj_weight.add_(parent.in_proj_adapter.delta())
            parent.in_proj_adapter = None
            n_merged += 1
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(parent, name, child.merged())
                n_merged += 1
    return n_merged


def low_rank_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the merged state dict without changing the module, for writing checkpoints.

    Parameters
    ----------
    module
        With or without adapters.

    Returns
    -------
    State dict with the names of the module without adapters; tensors that carry an adapter are
    copies, the others are the module's own.
    """
    state = dict(module.state_dict())
    for name, part in module.named_modules():
        if isinstance(part, LowRankAdapter):
            parent, _, kind = name.rpartition(".")
            parent = f"{parent}." if parent else ""
            weight = f"{parent}in_proj_weight" if kind == "in_proj_adapter" else f"{parent}weight"
            state[weight] = state[weight] + part.delta().detach()
            del state[f"{name}.down"], state[f"{name}.up"]
    return state
