"""Pieces of error messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

N_EXAMPLES = 5


def examples(names: Iterable[object], total: int | None = None) -> str:
    """Write up to five names, and dots where there are more.

    Parameters
    ----------
    names
        Names, or the first of them.
    total
        How many there are, where `names` holds only the first.

    Returns
    -------
    Quoted names, separated by commas.
    """
    listed = list(names)
    total = len(listed) if total is None else total
    shown = ", ".join(repr(str(name)) for name in listed[:N_EXAMPLES])
    return shown if total <= N_EXAMPLES else f"{shown}, ..."


def suggestion(name: str, known: Sequence[str]) -> str:
    """Write ``; did you mean 'x'?`` where a known name comes close, else nothing.

    Parameters
    ----------
    name
        Name that was not found.
    known
        Names that exist.

    Returns
    -------
    Text to append, maybe empty.
    """
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.6)
    if not close:
        return ""
    return f"; did you mean {' or '.join(repr(by_lower[c]) for c in close)}?"
