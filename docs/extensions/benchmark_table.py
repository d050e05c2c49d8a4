"""Read a table that a benchmark wrote, for people to look at."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_DIGITS = 3


def read_table(path: Path, columns: str | None) -> tuple[list[str], list[list[str]]]:
    """Read a table, its columns chosen and renamed, its numbers cut to three digits.

    Raises
    ------
    KeyError
        If a column is not there.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        known = list(reader.fieldnames or [])
        entries = list(reader)
    chosen = [c.strip() for c in columns.split(",")] if columns else known
    names = {name: new or name for name, _, new in (c.partition("=") for c in chosen)}
    missing = [name for name in names if name not in known]
    if missing:
        msg = f"{path.name} has no columns {missing}; it has {known}"
        raise KeyError(msg)
    return list(names.values()), [[_short(row[name]) for name in names] for row in entries]


def _short(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    if number != number:  # not a number: nothing was measured
        return ""
    return text if number.is_integer() and "." not in text else f"{number:.{_DIGITS}g}"
