"""An output folder that is complete or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from atacvi.report.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Files by which an earlier output is known, so that `overwrite` never deletes anything else.
OWN_FILES = ("report.html", "multiome.h5mu")


def check_folder(path: Path, *, overwrite: bool = False) -> None:
    """Check that an output folder can be written, without writing anything.

    Parameters
    ----------
    path
        Folder to be made. Its parent must exist.
    overwrite
        Let an earlier output of the same command be replaced.

    Raises
    ------
    InputError
        If `path` is a file or a folder that may not be replaced, or its parent cannot be written.
    """
    parent = path.absolute().parent
    if path.is_symlink() and not path.exists():
        msg = f"--out {path} is a link that leads nowhere; give another folder."
        raise InputError(msg)
    if path.exists() and not path.is_dir():
        msg = f"--out {path} is a file; give the name of a folder."
        raise InputError(msg)
    if not parent.is_dir():
        msg = f"--out {path}: the folder {parent} does not exist; make it first."
        raise InputError(msg)
    if not os.access(parent, os.W_OK):
        msg = f"--out {path}: the folder {parent} cannot be written; give another one."
        raise InputError(msg)
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not overwrite:
        msg = f"--out {path} is not empty; give another folder, or replace it with --overwrite."
        raise InputError(msg)
    if not all((path / name).is_file() for name in OWN_FILES):
        msg = (
            f"--out {path} holds something else than an earlier output (no "
            f"{' and '.join(OWN_FILES)}), so it is not replaced; give another folder."
        )
        raise InputError(msg)


@contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path` that becomes `path` when the block ends well.

    After an error or an interruption the temporary folder is removed, and an earlier output is as
    it was.

    Parameters
    ----------
    path
        Folder to be made. It must not exist, be empty, or with `overwrite` be an earlier output.
    overwrite
        Let an earlier output be replaced.

    Raises
    ------
    InputError
        If the folder cannot be written or may not be replaced.

    Examples
    --------
    >>> from pathlib import Path
    >>> from atacvi.report import new_folder
    >>> with new_folder("results") as folder:
    ...     _ = (folder / "scores.csv").write_text("ari")
    >>> Path("results/scores.csv").read_text()
    'ari'
    """
    target = Path(path).absolute()
    check_folder(target, overwrite=overwrite)
    if target.is_symlink():
        target = target.resolve()
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".part", dir=target.parent))
    try:
        yield work
        _set_permissions(work)
        _replace(work, target)
    finally:
        if work.exists():
            shutil.rmtree(work, ignore_errors=True)


def _set_permissions(work: Path) -> None:
    """Give the folder the mode of a new folder: mkdtemp's is for its owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    work.chmod(0o777 & ~umask)


def _replace(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    if not any(target.iterdir()):
        target.rmdir()
        work.rename(target)
        return
    old = work.with_suffix(".old")
    target.rename(old)
    try:
        work.rename(target)
    except BaseException:  # a signal may come in between as well
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
