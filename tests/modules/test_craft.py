"""CRAFTModule: spaces, loss, decoder, and Geneformer as RNA encoder."""

from __future__ import annotations

import builtins
import json
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from atacvi.likelihoods import NegativeBinomial, SparseTarget
from atacvi.modules import AtacformerConfig, AtacformerModule, CRAFTModule
from atacvi.modules._craft_decoder import CrossModalDecoder
from atacvi.modules._craft_geneformer import GeneformerEncoder
from atacvi.nn import ExpressionEncoder, PackedTokens
from atacvi.training import (
    canonical_directions,
    start_alignment,
    start_decoder,
    start_expression_encoder,
)

N_CELLS, N_GENES = 12, 20


def build(n_latent=8):
    config = AtacformerConfig.for_regions(
        50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    return CRAFTModule(
        ExpressionEncoder(N_GENES, 6), AtacformerModule(config), N_GENES, n_latent=n_latent
    )


def minibatch(rng):
    counts = torch.as_tensor(rng.poisson(1.0, (N_CELLS, N_GENES))).float() + torch.eye(
        N_CELLS, N_GENES
    )
    cells = [rng.choice(50, 6, replace=False).tolist() for _ in range(N_CELLS)]
    return {"rna": SparseTarget.from_tensor(counts), "tokens": PackedTokens.from_cells(cells)}


def run(module, tensors):
    outputs = module.inference(**module._get_inference_input(tensors))
    return outputs, module.loss(tensors, outputs)


def test_new_module_is_as_published(rng):
    module = build(512)
    assert module.logit_scale.exp().item() == pytest.approx(14.285, abs=1e-3)
    assert module.gene_projection.bias is None
    assert module.atac_projection.bias is None
    outputs, found = run(module.eval(), minibatch(rng))
    for vectors in outputs.values():
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(N_CELLS))
    assert found.n_obs_minibatch == N_CELLS
    assert found.extra_metrics["temperature"].item() == pytest.approx(0.07, abs=1e-4)


def test_loss_of_guessing_and_of_knowing(rng):
    module, tensors = build().eval(), minibatch(rng)
    outputs, _ = run(module, tensors)
    with torch.no_grad():
        module.logit_scale.fill_(-9.0)
    guess = module.loss(tensors, outputs).loss.item()
    assert guess == pytest.approx(math.log(N_CELLS), abs=1e-3)
    with torch.no_grad():
        module.logit_scale.fill_(99.0)  # beyond what is allowed
    same = torch.eye(N_CELLS)
    known = module.loss(tensors, {"rna": same, "atac": same})
    assert known.loss.item() < 1e-6
    assert known.extra_metrics["recall_at_1"].item() == 1
    module.clamp_temperature()
    assert module.logit_scale.item() == pytest.approx(math.log(100), abs=1e-3)


def test_batches_are_no_negatives_of_each_other(rng):
    module, tensors = build().eval(), minibatch(rng)
    outputs, _ = run(module, tensors)
    batch = torch.arange(N_CELLS) % 2
    apart = module.loss({**tensors, "batch": batch}, outputs).loss
    halves = [
        module.loss(tensors, {k: v[batch == b] for k, v in outputs.items()}).loss for b in (0, 1)
    ]
    torch.testing.assert_close(apart, (halves[0] + halves[1]) / 2)


def test_training_subtracts_the_mean_of_the_minibatch(rng):
    module, tensors = build().train(), minibatch(rng)
    encoded = torch.randn(N_CELLS, 6)
    torch.testing.assert_close(
        module.project_rna(encoded), module.project_rna(encoded + 100.0), atol=1e-3, rtol=0
    )
    run(module, tensors)
    assert module.atac_centre.abs().sum() > 0
    before = module.atac_centre.clone()
    run(module.eval(), tensors)
    assert torch.equal(module.atac_centre, before)


def test_canonical_directions_find_what_is_shared(rng):
    shared = rng.normal(size=(500, 2))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    one = np.hstack([shared, rng.normal(size=(500, 4))]) @ turn
    two = np.hstack([shared + 0.3 * rng.normal(size=(500, 2)), rng.normal(size=(500, 3))])
    found = canonical_directions(one - one.mean(axis=0), two - two.mean(axis=0))
    assert (found.correlation[:2] > 0.85).all()
    assert (found.correlation[2:] < 0.3).all()
    coordinates = (one - one.mean(axis=0)) @ found.first
    np.testing.assert_allclose((coordinates**2).mean(axis=0), 1, rtol=1e-6)


def test_aligned_start_is_far_below_guessing(rng):
    module = build()
    shared = rng.normal(size=(300, 3))
    rna = 5 + shared @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(300, 6))
    atac = shared @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(300, 8))
    start_alignment(module, rna.astype(np.float32), atac.astype(np.float32))
    outputs = {
        "rna": module.project_rna(torch.as_tensor(rna).float()),
        "atac": module.project_atac(torch.as_tensor(atac).float()),
    }
    assert module.loss({}, outputs).loss.item() < 0.6 * math.log(300)


