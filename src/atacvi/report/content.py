"""What the page of a run says: its tables and texts."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atacvi import __version__
from atacvi._constants import ATAC, MODALITIES, OBS_CLUSTERS, RNA
from atacvi.report.page import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atacvi.report.demo import Results
    from atacvi.report.figures import Picture
    from atacvi.report.source import Source

_PACKAGES = ("torch", "scvi-tools", "anndata", "mudata", "scanpy", "numpy", "pandas", "scipy")
_SCORES = {
    "method": "clustering",
    "n_clusters": "clusters",
    "ari": "ARI",
    "nmi": "NMI",
    "knn_accuracy": "k-NN accuracy",
}


def make_sections(results: Results, pictures: Sequence[Picture], folder: str) -> list[Section]:
    """Make the sections of the page from the results of a run.

    Parameters
    ----------
    results
        Data, model, tables and times.
    pictures
        Figures with the sections they belong to.
    folder
        Name of the output folder, for the text that tells how to load it.
    """

    def shown(title: str) -> list[tuple]:
        return [(p.path, p.caption) for p in pictures if p.section == title]

    sections = [
        _data(results.source),
        Section("Embedding", [_embedding_text(results)], figures=shown("Embedding")),
        Section(
            "Clusters",
            _cluster_notes(results),
            tables=[("Marker genes and peaks by cluster", _cluster_table(results))],
            figures=shown("Clusters"),
        ),
        Section("Imputation", figures=shown("Imputation")),
        Section("Training", [_training_text(results)], figures=shown("Training")),
        Section("Load the results", code=_loading_code(folder)),
        _run(results),
    ]
    if results.scores is not None:
        scores = results.scores.rename(columns=_SCORES)
        text = (
            "Agreement with the known cell types: adjusted Rand index (ARI) and normalised mutual "
            "information (NMI) of the clusters, and the accuracy of a vote of the 10 nearest "
            "neighbours in the latent. Leiden is read at the resolution whose number of clusters "
            "is nearest the number of types."
        )
        sections.insert(1, Section("Scores", [text], tables=[("", scores)]))
    return sections


def _data(source: Source) -> Section:
    rows = []
    for name in MODALITIES:
        adata, layer = source.mdata[name], source.layers[name]
        counts = adata.X if layer is None else adata.layers[layer]
        seen = np.asarray((counts > 0).sum(axis=1)).ravel()
        rows.append(
            {
                "modality": name,
                "counts in": "X" if layer is None else f'layers["{layer}"]',
                "cells": adata.n_obs,
                "features": source.shapes[name][1],
                "features used": adata.n_vars,
                "median features per cell": int(np.median(seen)),
                "median counts per cell": int(np.median(np.asarray(counts.sum(axis=1)))),
            }
        )
    text = (
        "Features seen in fewer than 5 cells, or in fewer than 0.1 % of the cells, are left out of "
        "training and of the written data."
    )
    return Section("Data", [text], tables=[("", pd.DataFrame(rows))])


def _embedding_text(results: Results) -> str:
    n_cells, n_latent = results.source.mdata.obsm["X_multiview"].shape
    return (
        f"Each of the {n_cells:,} cells has {n_latent} latent coordinates, from RNA and ATAC "
        f"together; the UMAP shows them in two dimensions. {OBS_CLUSTERS} is the most probable "
        "component of the model's mixture, leiden a clustering of the neighbour graph of the latent."
    )


def _cluster_notes(results: Results) -> list[str]:
    if not results.markers.empty:
        return []
    return [
        "The cells form one cluster, or clusters of fewer than 3 cells, so there are no markers. "
        "More cells or more epochs may separate them."
    ]


def _cluster_table(results: Results) -> pd.DataFrame:
    obs = results.source.mdata.obs
    sizes = obs[OBS_CLUSTERS].value_counts(sort=False)
    table = results.markers
    rows = []
    for cluster in sizes.index:
        own = table[table["cluster"] == str(cluster)]
        row: dict[str, object] = {"cluster": str(cluster), "cells": int(sizes[cluster])}
        if results.scores is not None:
            row["mostly"] = _majority(obs.loc[obs[OBS_CLUSTERS] == cluster, "cell_type"])
        row["marker genes"] = ", ".join(own.loc[own["modality"] == RNA, "feature"]) or "–"
        peaks = own.loc[own["modality"] == ATAC, "feature"]
        row["marker peaks"] = ", ".join(peaks[:2]) or "–"
        rows.append(row)
    return pd.DataFrame(rows)


def _majority(types: pd.Series) -> str:
    shares = types.value_counts(normalize=True)
    if shares.empty:
        return "–"
    return f"{shares.index[0]} ({shares.iloc[0]:.0%})"


def _training_text(results: Results) -> str:
    history = results.model.history
    n_epochs = len(next(iter(history.values()))) if history else 0
    stages = getattr(results.model, "training_stages_", None) or {}
    begun = ", ".join(f"{name} from epoch {epoch}" for name, epoch in stages.items())
    return f"{n_epochs} epochs" + (f"; {begun}." if begun else ".")


def _loading_code(folder: str) -> str:
    """Six lines that load everything."""
    return f"""\
import atacvi, mudata
mdata = mudata.read_h5mu("{folder}/multiome.h5mu")
model = atacvi.MultiViewModel.load("{folder}/model", adata=mdata)
atacvi.pl.latent_umap(mdata, color=["{OBS_CLUSTERS}", "leiden"])
imputed = mdata["rna"].obsm["imputed_markers"]  # table: cells x marker genes; also in mdata["atac"]
markers = mdata.uns["atacvi"]["markers"]        # table: cluster, feature, score, ...
"""


def _run(results: Results) -> Section:
    times = pd.DataFrame(
        {
            "stage": [*results.seconds, "in all"],
            "seconds": [
                f"{value:.1f}"
                for value in [*results.seconds.values(), sum(results.seconds.values())]
            ],
        }
    )
    versions = {"atacvi": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    table = pd.DataFrame({"package": list(versions), "version": list(versions.values())})
    return Section("Time and versions", tables=[("", times), ("", table)])
