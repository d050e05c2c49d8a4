import pytest
import torch

from atacvi.nn import take_rows
from atacvi.training.row_adamw import RowAdamW, clip_gradients_by_norm

OPTIONS = {"lr": 0.1, "eps": 1e-8, "weight_decay": 0.05}


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))


def descend(table, optimizer, rows, *, sparse):
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        target = torch.randn(len(rows), 3, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        (take_rows(table, rows, sparse=sparse) - target).square().sum().backward()
        optimizer.step()


def test_sparse_steps_on_all_rows_are_the_dense_ones():
    ours, theirs, rows = start(), start(), torch.arange(6)
    descend(ours, RowAdamW([ours], **OPTIONS), rows, sparse=True)
    descend(theirs, torch.optim.AdamW([theirs], **OPTIONS), rows, sparse=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_decay_steps_are_those_of_torch_sparse_adam():
    ours, theirs = start(), start()
    options = {"lr": 0.1, "eps": 1e-8}
    first = RowAdamW([ours], weight_decay=0.0, **options)
    second = torch.optim.SparseAdam([theirs], **options)
    for rows in (torch.tensor([0, 2]), torch.tensor([2, 5]), torch.tensor([1, 2])):
        descend(ours, first, rows, sparse=True)
        descend(theirs, second, rows, sparse=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_rows_without_a_gradient_stay_to_the_bit():
    table = start()
    before = table.detach().clone()
    descend(table, RowAdamW([table], **OPTIONS), torch.tensor([1, 4]), sparse=True)
    kept = [0, 2, 3, 5]
    assert torch.equal(table[kept], before[kept])
    assert not torch.equal(table[1], before[1])


def test_a_stopped_run_goes_on_to_the_bit():
    whole, first = start(), start()
    rows = torch.tensor([0, 3])
    straight = RowAdamW([whole], **OPTIONS)
    descend(whole, straight, rows, sparse=True)
    descend(whole, straight, rows, sparse=True)
    stopped = RowAdamW([first], **OPTIONS)
    descend(first, stopped, rows, sparse=True)
    resumed = torch.nn.Parameter(first.detach().clone())
    again = RowAdamW([resumed], **OPTIONS)
    again.load_state_dict(stopped.state_dict())
    descend(resumed, again, rows, sparse=True)
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_sparse_gradients_are_clipped_as_dense_ones(max_norm):
    rows, found = torch.tensor([0, 3, 4]), {}
    for sparse in (True, False):
        table, other = start(), torch.nn.Parameter(torch.ones(2))
        # used twice, so that the sparse gradient holds each row twice
        loss = take_rows(table, rows, sparse=sparse).square().sum() + 3 * other.sum()
        (loss + take_rows(table, rows, sparse=sparse).sum()).backward()
        clip = clip_gradients_by_norm if sparse else torch.nn.utils.clip_grad_norm_
        norm = clip([table, other, torch.nn.Parameter(torch.ones(1))], max_norm)
        dense = table.grad.to_dense() if table.grad.is_sparse else table.grad
        found[sparse] = (norm, dense, other.grad)
    torch.testing.assert_close(found[True], found[False])
