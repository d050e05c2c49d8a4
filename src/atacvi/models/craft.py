"""CRAFTModel: RNA and accessibility in one space, and RNA from accessibility."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.model.base import BaseModelClass

from atacvi._constants import OBSM_TOKENS
from atacvi.models._craft_encoders import build_atac_encoder, build_gene_encoder
from atacvi.models._craft_exchange import CRAFTExchangeMixin
from atacvi.models._craft_imputation import CrossModalImputationMixin
from atacvi.models._craft_latent import AccessibilitySide, SharedSpaceMixin
from atacvi.models._craft_retrieval import RetrievalMixin
from atacvi.models._craft_setup import DEFAULT_MODALITIES, read_pairs, setup_pairs
from atacvi.models._craft_training import CRAFTTrainingMixin
from atacvi.models._token_weights import take_over_weights
from atacvi.models._tokens import read_vocabulary
from atacvi.models._without_data import WithoutDataMixin
from atacvi.modules import CRAFTModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from atacvi.models.atacformer import AtacformerModel
    from atacvi.regions import Universe


class CRAFTModel(
    SharedSpaceMixin,
    RetrievalMixin,
    CrossModalImputationMixin,
    CRAFTExchangeMixin,
    CRAFTTrainingMixin,
    WithoutDataMixin,
    BaseModelClass,
):
    """RNA and accessibility of cells in one space, and expression imputed from accessibility.

    Two encoders are aligned on paired cells such that the two vectors of a cell find each other
    among those of other cells. Cells of either modality then retrieve, label and impute the other.
    Accessibility is seen through linear components of the open regions with a residual network, and
    through a transformer where one is taken over or asked for (`train`).

    Parameters
    ----------
    adata
        MuData set up with `setup_mudata`.
    registry
        Registry of a setup, to build a model without data.
    n_latent
        Width of the shared space.
    rna_encoder
        ``"mlp"``, principal components and a residual network, which trains without a download;
        ``"obsm"``, a residual network on the embedding named at the setup; ``"geneformer"``, a
        pretrained transformer over ranked genes.
    n_rna_embed
        Width of the RNA embedding of ``"mlp"``.
    n_rna_hidden, n_rna_layers
        Hidden width and blocks of the residual network; also of that on the linear components of the
        open regions.
    geneformer
        Folder with ``config.json``, ``model.safetensors``, ``gene_tokens.json`` and
        ``gene_medians.json``, for ``rna_encoder="geneformer"``.
    pretrained
        AtacformerModel, or folder of a checkpoint, whose encoder is taken over.
    n_embed, n_layers, n_heads, n_feedforward
        Sizes of the encoder of accessibility, where none is taken over.
    pooling
        From tokens to a cell: ``"idf"``, ``"mean"`` or ``"attention"``.
    vocabulary
        ``"active"`` embeds only the regions that occur in the data, ``"full"`` the whole universe.
    n_components
        Linear components of the open regions at most; held-out cells choose how many are used. They
        stand beside the transformer, or in its place (`train`); 0 leaves them out, as in the public
        layout.
    dropout
        Dropout of the encoders.
    n_decoder_hidden
        Hidden width of the decoder.
    config
        All sizes of the encoder of accessibility at once.

    Raises
    ------
    ImportError
        If Geneformer is asked for and ``transformers`` is not installed.
    ValueError
        If sizes are out of range or do not fit each other.

    References
    ----------
    LeRoy et al., "Atacformer: A transformer-based foundation model for analysis and interpretation
    of ATAC-seq data", bioRxiv 2025.11.03.685753 (2025).

    Examples
    --------
    >>> import atacvi
    >>> from atacvi.models import CRAFTModel
    >>> mdata = atacvi.datasets.simulate_multiome(n_cells=150, n_genes=40, n_peaks=200)
    >>> CRAFTModel.setup_mudata(mdata)
    >>> model = CRAFTModel(mdata, n_latent=8, n_embed=16, n_layers=1, n_heads=2, n_feedforward=16)
    >>> model.train(max_epochs=1, imputation_epochs=1, enable_progress_bar=False)
    >>> model.get_latent_representation(modality="atac").shape
    (150, 8)
    >>> model.impute_rna(mdata["atac"][:3]).shape
    (3, 40)
    """

    _module_cls = CRAFTModule

    def __init__(
        self,
        adata: MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int = 64,
        rna_encoder: Literal["mlp", "obsm", "geneformer"] = "mlp",
        n_rna_embed: int = 50,
        n_rna_hidden: int = 128,
        n_rna_layers: int = 1,
        geneformer: str | Path | None = None,
        pretrained: AtacformerModel | str | Path | None = None,
        n_embed: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        n_feedforward: int = 128,
        pooling: Literal["idf", "mean", "attention"] = "idf",
        vocabulary: Literal["active", "full"] = "active",
        n_components: int = 128,
        dropout: float = 0.1,
        n_decoder_hidden: int = 64,
        config: dict[str, Any] | None = None,
        geneformer_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adata, registry)
        registered = self.registry_ if adata is None else self.adata_manager.registry
        known, pairs = read_vocabulary(registered), read_pairs(registered)
        sizes: dict[str, Any] = {
            "hidden_size": n_embed,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "intermediate_size": n_feedforward,
            "pooling": pooling,
            "dropout": dropout,
        }
        atac_encoder, source = build_atac_encoder(known, vocabulary, sizes, pretrained, config)
        gene_encoder, described = build_gene_encoder(
            rna_encoder,
            pairs,
            n_embed=n_rna_embed,
            n_hidden=n_rna_hidden,
            n_layers=n_rna_layers,
            dropout=dropout,
            folder=geneformer,
            description=geneformer_config,
        )
        self.module = self._module_cls(
            gene_encoder,
            atac_encoder,
            len(pairs.genes),
            n_latent=n_latent,
            n_decoder_hidden=n_decoder_hidden,
            n_components=min(n_components, atac_encoder.embeddings.n_active),
            n_component_hidden=n_rna_hidden,
            n_component_layers=n_rna_layers,
            dropout_rate=dropout,
        )
        self.universe = known.universe
        self.rna_encoder = rna_encoder
        self.atac_side = AccessibilitySide(atac_encoder, known.universe, registered)
        if source is not None:
            take_over_weights(atac_encoder, known.universe, source)
            self.atac_side.started_ = True
        self.started_ = False
        self.decoder_is_trained_ = False
        self.ridge_: dict[str, np.ndarray] | None = None
        self.imputation_scores_: dict[str, float] | None = None
        self.retrieval_scale_: float | None = None
        self.start_correlation_: np.ndarray | None = None
        self._model_summary_string = (
            f"CRAFTModel: {len(pairs.genes)} genes ({rna_encoder}), {len(known.universe)} regions "
            f"({atac_encoder.embeddings.n_active} embedded), n_latent: {n_latent}"
        )
        self.init_params_ = self._get_init_params(locals())
        # a saved model is built from its sizes alone: no checkpoint is needed
        self.init_params_["non_kwargs"] |= {
            "config": atac_encoder.config.to_dict(),
            "pretrained": None,
            "geneformer": None,
            "geneformer_config": described,
        }

    # ---- setup ----------------------------------------------------------------------------

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        tokens_key: str = OBSM_TOKENS,
        universe: Universe | pd.DataFrame | Iterable[str] | str | Path | None = None,
        threshold: float = 0.0,
        rna_obsm: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: Mapping[str, str] | None = None,
        allow_missing: bool = False,
        **kwargs: Any,
    ) -> None:
        """Check counts of genes and tokens, or counts in peaks, of paired cells and register them.

        Without ``obsm[tokens_key]`` of the accessibility the open peaks are mapped onto the universe,
        and the tokens written there, with ``obs["n_tokens"]`` and ``obs["is_empty"]``. Nothing is
        written unless all checks pass.

        Parameters
        ----------
        mdata
            Paired data; both modalities hold the same cells in the same order.
        rna_layer
            Layer with counts of genes; ``None`` takes ``X``.
        atac_layer, threshold
            Layer with counts in peaks (``None`` takes ``X``), and above which a peak is open.
        tokens_key
            Slot of the accessibility's ``obsm`` with tokens.
        universe
            Vocabulary, what :class:`atacvi.regions.Universe` makes one of, or the path of one;
            ``None`` takes the one stored with the tokens, or the peaks themselves.
        rna_obsm
            Slot of the RNA's ``obsm`` with an embedding, for ``rna_encoder="obsm"``.
        batch_key, labels_key
            Columns of ``obs``.
        modalities
            Modality of each argument, ``{"rna_layer": "rna", "atac_layer": "atac"}`` by default; a
            key without a modality is taken from ``mdata.obs``.
        allow_missing
            Accept cells that lack counts of genes or open regions; they are not trained on.

        Raises
        ------
        KeyError
            If a modality, layer, slot or column does not exist.
        TypeError
            If `mdata` is no MuData or a matrix is of a kind that cannot be read.
        ValueError
            If cells differ in number or order or lack a modality, names are not unique, counts are
            no counts, or tokens and universe do not fit each other.

        Examples
        --------
        >>> mdata = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)
        >>> atacvi.CRAFTModel.setup_mudata(mdata, labels_key="cell_type")
        >>> model = atacvi.CRAFTModel(mdata)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        setup_pairs(
            cls,
            mdata,
            setup_method_args,
            rna_layer=rna_layer,
            rna_obsm=rna_obsm,
            tokens_key=tokens_key,
            atac_layer=atac_layer,
            threshold=threshold,
            universe=universe,
            batch_key=batch_key,
            labels_key=labels_key,
            modalities={**DEFAULT_MODALITIES, **(modalities or {})},
            allow_missing=allow_missing,
            **kwargs,
        )

    @classmethod
    def setup_anndata(cls, adata: AnnData, **kwargs: Any) -> None:
        """Refuse: this model needs two modalities, see `setup_mudata`.

        Parameters
        ----------
        adata, **kwargs
            Not looked at.

        Raises
        ------
        NotImplementedError
            Always.

        Examples
        --------
        >>> atacvi.CRAFTModel.setup_anndata(mdata["atac"])
        Traceback (most recent call last):
            ...
        NotImplementedError: ...
        """
        msg = "CRAFTModel aligns two modalities: give a MuData to `CRAFTModel.setup_mudata`."
        raise NotImplementedError(msg)
