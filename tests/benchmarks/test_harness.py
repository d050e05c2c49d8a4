"""The measuring harness of the benchmarks, loaded by its path."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def harness():
    specification = importlib.util.spec_from_file_location("_harness", FOLDER / "_harness.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_job_returns_its_answer_and_its_own_memory(harness):
    ballast = np.ones(80_000_000 // 8)  # the child must not be charged with this
    found = harness.run_isolated("_harness.py:_self_test", {"megabytes": 64})
    assert found["seconds"] >= 0
    assert 64 <= found["peak_mb"] - found["start_mb"] < 64 + 40
    if sys.platform == "linux":
        assert found["start_mb"] < harness.peak_rss_mb() - ballast.nbytes / 2**20


def test_a_failure_becomes_an_answer_and_a_log(harness, tmp_path):
    log = tmp_path / "logs" / "run.log"
    found = harness.run_isolated("_harness.py:_self_test", {"megabytes": -1}, log=log)
    assert found == {"error": "ValueError: negative size -1"}
    assert "Traceback" in log.read_text()
    found = harness.run_isolated("_harness.py:no_such_function", {})
    assert found["error"].startswith("AttributeError")


def test_a_job_that_takes_too_long_is_ended(harness):
    found = harness.run_isolated("_harness.py:_self_test", {"megabytes": 1, "wait": 30}, timeout=1)
    assert found == {"error": "not finished after 1 s"}


def test_summary_keeps_order_spread_and_errors(harness):
    rows = pd.DataFrame(
        {
            "method": ["b", "b", "a"],
            "seed": [0, 1, 0],
            "score": [0.2, 0.4, np.nan],
            "error": [None, None, "ValueError: no"],
        }
    )
    summary = harness.summarise(rows, ["method"])
    assert summary["method"].tolist() == ["b", "a"]
    assert summary["score"].tolist()[0] == pytest.approx(0.3)
    assert summary["score_sd"].tolist()[0] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert summary["error"].tolist()[1] == "ValueError: no"
    assert "| b |" in harness.markdown(summary)


def test_machine_and_output_files(harness, tmp_path, capsys):
    table = pd.DataFrame({"method": ["multiview", "lsi"], "score": [0.5, 0.1]})
    harness.write_table(table, tmp_path, "scores", "A note.")
    harness.write_figure(table, ["score"], tmp_path, "scores", "title", aims={"score": 0.6})
    assert (tmp_path / "scores.png").stat().st_size > 1000
    page = (tmp_path / "scores.md").read_text()
    assert page == capsys.readouterr().out
    assert "A note." in page
    assert "Python 3." in harness.machine()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), table)


def test_every_method_and_seed_becomes_a_row(harness, tmp_path, monkeypatch):
    def run_isolated(target, job, threads, timeout, log):
        if job["method"] == "bad":
            return {"error": "ValueError: no"}
        return {"score": job["seed"] + job["more"], "seconds": 1.0, "log": log.name}

    monkeypatch.setattr(harness, "run_isolated", run_isolated)
    arguments = SimpleNamespace(out=tmp_path / "new", seeds=[0, 1], threads=1, timeout=None)
    runs = harness.run_methods("task.py:job", ["good", "bad"], arguments, {"more": 2})
    assert runs["score"].tolist()[:2] == [2, 3]
    assert runs["log"].tolist()[:2] == ["good_seed0.log", "good_seed1.log"]
    assert runs["error"].tolist()[2:] == ["ValueError: no"] * 2
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new" / "task_runs.csv"), runs)
    harness.report_methods(runs, ("score", "seconds"), tmp_path, "task", "title", "A note.")
    summary = pd.read_csv(tmp_path / "task.csv")
    assert summary["score"].tolist()[0] == 2.5
    assert summary["error"].tolist()[1] == "ValueError: no"
    assert (tmp_path / "task.png").exists()


def test_files_are_found_by_name_in_the_folder_of_the_data(harness, tmp_path, monkeypatch):
    (tmp_path / "cells.h5ad").touch()
    monkeypatch.setenv("ATACVI_DATA_DIR", str(tmp_path))
    assert harness.data_file("cells.h5ad") == tmp_path / "cells.h5ad"
    assert harness.data_file(str(tmp_path)) == tmp_path  # a folder, and a whole path
    with pytest.raises(argparse.ArgumentTypeError, match=r"no other.h5ad or .*other.h5ad$"):
        harness.data_file("other.h5ad")
    monkeypatch.delenv("ATACVI_DATA_DIR")
    with pytest.raises(argparse.ArgumentTypeError, match="may name the folder"):
        harness.data_file("cells.h5ad")
