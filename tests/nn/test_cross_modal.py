"""Contrast of two modalities: temperature, closed cases, left-out pairs, several devices."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from atacvi.nn import cross_modal_loss, gather_cells
from atacvi.nn.cross_modal import INITIAL_LOGIT_SCALE, MAX_LOGIT_SCALE


def test_the_first_temperature_is_the_published_one():
    assert math.exp(INITIAL_LOGIT_SCALE) == pytest.approx(14.285, abs=1e-3)
    assert 1 / math.exp(INITIAL_LOGIT_SCALE) == pytest.approx(0.07, abs=1e-5)
    assert math.exp(MAX_LOGIT_SCALE) == pytest.approx(100, rel=1e-3)


def test_unrelated_cells_have_the_loss_of_guessing():
    one, two = torch.randn(2, 256, 512)
    loss = cross_modal_loss(one, two, torch.tensor(INITIAL_LOGIT_SCALE))
    # the spread of the logits adds half its variance: exp(s)^2 / width / 2
    extra = math.exp(INITIAL_LOGIT_SCALE) ** 2 / 512 / 2
    assert loss.item() == pytest.approx(math.log(256) + extra, abs=0.1)
    assert cross_modal_loss(one, two, torch.tensor(-9.0)).item() == pytest.approx(
        math.log(256), abs=1e-3
    )


def test_swapped_modalities_have_the_same_loss():
    one, two = torch.randn(2, 40, 8)
    mask = torch.rand(40, 40) < 0.2
    mask = mask | mask.T
    scale = torch.tensor(1.7)
    for left_out in (None, mask):
        torch.testing.assert_close(
            cross_modal_loss(one, two, scale, left_out), cross_modal_loss(two, one, scale, left_out)
        )


def test_perfect_alignment_has_no_loss():
    cells = torch.eye(32)
    assert cross_modal_loss(cells, 7 * cells, torch.tensor(MAX_LOGIT_SCALE)).item() < 1e-6


def test_left_out_pairs_are_no_negatives():
    one, two = torch.randn(2, 6, 4)
    scale = torch.tensor(1.0)
    group = torch.tensor([0, 0, 0, 1, 1, 2])
    apart = cross_modal_loss(one, two, scale, group.unsqueeze(1) != group)
    parts = [
        n * cross_modal_loss(one[rows], two[rows], scale)
        for n, rows in ((3, slice(0, 3)), (2, slice(3, 5)), (1, slice(5, 6)))
    ]
    torch.testing.assert_close(apart, sum(parts) / 6)


def test_one_device_has_its_own_cells_only():
    values = torch.randn(3, 2)
    assert gather_cells(values) is values


@pytest.mark.slow
def test_two_devices_have_the_gradient_of_one(tmp_path):
    code = """
    import sys, torch, torch.distributed as dist
    from atacvi.nn import cross_modal_loss, gather_cells
    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    one, two = torch.randn(2, 7, 5)
    own = slice(0, 4) if rank == 0 else slice(4, 7)
    weight = torch.eye(5, requires_grad=True)
    scale = torch.tensor(1.0)
    loss = cross_modal_loss(gather_cells(one[own] @ weight), gather_cells(two[own] @ weight), scale)
    loss.backward()
    dist.all_reduce(weight.grad)  # what data-parallel training averages
    alone = torch.eye(5, requires_grad=True)
    expected = cross_modal_loss(one @ alone, two @ alone, scale)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(weight.grad / 2, alone.grad)
    dist.destroy_process_group()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    runs = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
