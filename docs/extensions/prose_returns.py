"""Sphinx extension: a ``Returns`` section may be prose, since the type stands in the signature.

Napoleon takes the first line of such a section for a type and tries to link it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.ext.napoleon import NumpyDocstring

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _parse_returns_section(self: NumpyDocstring, section: str) -> list[str]:
    lines = self._dedent(self._consume_to_next_section())
    formatted = self._format_block(f":{section}: ", lines)
    if formatted and formatted[-1]:
        formatted.append("")
    return formatted


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace napoleon's reading of ``Returns`` and ``Yields``."""
    NumpyDocstring._parse_returns_section = lambda self, _: _parse_returns_section(self, "returns")
    NumpyDocstring._parse_yields_section = lambda self, _: _parse_returns_section(self, "yields")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
