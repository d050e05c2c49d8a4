"""Every private or version-dependent name of the stack, in one place.

The package runs on two stacks: scvi-tools 1.4 with anndata 0.12 (Python 3.11) and scvi-tools 1.5 with
anndata 0.13 (Python 3.12 and later). Other files take such names from here and from nowhere else; a
test walks the sources. Names of scvi-tools are looked up when they are first used, so that rooms
without torch can import this file.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

# scvi-tools 1.4 uses `rich.pretty` without importing it (AttributeError in view_anndata_setup).
import rich.pretty  # noqa: F401

if TYPE_CHECKING:
    from anndata import AnnData

# our name -> (module, name there); all of them exist on scvi-tools 1.4.2 and 1.5
_SOURCES: dict[str, tuple[str, str]] = {
    "DifferentialComputation": ("scvi.model.base", "DifferentialComputation"),
    "SAVE_KEYS": ("scvi.model.base._constants", "SAVE_KEYS"),
    "SETUP_ARGS_KEY": ("scvi.data._constants", "_SETUP_ARGS_KEY"),
    "check_if_view": ("scvi.data._utils", "_check_if_view"),
    "check_nonnegative_integers": ("scvi.data._utils", "_check_nonnegative_integers"),
    "de_core": ("scvi.model.base._de_core", "_de_core"),
    "de_dsp": ("scvi.utils._docstrings", "de_dsp"),
    "devices_dsp": ("scvi.utils._docstrings", "devices_dsp"),
    "fdr_de_prediction": ("scvi.model.base._de_core", "_fdr_de_prediction"),
    "get_batch_code_from_category": ("scvi.model._utils", "_get_batch_code_from_category"),
    "get_loaded_data": ("scvi.model.base._archesmixin", "_get_loaded_data"),
    "get_max_epochs_heuristic": ("scvi.model._utils", "get_max_epochs_heuristic"),
    "get_var_names_from_manager": ("scvi.model._utils", "_get_var_names_from_manager"),
    "initialize_model": ("scvi.model.base._save_load", "_initialize_model"),
    "load_saved_files": ("scvi.model.base._save_load", "_load_saved_files"),
    "merge_kwargs": ("scvi.train._config", "merge_kwargs"),
    "parse_device_args": ("scvi.model._utils", "parse_device_args"),
    "prepare_obs": ("scvi.model.base._de_core", "_prepare_obs"),
    "scatac_raw_counts_properties": ("scvi.model._utils", "scatac_raw_counts_properties"),
    "scrna_raw_counts_properties": ("scvi.model._utils", "scrna_raw_counts_properties"),
    "set_params_online_update": ("scvi.model.base._archesmixin", "_set_params_online_update"),
    "setup_anndata_dsp": ("scvi.utils._docstrings", "setup_anndata_dsp"),
    "subset_group": ("scvi.model.base._de_core", "_subset_group"),
    "use_distributed_sampler": ("scvi.model._utils", "use_distributed_sampler"),
    "validate_var_names": ("scvi.model.base._save_load", "_validate_var_names"),
}

__all__ = [*_SOURCES, "layer_names", "without_pull"]


def __getattr__(name: str) -> Any:
    """Look a name of scvi-tools up when it is first used."""
    if name not in _SOURCES:
        msg = f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}"
        raise AttributeError(msg)
    module, attribute = _SOURCES[name]
    try:
        value = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        import scvi

        msg = (
            f"scvi-tools {scvi.__version__} has no `{module}.{attribute}`; atacvi supports "
            "scvi-tools>=1.4.2,<1.6: install one of these"
        )
        raise ImportError(msg) from error
    globals()[name] = value
    return value


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers.

    From anndata 0.13 on ``adata.layers`` may hold the key ``None``, which stands for ``X``; it is
    left out.

    Parameters
    ----------
    adata
        Annotated matrix (cells x features).

    Returns
    -------
    Names in the order in which they are stored.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from atacvi._compat import layer_names
    >>> layer_names(anndata.AnnData(np.zeros((2, 3)), layers={"counts": np.zeros((2, 3))}))
    ['counts']
    """
    return [name for name in adata.layers if name is not None]


def without_pull() -> AbstractContextManager[object]:
    """Context in which an update of a MuData leaves the columns of ``obs`` and ``var`` as they are.

    mudata 0.3 copies those of the modalities under prefixed names unless told not to; 0.4 does not
    and has no such option.

    Returns
    -------
    A context manager.

    Examples
    --------
    >>> import anndata, mudata, numpy as np
    >>> from atacvi._compat import without_pull
    >>> rna = anndata.AnnData(np.zeros((2, 3)))
    >>> rna.obs["total"] = 0
    >>> with without_pull():
    ...     mdata = mudata.MuData({"rna": rna})
    >>> list(mdata.obs.columns)
    []
    """
    import mudata

    if hasattr(mudata, "set_options"):
        return mudata.set_options(pull_on_update=False)
    return nullcontext()
