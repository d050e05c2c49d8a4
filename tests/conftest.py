"""Fixtures for all tests: real data, seeds, a plotting backend without a screen."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

# Each xdist worker takes its share of the cores; must be set before numpy or torch load.
_N_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _N_WORKERS > 1:
    _threads = str(max(1, (os.cpu_count() or 1) // _N_WORKERS))
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, _threads)

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

matplotlib.use("Agg")

# The same examples in every run, and no failure because a shared machine was slow.
settings.register_profile(
    "atacvi",
    derandomize=True,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("atacvi")

DATA_VARIABLE = "ATACVI_DATA_DIR"
SEED = 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; everything else runs without being asked for."""
    skips = {
        "real_data": (not os.environ.get(DATA_VARIABLE), f"{DATA_VARIABLE} is not set"),
        "internet": (
            os.environ.get("ATACVI_TEST_INTERNET") != "1",
            "ATACVI_TEST_INTERNET is not 1",
        ),
        "gpu": (
            any("gpu" in item.keywords for item in items) and not _cuda_is_available(),
            "no CUDA device",
        ),
    }
    for item in items:
        for marker, (skip, reason) in skips.items():
            if skip and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; skips when ATACVI_DATA_DIR is unset, fails when it is wrong."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} is not set")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={value} is not a directory")
    return path


@pytest.fixture(scope="session")
def real_file(data_dir: Path) -> Callable[[str], Path]:
    """``real_file(name)``: the path of a real data file, which must be there."""

    def find(name: str) -> Path:
        path = data_dir / name
        if not path.exists():
            pytest.fail(f"{path} is missing although {DATA_VARIABLE} is set")
        return path

    return find


@pytest.fixture(autouse=True)
def _seed_everything() -> None:
    """Start every test from the same random state (only of libraries that are loaded)."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - libraries under test draw from the global state
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(autouse=True)
def _close_figures():
    """Leave no open figure behind."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(SEED)
