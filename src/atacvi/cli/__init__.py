"""The command line: ``atacvi demo`` and ``atacvi tokenize``."""

from __future__ import annotations

from atacvi.cli._main import main

__all__ = ["main"]
