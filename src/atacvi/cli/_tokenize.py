"""``atacvi tokenize``: fragments, peaks or BED files to sets of universe regions."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atacvi.cli._arguments import at_least, path_argument
from atacvi.cli._screen import FAILED, OK, WRONG_USAGE, complain, quiet_libraries

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from anndata import AnnData

KINDS = ("fragments", "bed", "h5ad")
MODES = ("fragment", "insertion", "paired-insertion")
_FRAGMENTS_ONLY = ("barcodes", "mode", "min_fragments", "tss")


def add_tokenize(commands: Any) -> None:
    """Add the command to a parser's."""
    tokenize = commands.add_parser(
        "tokenize",
        help="fragments, peaks or BED files to sets of universe regions",
        description="Turn each cell (or each BED file) into the set of regions of a universe that "
        'it hits, and write one .h5ad with the sets in obsm["X_tokens"] and the quality of the '
        "cells in obs.",
    )
    tokenize.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="fragment files, BED files, or one .h5ad with counts in peaks; folders of such files; "
        "NAME=FILE names a sample",
    )
    tokenize.add_argument(
        "--universe",
        type=path_argument,
        required=True,
        metavar="BED",
        help="BED file with the regions, or a folder with universe.bed.gz",
    )
    tokenize.add_argument(
        "--out", type=path_argument, required=True, metavar="FILE.h5ad", help="file to write"
    )
    tokenize.add_argument(
        "--kind",
        choices=KINDS,
        help="what the files are (default: fragments for .tsv, peaks of an AnnData for .h5ad, else "
        "BED)",
    )
    tokenize.add_argument(
        "--barcodes",
        type=path_argument,
        metavar="TSV",
        help="file with the barcodes of the cells in its first column (default: all)",
    )
    tokenize.add_argument(
        "--mode",
        choices=MODES,
        help="what of a fragment hits a region: all of it or its two ends (default: fragment)",
    )
    tokenize.add_argument(
        "--min-fragments",
        type=at_least(0),
        metavar="N",
        help="fragments a barcode needs when none are listed (default: 1)",
    )
    tokenize.add_argument(
        "--tss",
        type=path_argument,
        metavar="BED",
        help="transcription start sites, for their enrichment in each cell",
    )
    tokenize.add_argument(
        "--min-share",
        type=_share,
        default=0.05,
        metavar="X",
        help="share of the fragments or regions that must hit; 0 turns the check for another genome "
        "off (default: %(default)s)",
    )
    tokenize.add_argument(
        "--overwrite", action="store_true", help="replace the output if it exists"
    )
    tokenize.set_defaults(run=_run)


def _share(text: str) -> float:
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        msg = f"{text!r} is no number within 0 and 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def _run(arguments: argparse.Namespace) -> int:
    try:
        _check_out(arguments.out, overwrite=arguments.overwrite)
        files = _samples(arguments.files)
        kind = _kind(files, arguments.kind)
        _check_options(arguments, kind)
        with quiet_libraries(), warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", module="atacvi")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            cells = _tokenize(files, kind, arguments)
            with _new_file(arguments.out) as part:
                cells.write_h5ad(part, compression="gzip")
    except (ValueError, FileNotFoundError, KeyError) as error:
        complain(str(error.args[0] if isinstance(error, KeyError) else error))
        return WRONG_USAGE
    except OSError as error:
        complain(f"{error}; nothing was written")
        return FAILED
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            sys.stderr.write(f"atacvi: warning: {' '.join(str(warning.message).split())}\n")
    _tell(cells, arguments.out, "cells" if kind != "bed" else "files")
    return OK


def _samples(texts: list[str]) -> dict[str, Path] | list[Path]:
    """Files by name where all are written NAME=FILE, else the files."""
    named: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or Path(text).exists() or "/" in name or os.sep in name:
            if named:
                msg = (
                    f"{text} has no name while {next(iter(named))} has one; name all files or none"
                )
                raise ValueError(msg)
            continue
        if name in named or not name or not path or len(named) < texts.index(text):
            msg = f"{text}: each file needs a name of its own, written NAME=FILE"
            raise ValueError(msg)
        named[name] = Path(path)
    return named or [Path(text) for text in texts]


