"""Whether a mixture separates the cells: effective components, warnings, regularisers."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

# A component with less of the mass does not count as occupied.
_OCCUPIED = 0.01
# Mean entropy of the assignments, as a fraction of log K, from which they count as uniform.
_UNIFORM = 0.95


class CollapseWarning(UserWarning):
    """The mixture does not separate the cells.

    Examples
    --------
    >>> import warnings
    >>> from atacvi.priors import CollapseWarning
    >>> warnings.simplefilter("ignore", CollapseWarning)
    >>> warnings.resetwarnings()
    """


class EffectiveComponents(NamedTuple):
    """How many components a mixture really uses.

    Parameters
    ----------
    perplexity
        Exponential of the entropy of the mean assignment, between 1 and the number of components.
    n_occupied
        Number of components that hold more than 1 % of the mass.
    mean_entropy
        Mean entropy of one cell's assignment in nats, 0 when every cell is certain; ``nan`` when
        only weights are known.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import effective_n_components
    >>> used = effective_n_components(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> round(used.perplexity, 3), used.n_occupied
    (2.0, 2)
    """

    perplexity: float
    n_occupied: int
    mean_entropy: float


@torch.no_grad()
def effective_n_components(assignment: Tensor) -> EffectiveComponents:
    """Count the components that an assignment uses.

    Parameters
    ----------
    assignment
        Responsibilities, shape (cells, components), or weights, shape (components,).

    Raises
    ------
    ValueError
        If `assignment` has another number of dimensions or no cells.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import effective_n_components
    >>> effective_n_components(torch.tensor([0.5, 0.5, 0.0])).n_occupied
    2
    """
    assignment = torch.as_tensor(assignment)
    if assignment.ndim not in (1, 2) or assignment.numel() == 0:
        msg = (
            f"Found an assignment of shape {tuple(assignment.shape)}; pass responsibilities of "
            "shape (cells, components) or weights of shape (components,)."
        )
        raise ValueError(msg)
    mean_entropy = math.nan
    mass = assignment
    if assignment.ndim == 2:
        mean_entropy = _entropy(assignment).mean().item()
        mass = assignment.mean(0)
    mass = mass / mass.sum()
    return EffectiveComponents(
        perplexity=_entropy(mass).exp().item(),
        n_occupied=int((mass > _OCCUPIED).sum()),
        mean_entropy=mean_entropy,
    )


def warn_on_collapse(assignment: Tensor, stacklevel: int = 2) -> EffectiveComponents:
    """Warn when one component holds all the mass, or when no cell has a preference.

    Parameters
    ----------
    assignment
        Responsibilities, shape (cells, components), or weights, shape (components,).
    stacklevel
        As in `warnings.warn`.

    Returns
    -------
    What `effective_n_components` gives.

    Warns
    -----
    CollapseWarning
        If the mixture is degenerate; the message names the remedies.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import warn_on_collapse
    >>> warn_on_collapse(torch.eye(4)).n_occupied
    4
    """
    assignment = torch.as_tensor(assignment)
    effective = effective_n_components(assignment)
    n_components = assignment.shape[-1]
    if n_components == 1:
        return effective
    if effective.n_occupied <= 1:
        msg = (
            f"The mixture prior has collapsed: one of {n_components} components holds all the "
            "mass, so cluster probabilities carry no information. Start the mixture from the "
            "data after a longer warm-up (GaussianMixturePrior.fit on the latent), lower the "
            "learning rate of the prior, or add the balance penalty."
        )
        warnings.warn(msg, CollapseWarning, stacklevel=stacklevel)
    elif effective.mean_entropy > _UNIFORM * math.log(n_components):
        msg = (
            f"The mixture prior does not separate the cells: responsibilities over "
            f"{n_components} components are uniform (mean entropy {effective.mean_entropy:.2f} "
            f"of at most {math.log(n_components):.2f} nats). Start the mixture from the data "
            "(GaussianMixturePrior.fit on the latent), use fewer components, lower the weight "
            "of the KL term, or add the sharpness penalty."
        )
        warnings.warn(msg, CollapseWarning, stacklevel=stacklevel)
    return effective


def balance_penalty(responsibilities: Tensor) -> Tensor:
    """Return minus the entropy of the mean assignment: lowest when components share the cells.

    scMVP's code minimises this entropy with the opposite sign, which rewards collapse.

    Parameters
    ----------
    responsibilities
        Shape (cells, components).

    Returns
    -------
    Scalar tensor in nats, between minus the log number of components and 0.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import balance_penalty
    >>> bool(balance_penalty(torch.eye(2)) < balance_penalty(torch.tensor([[1.0, 0], [1, 0]])))
    True
    """
    return -_entropy(responsibilities.mean(0))


def sharpness_penalty(responsibilities: Tensor) -> Tensor:
    """Return the mean entropy of one cell's assignment: lowest when every cell is certain.

    Parameters
    ----------
    responsibilities
        Shape (cells, components).

    Returns
    -------
    Scalar tensor in nats, between 0 and the log number of components.

    Examples
    --------
    >>> import torch
    >>> from atacvi.priors import sharpness_penalty
    >>> sharpness_penalty(torch.eye(3)).item()
    0.0
    """
    return _entropy(responsibilities).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy over the last dimension, with finite gradients at zero."""
    floor = torch.finfo(probabilities.dtype).tiny
    # + 0.0 turns the -0.0 of a certain assignment into 0.0.
    return -(probabilities * probabilities.clamp(min=floor).log()).sum(-1) + 0.0
