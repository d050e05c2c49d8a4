"""Cells a second of the packed encoder against torch's own, and against padding.

    python benchmarks/encoder.py --threads 1 --out results/encoder

Two comparisons, evaluation only, weights of the published sizes (6 layers, width 192, 8 heads):

1. cells of one length: `PackedTransformer` against `torch.nn.TransformerEncoder` with the same
   state dict and the same cells (its fast path, which evaluation takes), with the key-padding mask
   that a batch of cells needs and, where nothing is to be masked, without; and the largest
   difference of their outputs;
2. cells whose lengths are drawn from a log-normal distribution and cut at the context: packed
   against padded to the longest of each batch of a fixed number of cells, both by the same fused
   attention and the same layers.

Methods take turns, so that a busy machine slows all of them alike; the fastest turn counts. The
processor time of all threads stands beside the wall clock: it hardly changes when other work shares
the machine.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import _harness as harness
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

SIZES = {"n_embed": 192, "n_layers": 6, "n_heads": 8, "n_feedforward": 768}
PACKED, PADDED = "atacvi packed", "padded"
MASKED, UNMASKED = "torch TransformerEncoder, mask", "torch TransformerEncoder, no mask"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--cells", type=int, default=2, help="cells of one length")
    parser.add_argument("--median", type=float, default=2000, help="of the drawn lengths")
    parser.add_argument("--spread", type=float, default=1.0, help="log standard deviation")
    parser.add_argument("--context", type=int, default=2048, help="lengths are cut here")
    parser.add_argument("--drawn", type=int, default=16, help="cells of drawn lengths")
    parser.add_argument("--batch", type=int, default=8, help="cells of a padded batch")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_common_arguments(parser)
    return parser.parse_args()


def take_turns(
    methods: dict[str, Callable[[], torch.Tensor]], cells: int, repeats: int
) -> list[dict[str, Any]]:
    """Return the best rates of each method, and how far its output is from that of the last."""
    best = {name: (float("inf"), float("inf")) for name in methods}
    outputs = {}
    for _ in range(repeats):
        for name, function in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            outputs[name] = function()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    last = outputs[list(methods)[-1]]
    return [
        {
            "method": name,
            "cells_per_second": cells / wall,
            "cells_per_cpu_second": cells / cpu,
            "difference": f"{(outputs[name] - last).abs().max().item():.1e}",
        }
        for name, (wall, cpu) in best.items()
    ]


def build(seed: int) -> Any:
    """Return the encoder with random weights, also where they start at zero."""
    import torch

    from atacvi.nn import PackedTransformer

    torch.manual_seed(seed)
    encoder = PackedTransformer(**SIZES).eval()
    for name, parameter in encoder.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return encoder


def padded_forward(encoder: Any, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Run the layers on padded cells (cells, length, width) with fused, masked attention."""
    from torch.nn import functional as F

    for layer in encoder.layers:
        attention = layer.self_attn
        projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        heads = projected.unflatten(-1, (3, attention.n_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*heads, attn_mask=real[:, None, None])
        x = layer.norm1(x + attention.out_proj(out.transpose(1, 2).flatten(2)))
        x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x), inplace=True)))
    return x


def against_torch(length: int, cells: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Compare on cells of one length (runs in a process of its own)."""
    import torch
    from torch import nn

    encoder = build(seed)
    layer = nn.TransformerEncoderLayer(192, 8, 768, 0.1, batch_first=True)
    reference = nn.TransformerEncoder(layer, 6).eval()
    reference.load_state_dict(encoder.state_dict())
    x = torch.randn(cells, length, 192)
    offsets = torch.arange(cells + 1) * length
    mask = torch.zeros(cells, length, dtype=torch.bool)
    methods = {
        MASKED: lambda: reference(x, src_key_padding_mask=mask),
        UNMASKED: lambda: reference(x),
        PACKED: lambda: encoder(x.flatten(0, 1), offsets).view_as(x),
    }
    with torch.no_grad():
        rows = take_turns(methods, cells, repeats)
    return [{"cells": f"{cells} of {length} tokens", **row} for row in rows]


def against_padding(
    median: float, spread: float, context: int, drawn: int, batch: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """Compare on cells of drawn lengths (runs in a process of its own)."""
    import torch

    encoder = build(seed)
    log_length = torch.randn(drawn) * spread + torch.tensor(median).log()
    lengths = log_length.exp().long().clamp(1, context)
    cells = [torch.randn(n, 192) for n in lengths.tolist()]

    def packed() -> torch.Tensor:
        parts = []
        for start in range(0, drawn, batch):
            offsets = torch.nn.functional.pad(lengths[start : start + batch].cumsum(0), (1, 0))
            parts.append(encoder(torch.cat(cells[start : start + batch]), offsets))
        return torch.cat(parts)

    def padded() -> torch.Tensor:
        parts = []
        for start in range(0, drawn, batch):
            x = torch.nn.utils.rnn.pad_sequence(cells[start : start + batch], batch_first=True)
            real = torch.arange(x.shape[1]) < lengths[start : start + batch, None]
            parts.append(padded_forward(encoder, x, real)[real])
        return torch.cat(parts)

    with torch.no_grad():
        rows = take_turns({PADDED: padded, PACKED: packed}, drawn, repeats)
    what = f"{drawn} of {int(lengths.min())}-{int(lengths.max())}, median {int(lengths.median())}"
    return [{"cells": what, **row} for row in rows]


def job(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one comparison; the harness wants a dictionary."""
    compare = {"torch": against_torch, "padding": against_padding}[name]
    return {"rows": compare(**arguments)}


def main() -> None:
    """Run the comparisons and write the table and the figure."""
    arguments = parse_arguments()
    common = {"repeats": arguments.repeats, "seed": arguments.seed}
    jobs: list[tuple[str, dict[str, Any]]] = [
        ("torch", {"length": length, "cells": arguments.cells, **common})
        for length in arguments.lengths
    ]
    drawn = ("median", "spread", "context", "drawn", "batch")
    jobs.append(("padding", {n: getattr(arguments, n) for n in drawn} | common))
    rows = []
    for number, (name, options) in enumerate(jobs):
        harness.say(f"{name}: {options}")
        found = harness.run_isolated(
            "encoder.py:job",
            {"name": name, "arguments": options},
            arguments.threads,
            arguments.timeout,
            arguments.out / "logs" / f"{number}_{name}.log",
        )
        rows += found.get("rows", [{"cells": str(options), "method": name, **found}])
    table = pd.DataFrame(rows)
    if "cells_per_second" in table:
        for rate, ratio in (("cells_per_second", "ratio"), ("cells_per_cpu_second", "cpu_ratio")):
            slowest = table.groupby("cells", sort=False)[rate].transform("first")
            table[ratio] = table[rate] / slowest
    notes = (
        "Ratios: to the first method of the same cells. Difference: largest between the outputs of "
        "a method and of the packed encoder."
    )
    harness.write_table(table, arguments.out, "encoder", notes)
    table["label"] = table["method"] + ", " + table["cells"]
    columns = ["cells_per_second", "ratio", "cpu_ratio"]
    harness.write_figure(table, columns, arguments.out, "encoder", "Encoder on CPU", "label")


if __name__ == "__main__":
    main()
