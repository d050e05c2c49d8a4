"""The examples in the docstrings run and give what they say, and nothing public lacks one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from .example_models import example_names

SRC = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(file.relative_to(SRC).with_suffix("").parts)
    for file in (SRC / "atacvi").rglob("*.py")
    if file.stem != "__init__" and ">>> " in file.read_text()
)
# Examples that fit a model take their time.
SLOW = ("atacvi.hub.", "atacvi.models.", "atacvi.pl.", "atacvi.report.", "atacvi.training.")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Rooms with pages in docs/api.md; the others are called by the models only.
ROOMS = ["data", "datasets", "diffusion", "hub", "likelihoods", "metrics", "models", "pl", "pp"]
ROOMS += ["priors", "regions", "tl"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(SLOW) else [])
        for name in MODULES
    ],
)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS, extraglobs=example_names(name))
    assert result.attempted > 0
    assert result.failed == 0, "the differences are in the captured output"


def _public_objects() -> dict[str, Any]:
    """Functions and classes of the rooms, and what the models add to scvi-tools' methods."""
    found: dict[str, Any] = {}
    for room in ROOMS:
        module = importlib.import_module(f"atacvi.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):  # constants are described where they are used
                found[f"{room}.{name}"] = value
    models = importlib.import_module("atacvi.models")
    for model in (getattr(models, name) for name in models.__all__):
        for owner in model.__mro__:
            if not owner.__module__.startswith("atacvi"):
                continue
            for name, value in vars(owner).items():
                if not name.startswith("_") and _is_described(value):
                    found.setdefault(f"{model.__name__}.{name}", value)
    return found


def _is_described(value: Any) -> bool:
    return isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)


def _docstring(value: Any) -> str:
    return inspect.getdoc(getattr(value, "__func__", value)) or ""


def test_every_public_object_has_an_example():
    objects = _public_objects()
    assert len(objects) > 200  # the walk finds them
    without = [name for name, value in objects.items() if ">>> " not in _docstring(value)]
    assert not without, f"{len(without)} of {len(objects)} have no example: {without}"


def test_every_public_function_describes_its_arguments():
    lacking = []
    for name, value in _public_objects().items():
        function = getattr(value, "__func__", value)
        if not inspect.isfunction(function):
            continue
        arguments = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
        text = _docstring(value)
        if arguments and "Parameters\n----------" not in text:
            lacking.append(name)
    assert not lacking