def test_expression_starts_as_principal_components(rng):
    counts = sp.csr_matrix(rng.poisson(np.outer(np.exp(rng.normal(size=200)), np.ones(N_GENES))))
    encoder = ExpressionEncoder(N_GENES, 4).eval()
    start_expression_encoder(encoder, counts)
    dense = torch.as_tensor(counts.toarray()).float()
    found = encoder(SparseTarget.from_tensor(dense)).detach().double().numpy()
    depth = np.maximum(counts.toarray().sum(axis=1, keepdims=True), 1)
    logged = np.log1p(counts.toarray() * float(encoder.median_depth) / depth)
    scaled = (logged - encoder.mean.numpy()) * encoder.inverse_deviation.numpy()
    centred = scaled - scaled.mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:4]
    for j in range(4):
        assert abs(np.corrcoef(found[:, j], scaled @ expected[j])[0, 1]) > 0.99


# ---- decoder --------------------------------------------------------------------------------


def test_decoder_is_a_negative_binomial_at_the_observed_depth():
    decoder = CrossModalDecoder(5, N_GENES).eval()
    cells = torch.randn(4, 5)
    counts = torch.poisson(torch.full((4, N_GENES), 1.5)) + 1
    shares = decoder.log_shares(cells).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    mean = counts.sum(1, keepdim=True) * shares
    expected = NegativeBinomial(mean, decoder.log_inverse_dispersion.exp()).log_prob(counts).sum(1)
    found = decoder.log_prob(cells, SparseTarget.from_tensor(counts))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_decoder_starts_near_the_log_linear_truth(rng):
    module = build(3)
    cells = rng.normal(size=(3000, 3))
    loadings = 0.5 * rng.normal(size=(N_GENES, 3))
    depth = np.exp(5 + 0.3 * cells[:, 0] + 0.5 * rng.normal(size=3000))
    rates = np.exp(cells @ loadings.T + rng.normal(size=N_GENES))
    shares = rates / rates.sum(axis=1, keepdims=True)
    counts = rng.poisson(depth[:, None] * shares)
    n_tokens = rng.poisson(np.sqrt(depth) * 10)
    start_decoder(module, cells.astype(np.float32), sp.csr_matrix(counts), n_tokens)
    with torch.no_grad():
        found = module.decoder.log_shares(torch.as_tensor(cells).float()).exp().numpy()
        library = module.decoder.log_library(
            torch.as_tensor(cells).float(), torch.as_tensor(n_tokens).float()
        )
    # the mean of the truth over the cells is what a model without cells would say
    from_mean = np.abs(shares - shares.mean(axis=0)).mean()
    assert np.abs(found - shares).mean() < 0.5 * from_mean
    assert np.corrcoef(library.squeeze().numpy(), np.log(depth))[0, 1] > 0.8


# ---- Geneformer -----------------------------------------------------------------------------

GENES = np.array([f"ENSG{i:03d}" for i in range(6)], dtype=object)
BERT = {
    "vocab_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 4,
    "pad_token_id": 0,
}


class FakeBert(torch.nn.Module):
    """Only what the ranks need."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"hidden_size": 8, "max_position_embeddings": 3})()


def test_genes_are_ranked_by_their_scaled_expression():
    encoder = GeneformerEncoder(
        FakeBert(), np.array([2, 3, 4, 5, 6, -1]), np.array([1, 10, 1, 1, 1, 1.0])
    )
    counts = torch.tensor(
        [[3.0, 20.0, 1.0, 0, 0, 90.0], [0, 0, 0, 0, 0, 5.0], [4.0, 0, 3, 2, 1, 0]]
    )
    ids, mask = encoder.rank(SparseTarget.from_tensor(counts))
    assert ids.tolist() == [[2, 3, 4], [0, 0, 0], [2, 4, 5]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]


def write_tables(folder):
    (folder / "gene_tokens.json").write_text(
        json.dumps({g: i + 2 for i, g in enumerate(GENES[:5])})
    )
    (folder / "gene_medians.json").write_text(json.dumps(dict.fromkeys(GENES[:5], 2.0)))


@pytest.mark.slow
def test_geneformer_from_a_folder(tmp_path):
    import transformers

    torch.manual_seed(0)
    bert = transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False)
    bert.save_pretrained(tmp_path)
    write_tables(tmp_path)
    encoder = GeneformerEncoder.from_folder(tmp_path, GENES).eval()
    counts = SparseTarget.from_tensor(torch.poisson(torch.full((5, 6), 2.0)) + 1)
    found = encoder(counts)
    assert found.shape == (5, 8)
    assert encoder.tokens.tolist() == [2, 3, 4, 5, 6, -1]
    ids, mask = encoder.rank(counts)
    expected = bert.eval()(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1)
    torch.testing.assert_close(found, expected)
    again = GeneformerEncoder.from_description(encoder.describe()).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(counts), found)


def test_a_folder_without_tables_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "token_dictionary.pkl").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="never from pickles"):
        GeneformerEncoder.from_folder(tmp_path, GENES)


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"atacvi\[geneformer\]"):
        GeneformerEncoder.from_folder(tmp_path, GENES)


def test_foreign_genes_are_refused(tmp_path):
    from atacvi.modules._craft_geneformer import gene_tables

    write_tables(tmp_path)
    with pytest.raises(ValueError, match="knows none of the 2 genes"):
        gene_tables(tmp_path, np.array(["GAPDH", "ACTB"], dtype=object))
