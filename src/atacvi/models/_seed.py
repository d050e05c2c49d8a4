"""The seed of the session."""

from __future__ import annotations

import scvi


def session_seed() -> int:
    """Return the seed set with ``scvi.settings.seed``, 0 where none is set."""
    return scvi.settings.seed if scvi.settings.seed is not None else 0
