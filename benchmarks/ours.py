"""arq_core's loops in the form of straightforward.py and peers.py: each function of SERVED returns
`step` for peer_server.py.

What is measured is the public call that a user makes (`fit_behavior`, `fit_q`,
`sample_with_log_prob`), on the data of straightforward.synthetic, as in a run long enough to be
compiled. Training steps come in chunks: one call of a trainer, its bookkeeping included. `seeds` go
through as one batch.
"""

import copy
from dataclasses import replace

import torch
from safetensors.torch import load_file
from straightforward import synthetic, to_torch
from torch import nn

from arq_core.algorithm.behavior import ScoreBehavior, fit_behavior
from arq_core.algorithm.nets import MLP, Critic, Normalizer, ScoreNet
from arq_core.algorithm.policies import GaussianHead, fit_awr
from arq_core.algorithm.qlearning import fit_q, fit_q_beta
from arq_core.algorithm.types import SupportSet, Transitions
from arq_core.config import settings
from arq_core.config.hyper import NEIGHBOURS
from arq_core.engine import machine
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import Averaging, Update
from arq_core.experiments.methods import FITS

SERVED = (
    "score_step",
    "arq_step",
    "q_beta_step",
    "policy_step",
    "iql_step",
    "neighbour_step",
    "sampling",
    "density",
    "matrix_product",
    "memory_copy",
)
machine.PAYS_FROM_UNITS = 0  # compiled, as in a run of thousands of steps
LITE = settings.budget("lite", "locomotion")
HYPER = settings.hyper("locomotion")  # one network a seed, batch 512, width 256, K = 9


def transitions(state_dim, action_dim, rows, candidates=0, device="cpu"):
    """(Transitions, SupportSet or None) with the arrays of straightforward.synthetic."""
    data = to_torch(synthetic(rows, state_dim, action_dim, candidates))
    m = torch.arange(rows)
    kept = Transitions(
        data["states"],
        m,
        m.roll(-1),
        data["actions"].clamp(-1, 1),
        data["rewards"],
        data["terminals"],
        torch.zeros(rows, dtype=torch.long),
    ).to(device)
    if not candidates:
        return kept, None
    # there: of the next state
    inside = data["in_support"].roll(1, 0)
    return kept, SupportSet(
        data["candidates"].roll(1, 0)[None].to(device),
        torch.where(inside, 0.0, -10.0)[None].to(device),
    )


def score_step(
    state_dim,
    action_dim,
    seeds=1,
    times=64,
    precision="bfloat16",
    chunk=50,
    rows=20_000,
    device="cpu",
):
    """`chunk` steps of `fit_behavior`; `times` distinct diffusion times in a batch of 512 (the
    paper: 512).
    """
    data, _ = transitions(state_dim, action_dim, rows, device=device)
    budget = replace(LITE, score_steps=chunk, times_per_batch=times, precision=precision)

    def step():
        behavior = fit_behavior(data, HYPER, budget, Streams(range(seeds), device), NoStore())
        return {"count": chunk, "loss": behavior.loss[:, -1:]}

    return step


def arq_step(
    state_dim,
    action_dim,
    seeds=1,
    candidates=30,
    precision="bfloat16",
    chunk=50,
    rows=20_000,
    device="cpu",
):
    """`chunk` steps of `fit_q`, whose targets are computed for every batch (`target_every` = 1)."""
    data, support = transitions(state_dim, action_dim, rows, candidates, device)
    support = SupportSet(
        support.actions.expand(seeds, -1, -1, -1), support.log_prob.expand(seeds, -1, -1)
    )
    budget = replace(LITE, q_steps=chunk, target_every=1, precision=precision)

    def step():
        return {
            "count": chunk,
            "loss": fit_q(
                data, support, HYPER, budget, Streams(range(seeds), device), NoStore(), {}
            ).loss[:, -1:],
        }

    return step


