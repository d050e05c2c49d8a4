"""The figures of a run, drawn without a display and written as PNG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atacvi._constants import ATAC, OBS_CLUSTERS, OBSM_MULTIVIEW, RNA
from atacvi.report.markers import OBSM_IMPUTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from atacvi.report.demo import Results

_DPI = 130
_N_UMAPS = 6
_N_FEATURES = 500


@dataclass(frozen=True)
class Picture:
    """A figure with the section it belongs to.

    Parameters
    ----------
    section
        Title of the section of the page.
    path
        PNG file.
    caption
        What it shows.
    """

    section: str
    path: Path
    caption: str


def draw_figures(results: Results, folder: Path, random_state: int) -> list[Picture]:
    """Draw and write all figures; those for which there is nothing to show are left out."""
    import matplotlib

    folder.mkdir(parents=True)
    drawers: list[tuple[str, str, str, Callable[[Results, int], Any]]] = [
        ("Embedding", "umap", "UMAP of the joint latent.", _umap),
        (
            "Clusters",
            "confusion",
            "Which cells the model's clusters hold; rows sum to one.",
            _confusion,
        ),
        ("Clusters", "mixture_weights", "Weight of each component of the prior.", _weights),
        ("Clusters", "responsibilities", "Cluster probabilities of single cells.", _sureness),
        (
            "Imputation",
            "imputed_markers",
            "Imputed expression of the first marker gene of up to six clusters, per 10,000 counts "
            "(log1p).",
            _markers,
        ),
        (
            "Imputation",
            "imputation",
            "Means of features in clusters, observed and imputed: left genes per 10,000 counts, "
            "right peaks at the median depth.",
            _imputation,
        ),
        (
            "Training",
            "training",
            "Terms of the loss by epoch; dotted lines mark where stages begin.",
            _training,
        ),
    ]
    pictures = []
    # The figures are made for files: no window opens, and no display is needed.
    with matplotlib.rc_context({"figure.dpi": 100, "font.size": 9.5, "axes.titlesize": 10.5}):
        for section, name, caption, draw in drawers:
            figure = draw(results, random_state)
            if figure is None:
                continue
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=_DPI, facecolor="white")
            _close(figure)
            pictures.append(Picture(section, path, caption))
    return pictures


def _close(figure: Any) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)


def _umap(results: Results, random_state: int) -> Any:
    from atacvi.pl import latent_umap

    obs = results.source.mdata.obs
    colours = [OBS_CLUSTERS, "leiden"]
    for key in ("cell_type", "batch"):
        if key in obs and 1 < obs[key].nunique() <= 60:
            colours.append(key)
    if "pseudotime" in obs:
        colours.append("pseudotime")
    axes: Any = latent_umap(results.source.mdata, colours, n_columns=2, random_state=random_state)
    return axes[0].figure


def _confusion(results: Results, random_state: int) -> Any:
    from atacvi.pl import cluster_confusion

    obs = results.source.mdata.obs
    key = "cell_type" if results.scores is not None else "leiden"
    ax = cluster_confusion(obs[OBS_CLUSTERS], obs[key])
    ax.set(xlabel="cluster of the model", ylabel=key)
    return ax.figure


def _weights(results: Results, random_state: int) -> Any:
    from atacvi.pl import mixture_weights

    return mixture_weights(results.model).figure


def _sureness(results: Results, random_state: int) -> Any:
    from atacvi.pl import responsibilities

    return responsibilities(results.model, random_state=random_state).figure


def _markers(results: Results, random_state: int) -> Any:
    """UMAPs coloured by the first marker gene of some clusters."""
    import anndata

    from atacvi.pl import latent_umap

    mdata, table = results.source.mdata, results.markers
    if OBSM_IMPUTED not in mdata[RNA].obsm:
        return None
    first = table[(table["modality"] == RNA) & (table["rank"] == 1)]
    genes = list(dict.fromkeys(first["feature"]))[:_N_UMAPS]
    values = np.log1p(mdata[RNA].obsm[OBSM_IMPUTED][genes])
    cells = anndata.AnnData(obs=values.astype(float))
    cells.obsm[OBSM_MULTIVIEW] = mdata.obsm[f"{OBSM_MULTIVIEW}_umap"]
    axes: Any = latent_umap(cells, genes, random_state=random_state)
    return axes[0].figure


def _imputation(results: Results, random_state: int) -> Any:
    import matplotlib.pyplot as plt

    from atacvi.pl import imputation

    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.9), layout="constrained")
    groups = results.source.mdata.obs[OBS_CLUSTERS]
    for ax, modality, what in zip(axes, (RNA, ATAC), ("genes", "peaks"), strict=True):
        observed, imputed = _sampled(results, modality, random_state)
        imputation(
            observed,
            imputed,
            groups,
            xlabel=f"observed {what}",
            ylabel=f"imputed {what}",
            ax=ax,
        )
    return figure


def _sampled(results: Results, modality: str, random_state: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Observed and imputed values of some features at the same depth."""
    adata, layer = results.source.mdata[modality], results.source.layers[modality]
    counts = (adata.X if layer is None else adata.layers[layer]).tocsr()
    n_features = min(_N_FEATURES, adata.n_vars)
    rng = np.random.default_rng(random_state)
    columns = np.sort(rng.choice(adata.n_vars, n_features, replace=False))
    names = adata.var_names[columns].tolist()
    depth = np.asarray(counts.sum(axis=1), dtype=float)
    if modality == RNA:
        target = 1e4
        imputed = results.model.get_normalized_expression(gene_list=names, library_size=target)
    else:
        target = float(np.median(depth[depth > 0]))
        imputed = results.model.get_normalized_accessibility(region_list=names, library_size=target)
    observed = counts[:, columns].toarray() * (target / np.maximum(depth, 1.0)).reshape(-1, 1)
    return observed, imputed[names]


def _training(results: Results, random_state: int) -> Any:
    from atacvi.pl import training_curves

    axes: Any = training_curves(results.model)
    return axes[0].figure
