"""Public implementations from PyPI, called as their documentation says, on the data and networks of
straightforward.py.

Runs in the environment of peers.txt, not in the project's own. Each function of SERVED returns
`step` as those of straightforward.py do. Samplers and densities use the same ScoreNet, from
`weights`; `shared_time` (here True by default, which favours the peer) evaluates its time embedding
once instead of for every row.
"""

import importlib
import sys
import types
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from straightforward import (
    BETA_MAX,
    BETA_MIN,
    actions_to_weigh,
    log_normal,
    marginal,
    rademacher,
    repeated_states,
    score_function,
    synthetic,
    trained_net,
    velocity,
)

SERVED = ("iql", "td3_bc", "neighbour", "k_diffusion_2m", "diffusers_2m", "torchdiffeq_dopri5")


def iql(state_dim, action_dim, batch=256, width=256, rows=20_000, decay_steps=1_000_000):
    """d3rlpy's IQL, one step: its replay buffer picks a batch in Python, `update` does the rest.

    The same work as the paper's algorithm (Kostrikov et al. 2022): V by expectile regression to the
    min of two target critics, two critics to r + gamma V(s'), a Gaussian actor by
    advantage-weighted regression, polyak 0.005. It differs in that V and the critics share one Adam
    and one backward pass; the advantage is computed again for the actor, with V as just updated;
    three losses are read back as floats. The actor's cosine schedule is the authors'; d3rlpy's own
    default is none. `fit` would add a progress bar and logs.
    """
    from d3rlpy.algos import IQLConfig
    from d3rlpy.models import VectorEncoderFactory
    from d3rlpy.optimizers import AdamFactory
    from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory

    nets = {
        f"{net}_encoder_factory": VectorEncoderFactory([width, width])
        for net in ("actor", "critic", "value")
    }
    schedule = AdamFactory(lr_scheduler_factory=CosineAnnealingLRFactory(T_max=decay_steps))
    return _d3rlpy(
        IQLConfig(batch_size=batch, actor_optim_factory=schedule, **nets),
        state_dim,
        action_dim,
        batch,
        rows,
    )


def td3_bc(state_dim, action_dim, batch=256, width=256, rows=20_000):
    """d3rlpy's TD3+BC, one step with its batch: two critics each step, the actor and all target
    networks every second step, as published.
    """
    from d3rlpy.algos import TD3PlusBCConfig
    from d3rlpy.models import VectorEncoderFactory

    nets = {
        f"{net}_encoder_factory": VectorEncoderFactory([width, width])
        for net in ("actor", "critic")
    }
    return _d3rlpy(TD3PlusBCConfig(batch_size=batch, **nets), state_dim, action_dim, batch, rows)


def neighbour(method, own, state_dim, action_dim, rows=20_000):
    """A step of any of neighbours_peer.py's methods by our settings `own`, with its batch."""
    from neighbours_peer import created

    algorithm = created(method, own, state_dim, action_dim)
    return _updates(algorithm, _buffer(state_dim, action_dim, rows), int(own["batch"]))


def _d3rlpy(config, state_dim, action_dim, batch, rows):
    buffer = _buffer(state_dim, action_dim, rows)
    algorithm = config.create(device="cpu:0")
    algorithm.build_with_dataset(buffer)
    return _updates(algorithm, buffer, batch)


def _buffer(state_dim, action_dim, rows):
    from d3rlpy.dataset import MDPDataset

    data = synthetic(rows, state_dim, action_dim)
    # episodes of at most 1000 steps, as in D4RL
    last = np.arange(rows) % 1000 == 999
    return MDPDataset(
        data["states"],
        data["actions"].clip(-1, 1),
        data["rewards"],
        data["terminals"].astype(np.float32),
        (last & ~data["terminals"]).astype(np.float32),
    )


def _updates(algorithm, buffer, batch):
    return lambda: algorithm.update(buffer.sample_transition_batch(batch))


def log_snr_times(steps, t_end=1e-3):
    """`steps` + 1 times from 1 to `t_end`, evenly spaced in log(alpha/sigma); float64."""
    alpha, sigma = marginal(torch.tensor([1, t_end], dtype=torch.float64))
    first, last = torch.log(sigma / alpha).tolist()
    return time_at(torch.linspace(first, last, steps + 1, dtype=torch.float64).exp())


def time_at(ratio):
    """The time at which sigma/alpha has the given values."""
    integral = torch.log1p(ratio**2)
    return 2 * integral / (BETA_MIN + (BETA_MIN**2 + 2 * (BETA_MAX - BETA_MIN) * integral).sqrt())


