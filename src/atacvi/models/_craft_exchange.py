"""Folders of the public CRAFT layout: ``config.json``, ``model.safetensors``, ``universe.bed.gz``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atacvi._compat import without_pull
from atacvi._constants import OBSM_TOKENS
from atacvi.data._messages import examples
from atacvi.models._token_weights import embedded_universe, resolve_source
from atacvi.models._tokens import UNIVERSE_ENTRY, Vocabulary, describe_vocabulary
from atacvi.modules import AtacformerConfig
from atacvi.modules._atacformer_checkpoint import check_universe
from atacvi.modules._checkpoint_files import (
    BACKBONE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_config_file,
    read_weights_file,
    write_files,
)
from atacvi.regions import Universe

if TYPE_CHECKING:
    from typing import Self

_ENTRY = "atacvi_craft"
_ATAC = "atac_encoder."
# Parts of the encoder that have no prefix in the public layout, and those that are not written
_BARE = ("idf", "attention_pooling.")
_NOT_WRITTEN = ("discriminator.", "classification_head.", "batch_prediction_head.")
_RIDGE = "ridge."


class CRAFTExchangeMixin:
    """`save_pretrained` and `from_pretrained`."""

    module: Any
    universe: Universe
    registry_: dict[str, Any]
    ridge_: dict[str, np.ndarray] | None
    retrieval_scale_: float | None
    imputation_scores_: dict[str, float] | None
    is_trained_: bool
    started_: bool
    decoder_is_trained_: bool

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``universe.bed.gz``.

        Weights are named as in the public checkpoints: ``gene_encoder.*``, ``gene_projection``,
        ``atac_encoder.*``, ``atac_projection``, ``logit_scale``. Of a universe that is embedded in
        part, that part is written. The folder is also one of an AtacformerModel.

        Parameters
        ----------
        folder
            Folder; made if needed. Files of an earlier checkpoint in it are replaced.

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> from pathlib import Path
        >>> model.save_pretrained("checkpoint")
        >>> sorted(file.name for file in Path("checkpoint").iterdir())
        ['config.json', 'model.safetensors', 'universe.bed.gz']
        """
        self._require_training()  # type: ignore[attr-defined]
        encoder = self.module.atac_encoder
        universe = embedded_universe(encoder, self.universe)
        arguments = {**self.init_params_["kwargs"], **self.init_params_["non_kwargs"]}  # type: ignore[attr-defined]
        kept = (
            "n_latent",
            "rna_encoder",
            "n_rna_embed",
            "n_rna_hidden",
            "n_rna_layers",
            "n_components",
        )
        flat = _flatten(arguments)
        described = {
            "genes": [str(name) for name in self.gene_names],  # type: ignore[attr-defined]
            "n_given": self.pairs.n_rna_embed,  # type: ignore[attr-defined]
            "rna_obsm": self.pairs.rna_obsm,  # type: ignore[attr-defined]
            "retrieval_scale": self.retrieval_scale_,
            "imputation_scores": self.imputation_scores_,
            "has_imputation": self.decoder_is_trained_,
            "arguments": {
                name: flat[name] for name in (*kept, "n_decoder_hidden", "geneformer_config")
            },
        }
        config = {**encoder.config.for_universe(len(universe)).to_dict(), _ENTRY: described}
        tensors = {
            public: value.detach().cpu().contiguous().clone()
            for name, value in self.module.state_dict().items()
            if (public := _public_name(name)) is not None
        }
        if self.ridge_ is not None:
            tensors |= {f"{_RIDGE}{k}": torch.as_tensor(v) for k, v in self.ridge_.items()}
        write_files(Path(folder), config, tensors, universe)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> Self:
        """Build a model without data from a folder that `save_pretrained` wrote.

        Retrieval and annotation then need their reference as an argument, and imputation uses the
        decoder or the ridge regression. To train on, build a model with
        ``CRAFTModel(mdata, pretrained=folder)``, which takes the encoder of accessibility over from
        any public checkpoint.

        Parameters
        ----------
        source
            Folder, or name of a repository of the Hugging Face hub.
        revision
            Revision of the repository.

        Returns
        -------
        Model that embeds either modality.

        Raises
        ------
        FileNotFoundError
            If files are missing.
        ValueError
            If files cannot be read or do not fit each other, weights are missing or left over, or
            the RNA encoder is not described.

        Examples
        --------
        >>> model.save_pretrained("checkpoint")
        >>> again = atacvi.CRAFTModel.from_pretrained("checkpoint")
        >>> again.get_latent_representation(mdata["atac"][:5], modality="atac").shape
        (5, 8)
        """
        folder = resolve_source(source, revision)
        config = read_config_file(folder)
        if _ENTRY not in config:
            msg = (
                f"{folder / CONFIG_FILE} does not describe the RNA encoder ({_ENTRY!r} is missing), "
                "so that its weights could be read in more than one way. The encoder of "
                "accessibility alone can be taken over: CRAFTModel(mdata, pretrained=folder), or "
                "AtacformerModel.from_pretrained(folder)"
            )
            raise ValueError(msg)
        described = config.pop(_ENTRY)
        universe = Universe.from_folder(folder)
        check_universe(universe, AtacformerConfig.from_dict(config))
        registry = _registry_without_data(cls, universe, described)
        model = cls(registry=registry, config=config, **described["arguments"])  # type: ignore[call-arg]
        state = read_weights_file(folder)
        ridge = {k[len(_RIDGE) :]: v.numpy() for k, v in state.items() if k.startswith(_RIDGE)}
        state = {_own_name(k): v for k, v in state.items() if not k.startswith(_RIDGE)}
        outcome = model.module.load_state_dict(state, strict=False)
        missing = [n for n in outcome.missing_keys if _public_name(n) is not None]
        if missing or outcome.unexpected_keys:
            msg = (
                f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE}: missing {examples(missing)}, "
                f"left over {examples(outcome.unexpected_keys)}. Weights are not made up"
            )
            raise ValueError(msg)
        model.ridge_ = ridge or None
        model.retrieval_scale_ = described["retrieval_scale"]
        model.imputation_scores_ = described.get("imputation_scores")
        model.decoder_is_trained_ = described["has_imputation"]
        model.started_ = model.is_trained_ = True
        model.module.eval()
        return model


