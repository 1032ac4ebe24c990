"""Table 1 of the paper: what each offline method subtracts from Q(s, a), one function a row, and
what the penalty does to the policy.

Pure formulas: everything broadcasts over leading axes, and the last axis is the N candidate actions
of a state unless a shape says otherwise. Penalties are in the unit of Q; log-densities in nats.
Where the table's formula and the method it stands for differ, `printed=True` is the table and
`printed=False` the published method. alpha is the penalty's strength; the paper writes it only in
some rows.
"""
from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.types import DataError

SUM_TOLERANCE = 1e-4    # of probabilities' sum from one: float32 over some thousand candidates


def support(log_beta: Float[Tensor, "... N"], log_epsilon: float) -> Float[Tensor, "... N"]:
    """Eq. 4: 0 where beta(a|s) >= epsilon, infinite elsewhere."""
    return torch.zeros_like(log_beta).masked_fill(~(log_beta >= log_epsilon), torch.inf)


def brac_kl(log_beta: Float[Tensor, "... N"], alpha: float) -> Float[Tensor, "... N"]:
    """BRAC-KL (Wu et al. 2019): -alpha log beta(a|s). The table has alpha = 1; infinite where beta
    is zero."""
    return -alpha * log_beta


def gaussian_kernel(x: Float[Tensor, "... n A"], y: Float[Tensor, "... m A"],
                    bandwidth: float) -> Float[Tensor, "... n m"]:
    """k(x, y) = exp(-‖x - y‖² / (2 bandwidth²)), the kernel with which BEAR measures (Kumar et al.
    2019, section 5)."""
    square = (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)
    return (-square / (2 * bandwidth ** 2)).exp()


def mmd2(x: Float[Tensor, "... n A"], y: Float[Tensor, "... m A"],
         bandwidth: float) -> Float[Tensor, " ..."]:
    """Squared maximum mean discrepancy between samples (Gretton et al. 2012, Eq. 5): the biased
    V-statistic, zero for equal samples."""
    mean = lambda a, b: gaussian_kernel(a, b, bandwidth).mean((-2, -1))
    return mean(x, x) - 2 * mean(x, y) + mean(y, y)


def mmd_witness(actions: Float[Tensor, "... N A"], of_policy: Float[Tensor, "... n A"],
                of_behavior: Float[Tensor, "... m A"], bandwidth: float,
                alpha: float) -> Float[Tensor, "... N"]:
    """The first variation of alpha MMD²(pi, beta) in pi at each action:
    2 alpha (E_pi k(a, ·) - E_beta k(a, ·)). Derived here.

    MMD² is quadratic in pi, so pi + t (delta_a - pi) changes it at the rate
    witness(a) - E_pi witness: this is the price of moving towards a.
    """
    to_policy = gaussian_kernel(actions, of_policy, bandwidth).mean(-1)
    to_behavior = gaussian_kernel(actions, of_behavior, bandwidth).mean(-1)
    return 2 * alpha * (to_policy - to_behavior)


def mmd_witness_of_masses(kernel: Float[Tensor, "N N"], pi: Float[Tensor, "... N"],
                          beta: Float[Tensor, "... N"], alpha: float) -> Float[Tensor, "... N"]:
    """`mmd_witness` at N actions for policies that are probabilities of these actions, with
    kernel[i, j] = k(a_i, a_j)."""
    return 2 * alpha * (pi - beta) @ kernel


def brac_mmd(actions: Float[Tensor, "... N A"], of_policy: Float[Tensor, "... n A"],
             of_behavior: Float[Tensor, "... m A"], bandwidth: float, alpha: float,
             printed: bool) -> Float[Tensor, "... N"]:
    """BRAC-MMD² and BEAR. As printed it is a function of s alone, the same for all N candidates, so
    softmax(-p) is uniform whatever the data say.

    What acts on a policy is the derivative in the policy, `mmd_witness`.
    """
    if not printed:
        return mmd_witness(actions, of_policy, of_behavior, bandwidth, alpha)
    return alpha * mmd2(of_policy, of_behavior, bandwidth)[..., None].expand(actions.shape[:-1])


def td3_bc(actions: Float[Tensor, "... N A"], of_behavior: Float[Tensor, "... A"], alpha: float,
           printed: bool) -> Float[Tensor, "... N"]:
    """TD3+BC (Fujimoto and Gu 2021): alpha ‖a - beta(s)‖², with one action beta(s) for each state.
    The table prints a minus.

    With the minus, Q - p would pay for distance from the data; the method's loss subtracts the
    squared distance from Q, which is p without it.
    """
    distance = (actions - of_behavior[..., None, :]).square().sum(-1)
    return (-alpha if printed else alpha) * distance


