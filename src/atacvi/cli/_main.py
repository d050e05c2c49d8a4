"""The program: parse the arguments, run the command, end with its code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from atacvi import __version__
from atacvi.cli._arguments import Parser
from atacvi.cli._demo import add_demo
from atacvi.cli._embed import add_embed
from atacvi.cli._pretrain import add_pretrain
from atacvi.cli._screen import Interrupted, complain, signals_raise
from atacvi.cli._tokenize import add_tokenize

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

# In the order of the help; each adds its arguments and the function that runs it.
COMMANDS = (add_demo, add_tokenize, add_pretrain, add_embed)


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
        with signals_raise():
            code: int = arguments.run(arguments)
            return code
    except Interrupted as interrupted:
        complain("interrupted; nothing was written")
        return interrupted.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="atacvi", description="Deep generative models for single-cell chromatin accessibility."
    )
    parser.add_argument("--version", action="version", version=f"atacvi {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser
