"""``atacvi demo``: the whole way from paired counts to a report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from atacvi.cli._arguments import at_least, path_argument
from atacvi.cli._screen import FAILED, OK, WRONG_USAGE, complain, quiet_libraries

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from atacvi.report import DemoSettings

_FEWEST_EPOCHS = 2  # one under the standard prior, one under the mixture
_FEWEST_CELLS = 100


def add_demo(commands: Any) -> None:
    """Add the command to a parser's."""
    demo = commands.add_parser(
        "demo",
        help="the whole way from paired counts to a report",
        description="Train MultiViewModel on a simulated or given multiome data set and write the "
        "data with embedding, clusters and imputed markers, the model, scores, figures and one "
        "HTML report.",
    )
    demo.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="folder to be made"
    )
    demo.add_argument(
        "--input",
        type=path_argument,
        metavar="FILE.h5mu",
        help='MuData with counts in the modalities "rna" and "atac", in layers["counts"] or X; '
        "without it data are simulated",
    )
    demo.add_argument(
        "--batch-key", metavar="COLUMN", help="column of obs with batches to correct for"
    )
    demo.add_argument(
        "--max-epochs",
        type=at_least(_FEWEST_EPOCHS),
        metavar="N",
        help="epochs at most (default: by the number of cells)",
    )
    demo.add_argument(
        "--cells",
        type=at_least(_FEWEST_CELLS),
        default=2000,
        metavar="N",
        help="cells to simulate (default: %(default)s)",
    )
    demo.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="seed (default: %(default)s)"
    )
    demo.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it holds an earlier output"
    )
    demo.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
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
        with quiet_libraries():
            folder = run_demo(settings, console)
    except InputError as error:
        complain(str(error))
        return WRONG_USAGE
    except (OSError, FloatingPointError) as error:
        # A full disk, or a loss that left the numbers: nothing a traceback would explain.
        complain(f"{error}; nothing was written")
        return FAILED
    _tell(console, folder, settings)
    return OK


def _tell(console: Any, folder: Path, settings: DemoSettings) -> None:
    text = f"Written to {folder}; open {folder / 'report.html'}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
