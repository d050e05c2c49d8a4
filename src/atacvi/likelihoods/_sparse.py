"""Log-probabilities of sparse targets: a closed form over all entries, corrected on non-zeros.

For a target that is zero almost everywhere,

    sum_j log p(y_j) = sum_j log p(0) + sum_{j: y_j > 0} [log p(y_j) - log p(0)].

The first sum needs no target and no lnΓ, the second touches the non-zeros only. A likelihood is
given as a `Kernel`, its value and derivatives in closed form; `sparse_log_prob` runs it over
blocks of cells that fit the processor's cache, and keeps nothing for the backward pass beyond its
inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Entries a block holds: a few float32 buffers of this size stay in a processor's cache. Smaller
# blocks gain nothing and start threads more often, which a busy machine makes expensive; on an
# accelerator a block must be large enough to fill the device.
_BLOCK_CPU = 1 << 20
_BLOCK_ACCELERATOR = 1 << 25


class SparseTarget(NamedTuple):
    """The non-zero entries of a minibatch of cells x features.

    Parameters
    ----------
    rows
        Cell of each non-zero entry, int64, shape (nnz,).
    cols
        Feature of each non-zero entry, int64, shape (nnz,). No (row, column) pair occurs twice.
    values
        The entries, floating point, none zero, shape (nnz,).
    shape
        Number of cells and of features.

    Examples
    --------
    >>> import torch
    >>> from atacvi.likelihoods import SparseTarget
    >>> target = SparseTarget.from_tensor(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    >>> target.cols.tolist(), target.values.tolist()
    ([1, 0], [2.0, 1.0])
    """

    rows: Tensor
    cols: Tensor
    values: Tensor
    shape: tuple[int, int]

    @classmethod
    def from_tensor(cls, x: Tensor) -> SparseTarget:
        """Read a dense, CSR, CSC or COO matrix of shape (cells, features).

        Entries that are stored but zero are dropped; integers become the default float type.

        Raises
        ------
        ValueError
            If `x` is not two-dimensional.
        """
        if x.ndim != 2:
            msg = (
                f"A target must be a matrix of cells x features, found {x.ndim} dimension(s) "
                f"(shape {tuple(x.shape)}). Reshape it to (cells, features)."
            )
            raise ValueError(msg)
        if x.layout == torch.sparse_csc:  # minibatches of data that are stored by features
            x = x.to_sparse_csr()
        if x.layout == torch.sparse_csr:
            crow = x.crow_indices().long()
            cells = torch.arange(x.shape[0], device=x.device)
            rows = torch.repeat_interleave(cells, crow.diff(), output_size=x.values().numel())
            cols, values = x.col_indices().long(), x.values()
        elif x.layout == torch.sparse_coo:
            x = x.coalesce()
            (rows, cols), values = x.indices(), x.values()
        else:
            rows, cols = x.nonzero(as_tuple=True)
            values = x[rows, cols]
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        stored_zero = values == 0
        if stored_zero.any():
            keep = ~stored_zero
            rows, cols, values = rows[keep], cols[keep], values[keep]
        return cls(rows, cols, values, (int(x.shape[0]), int(x.shape[1])))

    def to(self, device: torch.device | str) -> SparseTarget:
        """Return the target with its tensors on `device`."""
        return SparseTarget(
            self.rows.to(device), self.cols.to(device), self.values.to(device), self.shape
        )

    def to_dense(self) -> Tensor:
        """Return the matrix, shape (cells, features)."""
        dense = self.values.new_zeros(self.shape)
        dense[self.rows, self.cols] = self.values
        return dense

    def select_features(self, features: Tensor) -> SparseTarget:
        """Return the target restricted to `features`, renumbered in their order.

        Parameters
        ----------
        features
            Distinct feature indices, int64, shape (selected,).
        """
        position = torch.full((self.shape[1],), -1, device=self.cols.device)
        position[features] = torch.arange(features.numel(), device=self.cols.device)
        cols = position.index_select(0, self.cols)
        # One search for all three columns: a bool index would search for each.
        keep = (cols >= 0).nonzero().squeeze(1)
        shape = (self.shape[0], int(features.numel()))
        return SparseTarget(
            self.rows.index_select(0, keep),
            cols.index_select(0, keep),
            self.values.index_select(0, keep),
            shape,
        )


class Kernel(Protocol):
    """A likelihood log p(y | a, b) in closed form: `a` per entry, `b` often per feature only.

    Blocks have shape (cells of the block, features). ``prepared`` holds what `prepare` derived
    from `b`, each item in the shape of `b`, and is empty without `b`.
    """

    def prepare(self, b: Tensor) -> tuple[Tensor, ...]:
        """Return everything that depends on `b` alone."""
        ...

    def zero(self, a: Tensor, prepared: tuple[Tensor, ...], out: Tensor) -> None:
        """Write log p(0) into `out`."""
        ...

    def zero_grad(
        self, a: Tensor, prepared: tuple[Tensor, ...], grad_a: Tensor, grad_b: Tensor, need_b: bool
    ) -> None:
        """Write the derivatives of log p(0); `grad_b` is free scratch if not `need_b`."""
        ...

    def correction(self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return log p(y) - log p(0) on the non-zeros."""
        ...

    def correction_grad(
        self, y: Tensor, a: Tensor, prepared: tuple[Tensor, ...], need_b: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the derivatives of `correction` with respect to `a` and `b`."""
        ...


def sparse_log_prob(
    kernel: Kernel,
    target: SparseTarget,
    a: Tensor,
    b: Tensor | None = None,
    feature_weight: float | Tensor = 1.0,
) -> Tensor:
    """Return the log-probability of each cell, summed over features with `feature_weight`.

    Parameters
    ----------
    kernel
        The likelihood.
    target
        Observed entries.
    a
        First parameter, broadcastable to (cells, features).
    b
        Second parameter, broadcastable to (cells, features); cheapest as (features,).
    feature_weight
        Weight of every feature, or one per feature, shape (features,). No gradient flows to it.

    Returns
    -------
    Tensor of shape (cells,), in float32 for half-precision parameters.

    Raises
    ------
    ValueError
        If a shape does not broadcast to that of the target.
    """
    n_cells, n_features = target.shape
    _check_broadcast("The first parameter", a, target.shape)
    a = a.expand(n_cells, n_features)
    if b is not None:
        _check_broadcast("The second parameter", b, target.shape)
        if b.ndim == 2 and b.shape[0] == n_cells and n_cells > 1:
            b = b.expand(n_cells, n_features)
        else:
            b = b.reshape(b.shape[-1:]).expand(n_features)
    if isinstance(feature_weight, Tensor):
        feature_weight = feature_weight.detach().to(a.device)
        if feature_weight.ndim > 0:
            _check_broadcast("feature_weight", feature_weight, (n_features,))
            feature_weight = feature_weight.expand(n_features)
    return _SparseLogProb.apply(kernel, target, a, b, feature_weight)


def _check_broadcast(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    found = tuple(value.shape)
    tail = shape[len(shape) - len(found) :] if len(found) <= len(shape) else None
    if tail is None or any(f not in (1, s) for f, s in zip(found, tail, strict=True)):
        msg = (
            f"{name} has shape {found}, which does not broadcast to {shape} "
            "(cells, features). Decode exactly the features that the target holds."
        )
        raise ValueError(msg)


def _compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    wide = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def _blocks(n_cells: int, n_features: int, device: torch.device) -> list[slice]:
    budget = _BLOCK_CPU if device.type == "cpu" else _BLOCK_ACCELERATOR
    step = max(1, budget // max(1, n_features))
    return [slice(i, min(i + step, n_cells)) for i in range(0, n_cells, step)]


def _rows_of(prepared: tuple[Tensor, ...], block: slice) -> tuple[Tensor, ...]:
    return tuple(p[block] if p.ndim == 2 else p for p in prepared)


def _entries_of(prepared: tuple[Tensor, ...], target: SparseTarget) -> tuple[Tensor, ...]:
    return tuple(
        _gather(p, target) if p.ndim == 2 else p.index_select(0, target.cols) for p in prepared
    )


def _gather(matrix: Tensor, target: SparseTarget) -> Tensor:
    """Return the entries of `matrix` at the non-zeros of `target`, shape (nnz,)."""
    if not matrix.is_contiguous():
        return matrix[target.rows, target.cols]
    # Several times as fast as indexing by two vectors.
    return matrix.view(-1).index_select(0, target.rows * target.shape[1] + target.cols)


class _SparseLogProb(torch.autograd.Function):
    """Value and closed-form gradients of `sparse_log_prob`, block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        kernel: Kernel,
        target: SparseTarget,
        a: Tensor,
        b: Tensor | None,
        weight: float | Tensor,
    ) -> Tensor:
        ctx.kernel, ctx.shape, ctx.weight = kernel, target.shape, weight
        ctx.save_for_backward(target.rows, target.cols, target.values, a, b)
        dtype = _compute_dtype(a, b)
        with torch.autocast(a.device.type, enabled=False):
            prepared = () if b is None else kernel.prepare(b.to(dtype))
            result = torch.empty(target.shape[0], dtype=dtype, device=a.device)
            blocks = _blocks(*target.shape, a.device)
            buffer = torch.empty(
                (blocks[0].stop if blocks else 0, target.shape[1]), dtype=dtype, device=a.device
            )
            weight = weight.to(dtype) if isinstance(weight, Tensor) else weight
            per_feature = isinstance(weight, Tensor) and weight.ndim > 0
            for block in blocks:
                out = buffer[: block.stop - block.start]
                kernel.zero(a[block].to(dtype), _rows_of(prepared, block), out)
                if per_feature:
                    out.mul_(weight)
                torch.sum(out, dim=1, out=result[block])
            entries = kernel.correction(
                target.values.to(dtype),
                _gather(a, target).to(dtype),
                _entries_of(prepared, target),
            )
            if isinstance(weight, Tensor) and weight.ndim > 0:
                entries = entries * weight[target.cols]
            result.index_add_(0, target.rows, entries)
            return result if per_feature else result.mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rows, cols, values, a, b = ctx.saved_tensors
        target = SparseTarget(rows, cols, values, ctx.shape)
        need_b = b is not None and ctx.needs_input_grad[3]
        with torch.autocast(a.device.type, enabled=False):
            grad_a, grad_b = _gradients(
                ctx.kernel, target, a, b, ctx.weight, grad_output, need_b=need_b
            )
        return None, None, grad_a if ctx.needs_input_grad[2] else None, grad_b, None


def _gradients(
    kernel: Kernel,
    target: SparseTarget,
    a: Tensor,
    b: Tensor | None,
    weight: float | Tensor,
    grad_output: Tensor,
    *,
    need_b: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients with respect to `a` (cells, features) and to `b` in its shape."""
    dtype, device = _compute_dtype(a, b), a.device
    prepared = () if b is None else kernel.prepare(b.to(dtype))
    weight = weight.to(dtype) if isinstance(weight, Tensor) else weight
    per_feature = isinstance(weight, Tensor) and weight.ndim > 0
    per_cell = (grad_output if per_feature else grad_output * weight).to(dtype)
    grad_a = torch.empty(target.shape, dtype=a.dtype, device=device)
    grad_b = torch.zeros(b.shape, dtype=dtype, device=device) if need_b else None
    same_dtype = a.dtype == dtype
    blocks = _blocks(*target.shape, device)
    size = (blocks[0].stop if blocks else 0, target.shape[1])
    scratch = torch.empty(size, dtype=dtype, device=device)
    buffer = None if same_dtype else torch.empty_like(scratch)
    for block in blocks:
        n = block.stop - block.start
        out_a = grad_a[block] if buffer is None else buffer[:n]
        out_b = grad_b[block] if grad_b is not None and grad_b.ndim == 2 else scratch[:n]
        kernel.zero_grad(a[block].to(dtype), _rows_of(prepared, block), out_a, out_b, need_b)
        scale = per_cell[block]
        if grad_b is not None:
            if grad_b.ndim == 2:
                out_b.mul_(scale[:, None])
            else:
                grad_b.addmv_(out_b.t(), scale)
        out_a.mul_(scale[:, None])
        if per_feature:
            out_a.mul_(weight)
        if buffer is not None:
            grad_a[block] = out_a
    if grad_b is not None and per_feature and grad_b.ndim == 2:
        grad_b.mul_(weight)
    _add_entries(kernel, target, a, prepared, weight, per_cell, grad_a, grad_b)
    if grad_b is not None:
        if per_feature and grad_b.ndim == 1:
            grad_b.mul_(weight)
        grad_b = grad_b.to(b.dtype)
    return grad_a, grad_b


def _add_entries(
    kernel: Kernel,
    target: SparseTarget,
    a: Tensor,
    prepared: tuple[Tensor, ...],
    weight: float | Tensor,
    per_cell: Tensor,
    grad_a: Tensor,
    grad_b: Tensor | None,
) -> None:
    """Add the gradients of the correction on the non-zeros to `grad_a` and `grad_b`."""
    dtype = per_cell.dtype
    rows, cols = target.rows, target.cols
    entry_a, entry_b = kernel.correction_grad(
        target.values.to(dtype),
        _gather(a, target).to(dtype),
        _entries_of(prepared, target),
        grad_b is not None,
    )
    scale = per_cell[rows]
    weighted = scale
    if isinstance(weight, Tensor) and weight.ndim > 0:
        weighted = scale * weight[cols]
    flat = rows * target.shape[1] + cols
    grad_a.view(-1).scatter_add_(0, flat, (entry_a * weighted).to(grad_a.dtype))
    if grad_b is None or entry_b is None:
        return
    if grad_b.ndim == 2:
        grad_b.view(-1).scatter_add_(0, flat, entry_b * weighted)
    else:
        # The weight of a one-dimensional gradient is applied once, after the sum over cells.
        grad_b.index_add_(0, cols, entry_b * scale)
