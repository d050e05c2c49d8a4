"""Run each method of a benchmark in its own process, measure it, write table and figure.

A job is a function ``file.py:function`` of this folder with JSON arguments. It loads its data
and imports its libraries first, and puts what is to be timed into ``with stopwatch() as watch``;
it returns a dictionary of JSON values. The harness adds seconds, peak memory and, when the job
fails, the error, so that no failure is hidden.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

HERE = Path(__file__).resolve().parent
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_PACKAGES = ("atacvi", "scvi-tools", "torch", "scanpy", "anndata", "numpy", "muon", "snapatac2")


def say(text: str) -> None:
    """Write a line of progress with the time of day."""
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stderr.flush()


class Watch:
    """Seconds and memory of the block under :func:`stopwatch`."""

    seconds: float = float("nan")
    cpu_seconds: float = float("nan")
    start_mb: float = float("nan")
    peak_mb: float = float("nan")

    def result(self) -> dict[str, float]:
        """Give what was measured, in the names of the tables."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "start_mb": round(self.start_mb, 1),
            "peak_mb": round(self.peak_mb, 1),
        }


@contextlib.contextmanager
def stopwatch() -> Iterator[Watch]:
    """Time a block; memory before it (data and libraries) and the process's peak after it.

    Processor time of all threads stands beside the wall clock: it hardly changes when other work
    shares the machine.
    """
    watch = Watch()
    watch.start_mb = current_rss_mb()
    begin, cpu = time.perf_counter(), time.process_time()
    yield watch
    watch.seconds = time.perf_counter() - begin
    watch.cpu_seconds = time.process_time() - cpu
    watch.peak_mb = peak_rss_mb()


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB (2**20 bytes).

    ``ru_maxrss`` outlives exec on Linux, so a child of a large parent would be charged with the
    parent's memory; the high-water mark in ``/proc`` starts anew and is preferred where it exists.
    """
    value = _proc_status_kb("VmHWM")
    if value is not None:
        return value / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def current_rss_mb() -> float:
    """Resident memory of this process now, in MB; the peak where ``/proc`` is missing."""
    value = _proc_status_kb("VmRSS")
    return peak_rss_mb() if value is None else value / 1024


def _proc_status_kb(field: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1])
    return None


def run_isolated(
    target: str,
    arguments: dict[str, Any],
    threads: int | None = None,
    timeout: float | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Run ``file.py:function`` with keyword arguments in a fresh process.

    Returns the function's dictionary, or ``{"error": ...}`` with the last line of the traceback.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    with tempfile.TemporaryDirectory() as folder:
        job, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        job.write_text(json.dumps({"target": target, "arguments": arguments}))
        command = [sys.executable, str(HERE / "_harness.py"), str(job), str(answer)]
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("w")) if log else subprocess.DEVNULL
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"error": f"not finished after {timeout:.0f} s"}
        if not answer.exists():
            return {"error": f"the process ended with code {done.returncode}"}
        return json.loads(answer.read_text())


def run_recorded(
    target: str, job: dict[str, Any], record: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run a job and keep its answer; with ``--rescore`` read the answer of an earlier run."""
    record.parent.mkdir(parents=True, exist_ok=True)
    if arguments.rescore:
        missing = {"error": f"no saved run {record.stem}"}
        return json.loads(record.read_text()) if record.exists() else missing
    log = record.parent / "logs" / f"{record.stem}.log"
    found = run_isolated(target, job, arguments.threads, arguments.timeout, log)
    if "error" not in found:
        record.write_text(json.dumps(found))
    return found


def _run_job(job: Path, answer: Path) -> None:
    sys.path.insert(0, str(HERE))
    description = json.loads(job.read_text())
    file, _, name = description["target"].partition(":")
    try:
        function = getattr(importlib.import_module(file.removesuffix(".py")), name)
        result = function(**description["arguments"])
    except Exception as error:  # noqa: BLE001  every failure has to become a row
        traceback.print_exc()
        text = (str(error).strip() or "no message").splitlines()[0]
        result = {"error": f"{type(error).__name__}: {text}"[:300]}
    answer.write_text(json.dumps(result))


def _self_test(megabytes: int, wait: float = 0) -> dict[str, Any]:
    """Fill some memory under the stopwatch; a job for the harness's own tests."""
    if megabytes < 0:
        msg = f"negative size {megabytes}"
        raise ValueError(msg)
    with stopwatch() as watch:
        ballast = bytearray(b"x" * 1024 * 1024) * megabytes
        time.sleep(wait)
    return {"size": len(ballast), **watch.result()}


