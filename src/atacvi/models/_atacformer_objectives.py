"""What a fine-tuning task trains: its losses, its heads, and which weights."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from atacvi.modules import AtacformerObjectives

if TYPE_CHECKING:
    from collections.abc import Iterator

Task = Literal["clustering", "classification", "batch", "multi"]
_TASKS = get_args(Task)
_LOSSES = {
    "clustering": ("supcon", "triplet"),
    "classification": ("ce",),
    "batch": (),
    "multi": ("supcon", "triplet"),
}
_FEWEST_GROUPS = 2


def check_task(
    task: str,
    loss: str | None,
    n_labels: int,
    n_batch: int,
    unfreeze_last_n: int | None,
    lora_rank: int | None,
) -> None:
    """Refuse a task that the data or the arguments do not allow.

    Raises
    ------
    ValueError
        With what is missing.
    """
    if task not in _TASKS:
        msg = f"task={task!r} is unknown; choose one of {', '.join(_TASKS)}."
        raise ValueError(msg)
    if loss is not None and loss not in _LOSSES[task]:
        known = ", ".join(map(repr, _LOSSES[task])) or "none"
        msg = f"loss={loss!r} does not belong to task={task!r}; it takes {known}, or None."
        raise ValueError(msg)
    if task == "batch" and n_batch < _FEWEST_GROUPS:
        msg = (
            f"task='batch' needs two batches at least, and there is {n_batch}; name their column: "
            "setup_anndata(adata, batch_key=...)."
        )
        raise ValueError(msg)
    if task != "batch" and n_labels < _FEWEST_GROUPS:
        msg = (
            f"task={task!r} needs two labels at least, and there is {n_labels}; name their column: "
            "setup_anndata(adata, labels_key=...)."
        )
        raise ValueError(msg)
    if unfreeze_last_n is not None and lora_rank is not None:
        msg = (
            f"unfreeze_last_n={unfreeze_last_n} and lora_rank={lora_rank}: adapters stand for the "
            "weights of all layers; give one of the two."
        )
        raise ValueError(msg)


def task_objectives(
    task: str,
    loss: str | None,
    adversary_weight: float,
    label_smoothing: float,
    changes: dict[str, Any] | None,
) -> AtacformerObjectives:
    """Return weights and options of a task's losses.

    Raises
    ------
    TypeError
        If `changes` holds an unknown field.
    """
    weights: dict[str, Any] = {"label_smoothing": label_smoothing}
    if task in ("clustering", "multi"):
        weights["triplet" if loss == "triplet" else "contrastive"] = 1.0
    if task in ("classification", "multi"):
        weights["classification"] = 1.0
    if task == "batch":
        weights["replaced"] = 1.0
    if task in ("batch", "multi"):
        weights["adversary"] = adversary_weight
    known = sorted(field.name for field in fields(AtacformerObjectives))
    unknown = sorted(set(changes or {}) - set(known))
    if unknown:
        msg = (
            f"objective_kwargs holds {', '.join(map(repr, unknown))}; it takes: {', '.join(known)}."
        )
        raise TypeError(msg)
    return AtacformerObjectives(**{**weights, **(changes or {})})


@contextmanager
def trained_parts(
    module: Any, unfreeze_last_n: int | None, lora_rank: int | None
) -> Iterator[None]:
    """Freeze what is not to be trained, and take that back; adapters are merged at the end."""
    if lora_rank is not None:
        module.add_low_rank_adapters(lora_rank)
    elif unfreeze_last_n is not None:
        module.freeze_except_last(unfreeze_last_n)
    try:
        yield
    finally:
        if lora_rank is not None:
            module.merge_low_rank_adapters()
        module.unfreeze()
