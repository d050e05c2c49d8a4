"""The whole way: data, training, embedding, clusters, imputation, scores, figures, report."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atacvi._compat import without_pull
from atacvi._constants import ATAC, OBS_CLUSTERS, OBSM_MULTIVIEW, RNA
from atacvi.report.errors import InputError
from atacvi.report.figures import draw_figures
from atacvi.report.folder import check_folder, new_folder
from atacvi.report.markers import find_markers, impute_markers
from atacvi.report.progress import Narrator, epoch_callback
from atacvi.report.scores import leiden_clusters, score_table
from atacvi.report.source import TRUTH, Source, check_file, read_source, simulated_source

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

#: Column of ``obs`` that Leiden clusters go into
LEIDEN = "leiden"
_STAGES = 6


@dataclass(frozen=True)
class DemoSettings:
    """What to run.

    Parameters
    ----------
    out
        Folder to be made.
    input
        ``.h5mu`` file; ``None`` simulates.
    max_epochs
        Epochs at most; ``None`` lets the model choose.
    n_cells
        Number of cells to simulate.
    batch_key
        Column of ``obs`` with batches to correct for.
    random_state
        Seed of simulation, training and clustering.
    overwrite
        Replace an earlier output.
    """

    out: Path
    input: Path | None = None
    max_epochs: int | None = None
    n_cells: int = 2000
    batch_key: str | None = None
    random_state: int = 0
    overwrite: bool = False


@dataclass
class Results:
    """All that figures and page need.

    Parameters
    ----------
    source
        Data; its ``mdata`` carries embedding, clusters and imputed markers.
    model
        Trained model.
    markers
        Table of :func:`atacvi.report.find_markers`.
    scores
        Table of scores, or ``None`` without truth.
    seconds
        Time of each stage.
    """

    source: Source
    model: Any
    markers: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: pd.DataFrame | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(settings: DemoSettings, console: Console) -> Path:
    """Run everything and write the folder, which is complete or absent.

    Parameters
    ----------
    settings
        What to run.
    console
        Where progress is told.

    Returns
    -------
    The folder: ``multiome.h5mu``, ``model/``, ``markers.csv``, ``scores.csv`` (where the truth is
    known), ``figures/*.png`` and ``report.html``.

    Raises
    ------
    InputError
        If input or output cannot be used; nothing has been written then.
    """
    _check(settings)
    narrator = Narrator(console, _STAGES)
    title = "Simulating data" if settings.input is None else f"Reading {settings.input.name}"
    with narrator.stage(title):
        source = _get_source(settings)
    for name in (RNA, ATAC):
        cells, features = source.mdata[name].shape
        narrator.say(f"      {name}: {cells:,} cells x {features:,} features")
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        results = _analyse(source, settings, narrator)
        with narrator.stage("Drawing figures"):
            figures = draw_figures(results, folder / "figures", settings.random_state)
        with narrator.stage("Writing results"):
            _write(results, folder)
        results.seconds = narrator.seconds
        _write_page(results, figures, folder, settings)
    return settings.out


def _check(settings: DemoSettings) -> None:
    check_folder(settings.out, overwrite=settings.overwrite)
    if settings.input is None:
        return
    check_file(settings.input)
    if settings.input.resolve().is_relative_to(settings.out.resolve()):
        msg = f"--input {settings.input} lies in --out, which would be replaced; move one of them."
        raise InputError(msg)


def _get_source(settings: DemoSettings) -> Source:
    if settings.input is not None:
        return read_source(settings.input, settings.batch_key)
    return simulated_source(settings.n_cells, settings.random_state)


def _analyse(source: Source, settings: DemoSettings, narrator: Narrator) -> Results:
    with narrator.stage("Training MultiViewModel") as news:
        model = _train(source, settings, news)
    results = Results(source, model)
    with narrator.stage("Embedding, clusters and scores"):
        _embed(results, settings.random_state)
    with narrator.stage("Markers and imputation"):
        results.markers = find_markers(source.mdata, source.layers)
        impute_markers(model, source.mdata, results.markers)
    return results


def _train(source: Source, settings: DemoSettings, news: Any) -> Any:
    import scvi

    from atacvi.models import MultiViewModel

    scvi.settings.seed = settings.random_state
    mdata = source.mdata
    try:
        MultiViewModel.setup_mudata(
            mdata,
            rna_layer=source.layers[RNA],
            atac_layer=source.layers[ATAC],
            batch_key=settings.batch_key,
            allow_missing=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        # Leaving out rare features can leave a cell without counts, which no earlier check sees.
        msg = f"the data cannot be used: {error.args[0] if error.args else error}"
        raise InputError(msg) from error
    model = MultiViewModel(mdata)
    # scvi-tools prints what ended a training, an interruption too; the caller says it better.
    with contextlib.redirect_stdout(io.StringIO()):
        model.train(
            max_epochs=settings.max_epochs,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[epoch_callback(news)],
        )
    return model


def _embed(results: Results, random_state: int) -> None:
    mdata, model = results.source.mdata, results.model
    latent = np.asarray(model.get_latent_representation())
    mdata.obsm[OBSM_MULTIVIEW] = latent
    clusters = model.predict_clusters()
    # Components without a cell are no clusters of these data.
    own = pd.Categorical(clusters.cat.remove_unused_categories())
    truth = mdata.obs[TRUTH] if TRUTH in mdata.obs else None
    if truth is not None and truth.nunique() < 2:
        truth = None
    n_groups = None if truth is None else truth.nunique()
    leiden = leiden_clusters(latent, n_groups, random_state)
    mdata.obs[OBS_CLUSTERS] = own
    mdata.obs[LEIDEN] = leiden
    if truth is None:
        return
    clusterings = {
        "clusters of the model": (own, latent),
        "Leiden, both modalities": (leiden, latent),
    }
    for modality, name in ((RNA, "RNA"), (ATAC, "ATAC")):
        single = np.asarray(model.get_latent_representation(modality=modality))
        found = leiden_clusters(single, n_groups, random_state)
        clusterings[f"Leiden, {name} alone"] = (found, single)
    results.scores = score_table(truth, clusterings)


def _write(results: Results, folder: Path) -> None:
    with without_pull():
        results.source.mdata.write(folder / "multiome.h5mu")
    results.model.save(folder / "model")
    results.markers.to_csv(folder / "markers.csv", index=False)
    if results.scores is not None:
        results.scores.to_csv(folder / "scores.csv", index=False, float_format="%.4f")


def _write_page(results: Results, figures: list[Any], folder: Path, settings: DemoSettings) -> None:
    from atacvi.report.content import make_sections
    from atacvi.report.page import build_page

    sections = make_sections(results, figures, settings.out.name)
    page = build_page("atacvi: joint view of RNA and ATAC", results.source.origin, sections)
    (folder / "report.html").write_text(page, encoding="utf-8")
