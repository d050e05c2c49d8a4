"""The model card: what a stranger needs to know of a model before using it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from huggingface_hub import ModelCard

# Libraries that decide whether a saved model can be read again
VERSIONS = ("atacvi", "scvi-tools", "anndata", "mudata", "torch", "numpy")
_LIBRARY = "scvi-tools"
_MAX_ITEMS = 20

_CONTENT = """\
---
{header}
---

# {model}

{summary}

{description}

## Data

{data}

## Metrics

{metrics}

## How to load it

```python
{loading}
```

`model.pt` is a pickle: load it only if you trust where it comes from.

## Arguments

Of the model:

```json
{init}
```

Of `{setup_method}`:

```json
{setup}
```

## Versions

{versions}

## References

{references}
"""

_LOADING = """\
from scvi.hub import HubModel

hub_model = HubModel("folder")
model = hub_model.model  # with the data in the folder, else hub_model.load_model(adata)
model.get_latent_representation()"""


def model_card(
    model: Any,
    *,
    license: str,
    description: str,
    metrics: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
    tissues: Sequence[str] = (),
    references: str | None = None,
) -> ModelCard:
    """Describe a model for the Hugging Face hub: data, metrics, arguments, versions.

    The tags are those of scvi-hub, by which its models are found. Values that are no plain text or
    number, such as a universe, are written by their type.

    Parameters
    ----------
    model
        Trained model of this package.
    license
        Licence of weights and data, an identifier of the hub such as ``"cc-by-4.0"``.
    description
        What the model was trained on and what it is for, in Markdown.
    metrics
        Name of a score -> value; a mapping as the value makes a table of its own. Say in the
        `description` on which cells they were measured.
    modalities
        Modalities of the data; ``None`` takes those of a MuData, and ``["atac"]`` for AnnData.
    tissues
        Tissues of the data.
    references
        Markdown; ``None`` takes the publication that the model follows.

    Returns
    -------
    Card; ``card.save(path)`` writes it.

    Raises
    ------
    ImportError
        If ``huggingface_hub`` is not installed (extra ``hub``).
    TypeError
        If `model` is not a model of scvi-tools.
    ValueError
        If licence or description are empty, or a metric is not a number or text.

    References
    ----------
    Ergen et al., "Scvi-hub: an actionable repository for model-driven single-cell analysis", bioRxiv
    2024.03.01.582887. Mitchell et al., "Model cards for model reporting", FAT* 2019.

    Examples
    --------
    >>> import atacvi
    >>> cells = atacvi.datasets.simulate_multiome(n_cells=60, n_genes=20, n_peaks=100)[
    ...     "atac"
    ... ].copy()
    >>> atacvi.AtacformerModel.setup_anndata(cells)
    >>> model = atacvi.AtacformerModel(cells, n_embed=8, n_layers=1, n_heads=1, n_feedforward=8)
    >>> card = atacvi.hub.model_card(
    ...     model, license="cc0-1.0", description="Simulated cells.", metrics={"ARI": 0.5}
    ... )
    >>> card.data.license, card.data.library_name
    ('cc0-1.0', 'scvi-tools')
    >>> "| ARI | 0.5 |" in card.text
    True
    """
    hub = import_hub()
    name = require_model(model)
    for field, text in {"license": license, "description": description}.items():
        if not isinstance(text, str) or not text.strip():
            msg = f"{field}={text!r}; a card needs a {field} in words"
            raise ValueError(msg)
    registry = model.registry_
    found = versions()
    tags = ["biology", "genomics", "single-cell", "ATAC-seq", f"model_cls_name:{name}"]
    tags += [f"{library.split('-')[0]}_version:{found[library]}" for library in VERSIONS[:3]]
    tags += [f"modality:{m}" for m in _modalities(model, modalities)]
    tags += [f"tissue:{t}" for t in tissues]
    header = hub.ModelCardData(license=license, library_name=_LIBRARY, tags=tags)
    summary, cited = _of_class(type(model))
    content = _CONTENT.format(
        header=header.to_yaml(),
        model=name,
        summary=summary,
        description=description.strip(),
        data=_table("what", "number", _sizes(model)),
        metrics=_metrics(metrics),
        loading=_LOADING,
        init=_json(_flat(model.init_params_)),
        setup_method=registry.get("setup_method_name", "setup_anndata"),
        setup=_json(registry["setup_args"]),
        versions=_table("library", "version", found),
        references=references or cited,
    )
    return hub.ModelCard(content)


def import_hub() -> ModuleType:
    """Return ``huggingface_hub``.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        msg = "model cards need huggingface_hub: pip install 'atacvi[hub]'"
        raise ImportError(msg) from error
    return huggingface_hub


