"""Deep generative models for single-cell chromatin accessibility and multiome data.

Nothing heavy is loaded here: torch and scvi-tools come with the first model, every namespace with
its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from atacvi import data, datasets, hub, metrics, pl, pp, tl
    from atacvi.models import ATACDiffModel, AtacformerModel, CRAFTModel, MultiViewModel

__version__ = "0.1.0"

__all__ = [
    "ATACDiffModel",
    "AtacformerModel",
    "CRAFTModel",
    "MultiViewModel",
    "__version__",
    "data",
    "datasets",
    "hub",
    "metrics",
    "pl",
    "pp",
    "tl",
]

_NAMESPACES = frozenset({"data", "datasets", "hub", "metrics", "pl", "pp", "tl"})
_MODELS = frozenset({"ATACDiffModel", "AtacformerModel", "CRAFTModel", "MultiViewModel"})


def __getattr__(name: str) -> ModuleType | type:
    """Import a namespace or a model when it is first asked for (PEP 562)."""
    if name in _NAMESPACES:
        return import_module(f"{__name__}.{name}")
    if name in _MODELS:
        value: type = getattr(import_module(f"{__name__}.models"), name)
        globals()[name] = value
        return value
    msg = f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