def k_diffusion_2m(
    state_dim,
    action_dim,
    states=64,
    candidates=30,
    steps=20,
    width=256,
    blocks=3,
    shared_time=True,
    weights=None,
):
    """k-diffusion's sample_dpmpp_2m on a log-SNR grid, `steps` evaluations, for B·n actions.

    It solves for x/alpha with noise sigma/alpha.
    """
    sampler = _k_diffusion_sampling().sample_dpmpp_2m
    net, s = (
        trained_net(state_dim, action_dim, width, blocks, weights),
        repeated_states(state_dim, states, candidates),
    )
    alpha, sigma = marginal(log_snr_times(steps))
    ratios = (sigma / alpha).float()

    def denoised(x, ratio):
        """E[x_0 | x], x [R, A] and ratio [R] in the package's scale."""
        ratio = ratio[:1] if shared_time else ratio
        return x + ratio[:, None] * net(x / (1 + ratio[:, None] ** 2).sqrt(), s, time_at(ratio))

    @torch.no_grad()
    def step(x=None):
        x = torch.randn(len(s), action_dim) if x is None else x
        return {
            "actions": sampler(denoised, x / alpha[0].float(), ratios, disable=True)
            * alpha[-1].float()
        }

    return step


def _k_diffusion_sampling():
    """The module k_diffusion.sampling without the rest of its package, which imports a dozen image
    libraries that no solver needs.
    """
    folder = next(Path(p) / "k_diffusion" for p in sys.path if (Path(p) / "k_diffusion").is_dir())
    names = ("k_diffusion", "torchvision", "torchvision.transforms")
    package, vision, transforms = map(types.ModuleType, names)
    package.__path__, transforms.functional = [str(folder)], None
    with patch.dict(sys.modules, zip(names, (package, vision, transforms))):
        return importlib.import_module("k_diffusion.sampling")


def diffusers_2m(
    state_dim,
    action_dim,
    states=64,
    candidates=30,
    steps=20,
    width=256,
    blocks=3,
    shared_time=True,
    weights=None,
):
    """diffusers' DPMSolverMultistepScheduler (DPM-Solver++, order 2) on the same log-SNR grid,
    `steps` evaluations, for B·n actions.

    Its own grids round times to 1/1000 and end with a step to no noise at all: its `sigmas` are
    replaced by our grid for an equal walk.
    """
    from diffusers import DPMSolverMultistepScheduler

    net, s = (
        trained_net(state_dim, action_dim, width, blocks, weights),
        repeated_states(state_dim, states, candidates),
    )
    kept = torch.exp(
        -(
            BETA_MIN * (i := torch.arange(1001, dtype=torch.float64) / 1000)
            + (BETA_MAX - BETA_MIN) / 2 * i**2
        )
    )
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=(1 - kept[1:] / kept[:-1]).tolist(),
        use_lu_lambdas=True,
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    times = log_snr_times(steps)
    alpha, sigma = marginal(times)
    times, ratios = times.float(), (sigma / alpha).float()

    @torch.no_grad()
    def step(x=None):
        x = torch.randn(len(s), action_dim) if x is None else x
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0)
        scheduler.sigmas = ratios
        for i, label in enumerate(scheduler.timesteps):
            t = times[i : i + 1] if shared_time else times[i].repeat(len(x))
            x = scheduler.step(-net(x, s, t), label, x, return_dict=False)[0]
        return {"actions": x}

    return step


def torchdiffeq_dopri5(
    state_dim,
    action_dim,
    states=8,
    candidates=30,
    probes=10,
    tol=1e-5,
    width=256,
    blocks=3,
    shared_time=True,
    weights=None,
):
    """log p of B·n actions: torchdiffeq's dopri5 in t from 1e-5 to 1 on the ODE of
    straightforward.log_density, float32.

    `probes` = 0 is the exact trace: A vector-Jacobian products instead of 10. At 240 rows a loop
    over them measured faster than vmap.
    """
    from torchdiffeq import odeint

    net = trained_net(state_dim, action_dim, width, blocks, weights)
    score = score_function(net, repeated_states(state_dim, states, candidates), shared_time)
    x = actions_to_weigh(score, states * candidates, action_dim, weights)
    return lambda: log_density_dopri5(odeint, score, x, probes, tol)


def log_density_dopri5(odeint, score, x, probes, tol):
    """log p [R] in nats of x [R, A], and the evaluations it took."""
    directions = (
        rademacher(probes, x) if probes else torch.eye(x.shape[-1])[:, None].repeat(1, len(x), 1)
    )
    evaluations = 0

    def rhs(t, state):
        nonlocal evaluations
        evaluations += 1
        return velocity(score, state[0], t, directions, 1 / (probes or 1))

    with torch.no_grad():
        end, change = odeint(
            rhs,
            (x, torch.zeros(len(x))),
            torch.tensor([1e-5, 1]),
            rtol=tol,
            atol=tol,
            method="dopri5",
        )
    return {"log_p": log_normal(end[-1]) + change[-1], "evaluations": evaluations}