def q_beta_step(
    state_dim, action_dim, seeds=1, precision="bfloat16", chunk=50, rows=20_000, device="cpu"
):
    """`chunk` steps of `fit_q_beta`."""
    data, _ = transitions(state_dim, action_dim, rows, device=device)
    budget = replace(LITE, q_beta_steps=chunk, precision=precision)
    return lambda: {
        "count": chunk,
        "loss": fit_q_beta(data, HYPER, budget, Streams(range(seeds), device), NoStore()).loss[
            :, -1:
        ],
    }


def policy_step(
    state_dim,
    action_dim,
    seeds=1,
    head="gaussian",
    precision="bfloat16",
    chunk=50,
    rows=20_000,
    device="cpu",
):
    """`chunk` steps of `fit_awr`, all weights 1."""
    data, _ = transitions(state_dim, action_dim, rows, device=device)
    budget, hyper, zero = (
        replace(LITE, policy_steps=chunk, precision=precision),
        replace(HYPER, head=head),
        torch.zeros(seeds, rows, device=device),
    )
    return lambda: {
        "count": chunk,
        "loss": fit_awr(
            data, zero, 1.0, hyper, budget, Streams(range(seeds), device), NoStore(), {}
        ).loss[:, -1:],
    }


def iql_loss(
    nets, target, states, actions, rewards, terminals, next_states, gamma, expectile, temperature
):
    """The three losses of IQL (Kostrikov et al. 2022) for each member, summed: no network gets a
    gradient from another's.
    """
    value = nets["v"](torch.cat([states, next_states], 1)).squeeze(-1)
    v, v_next = value.split(states.shape[1], 1)
    twice, action = states.repeat_interleave(2, 0), actions.repeat_interleave(2, 0)[:, :, None]
    q = target(twice, action).squeeze(-1).unflatten(0, (-1, 2)).amin(1)
    error = q - v
    v_loss = (torch.where(error < 0, 1 - expectile, expectile) * error.square()).mean(-1)
    goal = (rewards + gamma * ~terminals * v_next.detach()).repeat_interleave(2, 0)
    q_loss = (
        (nets["q"](twice, action).squeeze(-1) - goal).square().mean(-1).unflatten(0, (-1, 2)).sum(1)
    )
    weight = (temperature * error.detach()).exp().clamp(max=100)
    return v_loss + q_loss + (weight * nets["actor"].regression_loss(states, actions)).mean(-1)


def iql_step(
    state_dim,
    action_dim,
    seeds=1,
    batch=256,
    precision="float32",
    chunk=200,
    rows=20_000,
    device="cpu",
    lr=3e-4,
    polyak=0.995,
):
    """`chunk` steps of IQL through `train`: a value-and-policy step without candidates.

    V, Q and the actor move at the same time.
    """
    data, _ = transitions(state_dim, action_dim, rows, device=device)
    loss_of = machine.compiled(iql_loss, torch.device(device), units=batch)

    def step():
        rng = Streams(range(seeds), device)
        pairs = rng.fork("q", copies=2)
        nets = nn.ModuleDict(
            dict(
                v=MLP(state_dim, 1, rng),
                q=Critic(state_dim, action_dim, pairs),
                actor=GaussianHead(state_dim, action_dim, rng),
            )
        )
        target = copy.deepcopy(nets["q"]).requires_grad_(False)

        def loss():
            m = rng.randint(len(data.actions), batch)
            return loss_of(
                nets,
                target,
                data.states[data.state[m]],
                data.actions[m],
                data.rewards[m],
                data.terminals[m],
                data.states[data.next_state[m]],
                0.99,
                0.7,
                3.0,
            )

        curve = train(
            "iql",
            {},
            dict(nets=nets, target=target),
            [Update("nets", loss, lr, after=[Averaging(target, nets["q"], polyak)])],
            steps=chunk,
            rng=rng,
            store=NoStore(),
            arithmetic=precision,
        )["nets"]
        return {"count": chunk, "loss": curve[:, -1:]}

    return step


