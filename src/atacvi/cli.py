"""The command line: ``atacvi demo``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from atacvi import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atacvi.report import DemoSettings

__all__ = ["main"]

OK, WRONG_USAGE, FAILED = 0, 2, 1
_FEWEST_EPOCHS = 2  # one under the standard prior, one under the mixture
_FEWEST_CELLS = 100


class _Interrupted(BaseException):
    """A signal asked the program to end. No library catches it, as some do KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the name of the program; ``None`` takes those of the process.

    Returns
    -------
    Exit code: 0, 2 for wrong usage or input, 130 when interrupted, 1 when the run failed.

    Examples
    --------
    >>> from atacvi.cli import main
    >>> main(["demo", "--out", "no/such/place/demo"])
    2
    """
    # Threads that wait by spinning slow a shared machine to a crawl; torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:
        # argparse has said what it had to; a caller in Python gets its code.
        return int(end.code or 0)
    try:
        with _signals_raise():
            return _demo(arguments)
    except _Interrupted as interrupted:
        _complain("interrupted; nothing was written")
        return interrupted.exit_code


class _Parser(argparse.ArgumentParser):
    """Parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Write one line on stderr and end with the code for wrong usage."""
        _complain(f"{message} (see {self.prog} --help)")
        sys.exit(WRONG_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="atacvi", description="Deep generative models for single-cell chromatin accessibility."
    )
    parser.add_argument("--version", action="version", version=f"atacvi {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="the whole way from paired counts to a report",
        description="Train MultiViewModel on a simulated or given multiome data set and write the "
        "data with embedding, clusters and imputed markers, the model, scores, figures and one "
        "HTML report.",
    )
    demo.add_argument("--out", type=_path, required=True, metavar="DIR", help="folder to be made")
    demo.add_argument(
        "--input",
        type=_path,
        metavar="FILE.h5mu",
        help='MuData with counts in the modalities "rna" and "atac", in layers["counts"] or X; '
        "without it data are simulated",
    )
    demo.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches to correct for"
    )
    demo.add_argument(
        "--max-epochs",
        type=_at_least(_FEWEST_EPOCHS),
        metavar="N",
        help="epochs at most (default: by the number of cells)",
    )
    demo.add_argument(
        "--cells",
        type=_at_least(_FEWEST_CELLS),
        default=2000,
        metavar="N",
        help="cells to simulate (default: %(default)s)",
    )
    demo.add_argument(
        "--seed", type=_at_least(0), default=0, metavar="N", help="seed (default: %(default)s)"
    )
    demo.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it holds an earlier output"
    )
    return parser


def _path(text: str) -> Path:
    if not text.strip():
        msg = "a path is needed, this is empty"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def _at_least(least: int) -> Any:
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


def _demo(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from atacvi.report import DemoSettings, InputError, run_demo

    settings = DemoSettings(
        out=arguments.out,
        input=arguments.input,
        max_epochs=arguments.max_epochs,
        n_cells=arguments.cells,
        batch_key=arguments.batch_key,
        random_state=arguments.seed,
        overwrite=arguments.overwrite,
    )
    # This very stream: what libraries print during the training goes elsewhere.
    console = Console(file=sys.stdout)
    try:
        with _quiet_libraries():
            folder = run_demo(settings, console)
    except InputError as error:
        _complain(str(error))
        return WRONG_USAGE
    except (OSError, FloatingPointError) as error:
        # A full disk, or a loss that left the numbers: nothing a traceback would explain.
        _complain(f"{error}; nothing was written")
        return FAILED
    _tell(console, folder, settings)
    return OK


def _tell(console: Any, folder: Path, settings: DemoSettings) -> None:
    text = f"Written to {folder}; open {folder / 'report.html'}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _complain(message: str) -> None:
    line = " ".join(message.split())
    sys.stderr.write(f"atacvi: error: {line}\n")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let Ctrl-C and a polite kill unwind the program, so that what was begun is removed.

    Lightning catches KeyboardInterrupt and ends the training as if it were done; the exception
    raised here passes through it.
    """

    def interrupt(number: int, frame: object) -> None:
        raise _Interrupted(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        before = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:  # not the main thread, which alone may set handlers
        yield
        return
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Interrupted(signal.SIGINT) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
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


if __name__ == "__main__":
    sys.exit(main())