def machine() -> str:
    """Describe processor, memory, Python and the versions that matter, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = []
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return (
        f"{model}, {cores} cores, {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def command_line() -> str:
    """Give the command that was typed, to be printed under the table."""
    import shlex

    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def data_file(name: str) -> Path:
    """Give a file or folder, or that of the name in $ATACVI_DATA_DIR (a type for argparse)."""
    folder = os.environ.get("ATACVI_DATA_DIR")
    candidates = [Path(name), *([Path(folder) / name] if folder else [])]
    for path in candidates:
        if path.exists():
            return path
    tried = " or ".join(map(str, candidates))
    hint = "" if folder else "; $ATACVI_DATA_DIR may name the folder of the data"
    msg = f"there is no {tried}{hint}"
    raise argparse.ArgumentTypeError(msg)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and figures")
    parser.add_argument("--threads", type=int, default=None, help="threads of each method")
    parser.add_argument("--timeout", type=float, default=None, help="seconds a method may take")


def summarise(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean over the seeds, with the standard deviation as ``<column>_sd``, in order of `by`.

    Rows that failed keep their error in the column ``error``.
    """
    import pandas as pd

    skip = {*by, "seed"}
    numeric = [c for c in rows.columns if c not in skip and pd.api.types.is_numeric_dtype(rows[c])]
    summary = []
    for key, group in rows.groupby(list(by), sort=False):
        entry: dict[str, Any] = dict(
            zip(by, key if isinstance(key, tuple) else (key,), strict=True)
        )
        entry["runs"] = len(group)
        for column in numeric:
            entry[column] = group[column].mean()
            if len(group) > 1:
                entry[f"{column}_sd"] = group[column].std()
        if "error" in group and group["error"].notna().any():
            entry["error"] = "; ".join(sorted(set(group["error"].dropna())))
        summary.append(entry)
    return pd.DataFrame(summary)


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """Write a data frame as a Markdown table, empty where a value is missing."""

    def cell(value: Any) -> str:
        if value is None or value != value:  # NaN is the one value that differs from itself
            return ""
        if isinstance(value, float):
            return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.0f}"
        return str(value).replace("|", "/")

    head = "| " + " | ".join(map(str, table.columns)) + " |"
    rule = "|" + "---|" * table.shape[1]
    body = ["| " + " | ".join(map(cell, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([head, rule, *body]) + "\n"


def run_methods(
    target: str,
    methods: Sequence[str],
    arguments: argparse.Namespace,
    common: dict[str, Any],
) -> pd.DataFrame:
    """Run a job with every method and seed; one row each, errors included.

    The job gets ``method``, ``seed`` and `common`. The table of runs is written after each one, so
    that an interrupted benchmark keeps what it has.
    """
    import pandas as pd

    name = target.partition(".py")[0]
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for method in methods:
        for seed in arguments.seeds:
            job = {"method": method, "seed": seed, **common}
            log = arguments.out / "logs" / f"{method}_seed{seed}.log"
            found = run_isolated(target, job, arguments.threads, arguments.timeout, log)
            rows.append({"method": method, "seed": seed, **found})
            say(str(rows[-1]))
            pd.DataFrame(rows).to_csv(arguments.out / f"{name}_runs.csv", index=False)
    return pd.DataFrame(rows)


def report_methods(
    runs: pd.DataFrame, columns: Sequence[str], out: Path, name: str, title: str, notes: str
) -> None:
    """Write the summary over the seeds of each method as a table and a figure."""
    summary = summarise(runs, ["method"])
    shown = ["method", "runs", *columns, "peak_mb", "error"]
    write_table(summary[[c for c in shown if c in summary]], out, name, notes)
    write_figure(summary, columns, out, name, title)


def write_table(table: pd.DataFrame, out: Path, name: str, notes: str = "") -> None:
    """Write ``name.csv`` and ``name.md`` with machine and command, and show the table."""
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"{name}.csv", index=False)
    text = markdown(table)
    page = f"{text}\n{notes}\n\nMachine: {machine()}\n\nCommand: `{command_line()}`\n"
    (out / f"{name}.md").write_text(page)
    sys.stdout.write(page)


def write_figure(
    summary: pd.DataFrame,
    columns: Sequence[str],
    out: Path,
    name: str,
    title: str,
    label: str = "method",
    aims: dict[str, float] | None = None,
) -> None:
    """Draw one panel of horizontal bars a column, with standard deviations and the aims."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = [c for c in columns if c in summary and summary[c].notna().any()]
    if not columns:
        say(f"{name}: nothing to draw, every method failed")
        return
    rows = min(len(columns), 4)
    height = 0.32 * len(summary) + 1.2
    figure, axes = plt.subplots(
        -(-len(columns) // rows),
        rows,
        figsize=(3.2 * rows + 1, height * -(-len(columns) // rows)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = summary[label].astype(str)
    colors = ["#d1495b" if "multiview" in x else "#30638e" for x in names]
    for axis, column in zip(axes.ravel(), columns, strict=False):
        spread = summary[f"{column}_sd"].fillna(0) if f"{column}_sd" in summary else None
        axis.barh(range(len(summary)), summary[column], xerr=spread, color=colors)
        axis.set_yticks(range(len(summary)), names)
        axis.set_xlabel(column.replace("_", " "))
        if aims and column in aims:
            axis.axvline(aims[column], color="black", linestyle=":", linewidth=1)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.ravel()[len(columns) :]:
        axis.set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.suptitle(title)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    _run_job(Path(sys.argv[1]), Path(sys.argv[2]))