def neighbour_step(
    method,
    own,
    state_dim,
    action_dim,
    seeds=1,
    precision="float32",
    chunk=100,
    rows=20_000,
    device="cpu",
):
    """`chunk` steps of the training of a neighbour with the settings `own`; a multiple of 2 where
    its actor moves at every second step."""
    data, _ = transitions(state_dim, action_dim, rows, device=device)
    name = NEIGHBOURS[method]
    hyper = replace(HYPER, **{name: own})
    budget = replace(LITE, **{f"{name}_steps": chunk, "precision": precision})

    def step():
        FITS[method](data, hyper, budget, Streams(range(seeds), device), NoStore())
        return {"count": chunk}

    return step


def behavior(state_dim, action_dim, seeds, weights, device, **budget):
    """A ScoreBehavior with the weights that straightforward.save_weights wrote (else untrained),
    one network a seed.
    """
    net = ScoreNet(state_dim, action_dim, HYPER.width, 3, Streams(range(seeds))).requires_grad_(
        False
    )
    if weights:
        plain = load_file(weights)
        first = plain.pop("inputs.weight")
        plain |= {
            "of_action.weight": first[:, :action_dim],
            "of_state.weight": first[:, action_dim:],
            "of_state.bias": plain.pop("inputs.bias"),
        }
        for name, own in net.state_dict().items():
            x = plain[name]
            # the same for every seed
            own.copy_(x.mT if name.endswith("weight") else x)
    none = [
        Normalizer(torch.zeros(d, device=device), torch.ones(d, device=device))
        for d in (state_dim, action_dim)
    ]
    return ScoreBehavior(net.to(device), 1, *none, replace(LITE, **budget), torch.zeros(seeds, 0))


def sampling(
    state_dim,
    action_dim,
    states=64,
    candidates=30,
    steps=20,
    sampler="dpmpp_2m",
    seeds=1,
    precision="bfloat16",
    weights=None,
    device="cpu",
):
    """`candidates` samples for each of `states` states by a sampler with `steps` evaluations; a
    batch.
    """
    model = behavior(
        state_dim,
        action_dim,
        seeds,
        weights,
        device,
        sampler=sampler,
        sampler_steps=steps,
        precision=precision,
    )
    s = torch.randn(states, state_dim, device=device).expand(seeds, -1, -1)
    return synchronised(
        lambda: {"actions": model.sample(s, candidates, Streams(range(seeds), device))}, device
    )


def density(
    state_dim,
    action_dim,
    states=128,
    candidates=30,
    steps=20,
    probes=0,
    seeds=1,
    precision="bfloat16",
    weights=None,
    device="cpu",
):
    """Samples with their log-density from one solve; a batch.

    `probes` 0 is the exact divergence.
    """
    model = behavior(
        state_dim,
        action_dim,
        seeds,
        weights,
        device,
        density="same_solve",
        sampler_steps=steps,
        probes=probes,
        precision=precision,
    )
    s = torch.randn(states, state_dim, device=device).expand(seeds, -1, -1)

    def step():
        actions, log_prob = model.sample_with_log_prob(s, candidates, Streams(range(seeds), device))
        return {"actions": actions, "log_p": log_prob}

    return synchronised(step, device)


def matrix_product(members=1, rows=512, width=256, precision="bfloat16", repeat=50, device="cpu"):
    """`repeat` batched products [E, R, W] x [E, W, W]: what the dense layers would cost if nothing
    else did.
    """
    dtype = getattr(torch, precision)
    x, w = (
        torch.randn(members, n, width, device=device).mul_(width**-0.25).to(dtype)
        for n in (rows, width)
    )
    machine.keep_freed_memory()

    def step():
        for _ in range(repeat):
            y = torch.bmm(x, w)
        return {"count": repeat, "mean": y.mean()}

    return synchronised(step, device)


def memory_copy(gigabytes=2, device="cpu"):
    """A copy of `gigabytes`: reads and writes that many."""
    x = torch.zeros(int(gigabytes * 2**28), device=device)
    y = torch.empty_like(x)
    return synchronised(lambda: {"last": y.copy_(x)[-1]}, device)


def synchronised(step, device):
    """step, over only when the accelerator is done."""
    if device == "cpu":
        return step

    def waited():
        result = step()
        torch.cuda.synchronize()
        return result

    return waited
