"""Geneformer as RNA encoder: genes ranked by their expression, read by a pretrained transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from atacvi.data._messages import examples

if TYPE_CHECKING:
    from atacvi.likelihoods import SparseTarget

TOKENS_FILE, MEDIANS_FILE = "gene_tokens.json", "gene_medians.json"
_TARGET_SUM = 1e4
_PAD = 0
_NEEDED = ("config.json", "model.safetensors", TOKENS_FILE, MEDIANS_FILE)


class GeneformerEncoder(nn.Module):
    """Mean over the genes of a cell, ranked by expression, after a pretrained BERT.

    Counts are divided by the cell's total and by each gene's median over a large corpus; the genes
    in falling order are the tokens (Theodoris et al. 2023, rank value encoding).

    Parameters
    ----------
    bert
        Transformer without a pooling layer.
    tokens
        Token of each gene of the data, -1 where it has none, int64, shape (genes,).
    medians
        Median of each gene, shape (genes,).

    References
    ----------
    Theodoris et al., "Transfer learning enables predictions in network biology", Nature 618, 616
    (2023).
    """

    tokens: Tensor
    medians: Tensor

    def __init__(self, bert: Any, tokens: np.ndarray, medians: np.ndarray) -> None:
        super().__init__()
        self.bert = bert
        self.n_output = int(bert.config.hidden_size)
        self.max_genes = int(bert.config.max_position_embeddings)
        self.register_buffer("tokens", torch.as_tensor(tokens, dtype=torch.long))
        self.register_buffer("medians", torch.as_tensor(medians, dtype=torch.float32))

    @classmethod
    def from_folder(cls, folder: str | Path, genes: np.ndarray) -> GeneformerEncoder:
        """Read a pretrained model; nothing is unpickled or downloaded.

        Parameters
        ----------
        folder
            With ``config.json`` and ``model.safetensors``, and ``gene_tokens.json`` and
            ``gene_medians.json``, which map genes to tokens and to medians.
        genes
            Genes of the data, named as in these files (Ensembl ids).

        Raises
        ------
        FileNotFoundError
            If files are missing.
        ImportError
            If ``transformers`` is not installed.
        ValueError
            If weights are missing, or hardly any gene is known.
        """
        transformers = _transformers()
        folder = Path(folder)
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
            pickled = " Dictionaries are read from JSON, never from pickles: convert them with" + (
                " json.dump(pickle.load(...)), once, where you trust them."
            )
            msg = (
                f"{folder} lacks {', '.join(missing)}; it holds {', '.join(found) or 'nothing'}."
                f"{pickled if {TOKENS_FILE, MEDIANS_FILE} & set(missing) else ''}"
            )
            raise FileNotFoundError(msg)
        tokens, medians = gene_tables(folder, genes)
        bert, report = transformers.BertModel.from_pretrained(
            folder,
            add_pooling_layer=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        if report["missing_keys"]:
            msg = (
                f"{folder} lacks {len(report['missing_keys'])} weights of the transformer: "
                f"{examples(sorted(report['missing_keys']))}. They are not made up."
            )
            raise ValueError(msg)
        return cls(bert, tokens, medians)

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> GeneformerEncoder:
        """Build the encoder that `describe` tells of; its weights are loaded afterwards."""
        transformers = _transformers()
        config = transformers.BertConfig(**description["config"])
        bert = transformers.BertModel(config, add_pooling_layer=False)
        return cls(bert, np.asarray(description["tokens"]), np.asarray(description["medians"]))

    def describe(self) -> dict[str, Any]:
        """Return what builds the encoder again, as plain values."""
        config = self.bert.config.to_dict()
        plain = {k: v for k, v in config.items() if isinstance(v, (str, int, float, bool))}
        return {
            "config": plain,
            "tokens": self.tokens.tolist(),
            "medians": self.medians.tolist(),
        }

    def forward(self, x: SparseTarget, known: Tensor | None = None) -> Tensor:
        """Return the embedding of each cell, shape (cells, n_output)."""
        ids, mask = self.rank(x)
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1.0)

    def rank(self, x: SparseTarget) -> tuple[Tensor, Tensor]:
        """Return tokens in falling order of expression, padded, and where they are.

        Returns
        -------
        Both int64 of shape (cells, longest cell); a cell without known genes is one pad.
        """
        n_cells = x.shape[0]
        depth = torch.zeros(n_cells, dtype=x.values.dtype, device=x.values.device)
        depth = depth.index_add(0, x.rows, x.values).clamp(min=1.0)
        usable = self.tokens[x.cols] >= 0
        rows, cols = x.rows[usable], x.cols[usable]
        score = x.values[usable] / depth[rows] * _TARGET_SUM / self.medians[cols]
        order = torch.argsort(score, descending=True, stable=True)
        order = order[torch.argsort(rows[order], stable=True)]
        rows, cols = rows[order], cols[order]
        sizes = torch.bincount(rows, minlength=n_cells)
        place = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[rows]
        kept = place < self.max_genes
        longest = max(1, min(int(sizes.max()) if len(sizes) else 1, self.max_genes))
        ids = torch.full((n_cells, longest), _PAD, device=rows.device)
        mask = torch.zeros_like(ids)
        ids[rows[kept], place[kept]] = self.tokens[cols[kept]]
        mask[rows[kept], place[kept]] = 1
        mask[sizes == 0, 0] = 1  # attention needs one place to look at
        return ids, mask


def gene_tables(folder: Path, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return token and median of each gene; -1 and 1 for those the files do not know.

    Raises
    ------
    ValueError
        If none is known.
    """
    tables = [json.loads((folder / name).read_text()) for name in (TOKENS_FILE, MEDIANS_FILE)]
    known = [str(g) in tables[0] and float(tables[1].get(str(g), 0)) > 0 for g in genes]
    if not any(known):
        msg = (
            f"{TOKENS_FILE} knows none of the {len(genes)} genes, such as {str(genes[0])!r}; its own "
            f"are named like {next(iter(tables[0]), 'nothing')!r}. Use Ensembl ids as var_names."
        )
        raise ValueError(msg)
    pairs = list(zip(genes, known, strict=True))
    tokens = np.asarray([int(tables[0][str(g)]) if k else -1 for g, k in pairs])
    medians = np.asarray([float(tables[1][str(g)]) if k else 1.0 for g, k in pairs])
    return tokens, medians


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        msg = (
            "rna_encoder='geneformer' needs transformers: pip install 'atacvi[geneformer]'. "
            "rna_encoder='mlp' needs nothing further."
        )
        raise ImportError(msg) from error
    return transformers
