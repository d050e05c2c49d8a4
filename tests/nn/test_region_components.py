"""Linear components of open regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atacvi.nn import PackedTokens, RegionComponents

N_ROWS, N_COMPONENTS = 12, 4


@pytest.fixture
def components(rng):
    module = RegionComponents(N_ROWS + 2, N_COMPONENTS + 1, n_hidden=6).eval()
    module.set_map(
        torch.as_tensor(rng.normal(size=(N_ROWS, N_COMPONENTS))),
        torch.as_tensor(rng.uniform(0.5, 2, size=N_ROWS)),
        torch.as_tensor(rng.normal(size=N_COMPONENTS)),
        0.7,
    )
    return module


def embed(module, cells):
    tokens = PackedTokens.from_cells(cells)
    return module(tokens.ids, tokens.offsets).detach()


def test_it_is_a_map_of_weighted_regions_of_unit_length(components):
    cells = [[0, 3, 7], [11], [2, 4, 5, 9]]
    weights, table = components.weights.numpy(), components.table.numpy()
    expected = np.stack([
        (weights[cell] @ table[cell] / np.linalg.norm(weights[cell]) - components.centre.numpy())
        / 0.7
        for cell in cells
    ])  # fmt: skip
    np.testing.assert_allclose(embed(components, cells), expected, rtol=1e-5, atol=1e-6)
    assert (expected[:, N_COMPONENTS] == 0).all()  # beyond the components that were found


def test_unknown_regions_say_nothing_and_empty_cells_lie_in_the_middle(components):
    with_unknown = embed(components, [[0, 3, N_ROWS, N_ROWS + 1], [], [N_ROWS]])
    torch.testing.assert_close(with_unknown[:1], embed(components, [[0, 3]]))
    assert torch.equal(with_unknown[1:], torch.zeros(2, N_COMPONENTS + 1))


def test_the_network_starts_by_adding_nothing_and_learns(components):
    tokens = PackedTokens.from_cells([[0, 3], [5]])
    raw = components.components(tokens.ids, tokens.offsets)
    torch.testing.assert_close(components(tokens.ids, tokens.offsets), raw)
    components(tokens.ids, tokens.offsets).square().sum().backward()
    assert components.blocks[0].output.weight.grad.abs().sum() > 0
    assert not components.table.requires_grad
