"""Settings of the documentation: ``sphinx-build -W -n docs docs/_build/html``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

import atacvi  # noqa: E402
from atacvi import models  # noqa: E402

project = "atacvi"
author = "atacvi developers"
copyright = "2026, atacvi developers"
version = release = atacvi.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "measured",
    "prose_returns",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "figures"]
suppress_warnings = ["myst.xref_missing"]

# Notebooks are committed with their output and shown as they are.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_param = True
# Attributes of dataclasses stand in the class docstring; as fields they are not listed twice.
napoleon_use_ivar = True
napoleon_use_rtype = True

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# References are checked within the package. No inventory of another project is fetched, so that the
# pages build without a network; names of other projects are left as text, and so are those of the
# rooms that only the models call, which have no pages.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!atacvi\.).*|atacvi\.(modules|nn|training)\..*")]

html_theme = "sphinx_book_theme"
html_title = f"atacvi {release}"
html_show_sourcelink = False


def _own_members(model: type) -> list[tuple[str, str]]:
    """Directive and name of what this package defines in a model, mixins included."""
    classes = [cls for cls in model.__mro__ if cls.__module__.startswith("atacvi")]
    names = sorted({name for cls in classes for name in vars(cls) if not name.startswith("_")})
    directives = {
        name: "automethod" if callable(value) else "autoproperty"
        for name in names
        if callable(value := getattr(model, name)) or isinstance(value, property)
    }
    return [(directive, name) for name, directive in directives.items()]


# scvi-tools documents what a model inherits from it; our pages show what is ours.
autosummary_context = {
    "own_members": {name: _own_members(getattr(models, name)) for name in models.__all__}
}


def _copy_tutorials(app: Sphinx, config: object) -> None:
    """Copy the notebooks to where Sphinx can read them, which is below the folder of this file.

    A copy, since links in the file system come out of an archive or on Windows as text. What has
    not changed keeps its time, so that its page is not written again.
    """
    source, target = HERE.parent / "tutorials", HERE / "tutorials"
    target.mkdir(exist_ok=True)
    notebooks = {path.name: path for path in source.glob("*.ipynb")}
    for old in target.glob("*.ipynb"):
        if old.name not in notebooks:
            old.unlink()
    for name, path in notebooks.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def setup(app: Sphinx) -> None:
    """Connect what happens before pages are read."""
    app.connect("config-inited", _copy_tutorials)
