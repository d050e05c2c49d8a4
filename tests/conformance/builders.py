"""Ways to build a model of atacvi, and a model trained in each of them.

A file of conformance tests imports the fixtures by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mudata
import pytest
import scvi
import torch

import atacvi
from atacvi._compat import without_pull
from atacvi.data import concat_modalities, tokenize_anndata
from atacvi.training import denoiser_plan

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY = {"n_clusters": 3, "n_latent": 5, "n_hidden": 16, "n_embed": 8}
N_CELLS, N_QUERY, N_EPOCHS = 120, 40, 4
N_GENES, N_PEAKS = 30, 120


def simulate() -> mudata.MuData:
    """Cells of three types in two batches; 30 genes and 120 peaks."""
    with without_pull():
        return atacvi.datasets.simulate_multiome(
            N_CELLS + N_QUERY,
            n_genes=N_GENES,
            n_peaks=N_PEAKS,
            n_cell_types=3,
            n_batches=2,
            median_peaks_per_cell=30,
            random_state=0,
        )


def as_is(mdata: mudata.MuData) -> mudata.MuData:
    return mdata.copy()


def join(mdata: mudata.MuData) -> Any:
    adata = concat_modalities(mdata)
    # Truth of the simulation that only one kind of feature has; not needed here
    adata.var = adata.var[["modality", "chrom", "start", "end"]]
    return adata


def tokens_alone(mdata: mudata.MuData) -> Any:
    """Cells as sets of regions, without counts."""
    return tokenize_anndata(mdata["atac"], list(mdata["atac"].var_names))


def peaks_alone(mdata: mudata.MuData) -> Any:
    return mdata["atac"].copy()


def setup_mudata(data: Any, **kwargs: Any) -> None:
    atacvi.MultiViewModel.setup_mudata(data, **{"batch_key": "batch", **kwargs})


def setup_anndata(data: Any, **kwargs: Any) -> None:
    atacvi.MultiViewModel.setup_anndata(data, **{"batch_key": "batch", **kwargs})


def setup_peaks(data: Any, **kwargs: Any) -> None:
    kwargs = {"batch_key": "batch", "labels_key": "cell_type", **kwargs}
    atacvi.ATACDiffModel.setup_anndata(data, **kwargs)


def setup_tokens(data: Any, **kwargs: Any) -> None:
    kwargs = {"batch_key": "batch", "labels_key": "cell_type", **kwargs}
    atacvi.AtacformerModel.setup_anndata(data, **kwargs)


def setup_pairs(data: Any, **kwargs: Any) -> None:
    atacvi.CRAFTModel.setup_mudata(data, **{"batch_key": "batch", **kwargs})


def setup_peaks_of_mudata(data: Any, **kwargs: Any) -> None:
    atacvi.ATACDiffModel.setup_mudata(data, **{"batch_key": "batch", **kwargs})


@dataclass(frozen=True)
class Family:
    """What the builders of one model have in common.

    Parameters
    ----------
    model
        The model.
    tiny
        Arguments that make it small.
    getters
        What each getter returns beside the cells: the width.
    elbo
        Term of the history that has a value for each epoch.
    terms
        Terms that the history must hold.
    poisoned
        Parameter that spoils the first loss when it is not a number.
    drawn
        End of the names of weights that are drawn at random.
    of_batches
        Weight with a column for each batch; empty for a model that knows no batches.
    training
        Arguments of `train` that make it short.
    """

    model: type
    tiny: dict[str, Any]
    getters: dict[str, int]
    elbo: str
    terms: frozenset[str]
    poisoned: str
    drawn: str
    of_batches: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def is_generative(self) -> bool:
        """Whether the model has clusters, and likelihoods of counts in peaks."""
        return "get_cluster_probabilities" in self.getters

    @property
    def is_paired(self) -> bool:
        """Whether it reads RNA beside accessibility, too."""
        return self.is_generative and "get_normalized_expression" in self.getters


MULTIVIEW = Family(
    atacvi.MultiViewModel,
    {**TINY, "n_tokens": 4},
    {
        "get_latent_representation": 5,
        "get_cluster_probabilities": 3,
        "get_normalized_expression": N_GENES,
        "get_normalized_accessibility": N_PEAKS,
    },
    "elbo_train",
    frozenset(
        "train_loss elbo_train elbo_validation kl_weight kl_z_train reconstruction_rna_train "
        "reconstruction_atac_validation".split()
    ),
    "rna_head.offset",
    "table",
    "trunk.covariates.weight",
)
ATACDIFF = Family(
    atacvi.ATACDiffModel,
    {**TINY, "n_latent_ae": 6, "n_hidden_denoiser": 16, "n_blocks": 1},
    {
        "get_latent_representation": 5,
        "get_cluster_probabilities": 3,
        "get_normalized_accessibility": N_PEAKS,
    },
    "autoencoder_elbo_train",
    frozenset(
        f"{stage}_{term}"
        for stage in ("autoencoder", "auxiliary")
        for term in ("train_loss", "elbo_train", "probe_held_out")
    ),
    "autoencoder.head.offset",
    "table",
    "autoencoder.head.covariates.weight",
)

_ENCODER = {"n_embed": 16, "n_layers": 1, "n_heads": 2, "n_feedforward": 16}
ATACFORMER = Family(
    atacvi.AtacformerModel,
    _ENCODER,
    {"get_latent_representation": 16},
    "replaced_loss_train",
    frozenset(
        f"{term}_{part}"
        for term in ("replaced_loss", "context_gain", "agreement_loss", "score")
        for part in ("train", "validation")
    )
    | {"train_loss", "validation_loss"},
    "encoder.layers.0.linear1.bias",
    "linear1.weight",
)
CRAFT = Family(
    atacvi.CRAFTModel,
    {**_ENCODER, "n_latent": 8, "n_rna_embed": 8, "n_rna_hidden": 8, "n_decoder_hidden": 4},
    {"get_latent_representation": 8, "impute_rna": N_GENES, "get_normalized_expression": N_GENES},
    "alignment_loss_train",
    frozenset(
        "train_loss validation_loss alignment_loss_train temperature_train imputation_nll_train "
        "probe_contrast probe_imputation".split()
    ),
    "gene_projection.weight",
    "linear1.weight",
    training={"imputation_epochs": 2},
)


@dataclass(frozen=True)
class Builder:
    """How to build a model."""

    name: str
    family: Family
    setup: Callable[..., None]
    convert: Callable[[mudata.MuData], Any] = as_is
    arguments: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> type:
        return self.family.model

    def build(self, data: Any) -> Any:
        scvi.settings.seed = 0
        return self.model(data, **{**self.family.tiny, **self.arguments})

    def train(self, data: Any, max_epochs: int = N_EPOCHS, **kwargs: Any) -> Any:
        self.setup(data)
        return self.fit(self.build(data), max_epochs, **kwargs)

    def fit(self, model: Any, max_epochs: int = N_EPOCHS, **kwargs: Any) -> Any:
        """Train a model with the arguments of its builder."""
        options = {"batch_size": 48, **QUIET, **self.family.training, **self.training, **kwargs}
        model.train(max_epochs, **options)
        return model


BUILDERS = [
    Builder("multiview", MULTIVIEW, setup_mudata),
    Builder("multiview-anndata", MULTIVIEW, setup_anndata, join),
    Builder("multiview-paper", MULTIVIEW, setup_mudata, arguments={"preset": "paper"}),
    Builder("atacdiff", ATACDIFF, setup_peaks, peaks_alone),
    Builder("atacdiff-mudata", ATACDIFF, setup_peaks_of_mudata),
    Builder("atacdiff-paper", ATACDIFF, setup_peaks, peaks_alone, {"preset": "paper"}),
    Builder("atacformer", ATACFORMER, setup_tokens, peaks_alone),
    Builder("atacformer-tokens", ATACFORMER, setup_tokens, tokens_alone),
    Builder("atacformer-tuned", ATACFORMER, setup_tokens, peaks_alone, training={"task": "multi"}),
    Builder("craft", CRAFT, setup_pairs),
    Builder("craft-attention", CRAFT, setup_pairs, arguments={"pooling": "attention"}),
]
_BY_NAME = {builder.name: builder for builder in BUILDERS}
_GENERATIVE = [builder for builder in BUILDERS if builder.family.is_generative]
_PAIRED = [builder for builder in BUILDERS if builder.family.is_paired]


@dataclass(frozen=True)
class Case:
    """A builder, its data and the model trained on them."""

    builder: Builder
    data: Any
    query: Any
    model: Any


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors of this size take longer on several threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def short_epochs():
    """Let an epoch of a denoiser have as few steps as the few cells give."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser_plan, "_MIN_STEPS", 3)
        yield


