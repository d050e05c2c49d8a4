"""AdamW that updates, of a table of which a step saw some rows, those rows only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RowAdamW(torch.optim.AdamW):
    """Fused AdamW for dense gradients, lazy Adam for sparse ones.

    A sparse gradient (of :func:`atacvi.nn.take_rows`) names the rows that a step used. Only they
    are read and written, with the moments and the weight decay of those rows, as in
    :class:`torch.optim.SparseAdam`: a step on 16,000 of 100,000 rows costs a sixth. Rows that a
    step did not use do not move on the momentum of earlier steps.

    Parameters
    ----------
    params
        Parameters, or groups of them.
    **kwargs
        Arguments of :class:`torch.optim.AdamW`.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019.
    """

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **{"fused": True, **kwargs})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step; the closure, if given, computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    sparse.append((parameter, parameter.grad))
                    self._step_rows(parameter, group)
                    parameter.grad = None  # the fused step must not see it
        super().step()
        for parameter, grad in sparse:
            parameter.grad = grad
        return loss

    def _step_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows, values = grad.indices()[0], grad.values()
        state = self.state[parameter]
        if not state:
            # In the shapes of the dense step, so that either may go on from the other.
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).lerp_(values.square(), 1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        step = float(state["step"])
        correction = (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        denominator = second.sqrt_().add_(group["eps"] * (1 - beta2**step) ** 0.5)
        change = first.div_(denominator).mul_(-group["lr"] * correction)
        if group["weight_decay"]:
            current = parameter.index_select(0, rows)
            change.add_(current, alpha=-group["lr"] * group["weight_decay"])
        parameter.index_add_(0, rows, change)


@torch.no_grad()
def clip_gradients_by_norm(parameters: Any, max_norm: float) -> Tensor:
    """Scale gradients so that their joint Euclidean norm is at most `max_norm`; return the norm.

    As :func:`torch.nn.utils.clip_grad_norm_`, which does not take sparse gradients.
    """
    grads = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            grads.append(parameter.grad.values())
        else:
            grads.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(grads)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.to(grad.device))
    return norm
