"""Arguments that commands share, and the parser that takes them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from atacvi.cli._screen import WRONG_USAGE, complain


class Parser(argparse.ArgumentParser):
    """Parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Write one line on stderr and end with the code for wrong usage."""
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(WRONG_USAGE)


def path_argument(text: str) -> Path:
    """Read a path, which must not be empty."""
    if not text.strip():
        msg = "a path is needed, this is empty"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def at_least(least: int) -> Any:
    """Return a reader of whole numbers from `least` on."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or value >= 2**32:
            msg = f"{text!r} is no whole number of at least {least}"
            raise argparse.ArgumentTypeError(msg)
        return value

    return number
