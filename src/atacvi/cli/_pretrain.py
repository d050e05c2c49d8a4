"""``atacvi pretrain``: a model of tokenized cells, trained without labels."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atacvi.cli._arguments import at_least, path_argument
from atacvi.cli._screen import FAILED, OK, WRONG_USAGE, complain, quiet_libraries

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData


def add_pretrain(commands: Any) -> None:
    """Add the command to a parser's."""
    pretrain = commands.add_parser(
        "pretrain",
        help="train AtacformerModel on tokenized cells, without labels",
        description="Train AtacformerModel without labels on .h5ad files with tokens (of `atacvi "
        "tokenize`) or with counts in peaks, and write a checkpoint: config.json, "
        "model.safetensors, universe.bed.gz and history.csv.",
    )
    pretrain.add_argument(
        "files",
        nargs="+",
        type=path_argument,
        metavar="FILE",
        help=".h5ad files, or folders of such",
    )
    pretrain.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="folder to be made"
    )
    pretrain.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        help="checkpoint to start from: a folder, or a repository of the Hugging Face hub",
    )
    pretrain.add_argument(
        "--preset", choices=("small", "base-hg38"), default="small", help="sizes of a new model"
    )
    pretrain.add_argument("--max-epochs", type=at_least(1), metavar="N", help="epochs at most")
    pretrain.add_argument(
        "--negatives",
        choices=("uniform", "unigram", "batch", "local"),
        default="unigram",
        help="what replaces tokens (default: %(default)s)",
    )
    pretrain.add_argument(
        "--max-tokens",
        type=at_least(1),
        default=2048,
        metavar="N",
        help="tokens of a cell in a step (default: %(default)s)",
    )
    pretrain.add_argument(
        "--probe-key", metavar="COLUMN", help="column of obs with groups that choose the epoch"
    )
    pretrain.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="seed (default: %(default)s)"
    )
    pretrain.add_argument("--accelerator", default="auto", help="hardware (default: %(default)s)")
    pretrain.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it holds an earlier checkpoint"
    )
    pretrain.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        _check_out(arguments.out, overwrite=arguments.overwrite)
        cells = read_cells(arguments.files)
        with quiet_libraries():
            model = _train(cells, arguments)
            _write(model, arguments.out)
    except (ValueError, KeyError, TypeError, FileNotFoundError, ImportError) as error:
        complain(str(error.args[0] if isinstance(error, KeyError) else error))
        return WRONG_USAGE
    except (OSError, FloatingPointError) as error:
        complain(f"{error}; nothing was written")
        return FAILED
    gain = model.history["context_gain_train"].to_numpy(dtype=float).ravel()
    sys.stdout.write(
        f"{cells.n_obs} cells, {len(gain)} epochs; loss of replaced tokens {gain[-1]:.4f} below that "
        f"without context\nWritten to {arguments.out}\n"
    )
    return OK


def _check_out(out: Path, *, overwrite: bool) -> None:
    if not out.absolute().parent.is_dir():
        msg = f"--out {out}: the folder {out.absolute().parent} does not exist; make it first"
        raise ValueError(msg)
    if not out.exists():
        return
    is_checkpoint = out.is_dir() and ((out / "config.json").exists() or not any(out.iterdir()))
    if not is_checkpoint or not (overwrite or not any(out.iterdir())):
        msg = f"--out {out} exists; give another name, or replace a checkpoint with --overwrite"
        raise ValueError(msg)


def read_cells(files: list[Path]) -> AnnData:
    """Read .h5ad files, or all in folders, and put their cells below each other."""
    import anndata

    paths: list[Path] = []
    for path in files:
        if not path.exists():
            msg = f"{path} does not exist"
            raise FileNotFoundError(msg)
        found = sorted(path.glob("*.h5ad")) if path.is_dir() else [path]
        if not found:
            msg = f"{path} holds no file that ends in .h5ad"
            raise FileNotFoundError(msg)
        paths += found
    parts = []
    for path in paths:
        try:
            parts.append(anndata.read_h5ad(path))
        except Exception as error:
            msg = f"{path} cannot be read as .h5ad: {error}"
            raise ValueError(msg) from error
    return parts[0] if len(parts) == 1 else _below_each_other(parts, paths)


def _below_each_other(parts: list[AnnData], paths: list[Path]) -> AnnData:
    import anndata

    hashes = [part.uns.get("atacvi", {}).get("tokens", {}).get("universe_hash") for part in parts]
    for path, other, part in zip(paths, hashes, parts, strict=True):
        same_peaks = other is None and part.var_names.equals(parts[0].var_names)
        if other != hashes[0] or (other is None and not same_peaks):
            msg = (
                f"{path} has another universe, or other peaks, than {paths[0]}; tokenize both alike"
            )
            raise ValueError(msg)
    names = [path.stem for path in paths]
    joined = anndata.concat(
        dict(zip(names, parts, strict=True)), label="file", index_unique="-", merge="same"
    )
    joined.uns = parts[0].uns
    return joined


def _train(cells: AnnData, arguments: argparse.Namespace) -> Any:
    import scvi

    from atacvi.models import AtacformerModel

    scvi.settings.seed = arguments.seed
    AtacformerModel.setup_anndata(cells)
    model = AtacformerModel(cells, preset=arguments.preset, pretrained=arguments.source)
    model.pretrain(
        arguments.max_epochs,
        negatives=arguments.negatives,
        max_tokens=arguments.max_tokens,
        probe_key=arguments.probe_key,
        accelerator=arguments.accelerator,
        enable_progress_bar=sys.stderr.isatty(),
    )
    return model


def _write(model: Any, out: Path) -> None:
    """Write the checkpoint beside its place, then move it there."""
    import pandas as pd

    out = out.absolute()
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        draft = Path(folder) / "checkpoint"
        model.save_pretrained(draft)
        table = pd.concat([model.history[name] for name in sorted(model.history)], axis=1)
        table.to_csv(draft / "history.csv")
        if out.exists():
            shutil.rmtree(out)
        draft.replace(out)
