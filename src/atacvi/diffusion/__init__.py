"""Noising processes and their samplers: pure maths on tensors, without a network.

A `Process` (`GaussianDiffusion`, `FlowMatching`) says how data become noise, what a network learns
and how to come back. Below it lie functions of one job each: schedules, conversions between
parameterisations, respacing, samplers, guidance.
"""

from __future__ import annotations

from atacvi.diffusion.flow import FlowMatching
from atacvi.diffusion.gaussian import GaussianDiffusion
from atacvi.diffusion.guidance import guide
from atacvi.diffusion.noise import cell_generators, draw_noise, uniform_times
from atacvi.diffusion.parameterization import (
    eps_to_v,
    eps_to_x0,
    min_snr_weight,
    v_to_eps,
    v_to_x0,
    x0_to_eps,
    x0_to_v,
)
from atacvi.diffusion.process import Process
from atacvi.diffusion.respacing import respace, respace_by_log_snr
from atacvi.diffusion.samplers import (
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    euler_sample,
    heun_sample,
)
from atacvi.diffusion.schedules import (
    PosteriorCoefficients,
    alphas_cumprod,
    betas_of,
    cosine_schedule,
    linear_schedule,
    posterior_coefficients,
    signal_to_noise,
    terminal_kl,
)

__all__ = [
    "FlowMatching",
    "GaussianDiffusion",
    "PosteriorCoefficients",
    "Process",
    "alphas_cumprod",
    "betas_of",
    "cell_generators",
    "cosine_schedule",
    "ddim_sample",
    "ddpm_sample",
    "dpm_solver_sample",
    "draw_noise",
    "eps_to_v",
    "eps_to_x0",
    "euler_sample",
    "guide",
    "heun_sample",
    "linear_schedule",
    "min_snr_weight",
    "posterior_coefficients",
    "respace",
    "respace_by_log_snr",
    "signal_to_noise",
    "terminal_kl",
    "uniform_times",
    "v_to_eps",
    "v_to_x0",
    "x0_to_eps",
    "x0_to_v",
]
