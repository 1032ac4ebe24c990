"""A trained network in few numbers: what a page or a file of this repository can hold."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from arq_core.algorithm.nets import Critic

RIDGE = 1e-6  # of the mean square of an activation, so that units that never fire do no harm
EIGHT = 127  # of a signed byte


def low_rank(
    net: Critic, rank: int, states: Float[Tensor, "R S"], actions: Float[Tensor, "R A"]
) -> dict[str, Tensor]:
    """The hidden layer of a critic of one member as a product `left` [W, rank], `right` [rank, W]
    of whole numbers of 8 bits and `units` for the columns of the one and the rows of the other
    [rank] each; and the `bias` [1, W] that goes with it.

    Of all matrices of that rank it is the one whose outputs differ least, in squares, over R states
    and actions (the singular vectors of the layer seen through its inputs: Eckart and Young 1936).
    What rounding moves on average, the bias takes back.
    """
    h = first_layer(net, states, actions)
    weight = net.hidden.weight[0].double()
    spread = h.T @ h / len(h)
    spread += RIDGE * spread.trace() / len(spread) * torch.eye(len(spread), dtype=spread.dtype)
    root = torch.linalg.cholesky(spread)
    u, size, v = torch.linalg.svd(root.T @ weight)
    left = torch.linalg.solve(root.T, u[:, :rank])
    right = size[:rank, None] * v[:rank]
    left, of_left = in_bytes(left, 0)
    right, of_right = in_bytes(right, 1)
    new = product((left * of_left).float(), (right * of_right[:, None]).float()).double()
    bias = net.hidden.bias[0].double() + (h @ (weight - new)).mean(0, keepdim=True)
    return dict(left=left, right=right, units=torch.stack([of_left, of_right]), bias=bias.float())


def first_layer(net: Critic, states: Tensor, actions: Tensor) -> Float[Tensor, "R W"]:
    """The first layer's units at states [R, S] and actions [R, A], in float64."""
    of_state, of_action = net.of_state(states[None]), net.of_action.linear(actions[None])
    return F.relu(of_state + of_action)[0].double()


def in_bytes(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(whole numbers of 8 bits, the units along `axis`) whose product is x, rounded."""
    x = x.detach().double()
    unit = (x.abs().amax(axis, keepdim=True) / EIGHT).float().clamp(min=1e-30).double()
    return (x / unit).round(), unit.squeeze(axis)


def product(left: Float[Tensor, "W rank"], right: Float[Tensor, "rank W"]) -> Tensor:
    """The layer of both, as pages multiply it: summed in float64."""
    return (left.double() @ right.double()).float()
