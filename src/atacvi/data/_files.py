"""Several input files: their names, their barcodes, and one job for each, in parallel."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atacvi.data._messages import examples
from atacvi.regions._stream import iter_lines

Paths = str | Path | Sequence[str | Path] | Mapping[str, str | Path]
Barcodes = str | Path | Iterable[str] | Mapping[str, Any] | None

FRAGMENT_ENDINGS = (".tsv", ".tsv.gz", ".tsv.bgz")
BED_ENDINGS = tuple(
    f"{ending}{gz}" for ending in (".bed", ".narrowPeak", ".broadPeak") for gz in ("", ".gz")
)
_HEADERS = {"barcode", "barcodes", "cell_barcode", "cb", "cell"}
_PARTS = (".gz", ".bgz", ".tsv", ".bed", ".narrowPeak", ".broadPeak", ".fragments", ".txt")


def named_files(paths: Paths, endings: tuple[str, ...]) -> tuple[dict[str, Path], bool]:
    """Return the files by sample, and whether the sample has to stand in the names of cells.

    A folder stands for its files with one of the endings. Without names given a sample is called as
    its file, without folder and endings.
    """
    if isinstance(paths, Mapping):
        files = {str(name): Path(path) for name, path in paths.items()}
        several = True
    else:
        listed = [paths] if isinstance(paths, (str, Path)) else list(paths)
        expanded = [file for path in listed for file in _expand(Path(path), endings)]
        several = len(expanded) > 1
        names = [_stem(path) for path in expanded]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = (
                f"several files are called {examples(twice)}, so their cells could not be told "
                "apart; name them: {'donor1': path, 'donor2': path}"
            )
            raise ValueError(msg)
        files = dict(zip(names, expanded, strict=True))
    if not files:
        msg = "no file was given"
        raise ValueError(msg)
    for path in files.values():
        if not path.is_file():
            msg = f"{path} does not exist"
            raise FileNotFoundError(msg)
    return files, several


def _expand(path: Path, endings: tuple[str, ...]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.name.endswith(endings) and p.is_file())
    if not found:
        msg = f"the folder {path} holds no file that ends in {', '.join(endings)}"
        raise FileNotFoundError(msg)
    return found


def _stem(path: Path) -> str:
    name = path.name
    while ending := next((e for e in _PARTS if name.endswith(e) and name != e), None):
        name = name.removesuffix(ending)
    return name


def barcodes_of(barcodes: Barcodes, samples: Sequence[str]) -> dict[str, list[str] | None]:
    """Return the wanted barcodes of each sample; ``None`` for all."""
    if isinstance(barcodes, Mapping):
        missing = [sample for sample in samples if sample not in barcodes]
        if missing:
            msg = (
                f"barcodes has no entry for {examples(missing)}; it holds "
                f"{examples(list(barcodes))}"
            )
            raise KeyError(msg)
        return {sample: _barcode_list(barcodes[sample]) for sample in samples}
    wanted = _barcode_list(barcodes)
    return dict.fromkeys(samples, wanted)


def _barcode_list(barcodes: Any) -> list[str] | None:
    if barcodes is None:
        return None
    if isinstance(barcodes, (str, Path)):
        listed = [line.replace(",", "\t").split("\t")[0] for line in iter_lines(barcodes)]
        listed = [barcode for barcode in listed if barcode and not barcode.startswith("#")]
        if listed and listed[0].lower() in _HEADERS:
            listed = listed[1:]
        where = f"{barcodes}"
    else:
        listed, where = [str(barcode) for barcode in barcodes], "barcodes"
    if not listed or "" in listed:
        msg = f"{where} holds {'an empty barcode' if listed else 'no barcode'}"
        raise ValueError(msg)
    if len(set(listed)) < len(listed):
        twice = sorted({b for b in listed if listed.count(b) > 1}) if len(listed) < 10**4 else []
        shown = f": {examples(twice)}" if twice else ""
        msg = f"{where} holds {len(listed) - len(set(listed))} barcodes more than once{shown}"
        raise ValueError(msg)
    return listed


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[dict[str, Any]],
    *,
    scheduler: Any = None,
    progress: bool | None = None,
    title: str = "reading",
) -> list[Any]:
    """Call `function` with each set of keyword arguments, several at a time.

    Parameters
    ----------
    function
        Function of a module, called with ``on_bytes`` besides where it runs in this process.
    jobs
        Keyword arguments, with the file as ``path``.
    scheduler
        ``None`` takes a thread for each core; ``"threads"`` and ``"processes"`` run on Dask, a
        client of Dask's distributed scheduler on its cluster (the files must be there).
    progress
        Show a bar on stderr; ``None`` does so on a terminal.
    title
        What stands before the bar.
    """
    if scheduler is None:
        from concurrent.futures import CancelledError, ThreadPoolExecutor
        from threading import Event

        total = sum(Path(job["path"]).stat().st_size for job in jobs)
        with _bar(title, total, progress) as advance:
            if len(jobs) == 1:
                return [function(**jobs[0], on_bytes=advance)]
            stopped = Event()

            def on_bytes(n: int) -> None:
                if stopped.is_set():
                    raise CancelledError
                advance(n)

            pool = ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1))
            try:
                futures = [pool.submit(function, **job, on_bytes=on_bytes) for job in jobs]
                return [future.result() for future in futures]
            finally:  # after an error or Ctrl-C the other files are left where they are
                stopped.set()
                pool.shutdown(cancel_futures=True)
    if hasattr(scheduler, "submit") and hasattr(scheduler, "gather"):
        futures = [scheduler.submit(function, **job, pure=False) for job in jobs]
        results = []
        with _bar(title, len(jobs), progress) as advance:
            for future in futures:
                results.append(scheduler.gather(future))
                advance(1)
        return results
    if scheduler not in ("threads", "processes"):
        msg = f"scheduler={scheduler!r}; use None, 'threads', 'processes' or a Dask client"
        raise ValueError(msg)
    try:
        import dask
    except ImportError as error:
        msg = f"scheduler={scheduler!r} needs Dask: pip install 'atacvi[dask]'"
        raise ImportError(msg) from error
    with _bar(title, None, progress):
        tasks = [dask.delayed(function, pure=False)(**job) for job in jobs]
        return list(dask.compute(*tasks, scheduler=scheduler))


@contextlib.contextmanager
def _bar(title: str, total: int | None, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Progress bar on stderr; the value advances it."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
