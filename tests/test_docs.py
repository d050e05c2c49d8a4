"""The documentation names everything that the package promises."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "datasets", "likelihoods", "metrics", "pl", "pp", "priors", "regions"]


@pytest.mark.parametrize("room", ROOMS)
def test_api_page_lists_exactly_what_is_public(room):
    page = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(rf"^   {room}\.(\w+)$", page, flags=re.MULTILINE))
    module = import_module(f"atacvi.{room}")
    # constants are described where they are used
    public = {name for name in module.__all__ if callable(getattr(module, name))}
    assert listed == public, f"docs/api.md: add {public - listed}, remove {listed - public}"


def test_readme_holds_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.count("python -m pip install . && atacvi demo --out demo") == 1
    assert lines.count('python -m pip install -e ".[test]" && python -m pytest') == 1


@pytest.mark.parametrize("page", ["README.md", "docs/contributing.md", "benchmarks/README.md"])
def test_links_to_files_lead_somewhere(page):
    source = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", source.read_text())
    missing = [link for link in links if not (source.parent / link).exists()]
    assert not missing
