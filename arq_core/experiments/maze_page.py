"""The maze's policies as a widget that runs them in a page: those that the page trains, those of a
file that benchmarks/maze_policies.py wrote, and the recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arq_core.algorithm.behavior import ScoreBehavior, with_budget
from arq_core.algorithm.nets import Critic
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.qlearning import QEnsemble
from arq_core.algorithm.types import Policy, Transitions
from arq_core.baselines.penalised import Actor
from arq_core.baselines.uniform import UniformBehavior
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.streams import Streams
from arq_core.engine.train import snapshot
from arq_core.experiments.experiment import Experiment
from arq_core.experiments.in_page import alone, in_page
from arq_core.experiments.logged import LastTraining, snapshots_of
from arq_core.experiments.methods import METHODS
from arq_core.experiments.small_critics import in_bytes, low_rank, product
from arq_core.results.measured import measured
from arq_core.widgets.base import WidgetError, packed, unpacked
from arq_core.widgets.maze_walk import Button, MazePolicies, MazeWalk
from arq_core.widgets.walking import Certain, Numbers, no_value, rounded

RANK = 18  # of the hidden layer of a wide critic
LOOKED_AT = 4_000  # states and actions at which its outputs are kept
WIDE = 128  # units; a narrower layer is no product
RECORDED = 30  # episodes that are shown
# how candidates are drawn in a page, whatever the profile; in fewer steps where it takes fewer
IN_PAGE = dict(
    density="same_solve", sampler="dpmpp_2m", sampler_steps=16, probes=0, precision="float32"
)
SNAPSHOTS, SHOWN = 10, (1, 2, 3, 4, 5, 10)  # of ARQ's critic: those that are kept, and sent
ROWS = {
    "dqp brac-kl": "BRAC-KL",
    "dqp brac-mmd": "BRAC-MMD",
    "dqp td3+bc": "TD3+BC",
    "dqp anti-exploration": "anti-exploration",
    "dqp ploff": "PLOFF",
    "dqp mopo": "MOPO",
}
LAYERS = ("first", "hidden", "out")  # of an actor, as a page calls them


@dataclass(frozen=True)
class Kept:
    """A policy, and the tensors that its last training left; `steps` of its snapshots, which `at`
    reads.
    """

    policy: Policy
    tensors: Mapping[str, Tensor]
    steps: tuple[int, ...]
    at: Callable[[int], Mapping[str, Tensor]]


def kept(method: str, e: Experiment, hyper: Hyper | None = None, budget: Budget | None = None):
    """A method's policy and what its last training left. Where a training was finished before
    anybody asked for snapshots, it is done once more.
    """
    hyper, budget, fit = hyper or e.hyper, budget or e.budget, METHODS[method]
    trained = lambda store: fit(e.data_of(method), hyper, budget, e.rng, store).policy
    store = LastTraining(e.store())
    policy = trained(store)
    assert store.last is not None
    name, key = store.last
    steps = snapshots_of(store, name, key) if e.snapshots else []
    if e.snapshots and not steps:
        trained(LastTraining(e.store(), store.last))
        steps = snapshots_of(store, name, key)
    at = lambda step: _loaded(store, snapshot(name, step), key)
    return Kept(policy, _loaded(store, name, key), tuple(steps), at)


def _loaded(store: LastTraining, name: str, key: dict) -> Mapping[str, Tensor]:
    tensors = store.load(name, key)
    assert tensors is not None, name
    return tensors


def critic_numbers(net: Critic, data: Transitions) -> dict[str, Numbers]:
    """The first member of a critic in whole numbers. The hidden layer of a wide one is a product of
    rank RANK: of what it does at recorded states, with recorded actions and with any.
    """
    net, fixed = alone(net), torch.Generator().manual_seed(0)
    numbers = {k: rounded(k, x.detach()[0].numpy()) for k, x in net.named_parameters()}
    if net.hidden.weight.shape[1] < WIDE:
        return numbers | {"hidden.weight": _in_bytes(net.hidden.weight[0], 0)}
    m = torch.randint(len(data.actions), (LOOKED_AT,), generator=fixed)
    anything = 2 * torch.rand(LOOKED_AT, data.actions.shape[1], generator=fixed) - 1
    states, actions = data.states.cpu()[data.state.cpu()[m]], data.actions.cpu()[m]
    parts = low_rank(net, RANK, torch.cat([states, states]), torch.cat([actions, anything]))
    del numbers["hidden.weight"]
    units = parts["units"].numpy().astype(np.float32)
    return numbers | {
        "hidden.left": (parts["left"].numpy().astype(np.int8), units[:1]),
        "hidden.right": (parts["right"].numpy().astype(np.int8), units[1:].T),
        "hidden.bias": rounded("hidden.bias", parts["bias"].numpy()),
    }


def actor_numbers(net: Actor) -> dict[str, Numbers]:
    """The first member of an actor in whole numbers: what its mean needs."""
    numbers = {}
    for ours, layer in zip(LAYERS, alone(net).net.layers, strict=True):
        for kind, x in layer.named_parameters():
            x = x.detach()[0].numpy()
            x = x[:, : x.shape[1] // 2] if ours == "out" else x  # the rest is its spread
            numbers[f"{ours}.{kind}"] = rounded(f"{ours}.{kind}", x)
    return numbers | {"hidden.weight": _in_bytes(alone(net).net.layers[1].weight[0], 0)}


def _in_bytes(x: Tensor, axis: int) -> Numbers:
    codes, unit = in_bytes(x, axis)
    return codes.numpy().astype(np.int8), unit.unsqueeze(axis).numpy().astype(np.float32)


def row_critic(tensors: Mapping[str, Tensor], width: int) -> Critic:
    """The critics of a row of Table 1, of what its training left."""
    prefix = "net.critic."
    mine = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
    net = Critic(2, 2, Streams(list(range(len(mine["out.bias"])))), width)
    net.load_state_dict(mine)
    return net


def written(numbers: Mapping[str, Numbers]) -> dict[str, dict]:
    """Numbers for a JSON file."""
    return {
        k: dict(codes=packed(x), unit=packed(np.asarray(unit, np.float32)))
        for k, (x, unit) in numbers.items()
    }


def read(saved: Mapping[str, Mapping]) -> dict[str, Numbers]:
    """What `written` wrote."""
    return {k: (unpacked(x["codes"]), unpacked(x["unit"])) for k, x in saved.items()}


def critic_of(numbers: Mapping[str, Numbers]) -> QEnsemble:
    """The critic of such numbers, as a page has it."""
    width = numbers["hidden.bias"][0].shape[-1]
    plain = {k: _float(x) for k, x in numbers.items()}
    if "hidden.left" in plain:
        left, right = plain.pop("hidden.left"), plain.pop("hidden.right")
        plain["hidden.weight"] = product(left, right)
    net = Critic(2, 2, Streams([0]), width)
    net.load_state_dict({k: x[None] for k, x in plain.items()})
    return QEnsemble(net.requires_grad_(False), 1)


def actor_of(numbers: Mapping[str, Numbers]) -> nn.Module:
    """The actor of such numbers, as a page has it."""
    width = numbers["hidden.bias"][0].shape[-1]
    net = Actor(2, 2, Streams([0]), width)
    for ours, layer in zip(LAYERS, net.net.layers, strict=True):
        for kind, x in layer.named_parameters():
            new = _float(numbers[f"{ours}.{kind}"])
            x.data = (
                torch.cat([new, torch.zeros_like(new)], -1)[None] if ours == "out" else new[None]
            )
    return net.requires_grad_(False)


def _float(numbers: Numbers) -> Tensor:
    codes, unit = numbers
    return torch.from_numpy((codes * np.asarray(unit, np.float32)).astype(np.float32))


def maze_walk(e: Experiment, rows: tuple[str, ...] = tuple(ROWS), **settings: Any) -> MazeWalk:
    """The widget of the first seed of an experiment on the maze; `settings` are the widget's. What
    a page cannot run is said in the widget's frame.
    """
    try:
        policies = maze_policies(e, rows)
    except WidgetError as error:
        return MazeWalk(None, problem=str(error), **settings)
    return MazeWalk(policies, **settings)


def maze_policies(e: Experiment, rows: tuple[str, ...]) -> MazePolicies:
    """Every policy of the maze with the very numbers that a page has."""
    data, hyper = e.data, e.hyper
    e = replace(e, snapshots=SNAPSHOTS)
    found, of_beta = kept("arq+s_psi", e), METHODS["q_beta+s_psi"]
    behaved = of_beta(data, hyper, e.budget, e.rng, e.store()).policy
    assert isinstance(found.policy, ImplicitPolicy) and isinstance(behaved, ImplicitPolicy)
    assert isinstance(found.policy.q, QEnsemble) and isinstance(behaved.q, QEnsemble)
    own = found.policy.behavior
    assert isinstance(own, ScoreBehavior)
    steps = min(own.budget.sampler_steps, IN_PAGE["sampler_steps"])
    solved = with_budget(own, **IN_PAGE | dict(sampler_steps=steps))
    base = in_page(replace(found.policy, behavior=solved), hyper)
    behavior, net = base.policy.behavior, found.policy.q.net
    weights = {k: x for k, x in base.weights.items() if k.startswith("score.")}
    critics, actors = [], []

    def of_net(rooms: list[str], kind: str, numbers: Mapping[str, Numbers]) -> int:
        room = f"{kind}.{len(rooms)}"
        weights.update({f"{room}.{k}": x for k, x in numbers.items()})
        rooms.append(room)
        return len(rooms) - 1

    def by(numbers: Mapping[str, Numbers], **how) -> tuple[ImplicitPolicy, int]:
        policy = ImplicitPolicy(**dict(behavior=behavior, q=critic_of(numbers)) | how)
        return policy, of_net(critics, "critic", numbers)

    acting = dict(n=hyper.acting_n, log_epsilon=hyper.log_epsilon)
    arq = []
    shown = tuple(found.steps[i - 1] for i in SHOWN if i <= len(found.steps))
    for step in shown:
        tensors = found.at(step)
        net.load_state_dict({k: tensors[f"target.{k}"] for k in net.state_dict()})
        arq.append(by(critic_numbers(net, data), alpha=hyper.alpha_arq, **acting))
    beta = by(critic_numbers(behaved.q.net, data), alpha=hyper.alpha_q_beta, **acting)
    file = {one["method"]: one["numbers"] for one in measured("maze_policies")["policies"]}
    free = by(
        read(file["unconstrained"]["critic"]),
        behavior=UniformBehavior(2),
        alpha=math.inf,
        n=hyper.acting_n,
        log_epsilon=None,
    )
    clone = ImplicitPolicy(behavior, no_value, 0.0, hyper.acting_n, None)
    buttons = [
        Button("recordings", "recordings"),
        Button("clone", "score", (clone,), (-1,)),
        Button("Qᵝ", "score", *_one(beta)),
        Button("no restriction", "uniform", *_one(free)),
        Button("ARQ", "score", *zip(*arq, strict=True)),
    ]
    for method in rows:
        numbers = {k: read(x) for k, x in file[method].items()}
        actor = Certain(actor_of(numbers["actor"]))
        one = by(numbers["critic"], behavior=actor, alpha=0.0, n=1, log_epsilon=None)
        at = of_net(actors, "actor", numbers["actor"])
        buttons.append(Button(ROWS[method], at, *_one(one)))
    trained = replace(base, policy=replace(base.policy, behavior=behavior), weights=weights)
    return MazePolicies(
        trained,
        tuple(buttons),
        shown,
        tuple(critics),
        tuple(actors),
        recordings(e.data),
        RANK,
    )


def _one(made: tuple[ImplicitPolicy, int]) -> tuple[tuple, tuple]:
    return (made[0],), (made[1],)


def recordings(
    data: Transitions, count: int = RECORDED
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """`count` recorded episodes, evenly spaced over all: (states [L + 1, 2], rewards [L])."""
    last = int(data.episode.max())
    shown = []
    for i in np.linspace(0, last, count).round().astype(int):
        m = (data.episode == int(i)).nonzero().squeeze(1)
        states = torch.cat([data.states[data.state[m]], data.states[data.next_state[m[-1:]]]])
        shown.append((states.cpu().numpy(), data.rewards[m].cpu().numpy()))
    return tuple(shown)
