"""Random numbers of the processes: noise, generators of single cells, times of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from atacvi.diffusion._checks import check_count

Generators = torch.Generator | Sequence[torch.Generator] | None


def cell_generators(seed: int, cells: Iterable[int]) -> list[torch.Generator]:
    """Return one generator a cell, seeded by `seed` and the cell's number alone.

    A sampler that draws noise at every step gives a cell the same sample however the cells are cut
    into minibatches, if each has its own generator.

    Parameters
    ----------
    seed
        Seed of the whole run, not negative.
    cells
        Number of each cell, not negative.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import cell_generators, draw_noise
    >>> together = draw_noise((3, 2), cell_generators(0, range(3)))
    >>> alone = draw_noise((1, 2), cell_generators(0, [2]))
    >>> torch.equal(together[2:], alone)
    True
    """
    seeds = (np.random.SeedSequence([seed, cell]).generate_state(1, np.uint64) for cell in cells)
    # torch takes the seed as a signed number
    return [torch.Generator().manual_seed(int(state[0] >> np.uint64(1))) for state in seeds]


def draw_noise(
    shape: Sequence[int],
    generator: Generators = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw standard normal noise.

    Parameters
    ----------
    shape
        Shape, cells first.
    generator
        One generator for all cells, or one for each (see `cell_generators`); ``None`` takes
        torch's global one. The draw is made on the generator's device and then moved, so that the
        same CPU generator gives the same noise on every device.
    dtype
        Type of the noise.
    device
        Device of the noise.

    Returns
    -------
    Tensor of the given shape.

    Raises
    ------
    ValueError
        If the generators are not as many as the cells.

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import draw_noise
    >>> draw_noise((4, 2), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 2])
    """
    if generator is None:
        return torch.randn(*shape, dtype=dtype, device=device)
    if isinstance(generator, torch.Generator):
        drawn = torch.randn(*shape, generator=generator, dtype=dtype, device=generator.device)
        return drawn.to(device or generator.device)
    if len(generator) != shape[0]:
        msg = (
            f"One generator for all cells or one for each is needed: found {len(generator)} "
            f"generators for {shape[0]} cells."
        )
        raise ValueError(msg)
    if not generator:
        return torch.randn(*shape, dtype=dtype, device=device)
    rows = [torch.randn(*shape[1:], generator=g, dtype=dtype, device=g.device) for g in generator]
    return torch.stack(rows).to(device or generator[0].device)


def uniform_times(
    n: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    *,
    stratified: bool = True,
) -> Tensor:
    """Draw `n` numbers, each uniform on [0, 1).

    Parameters
    ----------
    n
        How many.
    generator
        Generator; the draw is made on its device and then moved.
    device
        Device of the result.
    stratified
        Draw one number in each of `n` intervals of equal length and shuffle them. Each stays
        uniform, and the mean of a loss over them varies less (Kingma et al., 2021, Appendix I.1).

    Returns
    -------
    Tensor of shape (n,).

    Examples
    --------
    >>> import torch
    >>> from atacvi.diffusion import uniform_times
    >>> times = uniform_times(4, torch.Generator().manual_seed(0))
    >>> (times.sort().values * 4).floor().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    check_count("n", n)
    drawn_on = device if generator is None else generator.device
    drawn = torch.rand(n, generator=generator, device=drawn_on)
    if stratified:
        stratum = torch.randperm(n, generator=generator, device=drawn_on)
        # the sum can round up to 1, which is outside
        drawn = ((stratum + drawn) / n).clamp(max=1.0 - torch.finfo(drawn.dtype).eps)
    return drawn.to(device or drawn_on or drawn.device)
