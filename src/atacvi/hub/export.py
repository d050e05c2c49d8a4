"""A model in a folder that ``scvi.hub.HubModel`` reads and that can be uploaded as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atacvi.hub.card import import_hub, model_card, require_model, versions

if TYPE_CHECKING:
    from scvi.hub import HubModel

_MODULE = "atacvi.models"


def export_model(
    model: Any,
    folder: str | Path,
    *,
    license: str,
    description: str,
    with_data: bool = True,
    overwrite: bool = False,
    **card: Any,
) -> HubModel:
    """Write model, data, card and metadata into a folder for scvi-hub.

    The folder holds ``model.pt``, ``README.md`` (the card), ``_scvi_required_metadata.json`` and,
    unless `with_data` is false, ``adata.h5ad`` or ``mdata.h5mu``. Nothing is uploaded.
    `scvi.hub.HubModel` loads the model again from there: the same latent for the same cells.

    Parameters
    ----------
    model
        Trained model of this package.
    folder
        Folder; made if needed.
    license, description
        See `model_card`.
    with_data
        Whether to write the data of the model too. Without them the model is loaded with
        ``hub_model.load_model(adata)``, or without any by ``Model.load(folder, adata=False)``.
    overwrite
        Whether a folder that exists may be written to.
    **card
        Further arguments of `model_card`: `metrics`, `modalities`, `tissues`, `references`.

    Returns
    -------
    Hub model of that folder; nothing is loaded until its ``model`` is asked for.

    Raises
    ------
    FileExistsError
        If the folder exists and `overwrite` is false.
    ImportError
        If ``huggingface_hub`` is not installed (extra ``hub``).
    RuntimeError
        If the model is not trained.
    TypeError
        If `model` is not a model of scvi-tools.
    ValueError
        If the card is not complete, or there are no data to write.

    References
    ----------
    Ergen et al., "Scvi-hub: an actionable repository for model-driven single-cell analysis", bioRxiv
    2024.03.01.582887.

    Examples
    --------
    >>> import atacvi
    >>> cells = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)[
    ...     "atac"
    ... ].copy()
    >>> atacvi.AtacformerModel.setup_anndata(cells)
    >>> model = atacvi.AtacformerModel(cells, n_embed=8, n_layers=1, n_heads=1, n_feedforward=8)
    >>> model.pretrain(max_epochs=1, enable_progress_bar=False)
    >>> hub_model = atacvi.hub.export_model(
    ...     model, "for_the_hub", license="cc0-1.0", description="Simulated cells."
    ... )
    >>> hub_model.metadata.model_cls_name, hub_model.metadata.model_parent_module
    ('AtacformerModel', 'atacvi.models')
    >>> from pathlib import Path
    >>> sorted(file.name for file in Path("for_the_hub").iterdir())
    ['README.md', '_scvi_required_metadata.json', 'adata.h5ad', 'model.pt']
    """
    import_hub()
    from scvi.hub import HubMetadata, HubModel

    name = require_model(model)
    folder = Path(folder)
    if not model.is_trained:
        msg = f"{name} is not trained; train it before it is exported"
        raise RuntimeError(msg)
    if with_data and model.adata is None:
        msg = f"{name} has no data to write; export it with with_data=False"
        raise ValueError(msg)
    if folder.exists() and not overwrite:
        msg = f"{folder} exists; choose another folder, or say overwrite=True"
        raise FileExistsError(msg)
    described = model_card(model, license=license, description=description, **card)
    found = versions()
    metadata = HubMetadata(
        scvi_version=found["scvi-tools"],
        anndata_version=found["anndata"],
        model_cls_name=name,
        model_parent_module=_MODULE,
    )
    model.save(str(folder), overwrite=overwrite, save_anndata=with_data)
    hub_model = HubModel(str(folder), metadata=metadata, model_card=described)
    hub_model.save(overwrite=overwrite)
    return hub_model
