"""The exact denoiser of latents that are Gaussian around a linear function of the conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of the residual: no direction is taken to be known exactly.
_LEAST_VARIANCE = 1e-3
_RIDGE = 1.0

# Ways of hiding: nothing, the label, z, both
_HIDES_Z = (False, False, True, True)
_HIDES_LABEL = (False, True, False, True)


class GaussianDenoiser(nn.Module):
    r"""Posterior means of latent and noise where the latent is a linear regression plus noise.

    For :math:`h \mid c \sim N(B^\top f_c, U \Lambda U^\top)`, with f the conditions side by side, and
    :math:`x = a h + s \epsilon`,

    .. math::

        E[h \mid x, c] = B^\top f_c + a U \Lambda D U^\top r, \quad
        E[\epsilon \mid x, c] = s U D U^\top r, \quad
        D = (a^2 \Lambda + s^2)^{-1}, \quad r = x - a B^\top f_c .

    There is a regression for each way of hiding z and the label, so that the difference between
    hidden and given conditions is known too (classifier-free guidance). The best prediction of any
    target that is linear in h and noise is that of their posterior means. A network that adds to it
    has only that to learn which is not linear or not Gaussian.

    Parameters
    ----------
    n_latent
        Width of the latent.
    n_condition
        Width of z.
    n_labels, n_batch
        Numbers of labels and batches; 0 for none.

    Examples
    --------
    >>> import torch
    >>> from atacvi.nn import GaussianDenoiser
    >>> exact = GaussianDenoiser(n_latent=3, n_condition=2)
    >>> z = torch.randn(50, 2)
    >>> exact.fit(torch.cat([z, z[:, :1]], 1), z, None, None, torch.zeros(50))
    >>> h, noise = exact(torch.zeros(4, 3), torch.ones(4, 1), torch.ones(4, 1), z[:4])
    >>> h.shape, noise.shape
    (torch.Size([4, 3]), torch.Size([4, 3]))
    """

    fitted: Tensor
    coefficients: Tensor
    batch_coefficients: Tensor
    directions: Tensor
    variances: Tensor

    def __init__(
        self, n_latent: int, n_condition: int, n_labels: int = 0, n_batch: int = 0
    ) -> None:
        super().__init__()
        self.n_condition, self.n_labels, self.n_batch = n_condition, n_labels, n_batch
        n_ways, n_features = len(_HIDES_Z), 2 + n_condition + n_labels
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("coefficients", torch.zeros(n_ways, n_features, n_latent))
        # Rows of their own, which a query's new batches are added to
        self.register_buffer("batch_coefficients", torch.zeros(n_batch, n_ways, n_latent))
        self.register_buffer("directions", torch.eye(n_latent).repeat(n_ways, 1, 1))
        self.register_buffer("variances", torch.ones(n_ways, n_latent))

    def features(
        self,
        n_cells: int,
        z: Tensor | None,
        label: Tensor | None,
        batch: Tensor | None,
        log_depth: Tensor | None,
    ) -> Tensor:
        """Return a constant and the conditions side by side, zeros for those that are not given."""
        device = self.coefficients.device
        parts = [torch.ones(n_cells, 1, device=device)]
        for value, width in ((log_depth, 1), (z, self.n_condition)):
            zeros = torch.zeros(n_cells, width, device=device)
            parts.append(zeros if value is None else value.reshape(n_cells, width).to(zeros))
        for code, n in ((label, self.n_labels), (batch, self.n_batch)):
            if code is None or n == 0:
                parts.append(torch.zeros(n_cells, n, device=device))
            else:  # a code of n or more is of no category
                parts.append(F.one_hot(code.reshape(-1).clamp(max=n), n + 1)[:, :n].float())
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def fit(
        self,
        h: Tensor,
        z: Tensor,
        label: Tensor | None,
        batch: Tensor | None,
        log_depth: Tensor,
        n_draws: int = 1,
    ) -> None:
        """Regress latents on conditions, by ridge regression with a penalty of one cell.

        Parameters
        ----------
        h, z
            Latents, shapes (n, n_latent) and (n, n_condition).
        label, batch
            Codes, shape (n,); a label of `n_labels` or more is unknown.
        log_depth
            Standardised log library sizes, shape (n,).
        n_draws
            Draws from the posterior of each cell among the n.
        """
        features = self.features(len(h), z, label, batch, log_depth).double()
        labelled = torch.ones(len(h), dtype=torch.bool, device=features.device)
        if label is not None and self.n_labels and (label < self.n_labels).any():
            labelled = label.reshape(-1) < self.n_labels
        first = 2 + self.n_condition
        for way, (no_z, no_label) in enumerate(zip(_HIDES_Z, _HIDES_LABEL, strict=True)):
            seen = features.clone()
            if no_z:
                seen[:, 2:first] = 0
            if no_label:
                seen[:, first : first + self.n_labels] = 0
            cells = slice(None) if no_label else labelled
            coefficients, covariance = _ridge(seen[cells], h[cells].double(), n_draws)
            variances, directions = torch.linalg.eigh(covariance)
            self.coefficients[way] = coefficients[: first + self.n_labels].float()
            self.batch_coefficients[:, way] = coefficients[first + self.n_labels :].float()
            self.directions[way] = directions.float()
            self.variances[way] = variances.clamp(min=_LEAST_VARIANCE).float()
        self.fitted.fill_(True)

    def forward(
        self,
        x: Tensor,
        signal: Tensor,
        noise: Tensor,
        z: Tensor | None,
        label: Tensor | None = None,
        batch: Tensor | None = None,
        log_depth: Tensor | None = None,
        drop: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the posterior means of latent and noise, each (n, n_latent).

        Parameters
        ----------
        x
            ``signal`` times the latent plus ``noise`` times standard normal noise, (n, n_latent).
        signal, noise
            Their factors, shape (n, 1).
        z, label, batch, log_depth
            Conditions, as of `ResidualDenoiser`; ``None`` hides z or the label of all cells.
        drop
            For ``"z"`` and ``"label"`` the cells for which it is hidden, bool, shape (n,).
        """
        hidden = drop or {}
        never = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        no_z = ~never if z is None else hidden.get("z", never)
        no_label = ~never if label is None or not self.n_labels else hidden.get("label", never)
        way = 2 * no_z.long() + no_label.long()
        features = self.features(len(x), z, label, batch, log_depth)
        h, eps = torch.empty_like(x), torch.empty_like(x)
        for k in way.unique().tolist():
            cells = (way == k).nonzero().squeeze(1)
            mean = features[cells] @ torch.cat(
                [self.coefficients[k], self.batch_coefficients[:, k]]
            )
            a, s = signal[cells], noise[cells]
            rotated = (x[cells] - a * mean) @ self.directions[k]
            rotated = rotated / (a.square() * self.variances[k] + s.square())
            h[cells] = mean + a * (self.variances[k] * rotated) @ self.directions[k].T
            eps[cells] = s * rotated @ self.directions[k].T
        return h, eps

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Take models that were saved before there was a start in closed form as they were."""
        for name, value in self.state_dict().items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[arg-type]


def _ridge(features: Tensor, values: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
    """Return coefficients of the features and the covariance of what they leave."""
    scale = features.std(0)
    # A constant is not penalised, and a feature that is always 0 takes no part.
    is_constant = (features == 1).all(0)
    scaled = features / torch.where(scale > 0, scale, 1.0)
    n = len(features) / n_draws
    gram = scaled.T @ scaled / n_draws
    penalty = torch.where(is_constant, 1e-9, _RIDGE) * torch.ones_like(scale)
    solved = torch.linalg.solve(gram + torch.diag(penalty), scaled.T @ values / n_draws)
    residual = values - scaled @ solved
    freedom = max(n - float((scale > 0).sum()) - 1.0, n / 2.0)
    covariance = residual.T @ residual / n_draws / freedom
    return solved / torch.where(scale > 0, scale, 1.0)[:, None], covariance
