"""The variance-preserving diffusion that s_psi reverses (Song et al. 2021, Sec. 3.4 and App. B, C).

dx = -beta(t)/2 x dt + sqrt(beta(t)) dw with beta linear on [0, T], T = 1. Everything follows from
B(t), the integral of beta: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), so alpha^2 + sigma^2 = 1.
`expm1` and `log1p` keep the digits near t = 0, where sigma is small. All functions act elementwise
on tensors; time has no unit.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class VPSDE:
    """Coefficients of the forward process, the released code's (Song et al. 2021, App. C)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T = 1.0

    def __post_init__(self):
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"VPSDE: saw beta_min = {self.beta_min}, beta_max = {self.beta_max}, "
                             "expected 0 < beta_min <= beta_max, both finite; the paper's are "
                             "0.1 and 20.")

    def beta(self, t: Tensor) -> Tensor:
        """beta(t), the noise rate."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral_beta(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t."""
        return (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t) * t

    def time_at_integral(self, b: Tensor) -> Tensor:
        """The inverse of B: the positive root of a quadratic, which does not cancel at small b."""
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b).sqrt()
        return 2 * b / (self.beta_min + root)

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """S2: (alpha, sigma) of x_t = alpha x_0 + sigma z, z ~ N(0, I)."""
        b = self.integral_beta(t)
        return torch.exp(-b / 2), torch.sqrt(-torch.expm1(-b))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """S1: f(x, t) = -beta(t)/2 x, shaped like x."""
        return -self.beta(t) / 2 * x

    def diffusion(self, t: Tensor) -> Tensor:
        """S1: g(t) = sqrt(beta(t))."""
        return self.beta(t).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = log(alpha / sigma) = -log(exp(B) - 1) / 2, nats."""
        return -0.5 * torch.log(torch.expm1(self.integral_beta(t)))

    def time_at_log_snr(self, lam: Tensor) -> Tensor:
        """The inverse of `log_snr`: B = log(1 + exp(-2 lambda))."""
        return self.time_at_integral(softplus(-2 * lam, threshold=100.0))

    def angle(self, t: Tensor) -> Tensor:
        """phi(t) = atan2(sigma, alpha), radians: alpha = cos phi, sigma = sin phi."""
        return torch.atan(torch.sqrt(torch.expm1(self.integral_beta(t))))

    def time_at_angle(self, phi: Tensor) -> Tensor:
        """The inverse of `angle`: B = log(1 + tan^2 phi)."""
        return self.time_at_integral(torch.log1p(torch.tan(phi).square()))

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """log N(x; 0, I) over the last axis, nats: [..., A] -> [...]."""
        return -0.5 * (x.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi))


Times = Float64[Tensor, " times"]       # decreasing
Grid = Callable[..., Times]


def uniform_grid(sde: VPSDE, n: int, t_end: float, t_start: float = 1.0) -> Times:
    """n + 1 times, evenly spaced from t_start down to t_end. The released sampler's spacing."""
    return _between(sde, n, t_end, t_start, lambda t: t, lambda t: t)


def log_snr_grid(sde: VPSDE, n: int, t_end: float, t_start: float = 1.0) -> Times:
    """n + 1 times, evenly spaced in log(alpha/sigma) (Lu et al. 2022, DPM-Solver, Sec. 3.3)."""
    return _between(sde, n, t_end, t_start, sde.log_snr, sde.time_at_log_snr)


def power_grid(sde: VPSDE, n: int, t_end: float, t_start: float = 1.0, p: float = 3) -> Times:
    """n + 1 times, evenly spaced in t^(1/p): crowded near t_end (as Karras et al. 2022, Eq. 5)."""
    return _between(sde, n, t_end, t_start, lambda t: t ** (1 / p), lambda r: r**p)


def _between(sde: VPSDE, n: int, t_end: float, t_start: float,
             to: Callable, back: Callable) -> Times:
    """Evenly spaced in the variable `to(t)`; the two ends are exact."""
    if n < 1 or not 0 < t_end < t_start <= sde.T:
        raise ValueError(f"time grid: saw n = {n}, t_end = {t_end}, t_start = {t_start}, expected "
                         f"n >= 1 and 0 < t_end < t_start <= {sde.T}; choose a smaller t_end "
                         "(1e-3 to sample, 1e-5 for a density).")
    ends = torch.tensor([t_start, t_end], dtype=torch.float64)
    first, last = to(ends)
    times = back(first + (last - first) * torch.arange(n + 1, dtype=torch.float64) / n)
    times[0], times[-1] = ends
    return times
