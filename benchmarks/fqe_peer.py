"""d3rlpy's side of fqe_beside_d3rlpy.py: the loss of its FQE and the gradients of one member after
another.

    python benchmarks/fqe_peer.py GIVEN.safetensors FOUND.safetensors

Runs in the environment of peers.txt. What computes are its `compute_target` and `compute_loss`,
the functions that its FQE calls before its optimiser steps; the policy's next actions are given.
"""

import json
import sys
from importlib.metadata import version

import torch
from d3rlpy import algos
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.ope import FQE, FQEConfig
from d3rlpy.torch_utility import TorchMiniBatch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn


def linears(module):
    """Its linear layers, in the order of a pass."""
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def pairs(module):
    """Our names and their tensors; the first layer sees states and actions side by side."""
    first, hidden, out = linears(module)
    yield "of_state.weight, of_action.weight", first.weight
    yield "of_state.bias", first.bias
    for name, layer in (("hidden", hidden), ("out", out)):
        yield f"{name}.weight", layer.weight
        yield f"{name}.bias", layer.bias


def member(given, e, gamma, width):
    """The loss and the gradients of member e, under our names."""
    sizes = given["states"].shape[-1], given["actions"].shape[-1]
    algorithm = algos.TD3PlusBCConfig().create()
    algorithm.create_impl((sizes[0],), sizes[1])
    encoder = VectorEncoderFactory([width, width])
    config = FQEConfig(gamma=gamma, encoder_factory=encoder, learning_rate=0.0)
    fqe = FQE(algo=algorithm, config=config)
    fqe.create_impl((sizes[0],), sizes[1])
    impl = fqe.impl
    for ours, net in (("q", impl.modules.q_funcs[0]), ("target", impl.modules.targ_q_funcs[0])):
        for names, theirs in pairs(net):
            parts = [given[f"weights.{ours}.{name}"][e] for name in names.split(", ")]
            whole = torch.cat(parts)
            with torch.no_grad():
                theirs.copy_(whole.T if theirs.ndim == 2 else whole[0])
    one = {k: v[e] for k, v in given.items() if not k.startswith("weights.")}
    batch = TorchMiniBatch(
        observations=one["states"],
        actions=one["actions"],
        rewards=one["rewards"][:, None],
        next_observations=one["next_states"],
        next_actions=one["next_actions"],
        returns_to_go=torch.zeros(len(one["rewards"]), 1),
        terminals=one["terminals"][:, None],
        intervals=torch.ones(len(one["rewards"]), 1),
        device="cpu:0",
    )
    loss = impl.compute_loss(batch, impl.compute_target(batch, one["next_actions"]))
    loss.backward()
    found = dict(loss=loss.detach())
    for names, theirs in pairs(impl.modules.q_funcs[0]):
        grad = theirs.grad.T if theirs.ndim == 2 else theirs.grad[None]
        split = [len(given[f"weights.q.{name}"][e]) for name in names.split(", ")]
        for name, part in zip(names.split(", "), grad.split(split)):
            found[f"q.{name}"] = part
    return found


def main(source, goal):
    """Every member of a file."""
    with safe_open(source, "pt") as file:
        how = {k: json.loads(v) for k, v in file.metadata().items()}
        given = {k: file.get_tensor(k) for k in file.keys()}
    each = [member(given, e, how["gamma"], how["width"]) for e in range(len(given["states"]))]
    tensors = {k: torch.stack([m[k] for m in each]).contiguous() for k in each[0]}
    versions = {p: version(p) for p in ("d3rlpy", "torch", "numpy")}
    save_file(tensors, goal, metadata=dict(versions=json.dumps(versions)))


if __name__ == "__main__":
    main(*sys.argv[1:])
