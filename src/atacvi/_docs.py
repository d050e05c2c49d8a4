"""Pieces of docstrings that several functions share.

``@fill_docs`` replaces ``{param_adata}`` and the like in a docstring by the text of that name, so a
parameter is described once for all models and functions.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PIECES", "fill_docs"]

F = TypeVar("F", bound="Callable[..., object]")

PIECES: dict[str, str] = {
    "param_adata": """\
adata
    Object with the same structure as the one the model was set up with; ``None`` takes that one.""",
    "param_indices": """\
indices
    Positions of the cells to use; ``None`` takes all.""",
    "param_batch_size": """\
batch_size
    Cells per minibatch; ``None`` takes ``scvi.settings.batch_size``. Results do not depend on it.""",
    "param_modality": """\
modality
    ``"joint"`` uses all modalities a cell has, ``"rna"`` or ``"atac"`` only that one.""",
    "param_transform_batch": """\
transform_batch
    Batch (or batches, averaged) to decode for; ``None`` decodes each cell for its own.""",
    "param_return_numpy": """\
return_numpy
    Return an array in place of a data frame.""",
    "param_random_state": """\
random_state
    Seed or generator; the same value gives the same result.""",
}

_PLACEHOLDER = re.compile(r"^(?P<indent>[ \t]*)\{(?P<name>\w+)\}[ \t]*$", flags=re.MULTILINE)


def fill_docs(function: F) -> F:
    """Fill the shared pieces into the docstring of `function`.

    A piece stands alone on its line, in braces, and is indented like that line.

    Parameters
    ----------
    function
        Function whose docstring names pieces of :data:`PIECES`.

    Returns
    -------
    The same function.

    Raises
    ------
    KeyError
        If the docstring names a piece that does not exist.

    Examples
    --------
    >>> from atacvi._docs import fill_docs
    >>> @fill_docs
    ... def latent(adata=None):
    ...     '''Return the latent.
    ...
    ...     Parameters
    ...     ----------
    ...     {param_adata}
    ...     '''
    >>> "None`` takes that one" in latent.__doc__
    True
    """
    if function.__doc__ is None:
        return function

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in PIECES:
            msg = f"no docstring piece {name!r}; there are {', '.join(sorted(PIECES))}"
            raise KeyError(msg)
        return "\n".join(match["indent"] + line for line in PIECES[name].splitlines())

    function.__doc__ = _PLACEHOLDER.sub(fill, inspect.cleandoc(function.__doc__))
    return function
