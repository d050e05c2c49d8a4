from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atacvi.pl import links


@pytest.fixture
def genes():
    return pd.DataFrame(
        {
            "gene": ["A", "B", "C"],
            "chrom": ["chr1", "chr1", "chr2"],
            "start": [1000, 6000, 1000],
            "end": [3000, 9000, 3000],
            "strand": ["+", "-", "+"],
        }
    )


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "gene": ["A", "A", "B", "C"],
            "peak": ["chr1:100-300", "chr1:4000-4200", "chr1:4000-4200", "chr2:100-200"],
            "score": [0.5, -0.3, 0.9, 0.4],
            "distance": [-800, 3100, -4899, -850],
            "fdr": [0.01, 0.02, 0.5, 0.01],
        }
    )


def arcs(ax):
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 40]


def test_arcs_run_from_peak_to_tss_as_high_as_the_score(table, genes, tmp_path):
    ax = links(table, "chr1:1-10,000", genes)
    found = {(round(a[0, 0]), round(a[-1, 0])): a[:, 1].max() for a in arcs(ax)}
    assert set(found) == {(200, 1000), (4100, 1000), (4100, 8999)}
    assert found[200, 1000] == pytest.approx(0.5, rel=0.01)
    assert found[4100, 1000] == pytest.approx(0.3, rel=0.01)
    assert ax.get_xlim() == (1, 10_000)
    ax.figure.savefig(tmp_path / "links.png")


def test_one_gene_and_pale_links(table, genes):
    assert len(arcs(links(table, "chr1:1-10000", genes, gene="A"))) == 2
    ax = links(table, "chr1:1-10000", genes)
    widths = sorted(line.get_linewidth() for line in ax.lines if len(line.get_xdata()) == 40)
    assert widths[0] < widths[1]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[-1] == "FDR > 0.05"
    chance = table.assign(probability=[0.1, 0.9, 0.2, 0.9]).drop(columns="fdr")
    ax = links(chance, "chr1:1-10000", genes, min_probability=0.8)
    wide = [line.get_linewidth() > 1 for line in ax.lines if len(line.get_xdata()) == 40]
    assert sum(wide) == 1
    assert ax.get_legend().get_texts()[-1].get_text() == "probability < 0.8"
    with pytest.raises(KeyError, match="lacks \\['probability'\\]"):
        links(table, "chr1:1-10000", genes, min_probability=0.8)
    alike = links(table.drop(columns="fdr"), "chr1:1-10000", genes, max_fdr=None)
    assert len({line.get_linewidth() for line in alike.lines if len(line.get_xdata()) == 40}) == 1


def test_genes_of_the_locus_are_named(table, genes):
    ax = links(table, "chr1:1-10000", genes)
    strip = ax.child_axes[0]
    assert {text.get_text() for text in strip.texts if text.get_text()} == {"A", "B"}


def test_many_overlapping_genes_are_packed_without_collision(table):
    start = np.arange(0, 60_000, 1500)
    crowd = pd.DataFrame(
        {"chrom": "chr1", "start": start, "end": start + 4000, "strand": "+"},
        index=[f"gene{i}" for i in range(len(start))],
    )
    ax = links(table, "chr1:1-70000", crowd)
    rows = {}
    for line in ax.child_axes[0].lines:
        if line.get_linewidth() == 3:
            rows.setdefault(line.get_ydata()[0], []).append(tuple(line.get_xdata()))
    assert len(rows) > 1
    for spans in rows.values():
        spans.sort()
        assert all(one[1] < two[0] for one, two in zip(spans[:-1], spans[1:], strict=True))


def test_what_does_not_fit_is_refused(table, genes):
    with pytest.raises(KeyError, match="gene 'Z' has no link"):
        links(table, "chr1:1-10000", genes, gene="Z")
    with pytest.raises(KeyError, match="genes lacks the columns"):
        links(table, "chr1:1-10000", genes.drop(columns="strand"))
    with pytest.raises(KeyError, match="lacks"):
        links(table.drop(columns="score"), "chr1:1-10000", genes)
    with pytest.raises(ValueError, match="not regions"):
        links(table, "somewhere", genes)