def require_model(model: Any) -> str:
    """Return the name of the class of a model of scvi-tools.

    Raises
    ------
    TypeError
        If it is something else.
    """
    from scvi.model.base import BaseModelClass

    if not isinstance(model, BaseModelClass):
        msg = f"model is a {type(model).__name__}; give a trained model, such as MultiViewModel"
        raise TypeError(msg)
    return type(model).__name__


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a saved model depends on."""
    from atacvi import __version__

    return {name: __version__ if name == "atacvi" else metadata.version(name) for name in VERSIONS}


def _modalities(model: Any, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        return list(given)
    return sorted(getattr(model.adata, "mod", None) or ["atac"])


def _sizes(model: Any) -> dict[str, int]:
    """Return the numbers of cells and features, and what the setup registered."""
    sizes: dict[str, int] = {}
    if model.adata is not None:
        sizes["cells"] = model.adata.n_obs
        parts = getattr(model.adata, "mod", None) or {"": model.adata}
        sizes |= {f"features {name}".strip(): part.n_vars for name, part in parts.items()}
    return {**sizes, **model.summary_stats}


def _of_class(cls: type) -> tuple[str, str]:
    """Return the first line of a class's docstring, and its section of references."""
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
    start = lines.index("References") + 2
    rest = [i for i in range(start, len(lines)) if set(lines[i]) == {"-"}]
    end = rest[0] - 1 if rest else len(lines)
    return lines[0], " ".join(lines[start:end]).strip()


def _flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``__init__``, which scvi-tools keeps in two groups."""
    kept = {**arguments.get("non_kwargs", {}), **arguments.get("kwargs", {})}
    flat: dict[str, Any] = {}
    for name, value in kept.items():
        flat |= value if isinstance(value, dict) and name.endswith("kwargs") else {name: value}
    return {name: value for name, value in flat.items() if name not in ("adata", "registry")}


def _plain(value: Any) -> Any:
    """Return what JSON can hold; for anything large or foreign, its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) and len(value) <= _MAX_ITEMS:
        return [_plain(inner) for inner in value]
    return f"<{type(value).__name__}>"


def _json(value: Any) -> str:
    return json.dumps(_plain(value), indent=2)


def _table(first: str, second: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {first} | {second} |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows.items()])


def _metrics(metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return "None given."
    parts = {name: m for name, m in metrics.items() if isinstance(m, Mapping)}
    alone = {name: value for name, value in metrics.items() if name not in parts}
    tables = ([_table("score", "value", _values(alone))] if alone else []) + [
        f"### {name}\n\n{_table('score', 'value', _values(rows))}" for name, rows in parts.items()
    ]
    return "\n\n".join(tables)


def _values(scores: Mapping[str, Any]) -> dict[str, str]:
    """Write scores as they are, numbers with at most four digits."""
    import numbers

    written = {}
    for name, value in scores.items():
        if not isinstance(value, numbers.Real | str):
            msg = f"metrics[{name!r}] is a {type(value).__name__}; give a number or text"
            raise ValueError(msg)
        written[name] = value if isinstance(value, str) else f"{float(value):.4g}"
    return written
