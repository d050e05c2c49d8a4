"""Seconds of the sparse likelihoods against Pyro's and scvi-tools', forward and backward.

``python benchmarks/likelihoods.py --cells 128 --features 100000 --density 0.026 --threads 2``

Each method gets log-rates (cells, features) and one second parameter per feature, and gives the
gradient of the mean log-probability to both. The fastest of the repeats counts; methods take
turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

OURS = "atacvi sparse"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=128)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--density", type=float, default=0.026, help="fraction of non-zeros")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def build_methods(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> dict[str, dict[str, Callable[[], torch.Tensor]]]:
    """Return, per likelihood and method, a function that gives the log-probability per cell."""
    import pyro.distributions as pyro_distributions

    from atacvi import likelihoods as ours

    target = ours.SparseTarget.from_tensor(x)
    binary = (x > 0).to(x.dtype)
    binary_target = ours.SparseTarget.from_tensor(binary)

    def dense(distribution: Callable[[], object], value: torch.Tensor = x) -> Callable:
        return lambda: distribution().log_prob(value).sum(-1)

    off = {"validate_args": False}
    pyro_gamma = pyro_distributions.GammaPoisson
    pyro_zip = pyro_distributions.ZeroInflatedPoisson
    methods = {
        "zero-inflated Poisson": {
            OURS: lambda: ours.zero_inflated_poisson_log_prob(target, a, b),
            "atacvi dense": dense(lambda: ours.ZeroInflatedPoisson(a.exp(), b)),
            "pyro": dense(lambda: pyro_zip(a.exp(), gate_logits=b, **off)),
        },
        "negative binomial": {
            OURS: lambda: ours.negative_binomial_log_prob(target, a, b.exp()),
            "atacvi dense": dense(lambda: ours.NegativeBinomial(a.exp(), b.exp())),
            "pyro": dense(lambda: pyro_gamma(b.exp(), b.exp() / a.exp(), **off)),
        },
        "Poisson": {
            OURS: lambda: ours.poisson_log_prob(target, a),
            "atacvi dense": dense(lambda: ours.Poisson(a.exp())),
            "pyro": dense(lambda: pyro_distributions.Poisson(a.exp(), **off)),
        },
        "Bernoulli": {
            OURS: lambda: ours.bernoulli_log_prob(binary_target, a),
            "pyro": dense(lambda: pyro_distributions.Bernoulli(logits=a, **off), binary),
        },
    }
    with contextlib.suppress(ImportError):
        import scvi.distributions as scvi_distributions

        methods["negative binomial"]["scvi-tools"] = dense(
            lambda: scvi_distributions.NegativeBinomial(
                mu=a.exp(), theta=b.exp(), validate_args=False
            )
        )
        methods["Poisson"]["scvi-tools"] = dense(
            lambda: scvi_distributions.Poisson(a.exp(), validate_args=False)
        )
    return methods


def time_methods(
    methods: dict[str, Callable[[], torch.Tensor]],
    parameters: tuple[torch.Tensor, ...],
    repeats: int,
) -> dict[str, tuple[float, float, torch.Tensor]]:
    """Return the fewest wall and processor seconds of each method, and its result."""
    import torch

    cuda = parameters[0].is_cuda
    best = dict.fromkeys(methods, (math.inf, math.inf))
    results = {}
    for repeat in range(repeats + 1):
        for name, function in methods.items():
            for parameter in parameters:
                parameter.grad = None
            wall, processor = time.perf_counter(), time.process_time()
            value = function()
            value.mean().backward()
            if cuda:
                torch.cuda.synchronize()
            spent = time.perf_counter() - wall, time.process_time() - processor
            results[name] = value.detach()
            # The first turn warms allocators and thread pools.
            if repeat:
                best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    return {name: (*best[name], results[name]) for name in methods}


def main() -> None:
    """Run the comparison and print the table."""
    arguments = parse_arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    import torch

    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(arguments.seed)
    shape = (arguments.cells, arguments.features)
    # A Poisson entry is zero with probability exp(-rate).
    rate = torch.full(shape, -math.log1p(-arguments.density))
    x = torch.poisson(rate, generator=generator).to(arguments.device)
    a = torch.randn(shape, generator=generator).sub_(3).to(arguments.device).requires_grad_()
    b = torch.randn(shape[1], generator=generator).to(arguments.device).requires_grad_()
    write = sys.stdout.write
    write(
        f"{shape[0]} cells x {shape[1]} features, {(x > 0).float().mean().item():.2%} non-zero, "
        f"{arguments.threads} threads, {arguments.device}, torch {torch.__version__}\n"
    )
    header = ("likelihood", "method", "wall ms", "cpu ms", "ratio wall", "ratio cpu", "difference")
    write("{:<22} {:<14} {:>9} {:>9} {:>10} {:>10} {:>10}\n".format(*header))
    for likelihood, methods in build_methods(x, a, b).items():
        timed = time_methods(methods, (a, b), arguments.repeats)
        wall, processor, reference = timed[OURS]
        for name, (its_wall, its_processor, value) in timed.items():
            difference = ((value - reference) / reference).abs().max().item()
            write(
                f"{likelihood:<22} {name:<14} {its_wall * 1e3:>9.1f} {its_processor * 1e3:>9.1f} "
                f"{its_wall / wall:>10.2f} {its_processor / processor:>10.2f} {difference:>10.1e}\n"
            )


if __name__ == "__main__":
    main()