@cache
def _trained(name: str) -> Case:
    """Train once; no test may change the model or the data."""
    builder = _BY_NAME[name]
    cells = simulate()
    data = builder.convert(cells[:N_CELLS].copy())
    query = builder.convert(cells[N_CELLS:].copy())
    return Case(builder, data, query, builder.train(data))


@pytest.fixture(name="case", scope="module", params=list(_BY_NAME))
def trained_case(request, one_thread, short_epochs) -> Case:
    return _trained(request.param)


@pytest.fixture(name="generative", scope="module", params=[builder.name for builder in _GENERATIVE])
def generative_case(request, one_thread, short_epochs) -> Case:
    """Cases of models with clusters and likelihoods."""
    return _trained(request.param)


@pytest.fixture(
    name="tokens",
    scope="module",
    params=[builder.name for builder in BUILDERS if builder.family is ATACFORMER],
)
def tokens_case(request, one_thread) -> Case:
    """Cases of AtacformerModel."""
    return _trained(request.param)


@pytest.fixture(name="paired", scope="module", params=[builder.name for builder in _PAIRED])
def paired_case(request, one_thread, short_epochs) -> Case:
    """Cases of those that read RNA as well."""
    return _trained(request.param)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def assert_same_weights(one: Any, two: Any) -> None:
    first, second = weights(one), weights(two)
    assert set(first) == set(second)
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different
