"""``atacvi embed``: embeddings of cells or BED files from a checkpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from atacvi.cli._arguments import at_least, path_argument
from atacvi.cli._screen import FAILED, OK, WRONG_USAGE, complain, quiet_libraries

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from anndata import AnnData


def add_embed(commands: Any) -> None:
    """Add the command to a parser's."""
    embed = commands.add_parser(
        "embed",
        help="embed cells or BED files with a checkpoint",
        description="Embed the cells of .h5ad files (tokens, or counts in peaks, which are mapped "
        "onto the checkpoint's universe), or BED files one row a file, and write one .h5ad with the "
        'embedding in obsm["X_atacformer"].',
    )
    embed.add_argument(
        "files",
        nargs="+",
        type=path_argument,
        metavar="FILE",
        help=".h5ad or BED files, or folders",
    )
    embed.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="checkpoint: a folder, or a repository of the Hugging Face hub",
    )
    embed.add_argument(
        "--out", type=path_argument, required=True, metavar="FILE.h5ad", help="file to write"
    )
    embed.add_argument(
        "--max-tokens",
        type=at_least(1),
        default=2048,
        metavar="N",
        help="tokens of a cell, or of a chunk of a BED file (default: %(default)s)",
    )
    embed.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        metavar="N",
        help="seed of the sampling of longer cells (default: %(default)s)",
    )
    embed.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    embed.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from atacvi.cli._tokenize import _check_out, _new_file

    try:
        _check_out(arguments.out, overwrite=arguments.overwrite)
        with quiet_libraries():
            result = _embed(arguments)
            with _new_file(arguments.out) as part:
                result.write_h5ad(part, compression="gzip")
    except (ValueError, KeyError, TypeError, FileNotFoundError, ImportError) as error:
        complain(str(error.args[0] if isinstance(error, KeyError) else error))
        return WRONG_USAGE
    except OSError as error:
        complain(f"{error}; nothing was written")
        return FAILED
    width = result.obsm["X_atacformer"].shape[1]
    sys.stdout.write(f"{result.n_obs} rows, {width} dimensions\nWritten to {arguments.out}\n")
    return OK


def _embed(arguments: argparse.Namespace) -> AnnData:
    import anndata

    from atacvi.cli._pretrain import read_cells
    from atacvi.models import AtacformerModel

    options = {"max_tokens": arguments.max_tokens, "seed": arguments.seed}
    model = AtacformerModel.from_pretrained(arguments.model)
    if _are_cells(arguments.files):
        cells = read_cells(arguments.files)
        cells.obsm["X_atacformer"] = model.get_latent_representation(cells, **options)
        return cells
    paths = arguments.files[0] if len(arguments.files) == 1 else arguments.files
    files = model.embed_bed(paths, **options)
    return anndata.AnnData(obs=files.obs, obsm={"X_atacformer": files.X})


def _are_cells(files: list[Path]) -> bool:
    """Whether the files are .h5ad, and not BED; a mixture is refused."""
    kinds = set()
    for path in files:
        if not path.exists():
            msg = f"{path} does not exist"
            raise FileNotFoundError(msg)
        inside = list(path.iterdir()) if path.is_dir() else [path]
        kinds.add(any(file.name.endswith(".h5ad") for file in inside))
    if len(kinds) > 1:
        msg = "the files are .h5ad and others; give one kind"
        raise ValueError(msg)
    return kinds.pop()
