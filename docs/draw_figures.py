"""Draw the figures of the landing page: ``python docs/draw_figures.py`` (minutes on two cores).

Simulated cells with known types and links, all models with their defaults, seeds set; the figures
are those of ``atacvi.pl``, as a user would draw them. PNG files go to ``docs/figures``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
import scvi

import atacvi

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mudata import MuData

HERE = Path(__file__).parent
SEED = 0


def simulate() -> MuData:
    """Return cells of six types with 300 genes, 2,000 peaks and known peak-gene links."""
    mdata = atacvi.datasets.simulate_multiome(
        800, n_genes=300, n_peaks=2000, n_cell_types=6, random_state=SEED
    )
    mdata["rna"].obs["cell_type"] = mdata.obs["cell_type"]
    return mdata


def draw_multiview(mdata: MuData) -> Figure:
    """Joint latent of both modalities, and RNA imputed from accessibility."""
    atacvi.MultiViewModel.setup_mudata(mdata)
    model = atacvi.MultiViewModel(mdata)
    model.train(enable_progress_bar=False)
    mdata.obsm["X_multiview"] = model.get_latent_representation()
    mdata["atac"].obsm["X_multiview"] = mdata.obsm["X_multiview"]
    imputed = model.get_normalized_expression(from_modality="atac", library_size=1e4)
    observed = sc.pp.normalize_total(mdata["rna"], target_sum=1e4, copy=True)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    atacvi.pl.latent_umap(mdata, color="cell_type", random_state=SEED, ax=axes[0])
    atacvi.pl.imputation(
        observed.X,
        imputed.to_numpy(),
        groups=mdata.obs["cell_type"],
        xlabel="observed expression",
        ylabel="imputed from accessibility alone",
        random_state=SEED,
        ax=axes[1],
    )
    axes[0].set_title("joint latent")
    axes[1].set_title("means of genes in cell types")
    return figure


def draw_atacdiff(mdata: MuData) -> Figure:
    """Generated beside real cells."""
    adata = mdata["atac"].copy()
    adata.obs["cell_type"] = mdata.obs["cell_type"].to_numpy()
    atacvi.ATACDiffModel.setup_anndata(adata, labels_key="cell_type")
    model = atacvi.ATACDiffModel(adata)
    model.train(enable_progress_bar=False)
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    cells = model.generate(len(labels), labels=labels, seed=SEED)
    axes = atacvi.pl.generation(
        adata, cells, labels, cells.obs["label"].astype(str), random_state=SEED
    )
    return np.ravel(axes)[0].figure


def draw_craft(mdata: MuData) -> Figure:
    """Cells of both modalities in one space."""
    atacvi.CRAFTModel.setup_mudata(mdata)
    model = atacvi.CRAFTModel(mdata)
    model.train(stages=["alignment"], enable_progress_bar=False)
    rna, atac = (model.get_latent_representation(modality=m) for m in ("rna", "atac"))
    _, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    atacvi.pl.joint_space(rna, atac, mdata.obs["cell_type"], random_state=SEED, ax=axes)
    return axes[0].figure


def draw_links(mdata: MuData) -> Figure:
    """Accessibility of a locus by cell type, and the links to its gene."""
    links = atacvi.tl.link_peaks_to_genes(
        mdata, metacells=100, use_rep="X_multiview", n_permutations=100, random_state=SEED
    )
    found = links[links["fdr"] < 0.05]
    gene = found["gene"].value_counts().index[0]
    genes = mdata["rna"].var
    tss = int(genes.loc[gene, "tss"])
    locus = f"{genes.loc[gene, 'chrom']}:{max(0, tss - 150_000)}-{tss + 150_000}"
    cells = mdata["atac"]
    cells.obs["cell_type"] = mdata.obs["cell_type"].to_numpy()
    n_types = cells.obs["cell_type"].nunique()
    figure, axes = plt.subplots(
        n_types + 2,
        1,
        figsize=(10, 6),
        layout="constrained",
        sharex=True,
        height_ratios=[3, *[1] * (n_types + 1)],
    )
    atacvi.pl.links(links, locus, genes, gene=gene, ax=axes[0])
    atacvi.pl.tracks(cells, locus, "cell_type", genes=genes, axes=list(axes[1:]))
    return figure


DRAWERS: dict[str, Any] = {
    "multiview": draw_multiview,
    "links": draw_links,  # needs the latent of the first
    "atacdiff": draw_atacdiff,
    "craft": draw_craft,
}


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "figures", help="folder of the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    mdata = simulate()
    for name, draw in DRAWERS.items():
        scvi.settings.seed = SEED
        figure = draw(mdata)
        figure.savefig(out / f"{name}.png", dpi=110, facecolor="white")
        plt.close(figure)


if __name__ == "__main__":
    main()
