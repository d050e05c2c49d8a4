"""One HTML page that needs nothing but itself: no script, no link to other places."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SCALE = 0.72  # CSS pixels a pixel of a figure (130 dots an inch)
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1c2430; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid #d9dee5; }
header p, figcaption, footer { color: #4a5563; }
nav { margin: .8rem 0 0; }
nav a { color: #0b5394; margin-right: 1.1rem; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .92rem; margin-top: .3rem; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #4a5563; padding-bottom: .3rem; }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0; vertical-align: top; }
td { border-top: 1px solid #e6e9ee; }
th.number, td.number { text-align: right; }
pre { background: #f4f6f8; padding: .8rem 1rem; overflow-x: auto; font-size: .88rem; }
footer { font-size: .88rem; padding-bottom: 2.5rem; margin-top: 2.5rem; }
@media print { nav { display: none; } figure { break-inside: avoid; } }
"""


@dataclass
class Section:
    """A part of the page.

    Parameters
    ----------
    title
        Heading.
    paragraphs
        Texts above everything else.
    tables
        (caption, table) pairs; the index of a table is not shown.
    figures
        (PNG file, caption) pairs, embedded into the page.
    code
        Program text shown as it is.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = field(default_factory=list)
    figures: Sequence[tuple[Path, str]] = field(default_factory=list)
    code: str = ""


def build_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Build a self-contained HTML page.

    Parameters
    ----------
    title, subtitle
        Head of the page.
    sections
        Parts in their order.

    Returns
    -------
    The page, with its images as data URIs.

    Raises
    ------
    FileNotFoundError
        If an image does not exist.

    Examples
    --------
    >>> from atacvi.report import Section, build_page
    >>> page = build_page("Results", "of a run", [Section("Data", ["3 < 4 cells"])])
    >>> "<p>3 &lt; 4 cells</p>" in page
    True
    """
    links = " ".join(
        f'<a href="#part-{i}">{escape(part.title)}</a>' for i, part in enumerate(sections)
    )
    body = "\n".join(_section(i, part) for i, part in enumerate(sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p><nav>{links}</nav></header>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(number: int, part: Section) -> str:
    pieces = [f'<section id="part-{number}"><h2>{escape(part.title)}</h2>']
    pieces += [f"<p>{escape(text)}</p>" for text in part.paragraphs]
    pieces += [_table(caption, table) for caption, table in part.tables]
    pieces += [_figure(path, caption) for path, caption in part.figures]
    if part.code:
        pieces.append(f"<pre><code>{escape(part.code)}</code></pre>")
    return "\n".join([*pieces, "</section>"])


def _figure(path: Path, caption: str) -> str:
    content = path.read_bytes()
    data = base64.b64encode(content).decode("ascii")
    # Bytes 16 to 20 of a PNG are its width; all figures are shown at one scale, so that their
    # texts are of one size.
    width = round(int.from_bytes(content[16:20], "big") * _SCALE)
    text = escape(caption)
    return (
        f'<figure><img width="{width}" alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _table(caption: str, table: pd.DataFrame) -> str:
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    marks = [' class="number"' if number else "" for number in numeric]
    head = "".join(
        f"<th{mark}>{escape(str(name))}</th>"
        for mark, name in zip(marks, table.columns, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{mark}>{escape(_text(value))}</td>" for mark, value in zip(marks, row, strict=True)
        )
        + "</tr>\n"
        for row in table.itertuples(index=False)
    )
    note = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="table"><table>{note}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>"
    )


def _text(value: object) -> str:
    """Numbers as one reads them: three decimals, thousands set apart, a dash for none."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) or pd.api.types.is_float(value):
        number = float(value)  # type: ignore[arg-type]
        return "–" if number != number else f"{number:,.3f}"
    if pd.api.types.is_integer(value):
        return f"{int(value):,}"  # type: ignore[call-overload]
    return str(value)
