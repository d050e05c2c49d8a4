"""Checks of arguments that the processes and samplers share."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_count(name: str, value: int, at_most: int | None = None, what: str = "") -> int:
    """Return `value` as an int if it is a whole number from 1 to `at_most`.

    Raises
    ------
    ValueError
        If it is not; the message ends with `what`.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and value >= 1 and (at_most is None or value <= at_most):
        return int(value)
    allowed = "of at least 1" if at_most is None else f"from 1 to {at_most}"
    msg = f"{name} must be a whole number {allowed}{what}, found {value!r}."
    raise ValueError(msg)


def check_range(name: str, value: float, low: float, high: float) -> float:
    """Return `value` as a float if it lies in [low, high].

    Raises
    ------
    ValueError
        If it does not, or is not a number.
    """
    if low <= value <= high:  # false for NaN
        return float(value)
    allowed = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
    msg = f"{name} must be {allowed}, found {value!r}."
    raise ValueError(msg)


def check_choice(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises
    ------
    ValueError
        If it is not; the message names those allowed.
    """
    allowed = tuple(allowed)
    if value in allowed:
        return value
    names = ", ".join(repr(name) for name in allowed)
    msg = f"{name} must be one of {names}, found {value!r}."
    raise ValueError(msg)
