"""Terms that keep information in a latent, on samples whose discrepancy is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from atacvi.nn import info_nce, squared_mmd

N_LATENT = 32


def normal(n: int, seed: int, width: int = N_LATENT) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mean_of_the_unbiased_estimate_is_zero_under_the_prior(kernel):
    """The U-statistic is negative about as often as positive; the V-statistic never is."""
    pairs = [(normal(64, 2 * k), normal(64, 2 * k + 1)) for k in range(200)]
    unbiased = torch.stack([squared_mmd(x, y, kernel) for x, y in pairs])
    biased = torch.stack([squared_mmd(x, y, kernel, unbiased=False) for x, y in pairs])
    error = unbiased.std() / len(pairs) ** 0.5
    assert abs(float(unbiased.mean())) < 4 * error
    assert 0.2 < float((unbiased < 0).float().mean()) < 0.8
    assert (biased > 0).all()


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_a_collapsed_latent_is_seen(kernel):
    """One kernel of bandwidth m^2, as the authors' code has, gives 0.001 here."""
    prior = normal(512, 0)
    collapsed = 0.01 * normal(512, 1)
    assert float(squared_mmd(collapsed, prior, kernel)) > 0.1
    wide = torch.exp(-torch.cdist(collapsed, prior).square() / N_LATENT**2).mean()
    assert float(wide) > 0.95  # that kernel takes both for nearly the same
    for other in (2 * normal(512, 2), normal(512, 3) + 0.5, F.normalize(normal(512, 4), dim=-1)):
        assert float(squared_mmd(other, prior, kernel)) > 0.05


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_discrepancy_by_hand(kernel):
    """Two samples of two points: three kernel sums at known squared distances."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    scale, scales = 4.0, (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # mean squared distance within y

    def k(squared: float) -> float:
        if kernel == "imq":
            return sum(s * scale / (s * scale + squared) for s in scales)
        return sum(math.exp(-squared / (s * scale)) for s in scales)

    cross = (k(0) + k(4) + k(1) + k(1)) / 4
    expected = k(1) + k(4) - 2 * cross
    assert float(squared_mmd(x, y, kernel)) == pytest.approx(expected, rel=1e-5)
    biased = (k(0) + k(1)) / 2 + (k(0) + k(4)) / 2 - 2 * cross
    assert float(squared_mmd(x, y, kernel, unbiased=False)) == pytest.approx(biased, rel=1e-5)


def test_descent_moves_a_latent_to_the_prior():
    x = (0.1 * normal(128, 0, 4) + 2).requires_grad_()
    step = torch.optim.Adam([x], lr=0.05)
    before = float(squared_mmd(x, normal(128, 1, 4)))
    for k in range(150):
        step.zero_grad()
        squared_mmd(x, normal(128, k + 2, 4)).backward()
        step.step()
    assert float(squared_mmd(x, normal(128, 999, 4))) < 0.1 * before
    assert abs(float(x.mean())) < 0.3


def test_one_cell_is_no_error():
    assert torch.isfinite(squared_mmd(normal(1, 0), normal(1, 1)))


def test_information_is_at_most_the_logarithm_of_the_cells():
    views = normal(16, 0)
    for one, two in ((views, views), (views, normal(16, 1)), (views, -views)):
        assert float(info_nce(one, two)) <= math.log(16)
    assert float(info_nce(views, views)) > 0.9 * math.log(16)
    assert float(info_nce(views, views, temperature=1e-3)) == pytest.approx(math.log(16), abs=1e-5)


def test_views_without_common_information_give_none():
    found = torch.stack([info_nce(normal(64, 2 * k), normal(64, 2 * k + 1)) for k in range(50)])
    assert float(found.mean()) < 0.05
    assert float(info_nce(normal(64, 0), normal(64, 0) + 0.5 * normal(64, 1))) > 1.0


def test_information_against_the_definition():
    one, two, temperature = normal(5, 0, 3), normal(5, 1, 3), 0.3
    similar = F.cosine_similarity(one[:, None], two[None], dim=-1) / temperature
    rows = similar.diag() - similar.logsumexp(1)
    columns = similar.diag() - similar.logsumexp(0)
    expected = math.log(5) + 0.5 * float((rows + columns).mean())
    assert float(info_nce(one, two, temperature)) == pytest.approx(expected, rel=1e-5)


def test_information_does_not_depend_on_the_scale_or_common_order():
    one, two = normal(9, 0), normal(9, 1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(info_nce(3 * one, 0.2 * two), info_nce(one, two))
    torch.testing.assert_close(info_nce(one[order], two[order]), info_nce(one, two))
    assert not torch.isclose(info_nce(one[order], one), info_nce(one, one))
