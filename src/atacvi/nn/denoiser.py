"""Networks of a diffusion in latent space: from a noisy latent, time and conditions to its target.

Both normalise each cell by itself (`LayerNorm`), so that a cell's output does not depend on the
others of its minibatch, and start with an output that is constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from atacvi.nn.conditioning import ConditionEmbedding, TimeEmbedding
from atacvi.nn.cross_attention import CrossAttention

if TYPE_CHECKING:
    from collections.abc import Mapping


class _AdaptiveBlock(nn.Module):
    """Residual block whose normalisation and gate come from the condition (AdaLN-zero)."""

    def __init__(self, width: int, dropout_rate: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = _zeroed(nn.Linear(width, 3 * width))
        self.inner = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout_rate), nn.Linear(width, width)
        )

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return hidden + gate * self.inner(self.norm(hidden) * (1 + scale) + shift)


class ResidualDenoiser(nn.Module):
    """Residual network with adaptive layer norm, which the time and the conditions steer.

    Shift, scale and gate of each block are linear in the sum of the embeddings of the time, z, the
    label, the batch and the log library size (AdaLN-zero: Peebles and Xie, ICCV 2023). Each
    condition has a learned null vector that stands for "not given". The output is 0 at the start.

    Parameters
    ----------
    n_latent
        Width of the latent that is denoised.
    n_condition
        Width of z.
    n_hidden
        Width of the blocks.
    n_blocks
        Number of blocks.
    n_labels
        Number of labels; 0 for a network without labels.
    n_batch
        Number of batches; 0 for a network without batches.
    dropout_rate
        Dropout inside the blocks.
    use_log_depth
        Take the log library size as a condition.

    References
    ----------
    Peebles and Xie, Scalable Diffusion Models with Transformers, ICCV 2023, Section 3.2.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import ResidualDenoiser
    >>> network = ResidualDenoiser(n_latent=8, n_condition=3, n_hidden=16, n_labels=2)
    >>> x_t, time, z = torch.randn(5, 8), torch.rand(5), torch.randn(5, 3)
    >>> network(x_t, time, z, label=torch.tensor([0, 1, 0, 1, 1])).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        n_latent: int,
        n_condition: int,
        n_hidden: int = 512,
        n_blocks: int = 4,
        n_labels: int = 0,
        n_batch: int = 0,
        dropout_rate: float = 0.0,
        *,
        use_log_depth: bool = True,
    ) -> None:
        super().__init__()
        self.input = nn.Linear(n_latent, n_hidden)
        self.time = TimeEmbedding(256, n_hidden, n_hidden)
        self.conditions = ConditionEmbedding(
            n_condition, n_hidden, n_labels, n_batch, use_log_depth=use_log_depth
        )
        self.blocks = nn.ModuleList(_AdaptiveBlock(n_hidden, dropout_rate) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.modulation = _zeroed(nn.Linear(n_hidden, 2 * n_hidden))
        self.output = _zeroed(nn.Linear(n_hidden, n_latent))

    def forward(
        self,
        x_t: Tensor,
        time: Tensor,
        z: Tensor | None,
        label: Tensor | None = None,
        batch: Tensor | None = None,
        log_depth: Tensor | None = None,
        drop: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict from noisy latents.

        Parameters
        ----------
        x_t
            Noisy latent, shape (n, n_latent).
        time
            Time in [0, 1], 1 for noise, shape (n,).
        z
            Semantic latent, shape (n, n_condition); ``None`` is null for all cells, here and below.
        label
            Codes, shape (n,) or (n, 1).
        batch
            Codes, shape (n,) or (n, 1).
        log_depth
            Log library size, standardised over the training cells, shape (n,) or (n, 1).
        drop
            For any of ``"z"``, ``"label"``, ``"batch"`` and ``"log_depth"``, the cells for which
            the condition is null: bool, shape (n,).

        Returns
        -------
        Prediction, shape (n, n_latent).

        Raises
        ------
        ValueError
            If a condition is given that the network was built without, or an unknown one dropped.
        """
        conditions = self.conditions(len(x_t), z, label, batch, log_depth, drop)
        condition = F.silu(self.time(time) + conditions.sum(1))
        hidden = self.input(x_t)
        for block in self.blocks:
            hidden = block(hidden, condition)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.output(self.norm(hidden) * (1 + scale) + shift)


class TransformerDenoiser(nn.Module):
    """Transformer on one token a cell with cross-attention to the conditions (ATAC-Diff).

    The latent and the time are summed to one token; six pre-norm layers attend to the tokens of
    the conditions. It differs from the authors' code where that mixes the cells of a minibatch
    (no batch norm) or reads labels and batches as numbers (each has its own embedding), and every
    condition has a null vector. With z alone the attention does not depend on the latent or the
    time (see `CrossAttention`).

    Parameters
    ----------
    n_latent
        Width of the latent that is denoised.
    n_condition
        Width of z.
    n_hidden
        Width of the token.
    n_blocks
        Number of layers.
    n_labels
        Number of labels; 0 for a network without labels.
    n_batch
        Number of batches; 0 for a network without batches.
    dropout_rate
        Dropout after the attention, in the feed-forward parts and before the layers.
    use_log_depth
        Take the log library size as a condition; the publication does not.
    n_heads
        Number of heads.
    head_width
        Width of a head.

    References
    ----------
    Huang et al., A versatile informative diffusion model for single-cell ATAC-seq data generation
    and analysis, arXiv 2408.14801.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import TransformerDenoiser
    >>> network = TransformerDenoiser(n_latent=128, n_condition=32)
    >>> round(sum(p.numel() for p in network.parameters()) / 1e6, 2)
    2.98
    >>> network(torch.randn(5, 128), torch.rand(5), torch.randn(5, 32)).shape
    torch.Size([5, 128])
    """

    def __init__(
        self,
        n_latent: int,
        n_condition: int,
        n_hidden: int = 128,
        n_blocks: int = 6,
        n_labels: int = 0,
        n_batch: int = 0,
        dropout_rate: float = 0.1,
        *,
        use_log_depth: bool = False,
        n_heads: int = 8,
        head_width: int = 64,
    ) -> None:
        super().__init__()
        self.input = nn.Sequential(
            nn.Linear(n_latent, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden)
        )
        self.time = TimeEmbedding(n_hidden, 4 * n_hidden, n_hidden)
        self.conditions = ConditionEmbedding(
            n_condition, n_hidden, n_labels, n_batch, use_log_depth=use_log_depth
        )
        self.mix = nn.Sequential(
            nn.Linear(n_hidden, n_hidden),
            nn.LayerNorm(n_hidden, eps=1e-4),
            nn.LeakyReLU(),
            nn.Dropout(dropout_rate),
        )
        self.blocks = nn.ModuleList(
            CrossAttention(n_hidden, n_heads, head_width, dropout_rate) for _ in range(n_blocks)
        )
        self.project = _zeroed(nn.Linear(n_hidden, n_hidden))
        self.output = nn.Linear(n_hidden, n_latent)

    def forward(
        self,
        x_t: Tensor,
        time: Tensor,
        z: Tensor | None,
        label: Tensor | None = None,
        batch: Tensor | None = None,
        log_depth: Tensor | None = None,
        drop: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict from noisy latents; arguments as of `ResidualDenoiser`, shape (n, n_latent)."""
        context = self.conditions(len(x_t), z, label, batch, log_depth, drop)
        hidden = self.mix(self.input(x_t) + self.time(time))
        for block in self.blocks:
            hidden = block(hidden, context)
        return self.output(self.project(hidden))


def _zeroed(layer: nn.Linear) -> nn.Linear:
    """Set weights and bias of a layer to zero and return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