def _kind(files: dict[str, Path] | list[Path], kind: str | None) -> str:
    from atacvi.data._files import BED_ENDINGS, FRAGMENT_ENDINGS

    if kind is not None:
        return kind
    endings = {"fragments": FRAGMENT_ENDINGS, "bed": BED_ENDINGS, "h5ad": (".h5ad",)}
    found: dict[str, Path] = {}
    for path in files.values() if isinstance(files, dict) else files:
        if not path.exists():
            msg = f"{path} does not exist"
            raise FileNotFoundError(msg)
        inside = [path] if path.is_file() else list(path.iterdir())
        for name, known in endings.items():
            if any(file.name.endswith(known) for file in inside):
                found.setdefault(name, path)
    if not found:
        allowed = ", ".join(ending for some in endings.values() for ending in some)
        msg = f"no file ends in one of {allowed}; say what they are: --kind {'|'.join(KINDS)}"
        raise ValueError(msg)
    if len(found) > 1:
        shown = ", ".join(f"{name} ({path})" for name, path in found.items())
        msg = f"the files are of several kinds: {shown}; give one kind, or say which with --kind"
        raise ValueError(msg)
    return next(iter(found))


def _check_options(arguments: argparse.Namespace, kind: str) -> None:
    for name in _FRAGMENTS_ONLY:
        if kind != "fragments" and getattr(arguments, name) is not None:
            msg = f"--{name.replace('_', '-')} is for fragments; these files are taken as {kind}"
            raise ValueError(msg)


def _tokenize(
    files: dict[str, Path] | list[Path], kind: str, arguments: argparse.Namespace
) -> AnnData:
    from atacvi import data
    from atacvi.regions import Universe

    universe = Universe.load(arguments.universe)
    # one file keeps the plain names of its cells
    paths = files[0] if isinstance(files, list) and len(files) == 1 else files
    if kind == "fragments":
        return data.tokenize_fragments(
            paths,
            universe,
            barcodes=arguments.barcodes,
            mode=arguments.mode or "fragment",
            min_fragments=1 if arguments.min_fragments is None else arguments.min_fragments,
            tss=arguments.tss,
            min_share=arguments.min_share,
        )
    if kind == "bed":
        return data.tokenize_bed(paths, universe, min_share=arguments.min_share)
    if not isinstance(paths, Path) or paths.is_dir():
        msg = "give one .h5ad file; join several with anndata.concat first"
        raise ValueError(msg)
    return data.tokenize_anndata(_read_h5ad(paths), universe, min_share=arguments.min_share)


def _read_h5ad(path: Path) -> AnnData:
    import anndata

    if not path.is_file():
        msg = f"{path} does not exist"
        raise FileNotFoundError(msg)
    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        msg = f"{path} cannot be read as .h5ad: {error}"
        raise ValueError(msg) from error


def _check_out(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".h5ad":
        msg = f"--out {path}: give the name of a file that ends in .h5ad"
        raise ValueError(msg)
    if not path.absolute().parent.is_dir():
        msg = f"--out {path}: the folder {path.absolute().parent} does not exist; make it first"
        raise ValueError(msg)
    if path.is_dir() or (path.exists() and not overwrite):
        msg = f"--out {path} exists; give another name, or replace it with --overwrite"
        raise ValueError(msg)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that becomes `path` when the block ends well."""
    path = path.absolute()
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}-", suffix=".part", dir=path.parent
    ) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


def _tell(cells: AnnData, out: Path, what: str) -> None:
    obs = cells.obs
    share = cells.uns["atacvi"]["tokens"]["share_hit"]
    empty = int(obs["is_empty"].sum())
    sys.stdout.write(
        f"{cells.n_obs} {what}, median of {obs['n_tokens'].median():.0f} tokens, {empty} empty; "
        f"{share:.1%} of the regions given hit the universe\nWritten to {out}\n"
    )