def _flatten(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `__init__`, of which scvi-tools keeps some in groups."""
    flat: dict[str, Any] = {}
    for name, value in arguments.items():
        flat |= value if isinstance(value, dict) and name.endswith("kwargs") else {name: value}
    return flat


def _public_name(name: str) -> str | None:
    """Return the name in a file, ``None`` for what is not written."""
    if not name.startswith(_ATAC):
        return name
    rest = name[len(_ATAC) :]
    if rest.startswith(_NOT_WRITTEN) or rest == "embeddings.active_ids":
        return None
    return name if rest.startswith(BACKBONE) else rest


def _own_name(name: str) -> str:
    return f"{_ATAC}{name}" if name.startswith(_BARE) else name


def _registry_without_data(cls: Any, universe: Universe, described: dict[str, Any]) -> Any:
    """Return a registry for a model that has seen no data: one batch, one label, all regions."""
    import anndata
    import mudata
    import pandas as pd
    import scipy.sparse as sp

    genes, key = described["genes"], described["rna_obsm"]
    names = ["none", "neither"]
    blank = sp.csr_matrix(
        np.ones((2, 1), dtype=np.float32) @ np.eye(1, len(genes), dtype=np.float32)
    )
    rna = anndata.AnnData(blank, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes))
    if key is not None:
        rna.obsm[key] = np.zeros((2, described["n_given"]), dtype=np.float32)
    atac = anndata.AnnData(obs=pd.DataFrame(index=names))
    tokens = (np.ones(2, dtype=bool), ([0, 1], [0, 0]))
    atac.obsm[OBSM_TOKENS] = sp.csr_matrix(tokens, shape=(2, len(universe)))
    with without_pull():
        mdata = mudata.MuData({"rna": rna, "atac": atac})
        cls.setup_mudata(mdata, universe=universe, rna_obsm=key)
    registry = cls._get_most_recent_anndata_manager(mdata, required=True).registry
    everything = Vocabulary(universe, np.arange(len(universe)), OBSM_TOKENS, None, 0.0)
    registry[UNIVERSE_ENTRY] = describe_vocabulary(everything)
    return registry
