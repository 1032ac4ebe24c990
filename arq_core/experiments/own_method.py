"""A method of the user's own: a function that lies outside of this package, in rows and tables
beside the built-in ones, and the contract that all of them keep.

    def my_method(data, hyper, budget, rng, store):
        ...
        return policy                       # or a Trained, with the share of its support

`data` are Transitions with the group's rewards, `hyper` and `budget` what is chosen and afforded,
`rng` the seeds' Streams, of which all randomness must come, `store` where finished trainings are
kept. The policy has `reset(n)` and `act(states [E B S], rng) -> [E B A]` in the box [-1, 1].
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor

from arq_core.algorithm.types import Policy, Transitions
from arq_core.config import own_methods, settings
from arq_core.config.hyper import Budget, Hyper
from arq_core.config.settings import UnknownName
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore, Store
from arq_core.engine.streams import Streams
from arq_core.experiments.methods import METHODS, Trained

Fit = Callable[[Transitions, Hyper, Budget, Streams, Store], Trained | Policy]
GIVEN = ("data", "hyper", "budget", "rng", "store")
SEEDS = (0, 1)
STEPS = 300  # of everything that `check_method` lets a method train
# equations that are solved on a processor may be rounded by where their memory lies
WITHIN = 1e-5
BETTER = 0.5  # share of the way from uniform actions to the recorded ones, for what has learned


class MethodError(ValueError):
    """A promise that a method does not keep: what was seen, what was expected, what to do."""


def find_method(method: str | Fit) -> tuple[str, Callable[..., Trained]]:
    """(its name in rows, its training) of a method: a name of METHODS, an installed one's, a
    "module:function", or the function itself.

    UnknownName for a module or function that is not there, for other parameters than the five, and
    for a name that is built in.
    """
    if not isinstance(method, str):
        where = f"function of {getattr(method, '__module__', 'no module')}"
        name = own_methods.checked(getattr(method, "__name__", type(method).__name__), where)
        return name, adapted(name, method)
    if ":" in method:
        return find_method(_imported(method))
    own_methods.refuse_wrong(method)
    return method, settings.pick("method", method, METHODS)


def _imported(path: str) -> Fit:
    """The function of "module:function"."""
    module, _, function = path.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and needs what is not
        raise UnknownName(
            f"method: saw {path!r}, and no module {error.name!r}, expected one that Python finds; "
            "install its package into .venv, or put its folder into PYTHONPATH."
        ) from None
    if not callable(made := getattr(found, function, None)):
        there = [n for n, x in vars(found).items() if inspect.isfunction(x) and n[0] != "_"]
        raise UnknownName(
            f"method: saw {path!r}, and no function {function!r} in {module}, expected one of "
            f"{', '.join(there) or 'its functions (it has none)'}."
        )
    return made


def adapted(name: str, fit: Fit) -> Callable[..., Trained]:
    """The function with its parameters checked, and what it returns as Trained."""
    try:
        inspect.signature(fit).bind(*GIVEN)
    except TypeError:
        raise UnknownName(
            f"method {name}: saw the parameters {inspect.signature(fit)}, expected "
            f"({', '.join(GIVEN)}); give it these five, by position."
        ) from None
    return partial(_trained, name, fit)


def _trained(name: str, fit: Fit, *given) -> Trained:
    made = fit(*given)
    if isinstance(made, Trained):
        return made
    if isinstance(made, Policy):
        return Trained(made)
    raise MethodError(
        f"method {name}: saw it return a {type(made).__name__}, expected a policy (reset, act) or "
        "a Trained; return the policy that was learned."
    )


def same_actions(
    name: str,
    fit: Callable[..., Trained],
    data: Transitions,
    hyper: Hyper,
    budget: Budget,
    states: Float[Tensor, "E B S"],
    folder: str,
    within: float = 0.0,
) -> Float[Tensor, "E B A"]:
    """The actions of a method at `states`, which are the same (but for `within`) in three
    trainings: one whose steps are kept in `folder`, one without a store, and one that goes on from
    those files. No episode was begun with `reset`.

    MethodError where they differ, or are no actions; the state of torch's global generator differs
    between the first two.
    """

    def act(store: Store) -> Tensor:
        torch.manual_seed(len(found))
        policy = fit(data, hyper, budget, Streams(SEEDS), store).policy
        return policy.act(states, Streams(SEEDS).fork("act"))

    found: list[Tensor] = []
    wanted = (len(states), states.shape[1], data.actions.shape[1])
    for store, told in (
        (FileStore(folder), ""),
        (NoStore(), "a second training; take all randomness from `rng`, none from torch's own"),
        (FileStore(folder), "the finished training of the store; keep all that the policy needs"),
    ):
        actions = act(store)
        if actions.shape != wanted or not torch.isfinite(actions).all():
            raise MethodError(
                f"method {name}: saw actions of shape {tuple(actions.shape)}, expected finite ones "
                f"of {wanted}: an action for each state of each seed."
            )
        if (most := actions.abs().max().item()) > 1:
            raise MethodError(
                f"method {name}: saw an action of {most:.3g}, expected the box [-1, 1]; clip it."
            )
        if found and not torch.allclose(actions, found[0], rtol=0, atol=within):
            raise MethodError(f"method {name}: saw other actions after {told}.")
        found.append(actions)
    return found[0]


def check_method(method: str | Fit) -> str:
    """The name of a method that keeps the contract; else an error says which part it broke.

    On a toy (a state of 3 numbers, an action of 2, recorded within 0.1 of what pays most) it must
    act in the box, without `reset` too, do the same again, go on from its files, and earn at least
    half of what the recorded actions earn above uniform ones. It takes seconds.
    """
    name, fit = find_method(method)
    data, best = _toy()
    hyper = settings.with_changes(
        settings.hyper("maze"), dict(width=16, batch=32, n=5, acting_n=6, k=2, ensemble=1), "check"
    )
    budget = settings.budget("toy", "maze")
    steps = {f.name: STEPS for f in fields(Budget) if f.name.endswith("_steps")}
    steps |= dict(sampler_steps=budget.sampler_steps)
    budget = settings.with_changes(budget, steps | dict(times_per_batch=8), "check")
    states = data.states[data.state].expand(len(SEEDS), -1, -1)
    with tempfile.TemporaryDirectory() as folder:
        actions = same_actions(name, fit, data, hyper, budget, states, folder, WITHIN)

    def earned(some: Tensor) -> float:
        return -(some - best).square().sum(-1).mean().item()

    anything = 2 * Streams(SEEDS).fork("uniform").rand(*actions.shape[1:]) - 1
    low, high, got = earned(anything), earned(data.actions[None]), earned(actions)
    if got < low + BETTER * (high - low):
        raise MethodError(
            f"method {name}: saw it earn {got:.2f} on the toy after {STEPS} steps, where uniform "
            f"actions earn {low:.2f} and the recorded ones {high:.2f}, expected more than halfway: "
            "it has not learned; raise its learning rate, or its steps from those of the budget."
        )
    return name


def _toy(episodes: int = 24, length: int = 10) -> tuple[Transitions, Float[Tensor, "M A"]]:
    """Transitions, and the action that pays most in each: -|a - best|^2, whatever comes after."""
    g = torch.Generator().manual_seed(0)
    m = episodes * length
    episode = torch.arange(m) // length
    state, states = torch.arange(m) + episode, torch.randn(m + episodes, 3, generator=g)
    best = 0.7 * torch.tanh(states[state] @ torch.randn(3, 2, generator=g))
    actions = best + 0.1 * (2 * torch.rand(m, 2, generator=g) - 1)
    rewards = -(actions - best).square().sum(-1)
    last = torch.arange(m) % length == length - 1
    return Transitions(states, state, state + 1, actions, rewards, last, episode), best
