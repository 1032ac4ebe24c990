"""A neighbour's step computed once more: one member at a time, by autograd and torch.optim on plain
tensors that start from the same weights.
"""

import torch

from arq_core.engine.store import NoStore

TWINS = ("critic", "late_critic", "target")  # modules with two critics a seed


def saved_after(fit, data, hyper, budget, rng):
    """All that a training keeps, by name."""
    kept = {}

    class Keep(NoStore):
        def save(self, name, key, tensors):
            kept.update({k: v.clone() for k, v in tensors.items()})

    fit(data, hyper, budget, rng, Keep())
    return kept


def member(saved, e):
    """The weights of seed e: of a critic the two, of others its own."""
    found = {}
    for k, v in saved.items():
        if v.is_floating_point() and v.ndim > 1 and "." in k and not k.startswith("loss."):
            rows = slice(2 * e, 2 * e + 2) if k.split(".")[0] in TWINS else e
            found[k] = v[rows].clone().requires_grad_()
    return found


def optimiser(weights, module, lr, kind=torch.optim.Adam, **settings):
    """For the weights of a module."""
    return kind([v for k, v in weights.items() if k.startswith(module + ".")], lr=lr, **settings)


def step(optim, loss):
    """Move by the gradient of the loss."""
    optim.zero_grad()
    for p, g in zip(
        optim.param_groups[0]["params"],
        torch.autograd.grad(loss, optim.param_groups[0]["params"]),
        strict=True,
    ):
        p.grad = g
    optim.step()


def mlp(weights, net, x, copy=()):
    """A perceptron with ReLU, and LayerNorm where it has one; `copy` is the critic's number."""
    i = 0
    while (name := f"{net}.layers.{i}.weight") in weights:
        x = x @ weights[name][copy] + weights[f"{net}.layers.{i}.bias"][copy]
        i += 1
        if f"{net}.layers.{i}.weight" in weights:
            x = x.relu()
            if (norm := f"{net}.norms.{i - 1}") + ".weight" in weights:
                x = (x - x.mean(1, keepdim=True)) / (x.var(1, False, keepdim=True) + 1e-6).sqrt()
                x = x * weights[norm + ".weight"][copy] + weights[norm + ".bias"][copy]
    return x


def twins(weights, module, states, actions):
    """Both critics' values [2, B]."""
    x = torch.cat([states, actions], 1)
    return torch.stack([mlp(weights, f"{module}.net", x, c)[:, 0] for c in (0, 1)])


def follow(weights, average, module, polyak):
    """average <- polyak average + (1 - polyak) module."""
    with torch.no_grad():
        for k, v in weights.items():
            if k.startswith(average + "."):
                other = weights[k.replace(average, module, 1)]
                v.copy_(polyak * v + (1 - polyak) * other)


def assert_same(weights, saved, e):
    """What was computed by hand is what the training keeps."""
    for k, v in member(saved, e).items():
        torch.testing.assert_close(v, weights[k], rtol=2e-5, atol=2e-6, msg=lambda m, k=k: k + m)
