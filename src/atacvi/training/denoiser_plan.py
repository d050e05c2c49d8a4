"""Training of the denoiser on latents that are known: no peak is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from atacvi.training.schedules import warmup_cosine

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import Trainer
    from torch import Tensor

# An epoch has at least so many steps, so that small data do not end it at once.
_MIN_STEPS = 50
# Draws from each cell's posterior that the closed form is fitted to.
_DRAWS = 5


class CellLatents(NamedTuple):
    """Posteriors of h and z of some cells, and the conditions of the denoiser.

    Parameters
    ----------
    h_mean, h_variance
        Shape (cells, n_latent_ae).
    z_mean, z_variance
        Shape (cells, n_latent).
    label, batch
        Codes, shape (cells,).
    depth
        Library sizes, shape (cells,).
    """

    h_mean: Tensor
    h_variance: Tensor
    z_mean: Tensor
    z_variance: Tensor
    label: Tensor
    batch: Tensor
    depth: Tensor


class LatentDataModule(LightningDataModule):
    """Minibatches of latents; an epoch draws cells with replacement where they are few.

    Parameters
    ----------
    latents
        Latents of all cells.
    train_idx, val_idx, test_idx
        Positions of the cells of each part.
    batch_size
        Cells per minibatch.
    """

    def __init__(
        self,
        latents: CellLatents,
        train_idx: np.ndarray,
        val_idx: np.ndarray,
        test_idx: np.ndarray,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.latents, self.batch_size = latents, batch_size
        self.train_idx, self.val_idx, self.test_idx = train_idx, val_idx, test_idx

    @property
    def n_train(self) -> int:
        """Number of training cells."""
        return len(self.train_idx)

    @property
    def n_val(self) -> int:
        """Number of validation cells."""
        return len(self.val_idx)

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches of an epoch."""
        return max(_MIN_STEPS, -(-len(self.train_idx) // self.batch_size))

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training cells."""
        data = TensorDataset(*(part[torch.as_tensor(self.train_idx)] for part in self.latents))
        n_drawn = max(len(data), _MIN_STEPS * self.batch_size)
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=RandomSampler(data, replacement=n_drawn > len(data), num_samples=n_drawn),
        )


class DenoiserPlan(LightningModule):
    """Denoising loss, warm-up and cosine of the learning rate, exponential moving average.

    The average has decay ``min(ema_decay, (1 + n) / (10 + n))`` at step n, and is what remains in
    the module at the end.

    Parameters
    ----------
    module
        An `ATACDiffModule`.
    n_steps
        Steps of the whole training.
    lr, weight_decay
        Of AdamW.
    ema_decay
        Decay of the average.
    n_warmup
        Steps over which the learning rate rises.
    """

    def __init__(
        self,
        module: Any,
        n_steps: int,
        *,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        ema_decay: float = 0.999,
        n_warmup: int = 100,
    ) -> None:
        super().__init__()
        self.module = module
        self.n_steps, self.n_warmup = n_steps, min(n_warmup, max(1, n_steps // 10))
        self.lr, self.weight_decay, self.ema_decay = lr, weight_decay, ema_decay
        self.average = AveragedModel(module.denoiser, avg_fn=self._average)

    def _average(self, averaged: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
        decay = min(self.ema_decay, (1.0 + int(n)) / (10.0 + int(n)))
        return averaged + (1.0 - decay) * (current - averaged)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss at samples of h and z and at drawn times."""
        loss = denoising_loss(self.module, CellLatents(*batch)).mean()
        self.log("denoising_train", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average."""
        self.average.update_parameters(self.module.denoiser)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule."""
        parameters = [p for p in self.module.denoiser.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.n_warmup, self.n_steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @torch.no_grad()
    def take_average(self) -> None:
        """Give the module the averaged weights."""
        self.module.denoiser.load_state_dict(self.average.module.state_dict())


def denoising_loss(module: Any, cells: CellLatents, time: Tensor | None = None) -> Tensor:
    """Return the loss of each cell at a sample of its posteriors, shape (cells,)."""
    h = cells.h_mean + cells.h_variance.sqrt() * torch.randn_like(cells.h_mean)
    h = (h - module.latent_mean) / module.latent_scale
    z = cells.z_mean + cells.z_variance.sqrt() * torch.randn_like(cells.z_mean)
    known = SimpleNamespace(label=cells.label, batch=cells.batch, depth=cells.depth)
    return module.denoising_loss(h, z, known, time)


@torch.no_grad()
def start_denoiser(module: Any, cells: CellLatents, random_state: int) -> None:
    """Fit the closed form that the network adds to, to draws of the latents of training cells.

    Parameters
    ----------
    module
        An `ATACDiffModule`.
    cells
        Latents of the training cells.
    random_state
        Seed of the draws.
    """
    device = module.latent_mean.device
    cells = CellLatents(*(part.cpu().repeat_interleave(_DRAWS, 0) for part in cells))
    noise = torch.Generator().manual_seed(random_state)

    def draw(mean: Tensor, variance: Tensor) -> Tensor:
        return mean + variance.sqrt() * torch.randn(mean.shape, generator=noise)

    centre, scale = module.latent_mean.cpu(), module.latent_scale.cpu()
    h = (draw(cells.h_mean, cells.h_variance) - centre) / scale
    z = draw(cells.z_mean, cells.z_variance)
    depth = module.standard_log_depth(cells.depth.to(device)).cpu()
    # On the CPU: some accelerators know no double precision.
    exact = module.gaussian_denoiser.cpu()
    exact.fit(h, z, cells.label, cells.batch, depth, n_draws=_DRAWS)
    exact.to(device)


@torch.no_grad()
def held_out_denoising_loss(module: Any, network: Any, cells: CellLatents, seed: int = 0) -> float:
    """Return the mean loss of cells at fixed noise and an even grid of times."""
    device = module.latent_mean.device
    cells = CellLatents(*(part.to(device) for part in cells))
    time = module.process.time_grid(len(cells.label)).to(device)
    order = torch.randperm(len(time), generator=torch.Generator().manual_seed(seed)).to(device)
    own, training = module.denoiser, module.training
    module.denoiser = network
    module.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return float(denoising_loss(module, cells, time[order]).mean())
    finally:
        module.denoiser = own
        module.train(training)


class SelectDenoiser(Callback):
    """Log the loss of held-out cells after each epoch, keep the best network, and stop.

    What is scored and kept is the averaged network. Few cells are learnt by heart within a few
    hundred steps; then the loss of held-out ones rises again.

    Parameters
    ----------
    cells
        Latents of the held-out cells.
    patience
        Epochs without improvement that end the training; ``None`` trains to the end.
    """

    def __init__(self, cells: CellLatents, patience: int | None) -> None:
        self.cells, self.patience = cells, patience
        self.best = float("inf")
        self.best_state: dict[str, Tensor] | None = None
        self.waited = 0

    # Lightning stores this with a checkpoint, and gives it back when training resumes.
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to know."""
        return {key: getattr(self, key) for key in ("best", "best_state", "waited")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a stopped run."""
        for key, value in state_dict.items():
            setattr(self, key, value)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the start, unless a stopped run is taken up: it may be the best there is."""
        plan: Any = pl_module
        if self.best_state is None:
            network = plan.average.module
            self._keep(network, held_out_denoising_loss(plan.module, network, self.cells))

    def _keep(self, network: Any, value: float) -> None:
        self.best, self.waited = value, 0
        self.best_state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the averaged network."""
        plan: Any = pl_module
        network = plan.average.module
        value = held_out_denoising_loss(plan.module, network, self.cells)
        pl_module.log("denoising_validation", value, sync_dist=True)
        if value < self.best:
            self._keep(network, value)
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the best network the average."""
        plan: Any = pl_module
        if self.patience is not None and self.best_state is not None:
            plan.average.module.load_state_dict(self.best_state)
        self.best_state = None
