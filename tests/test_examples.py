"""The examples in the docstrings run and give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(file.relative_to(SRC).with_suffix("").parts)
    for file in (SRC / "atacvi").rglob("*.py")
    if file.stem != "__init__" and ">>> " in file.read_text()
)
# Examples that fit a model take their time.
SLOW = ("atacvi.models.", "atacvi.pl.", "atacvi.report.", "atacvi.training.")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(SLOW) else [])
        for name in MODULES
    ],
)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0, "the differences are in the captured output"
