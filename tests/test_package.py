"""What the package promises at its top level."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import atacvi
from atacvi import _compat, _constants
from atacvi._docs import PIECES, fill_docs

ROOT = Path(__file__).parents[1]


def test_version_is_told_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(dev|a|b|rc|post)\d+)?", atacvi.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {atacvi.__version__}" in citation


def test_installed_version_agrees():
    try:
        installed = metadata.version("atacvi")
    except metadata.PackageNotFoundError:
        pytest.skip("atacvi is not installed here")
    assert installed == atacvi.__version__


@pytest.mark.parametrize("name", atacvi.__all__)
def test_top_level_names_resolve(name):
    assert getattr(atacvi, name) is not None
    assert name in dir(atacvi)


@pytest.mark.parametrize("namespace", ["data", "datasets", "metrics", "pl", "pp"])
def test_all_of_each_namespace_resolves(namespace):
    module = getattr(atacvi, namespace)
    assert module.__all__
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing


def test_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'MultiviewModel'.*MultiViewModel"):
        _ = atacvi.MultiviewModel


def test_typed_marker_is_part_of_the_package():
    assert resources.files("atacvi").joinpath("py.typed").is_file()


def test_registry_keys_are_those_of_scvi():
    from scvi import REGISTRY_KEYS

    keys = [
        "X_KEY",
        "ATAC_X_KEY",
        "BATCH_KEY",
        "LABELS_KEY",
        "CAT_COVS_KEY",
        "CONT_COVS_KEY",
        "SIZE_FACTOR_KEY",
        "INDICES_KEY",
    ]
    ours = {key: getattr(_constants, key) for key in keys}
    assert ours == {key: getattr(REGISTRY_KEYS, key) for key in keys}


@pytest.mark.parametrize("name", _compat.__all__)
def test_every_compat_name_exists_on_this_stack(name):
    assert getattr(_compat, name) is not None


def test_compat_refuses_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = _compat.no_such_name


def test_compat_says_which_versions_have_a_name(monkeypatch):
    monkeypatch.setitem(_compat._SOURCES, "gone", ("scvi.model.base", "_gone_for_good"))
    with pytest.raises(ImportError, match=r"scvi\.model\.base\._gone_for_good"):
        _ = _compat.gone


def test_layer_names_leave_out_the_key_of_x():
    class Layers:
        layers = {None: 0, "counts": 1}

    assert _compat.layer_names(Layers()) == ["counts"]


def test_fill_docs_indents_and_refuses_unknown_pieces():
    def latent():
        """Return it.

        Parameters
        ----------
        {param_indices}
        """

    assert PIECES["param_indices"] in fill_docs(latent).__doc__

    def wrong():
        """{no_such_piece}"""

    with pytest.raises(KeyError, match="no_such_piece"):
        fill_docs(wrong)
