"""The paper's loops written the straightforward way in plain eager torch: what benchmarks/speed.py
measures arq_core against.

One seed, float32, torch.nn.Linear, torch.optim.Adam with its defaults, averages by a loop over
parameters, states repeated for every candidate, a diffusion time for every row. Needs torch, numpy,
scipy and safetensors only, so that peer_server.py can run it where arq_core is not installed. Each
function of SERVED takes sizes and returns `step`, a function without arguments that does one
training step (or one batch of B states with n candidates each, R = B·n rows) and returns a dict of
results.
"""

import copy
import math

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.integrate import solve_ivp
from torch import nn
from torch.nn import functional as F

SERVED = ("score_step", "arq_step", "sampling", "log_density")

BETA_MIN, BETA_MAX = 0.1, 20.0  # of the VP SDE, T = 1; released code


def beta(t):
    """beta(t), the noise rate; a float or a tensor."""
    return BETA_MIN + (BETA_MAX - BETA_MIN) * t


def marginal(t):
    """(alpha, sigma) of x_t = alpha x_0 + sigma z (Song et al. 2021, App. C)."""
    integral = BETA_MIN * t + (BETA_MAX - BETA_MIN) / 2 * t**2
    return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))


class ScoreNet(nn.Module):
    """The paper's score network: (a [R, A], s [R, S], t [R]) -> sigma(t)·score [R, A].

    A single time, t [1], is shared by all rows.
    """

    def __init__(self, state_dim, action_dim, width, blocks):
        super().__init__()
        self.register_buffer("frequencies", 30 * torch.randn(width // 2))
        self.time = nn.Linear(width, width)
        self.inputs = nn.Linear(action_dim + state_dim, width)
        self.dense = nn.ModuleList(nn.Linear(width, width) for _ in range(2 * blocks))
        self.out = nn.Linear(width, action_dim)

    def forward(self, a, s, t):
        phase = 2 * math.pi * t[:, None] * self.frequencies
        time = self.time(torch.cat([phase.sin(), phase.cos()], -1))
        h = self.inputs(torch.cat([a, s], -1))
        for i in range(0, len(self.dense), 2):
            u = self.dense[i](F.silu(h + time))
            h = h + self.dense[i + 1](F.silu(u + time))
        return self.out(h)


class Critic(nn.Module):
    """Q(s, a): two layers of 256 ReLU units, [..., S] and [..., A] -> [...]."""

    def __init__(self, state_dim, action_dim, width=256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(state_dim + action_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, s, a):
        return self.layers(torch.cat([s, a], -1)).squeeze(-1)


def synthetic(rows, state_dim, action_dim, candidates=0, seed=0):
    """A dataset as numpy float32 arrays: two noisy modes of action for each state, and the reward
    of the better one is larger.

    Row i + 1 follows row i; one row in 200 is terminal. With candidates also some actions of each
    row's state, 9 of 10 in support.
    """
    rng = np.random.default_rng(seed)
    states, way = (
        rng.standard_normal((rows, state_dim)),
        rng.standard_normal((state_dim, action_dim)) / math.sqrt(state_dim),
    )

    def act(*shape):
        mode = rng.choice([-0.5, 0.5], (*shape, 1))
        return np.tanh(
            (states @ way).reshape(rows, *[1] * (len(shape) - 1), action_dim) + mode
        ) + 0.1 * rng.standard_normal((*shape, action_dim))

    actions = act(rows)
    data = dict(
        states=states,
        actions=actions,
        rewards=actions.mean(-1),
        terminals=rng.random(rows) < 1 / 200,
        next_states=np.roll(states, -1, 0),
        next_actions=np.roll(actions, -1, 0),
    )
    if candidates:
        # of the next state
        data["candidates"] = np.roll(act(rows, candidates), -1, 0)
        data["in_support"] = rng.random((rows, candidates)) < 0.9
    return {k: v if v.dtype == bool else v.astype(np.float32) for k, v in data.items()}


def to_torch(data):
    """The same arrays as tensors."""
    return {k: torch.from_numpy(v) for k, v in data.items()}


def score_training(
    state_dim, action_dim, batch=512, width=256, blocks=3, lr=1e-4, ema=0.999, rows=20_000
):
    """(step, average network): denoising score matching weighted by sigma(t)², with a t ~ U(1e-5,
    1) of its own for each row.
    """
    data = to_torch(synthetic(rows, state_dim, action_dim))
    net = ScoreNet(state_dim, action_dim, width, blocks)
    average = copy.deepcopy(net)
    adam = torch.optim.Adam(net.parameters(), lr=lr)

    def step():
        m = torch.randint(rows, (batch,))
        s, a, z = data["states"][m], data["actions"][m], torch.randn(batch, action_dim)
        t = 1e-5 + (1 - 1e-5) * torch.rand(batch)
        alpha, sigma = marginal(t[:, None])
        loss = (net(alpha * a + sigma * z, s, t) + z).square().sum(-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters()):
                slow.mul_(ema).add_(fast, alpha=1 - ema)
        return {"loss": loss.detach()}

    return step, average


def score_step(*sizes, **more):
    """One step of `score_training`."""
    return score_training(*sizes, **more)[0]


def save_weights(path, state_dim, action_dim, steps=600, **more):
    """A file for the `weights` of the functions below, so that solvers are measured on the field of
    a network that has learned something.
    """
    step, average = score_training(
        state_dim, action_dim, **(dict(batch=128, lr=2e-3, ema=0.99) | more)
    )
    for _ in range(steps):
        step()
    save_file(average.state_dict(), path)


def arq_step(
    state_dim,
    action_dim,
    batch=512,
    candidates=30,
    k=9,
    gamma=0.99,
    lr=3e-4,
    polyak=0.995,
    rows=20_000,
):
    """One step of Eq. 5 as released: two critics against one target, r + gamma·max(K-th largest in
    support, Q(s', a'_data)).

    Target values are the min of two target critics at `candidates` + 1 actions of each next state.
    """
    data = to_torch(synthetic(rows, state_dim, action_dim, candidates))
    critics = nn.ModuleList(Critic(state_dim, action_dim) for _ in range(2))
    targets = copy.deepcopy(critics)
    adam = torch.optim.Adam(critics.parameters(), lr=lr)

    def step():
        m = torch.randint(rows, (batch,))
        with torch.no_grad():
            # [B, n+1, A]
            a_next = torch.cat([data["candidates"][m], data["next_actions"][m][:, None]], 1)
            s_next = data["next_states"][m][:, None].repeat(1, candidates + 1, 1)
            # [B, n+1]
            values = torch.minimum(targets[0](s_next, a_next), targets[1](s_next, a_next))
            inside = values[:, :-1].masked_fill(~data["in_support"][m], -torch.inf)
            v_next = torch.maximum(inside.topk(k).values[:, -1], values[:, -1])
            target = data["rewards"][m] + gamma * ~data["terminals"][m] * v_next
        s, a = data["states"][m], data["actions"][m]
        loss = sum(0.5 * (q(s, a) - target).square().mean() for q in critics)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for slow, fast in zip(targets.parameters(), critics.parameters()):
                slow.mul_(polyak).add_(fast, alpha=1 - polyak)
        return {"loss": loss.detach()}

    return step


def trained_net(state_dim, action_dim, width=256, blocks=3, weights=None):
    """A score network with fixed weights: from `weights`, a safetensors file that `save_weights`
    wrote, else untrained.
    """
    net = ScoreNet(state_dim, action_dim, width, blocks)
    if weights:
        net.load_state_dict(load_file(weights))
    return net.requires_grad_(False)


def score_function(net, s, shared_time=False):
    """score(x [R, A], t) -> [R, A] at the fixed states s [R, S]; t is one time, given to each row
    unless `shared_time`.
    """

    def score(x, t):
        t = torch.as_tensor(t, dtype=x.dtype).reshape(1)
        return net(x, s, t if shared_time else t.repeat(len(x))) / marginal(t)[1]

    return score


def repeated_states(state_dim, states, candidates):
    """B random states, each repeated for its candidates: [B·n, S]."""
    return torch.randn(states, state_dim).repeat_interleave(candidates, 0)


@torch.no_grad()
def predictor_corrector(score, x, steps=500, snr=0.16, norm="sample"):
    """Samples from x ~ N(0, I), [R, A]: a Langevin step, then Euler-Maruyama, on `steps` equal
    steps from 1 to 1e-3; 2 evaluations each.

    The Langevin step is 2 (snr |z| / |score|)² with norms of each row ("sample", released code) or
    their means ("batch", Song et al.).
    """
    times = torch.linspace(1, 1e-3, steps + 1)
    for t, t_next in zip(times[:-1], times[1:]):
        s, z = score(x, t), torch.randn_like(x)
        s_norm, z_norm = s.norm(dim=-1, keepdim=True), z.norm(dim=-1, keepdim=True)
        if norm == "batch":
            s_norm, z_norm = s_norm.mean(), z_norm.mean()
        size = 2 * (snr * z_norm / s_norm) ** 2
        x = x + size * s + (2 * size).sqrt() * z
        dt = t - t_next
        mean = x + (beta(t) / 2 * x + beta(t) * score(x, t)) * dt
        x = mean + (beta(t) * dt).sqrt() * torch.randn_like(x)
    return mean


def sampling(
    state_dim,
    action_dim,
    states=64,
    candidates=30,
    steps=500,
    norm="sample",
    width=256,
    blocks=3,
    shared_time=False,
    weights=None,
):
    """`candidates` samples for each of `states` states by `predictor_corrector`; a batch."""
    net = trained_net(state_dim, action_dim, width, blocks, weights)
    score = score_function(net, repeated_states(state_dim, states, candidates), shared_time)

    def step():
        return {
            "actions": predictor_corrector(
                score, torch.randn(states * candidates, action_dim), steps, norm=norm
            )
        }

    return step


def actions_to_weigh(score, rows, action_dim, weights):
    """Actions whose density is asked for: the network's own coarse samples, or normal ones where it
    is untrained.
    """
    x = torch.randn(rows, action_dim)
    return predictor_corrector(score, x, steps=50, norm="batch") if weights else x


def divergence_by_vjp(score, x, t, directions):
    """(score [R, A], sum over directions v [P, R, A] of v·(J v) [R]) by reverse mode: one forward
    pass and P backward.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = score(x, t)
    total = 0
    for v in directions:
        total = total + (torch.autograd.grad(s, x, v, retain_graph=True)[0] * v).sum(-1)
    return s.detach(), total


def velocity(score, x, t, directions, scale):
    """The probability-flow ODE at x [R, A]: (dx/dt, its divergence [R]), the trace of J being
    scale·(sum over directions of v·(J v)).
    """
    s, div = divergence_by_vjp(score, x, t, directions)
    return -beta(t) / 2 * (x + s), -beta(t) / 2 * (x.shape[-1] + scale * div)


def rademacher(probes, x):
    """Random signs [P, *x.shape]."""
    return 2 * torch.randint(2, (probes, *x.shape)).to(x) - 1


def log_normal(x):
    """log N(x; 0, I) over the last axis, nats."""
    return -0.5 * (x.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi))


def log_density_rk45(score, x, directions, scale, tol=1e-5):
    """(log p [R] in nats, evaluations) by scipy's RK45 in t from 1e-5 to 1, the whole batch as one
    system; state float64, score as x is.
    """

    def rhs(t, y):
        dx, div = velocity(
            score, torch.from_numpy(y[: x.numel()]).to(x).view_as(x), t, directions, scale
        )
        return torch.cat([dx.flatten(), div]).double().numpy()

    start = np.concatenate([x.double().flatten().numpy(), np.zeros(len(x))])
    end = solve_ivp(rhs, (1e-5, 1), start, method="RK45", rtol=tol, atol=tol)
    y = torch.from_numpy(end.y[:, -1])
    return log_normal(y[: x.numel()].view_as(x)) + y[x.numel() :], end.nfev


def log_density(
    state_dim,
    action_dim,
    states=8,
    candidates=30,
    probes=10,
    width=256,
    blocks=3,
    shared_time=False,
    weights=None,
):
    """log p of `candidates` actions at each of `states` states by `log_density_rk45`, Hutchinson's
    probes drawn once a batch.
    """
    net = trained_net(state_dim, action_dim, width, blocks, weights)
    score = score_function(net, repeated_states(state_dim, states, candidates), shared_time)
    x = actions_to_weigh(score, states * candidates, action_dim, weights)

    def step():
        log_p, evaluations = log_density_rk45(score, x, rademacher(probes, x), 1 / probes)
        return {"log_p": log_p, "evaluations": evaluations}

    return step
