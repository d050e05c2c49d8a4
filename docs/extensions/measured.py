"""Sphinx extension: tables that a benchmark wrote, figures that a script drew.

``{measured} NAME`` shows ``docs/figures/NAME.csv`` with the machine and the command of ``NAME.md``, the
two files that a script under ``benchmarks/`` writes beside each other, below its content. A table
without machine and command is refused: no number without its source. ``{drawn} FILE`` is a figure.
Where a file is not there, nothing is shown, its content neither.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmark_table import read_table
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "figures"
_SOURCE = re.compile(r"^(Machine|Command): (.+)$", flags=re.MULTILINE)


class Measured(SphinxDirective):
    """Table of a benchmark; option ``columns`` chooses and orders, ``old=new`` renames."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"columns": directives.unchanged, "title": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the table and its source, or nothing."""
        name = self.arguments[0]
        path = Path(self.env.srcdir) / FOLDER / f"{name}.csv"
        self.env.note_dependency(str(path))
        if not path.exists():
            return []
        page = path.with_suffix(".md")
        found = dict(_SOURCE.findall(page.read_text())) if page.exists() else {}
        if set(found) != {"Machine", "Command"}:
            msg = f"{path.name}: {page.name} must hold its 'Machine:' and 'Command:'"
            raise self.error(msg)
        header, rows = read_table(path, self.options.get("columns"))
        source = nodes.paragraph("", "", nodes.Text(f"{found['Machine']}. Command: "))
        source += nodes.literal("", found["Command"].strip("`"))
        source["classes"].append("measured-source")
        above = nodes.container()
        if "title" in self.options:
            above += nodes.rubric("", self.options["title"])
        self.state.nested_parse(self.content, self.content_offset, above)
        return [*above.children, _table(header, rows), source]


class Drawn(Figure):
    """A figure, where it has been drawn."""

    def run(self) -> list[nodes.Node]:
        """Return the figure, or nothing."""
        env = self.state.document.settings.env
        path = Path(env.srcdir) / self.arguments[0]
        env.note_dependency(str(path))
        return super().run() if path.exists() else []


def _table(header: list[str], rows: list[list[str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    group += nodes.thead("", _row(header))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group, classes=["measured"])


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("measured", Measured)
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
