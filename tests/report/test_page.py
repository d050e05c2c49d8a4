from __future__ import annotations

import re

import pandas as pd
import pytest

from atacvi.report import Section, build_page


@pytest.fixture
def picture(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(2, 1))
    figure.savefig(tmp_path / "a.png", dpi=100)
    return tmp_path / "a.png"


def test_page_is_well_formed(picture):
    from html.parser import HTMLParser

    opened = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    table = pd.DataFrame({"name": ["a"], "value": [1.5]})
    part = Section("Part", ["text"], [("caption", table)], [(picture, "shows")], "x = 1\n")
    Reader().feed(build_page("Title", "sub", [part, part]))
    assert not opened


def test_names_from_data_cannot_break_the_page(picture):
    evil = '<script>alert("x")</script>'
    table = pd.DataFrame({evil: [evil]})
    part = Section(evil, [evil], [(evil, table)], [(picture, f'"{evil}')], evil)
    page = build_page(evil, evil, [part])
    assert "<script" not in page
    alt = re.search(r'alt="([^"]*)"', page)
    assert alt is not None
    assert "&lt;script&gt;" in alt[1]


def test_images_are_inside_and_have_their_width(picture):
    page = build_page("T", "s", [Section("P", figures=[(picture, "c")])])
    assert 'src="data:image/png;base64,' in page
    assert 'width="144"' in page  # 200 dots at 0.72


def test_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        build_page("T", "s", [Section("P", figures=[(tmp_path / "none.png", "c")])])


def test_numbers_are_readable():
    table = pd.DataFrame({"n": [12345], "x": [0.12345], "none": [float("nan")], "s": ["0.1"]})
    page = build_page("T", "s", [Section("P", tables=[("", table)])])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert cells == ["12,345", "0.123", "–", "0.1"]