def anti_exploration(error: Float[Tensor, "... N"], alpha: float) -> Float[Tensor, "... N"]:
    """Anti-exploration (Rezaeifar et al. 2022): alpha ‖a - Dec(s, Enc(s, a))‖², the reconstruction
    error of a conditional VAE."""
    return alpha * error


def ploff(q: Float[Tensor, "... N"], distance: Float[Tensor, "... N"], alpha_1: float,
          alpha_2: float, printed: bool) -> Float[Tensor, "... N"]:
    """PLOFF (Dadashi et al. 2021) with D(s, a) >= 0 the pseudometric's distance to the data.

    Printed: alpha_1 Q exp(-alpha_2 D), which is largest on the data. Not printed:
    alpha_1 Q (1 - exp(-alpha_2 D)), so that Q - p is a Q that fades with the distance. Where Q < 0
    either form changes its sign, and rewards what it should punish.
    """
    near = (-alpha_2 * distance).exp()
    return alpha_1 * q * (near if printed else 1 - near)


def ensemble_spread(std: Float[Tensor, "... K N D"], printed: bool) -> Float[Tensor, "... N"]:
    """‖Sigma(s, a)‖ of K dynamics models with standard deviations over D predicted numbers: the
    largest over models (Yu et al. 2020, section 4.3).

    Printed: "the std. of the trained T", of one model; the first is taken.
    """
    norm = std.norm(dim=-1)
    return norm.select(-2, 0) if printed else norm.amax(-2)


def mopo(spread: Float[Tensor, "... N"], alpha: float) -> Float[Tensor, "... N"]:
    """MOPO (Yu et al. 2020): alpha |Sigma(s, a)|, with `ensemble_spread`."""
    return alpha * spread.abs()


def cql(mu: Float[Tensor, "... N"], beta: Float[Tensor, "... N"], alpha: float,
        densities: bool = False) -> Float[Tensor, "... N"]:
    """CQL (Kumar et al. 2020, Eq. 3 and theorem 3.2): alpha (mu/beta - 1); infinite where
    beta = 0 < mu, and -alpha where mu = 0.

    mu and beta are the probabilities of all N candidates and must sum to one (DataError);
    `densities=True` says that they are densities at some actions.
    """
    for name, p in dict(mu=mu, beta=beta).items():
        _refuse_nan(name, p)
        total = p.sum(-1)
        if (p < 0).any() or not densities and ((total - 1).abs() > SUM_TOLERANCE).any():
            raise DataError(f"{name}: saw entries from {p.min():.3g} and sums from "
                            f"{total.min():.4g} to {total.max():.4g}, expected probabilities of "
                            "all candidates, at least 0 and of sum 1; divide by the sum, or pass "
                            "densities=True for densities at single actions.")
    return torch.where(mu == 0, -alpha, alpha * (mu / beta - 1))


def oracle(q: Float[Tensor, "... N"], q_pi: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """Q - Q^pi: the estimation error itself (section 3). Subtracting it leaves the true value."""
    return q - q_pi


def log_partition(p: Float[Tensor, "... N"]) -> Float[Tensor, " ..."]:
    """Z(s) = ln sum_a exp(-p(s, a)), Theorem 1. Under Eq. 4 it is the log of the number of
    supported candidates. DataError where p is NaN, -inf, or infinite at a whole state."""
    _refuse_penalty(p)
    return (-p).logsumexp(-1)


def induced_policy(p: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """pi_p(a|s) = softmax(-p(s, a)), Theorem 1: the policy towards which the penalty pulls. A
    constant added to p at a state changes nothing. DataError as `log_partition`."""
    _refuse_penalty(p)
    return (-p).softmax(-1)


def _refuse_penalty(p: Tensor) -> None:
    _refuse_nan("p", p)
    if (p == -torch.inf).any():
        raise DataError(f"p: saw -inf at {int((p == -torch.inf).sum())} of {p.numel()} candidates, "
                        "expected finite or +inf; an infinite reward has no softmax.")
    if (empty := (p == torch.inf).all(-1)).any():
        raise DataError(f"p: saw {int(empty.sum())} of {empty.numel()} states whose candidates are "
                        "all infinitely penalised, expected a support that is not empty; lower "
                        "log_epsilon, or sample more candidates.")


def _refuse_nan(name: str, x: Tensor) -> None:
    if x.isnan().any():
        raise DataError(f"{name}: saw NaN at {int(x.isnan().sum())} of {x.numel()} entries, "
                        "expected numbers; look for 0/0 or inf - inf before it.")
