"""How far the effects of the latent on a modality hold in counts that were not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from atacvi.training.clear_choice import clearly_best

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from atacvi.modules._minibatch import PairedBatch

# The first stands for "as learnt". None above: cells of which a part of the counts is encoded lie
# nearer to the prior's mean than whole cells do, so that larger effects explain the other part
# better, and overshoot for whole cells. Down to a tenth: without any effect all are imputed alike.
EFFECT_SCALES = (1.0, 0.85, 0.7, 0.5, 0.3, 0.1)

# Fraction of the counts of a held-out cell that the encoder sees.
SHOWN_FRACTION = 0.8


class _Decoded(NamedTuple):
    """What the latent of some cells gives, and the counts that it is to explain."""

    target: PairedBatch
    z: Tensor
    trunk: Tensor


@torch.no_grad()
def calibrate_effects(
    module: Any, minibatches: Iterable[dict[str, Tensor]], random_state: int
) -> dict[str, float]:
    r"""Shrink what z adds to log-rates as far as held-out counts of held-out cells ask for.

    The epoch is chosen by the sum over both modalities, so that one of which the latent says little
    may be overfitted at the epoch that is best for the other. Here each modality is decoded from
    four fifths of the counts of cells that were not trained on, and the other fifth is explained by

    .. math::

        \log r_p(z) = b_p + e_p(z) + (s - 1)(e_p(z) - \bar{e}_p) + a_p(1) - a_p(s), \qquad
        a_p(s) = \log \overline{\exp\big(s\,(e_p(z) - \bar{e}_p)\big)}

    with :math:`e_p` the effect of z on feature p and bars for the mean over cells: the mean rate of
    a feature stays as it is. The best s is taken if it is better than 1 by more than a standard
    error over the cells.

    Parameters
    ----------
    module
        A `MultiViewModule` in evaluation mode; its heads are changed in place.
    minibatches
        Tensors of held-out cells.
    random_state
        Seed of the split of their counts.

    Returns
    -------
    The scales taken, by ``"rna"`` and ``"atac"``; TF-IDF values are left as learnt.
    """
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(random_state)
        cells = [_decode(module, tensors) for tensors in minibatches]
    scales = {"rna": _scale_best(module, "rna", cells), "atac": 1.0}
    if module.atac_target != "tfidf":  # the TF-IDF of a part of the counts is not that of all
        scales["atac"] = _scale_best(module, "atac", cells)
    return scales


def _decode(module: Any, tensors: dict[str, Tensor]) -> _Decoded:
    """Take the latent from a part of the counts, and keep the others."""
    seen, target = module.split_batch(module.read_batch(tensors), SHOWN_FRACTION)
    inferred = module.inference(seen)
    z = inferred["posterior"].mean
    trunk = module.trunk(z, seen.covariates, inferred["log_responsibilities"].exp())
    return _Decoded(target, z, trunk)


def _scale_best(module: Any, name: str, cells: list[_Decoded]) -> float:
    """Try all scales on the head of a modality, leave it with the best, and return that."""
    head = module.rna_head if name == "rna" else module.atac_head
    learnt = {key: value.clone() for key, value in head.state_dict().items()}
    shifts = _shifts(module, name, cells)
    explained = []
    for scale, shift in zip(EFFECT_SCALES, shifts, strict=True):
        head.scale_effects(scale, shift)
        explained.append(torch.cat([_explain(module, name, part) for part in cells]))
        head.load_state_dict(learnt)
    best = clearly_best(torch.stack(explained).cpu().numpy())
    head.scale_effects(EFFECT_SCALES[best], shifts[best])
    return EFFECT_SCALES[best]


def _effects(module: Any, name: str, part: _Decoded) -> Tensor:
    """Return what z adds to the log-rates, shape (cells, features)."""
    head = module.rna_head if name == "rna" else module.atac_head
    effects = head.effects(part.z, part.trunk)
    return effects if name == "rna" else effects @ module.peak_table.T


def _shifts(module: Any, name: str, cells: list[_Decoded]) -> list[Tensor]:
    """Return for each scale what the offsets need for the mean rates to stay, each (features,)."""
    n_cells = sum(len(part.z) for part in cells)
    mean = torch.stack([_effects(module, name, part).sum(0) for part in cells]).sum(0) / n_cells
    totals = [torch.full_like(mean, -torch.inf) for _ in EFFECT_SCALES]
    for part in cells:
        centred = _effects(module, name, part) - mean
        for k, scale in enumerate(EFFECT_SCALES):
            totals[k] = torch.logaddexp(totals[k], torch.logsumexp(scale * centred, 0))
    return [
        (1.0 - scale) * mean + totals[0] - total
        for scale, total in zip(EFFECT_SCALES, totals, strict=True)
    ]


def _explain(module: Any, name: str, part: _Decoded) -> Tensor:
    """Return the log-likelihood of the counts kept, shape (cells,)."""
    inputs = part.z, part.target.covariates, part.trunk
    if name == "rna":
        return module.rna_log_prob(part.target, module.rna_head(*inputs))
    return module.atac_log_prob(part.target, module.atac_head.cell_vector(*inputs))
