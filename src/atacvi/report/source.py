"""The data of a run: simulated, or read from a file and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atacvi._compat import layer_names, without_pull
from atacvi._constants import ATAC, LAYER_COUNTS, MODALITIES, RNA
from atacvi.report.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

#: Features seen in fewer cells say nothing that a model could learn.
MIN_CELLS = 5
MIN_FRACTION = 0.001
#: Column of ``obs`` that is taken for the truth
TRUTH = "cell_type"
#: Fewer cells are too few to train on, and to hold some out.
FEWEST_CELLS = 50


@dataclass
class Source:
    """Checked data with what was done to it.

    Parameters
    ----------
    mdata
        Paired counts; features seen in too few cells are left out.
    origin
        Where the data come from, in words.
    layers
        Layer of the counts by modality; ``None`` is ``X``.
    shapes
        (cells, features) by modality before features were left out.
    """

    mdata: MuData
    origin: str
    layers: dict[str, str | None]
    shapes: dict[str, tuple[int, int]]


def simulated_source(n_cells: int, random_state: int) -> Source:
    """Simulate paired data with a known truth."""
    from atacvi.datasets import simulate_multiome

    n_genes, n_peaks = 1000, 10_000
    # Some types differ in one modality alone, as in life: only both together tell all of them.
    mdata = simulate_multiome(
        n_cells,
        n_genes,
        n_peaks,
        rna_hidden_types=1,
        atac_hidden_types=2,
        random_state=random_state,
    )
    shapes = {name: mdata[name].shape for name in MODALITIES}
    origin = f"simulated by atacvi.datasets.simulate_multiome, seed {random_state}"
    return Source(
        _keep_seen(mdata, {RNA: None, ATAC: None}), origin, {RNA: None, ATAC: None}, shapes
    )


def read_source(path: Path, batch_key: str | None) -> Source:
    """Read a ``.h5mu`` file and check it as the model will.

    Counts are taken from the layer ``"counts"`` where a modality has it, otherwise from ``X``.

    Raises
    ------
    InputError
        If the file cannot be read, or does not hold paired counts of RNA and ATAC.
    """
    from atacvi.data import validate_multiome

    mdata = _read(path)
    missing = [name for name in MODALITIES if name not in mdata.mod]
    if missing:
        msg = (
            f"{path} has the modalities {list(mdata.mod)}, but not {missing}; name them "
            f"{list(MODALITIES)}."
        )
        raise InputError(msg)
    layers = {name: _counts_layer(mdata.mod[name]) for name in MODALITIES}
    _lift(mdata, [TRUTH, *([] if batch_key is None else [batch_key])])
    try:
        validate_multiome(
            mdata,
            rna_layer=layers[RNA],
            atac_layer=layers[ATAC],
            batch_key=batch_key,
            allow_missing=True,
            allow_empty_features=True,
        )
    except (KeyError, TypeError, ValueError) as error:
        text = error.args[0] if error.args else str(error)
        msg = f"{path}: {text}"
        raise InputError(msg) from error
    if mdata.n_obs < FEWEST_CELLS:
        msg = f"{path} has {mdata.n_obs} cells; at least {FEWEST_CELLS} are needed to train."
        raise InputError(msg)
    shapes = {name: mdata.mod[name].shape for name in MODALITIES}
    return Source(_keep_seen(mdata, layers), path.name, layers, shapes)


def check_file(path: Path) -> None:
    """Check what can be told of an input file without reading it.

    Raises
    ------
    InputError
        If there is no such file, or it is of another kind.
    """
    if not path.exists():
        msg = f"--input {path} does not exist."
        raise InputError(msg)
    if not path.is_file():
        msg = f"--input {path} is a folder; give a .h5mu file."
        raise InputError(msg)
    if path.suffix != ".h5mu":
        msg = (
            f"--input {path} is no .h5mu file; write one with mdata.write(...), for example from "
            "muon.read_10x_h5(...)."
        )
        raise InputError(msg)


def _read(path: Path) -> MuData:
    import mudata

    try:
        with without_pull():
            return mudata.read_h5mu(path)
    # A damaged or foreign file fails in h5py, anndata or mudata, each with errors of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"{path} cannot be read as .h5mu: {reason or type(error).__name__}"
        raise InputError(msg) from error


def _counts_layer(adata: AnnData) -> str | None:
    return LAYER_COUNTS if LAYER_COUNTS in layer_names(adata) else None


def _lift(mdata: MuData, columns: list[str]) -> None:
    """Copy columns that only ``obs`` of a modality has to ``obs`` of the whole."""
    for column in columns:
        for name in MODALITIES:
            if column not in mdata.obs and column in mdata.mod[name].obs:
                mdata.obs[column] = mdata.mod[name].obs[column].reindex(mdata.obs_names)


def _keep_seen(mdata: MuData, layers: dict[str, str | None]) -> MuData:
    """Leave out features seen in too few cells, and modalities the model does not use."""
    import mudata

    parts = {}
    for name in MODALITIES:
        adata = mdata.mod[name]
        layer = layers[name]
        counts = adata.X if layer is None else adata.layers[layer]
        seen = np.asarray((counts > 0).sum(axis=0)).ravel()
        keep = seen >= max(MIN_CELLS, MIN_FRACTION * adata.n_obs)
        if not keep.any():
            msg = (
                f'mdata["{name}"]: no feature is seen in {MIN_CELLS} or more of '
                f"{adata.n_obs} cells; give data with more cells or deeper ones."
            )
            raise InputError(msg)
        parts[name] = adata[:, keep].copy()
    with without_pull():
        kept = mudata.MuData(parts)
        kept.obs = mdata.obs.loc[kept.obs_names].copy()
    for key in mdata.uns:
        kept.uns[key] = mdata.uns[key]
    for key in mdata.obsm:
        if key not in mdata.mod:
            kept.obsm[key] = mdata.obsm[key]
    return kept
