"""A member of a training again, by autograd and torch.optim on plain products of its weights."""

import torch

from arq_core.engine.store import NoStore


class Kept(NoStore):
    """What each finished training saved, by its name."""

    def __init__(self):
        self.files = {}

    def save(self, name, key, tensors):
        self.files[name] = {k: v.clone() for k, v in tensors.items()}


def weights_of(saved, rows, *modules):
    """Member `rows` of a saved training, or of some of its modules, to be differentiated."""
    return {
        k: v[rows].clone().requires_grad_()
        for k, v in saved.items()
        if (k.split(".")[0] in modules if modules else v.ndim > 2)
    }


def mlp(weights, name, x):
    """A perceptron with ReLU between its layers."""
    i = 0
    while f"{name}.{i}.weight" in weights:
        x = x.relu() if i else x
        x = x @ weights[f"{name}.{i}.weight"] + weights[f"{name}.{i}.bias"]
        i += 1
    return x


class Adam:
    """torch.optim.Adam over the weights that begin with `prefix`, for as many steps as asked."""

    def __init__(self, weights, prefix, lr):
        self.names = [k for k in weights if k.startswith(prefix + ".")]
        self.weights = weights
        self.optimiser = torch.optim.Adam([weights[k] for k in self.names], lr=lr)

    def step(self, loss, share=1.0):
        """One step, with a share of the learning rate."""
        rate = self.optimiser.param_groups[0]["lr"]
        self.optimiser.zero_grad()
        found = torch.autograd.grad(loss, [self.weights[k] for k in self.names])
        for k, g in zip(self.names, found, strict=True):
            self.weights[k].grad = g
        self.optimiser.param_groups[0]["lr"] = rate * share
        self.optimiser.step()
        self.optimiser.param_groups[0]["lr"] = rate


def assert_same(weights, saved, rows, prefix):
    """The weights that begin with `prefix` are the saved ones of that member."""
    names = [k for k in weights if k.startswith(prefix + ".")]
    assert names
    for k in names:
        torch.testing.assert_close(saved[k][rows], weights[k].detach(), rtol=1e-5, atol=1e-6)
