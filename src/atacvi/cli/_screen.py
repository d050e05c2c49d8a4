"""What the commands share at their ends: exit codes, messages, signals, quiet libraries."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OK, WRONG_USAGE, FAILED = 0, 2, 1


class Interrupted(BaseException):
    """A signal asked the program to end. No library catches it, as some do KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def complain(message: str) -> None:
    """Write one line on stderr."""
    line = " ".join(message.split())
    sys.stderr.write(f"atacvi: error: {line}\n")


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let Ctrl-C and a polite kill unwind the program, so that what was begun is removed.

    Lightning catches KeyboardInterrupt and ends the training as if it were done; the exception
    raised here passes through it.
    """

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        before = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:  # not the main thread, which alone may set handlers
        yield
        return
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(signal.SIGINT) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Draw without a display, and keep the advice of libraries to developers off the screen."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    before = logging.root.manager.disable
    # By a level for all: the loggers of lightning set their own when they are first imported.
    logging.disable(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module="atacvi")
        try:
            yield
        finally:
            logging.disable(before)
