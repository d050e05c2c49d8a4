"""Execute the tutorials, in place or to compare their tables with the committed ones.

``python tutorials/execute.py`` executes all and puts notebooks and tables in their place;
``python tutorials/execute.py multiome_quickstart`` one of them. With ``--check`` nothing here is
changed: it ends non-zero when a notebook fails, writes to stderr, takes too long or draws from
other data than is committed. Real data is found in the folder that ``ATACVI_DATA_DIR`` names.

Each notebook is executed in an empty folder by a kernel with one thread, so that sums are taken
in one order, and nothing is taken from an earlier run.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from compare import RULES, compare_folders, read_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbformat import NotebookNode

SECONDS = 600
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")
_ENVIRONMENT = {
    **{f"{name}_NUM_THREADS": "1" for name in _THREADS},
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def names() -> list[str]:
    """List the notebooks."""
    return sorted(path.stem for path in HERE.glob("*.ipynb"))


def execute(name: str, folder: Path, limit: float) -> tuple[NotebookNode, float]:
    """Execute a notebook in a folder, which receives its tables; give it and its seconds.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell raised.
    TimeoutError
        It ran longer than `limit` seconds.
    """
    import nbformat
    from nbclient import NotebookClient

    os.environ.update(_ENVIRONMENT)
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=int(limit),
        kernel_name=METADATA["kernelspec"]["name"],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        store_widget_state=False,
    )
    begin = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - begin
    if seconds > limit:
        raise TimeoutError(f"{seconds:.0f} s, at most {limit:.0f} are allowed")
    return normalise(notebook), seconds


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Drop what changes from machine to machine, and join the pieces of a printed text."""
    notebook.metadata.clear()
    notebook.metadata.update(METADATA)
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type != "code":
            continue
        joined: list[Any] = []
        for output in cell.outputs:
            last = joined[-1] if joined else None
            if last and output.output_type == "stream" == last.output_type:
                if last.name == output.name:
                    last.text += output.text
                    continue
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_palette(output.data["image/png"])
            joined.append(output)
        cell.outputs = joined
    return notebook


def with_palette(image: str) -> str:
    """Give a figure (PNG in base64) 256 colours: a third of the size, and looks the same."""
    from PIL import Image

    found = Image.open(io.BytesIO(base64.b64decode(image)))
    if found.mode == "P":
        return image
    written = io.BytesIO()
    found.convert("RGB").quantize(256).save(written, format="PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def figures(notebook: NotebookNode) -> list[tuple[int, bytes]]:
    """Give the figures of an executed notebook: number of the cell, and PNG."""
    return [
        (number, base64.b64decode(output["data"]["image/png"]))
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def find_noise(notebook: NotebookNode) -> list[str]:
    """Say which cells wrote warnings, logs or progress bars to stderr."""
    return [
        f"cell {number} wrote to stderr: {output.text.strip()[:300]}"
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]


def missing_files(name: str) -> list[str]:
    """List the real data that a notebook's committed tables come from and that is not here."""
    folder = os.environ.get("ATACVI_DATA_DIR")
    files = read_rules(HERE / "data" / name)["files"]
    return [file for file in files if not folder or not (Path(folder) / file).exists()]


def run(
    name: str, check: bool, png: str | None = None, limit: float = SECONDS
) -> tuple[str, list[str]]:
    """Execute one notebook; compare its tables, or put them and the notebook in place.

    Returns
    -------
    A line about the run, and its faults.
    """
    import nbformat

    committed = HERE / "data" / name
    with tempfile.TemporaryDirectory() as temporary:
        try:
            notebook, seconds = execute(name, Path(temporary), limit)
        except Exception as error:  # noqa: BLE001  (whatever a notebook raises fails the run)
            return f"{name}: failed", [f"{type(error).__name__}: {error}"]
        line, faults = f"{name}: {seconds:.0f} s", find_noise(notebook)
        if png:
            Path(png).mkdir(parents=True, exist_ok=True)
            for index, (number, image) in enumerate(figures(notebook)):
                (Path(png) / f"{name}_{index}_cell{number}.png").write_bytes(image)
        found = Path(temporary) / "data" / name
        found.mkdir(parents=True, exist_ok=True)
        missing = missing_files(name)
        if check:
            before = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
            n_found, n_committed = len(figures(notebook)), len(figures(before))
            if n_found != n_committed:
                faults.append(f"{n_found} figures, committed {n_committed}")
            if missing:
                line += f", tables not compared: they come from {', '.join(missing)}"
            else:
                faults += compare_folders(found, committed)
        elif missing:
            faults.append(f"needs {', '.join(missing)} in ATACVI_DATA_DIR; nothing was replaced")
        elif not faults:
            _put_in_place(name, notebook, found, committed)
    return line, faults


def _put_in_place(name: str, notebook: NotebookNode, found: Path, committed: Path) -> None:
    import nbformat

    for old in committed.glob("*.csv"):
        old.unlink()
    committed.mkdir(parents=True, exist_ok=True)
    for table in found.glob("*.csv"):
        shutil.copy(table, committed)
    nbformat.write(notebook, HERE / f"{name}.ipynb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the notebooks, say what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb; all without one")
    parser.add_argument("--check", action="store_true", help="change nothing, compare the tables")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default: 2)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="limit of a notebook (default: %(default)s)"
    )
    parser.add_argument("--png", help="also write the figures as files into this folder")
    options = parser.parse_args(arguments)
    chosen = [Path(name).stem for name in options.names] or names()
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"no notebook {', '.join(unknown)}; there are {', '.join(names())}")

    failed = False
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        jobs = [
            pool.submit(run, name, options.check, options.png, options.seconds) for name in chosen
        ]
        for job in concurrent.futures.as_completed(jobs):
            line, faults = job.result()
            failed |= bool(faults)
            print(line, *(f"  {fault}" for fault in faults), sep="\n", flush=True)
    if failed:
        print(f"Failed. Tables and the rules of comparison ({RULES}) lie in tutorials/data.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
