"""A trained policy as a widget that runs it in a page."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain, product

import numpy as np
import torch
from torch import nn

from arq_core.algorithm.likelihood import path_integrals
from arq_core.algorithm.nets import Normalizer
from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.config.hyper import Hyper
from arq_core.envs.bridge import PLANKS
from arq_core.widgets.base import WidgetError
from arq_core.widgets.walk import Walk
from arq_core.widgets.walking import Trained, look, rounded

FEW = 8  # seeds
CALLS = 50  # evaluations of one size in a walk or two: nothing to compile for


def bridge_walk(policy: ImplicitPolicy, hyper: Hyper, **settings) -> Walk:
    """The widget of the first member of a policy that was learned on the bridge with `hyper`;
    `settings` are the widget's. If they do not say otherwise it opens where the filter can be
    seen (`telling`). What a page cannot run is said in the widget's frame.
    """
    try:
        trained = in_page(policy, hyper)
    except WidgetError as error:
        return Walk(None, problem=str(error), **settings)
    first = {} if {"seed", "plank"} <= settings.keys() else telling(trained.policy)
    return Walk(trained, **first | settings)


def telling(policy: ImplicitPolicy) -> dict[str, int]:
    """The seed, of the first few, and the plank where what is dropped is worth most more than what
    is kept: of the candidates on the plank's middle, whoever walks.
    """
    excess = {}
    for seed, plank in product(range(1, FEW + 1), range(PLANKS)):
        seen = look(policy, plank, seed)
        kept = seen.log_prob >= policy.log_epsilon
        excess[seed, plank] = seen.q.max() - np.where(kept, seen.q, -np.inf).max()
    seed, plank = max(excess, key=lambda at: (np.isfinite(excess[at]), excess[at]))
    return dict(seed=seed, plank=plank)


def in_page(policy: ImplicitPolicy, hyper: Hyper) -> Trained:
    """The first member of a policy as a page runs it: its weights rounded to 16 bits, there and in
    `Trained.policy`. WidgetError for a policy that the page's script does not compute.
    """
    behavior, q = policy.behavior, policy.q
    _refuse(behavior, q)
    net, critic, weights = alone(behavior.net), alone(q.net), {}
    for room, one in (("score", net), ("critic", critic)):
        for name, x in one.named_parameters():
            key = f"{room}.{name}"
            if name.startswith("time."):  # a page is sent times that are embedded already
                continue
            codes, unit = rounded(key, x.detach()[0].numpy())
            weights[key] = codes, unit
            x.data = torch.from_numpy(codes * unit)[None]
    here = {k: on_cpu(getattr(behavior, k)) for k in ("of_state", "of_action")}
    behavior = replace(behavior, net=net, calls=CALLS, **here)
    times = behavior.density_grid()
    of_times = [net.embed_time(torch.full((1, 1), float(t))) for t in times.float()]
    _, integrals = path_integrals(
        behavior.sde, tuple(times.tolist()), torch.float64, torch.device("cpu")
    )
    return Trained(
        replace(policy, behavior=behavior, q=replace(q, net=critic, copies=1)),
        hyper.gamma,
        hyper.log_epsilon,
        times.numpy(),
        integrals.numpy(),
        np.stack([x.detach().numpy()[0, 0] for x in of_times]),
        weights,
    )


def _refuse(behavior, q) -> None:
    b = behavior.budget
    seen = dict(density=b.density, probes=b.probes, precision=b.precision, networks=behavior.copies)
    wanted = dict(density="same_solve", probes=0, precision="float32", networks=1)
    if q is None:
        raise WidgetError("policy: saw no Q, expected the one that Eq. 6 chooses by.")
    if seen != wanted:
        raise WidgetError(f"policy: saw {seen}, expected {wanted}; set them in the profile.")
    widths = behavior.net.out.weight.shape[1], q.net.out.weight.shape[1]
    sizes = behavior.net.of_state.weight.shape[1], behavior.net.out.weight.shape[2]
    if sizes != (2, 2) or any(width % 4 for width in widths):
        raise WidgetError(
            f"policy: saw states and actions of {sizes} dimensions and layers of {widths} units, "
            "expected (2, 2), as the bridge has, and multiples of 4."
        )


def on_cpu(of: Normalizer) -> Normalizer:
    """The same numbers in the memory of the processor."""
    return Normalizer(of.mean.cpu(), of.scale.cpu())


def alone(net: nn.Module) -> nn.Module:
    """The first member of a network, on the CPU."""
    one = copy.deepcopy(net).cpu().requires_grad_(False)
    for x in chain(one.parameters(), one.buffers()):
        x.data = x.data[:1]
    return one
