"""V and Q as IQL trains them, for the neighbours that choose by them: no action outside of the data
is ever valued (Kostrikov, Nair and Levine 2022).

    V    <-  argmin  E |expectile - 1(u < 0)| u²,        u = min Q'(s, a) - V(s)
    Q_i  <-  argmin  E (r + gamma (1 - d) V(s') - Q_i(s, a))²,  by the new V
    Q'   <-  polyak Q' + (1 - polyak) Q
"""

from __future__ import annotations

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arq_core.algorithm.types import States
from arq_core.baselines.neighbours import Batch, Settings, bellman, expectile_loss
from arq_core.baselines.networks import Critics, Perceptron, orthogonal_
from arq_core.engine.streams import Streams
from arq_core.engine.updates import Averaging, Update

GAIN = math.sqrt(2)  # of the orthogonal weights of every layer; IQL's code
NEEDED = ("expectile", "lr", "batch", "polyak", "width")


class ExpectileValues:
    """V(s), Q(s, a) and its average Q' while they are trained on `batch`, with a method's settings
    (NEEDED of them): two hidden layers of ReLU units, orthogonal initial weights."""

    def __init__(self, own: Settings, batch: Batch, gamma: float, rng: Streams):
        self.expectile, self.lr, self.polyak = own["expectile"], own["lr"], own["polyak"]
        self.batch, self.gamma = batch, gamma
        sizes = batch.data.states.shape[1], batch.data.actions.shape[1]
        widths, name = [own.count("width")] * 2, own.method
        self.value = Perceptron(sizes[0], 1, rng.fork(name, "value"), widths)
        self.critic = Critics(*sizes, rng.fork(name, "critic", copies=2), widths)
        for what, net, copies in (("value", self.value, 1), ("critic", self.critic, 2)):
            orthogonal_(net, GAIN, rng.fork(name, what, "orthogonal", copies=copies))
            net.to(rng.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint keeps."""
        return dict(value=self.value, critic=self.critic, target=self.target)

    def v(self, states: States) -> Float[Tensor, "E B"]:
        """V(s)."""
        return self.value(states).squeeze(-1).float()

    def advantage(self) -> Float[Tensor, "E B"]:
        """min Q'(s, a) - V(s) of the batch, whose first term is computed once a step."""
        return self.q - self.v(self.batch.states)

    def of_value(self) -> Float[Tensor, " E"]:
        """V's loss."""
        with torch.no_grad():
            self.q = self.target.of(self.batch.states, self.batch.actions).amin(1)
        return expectile_loss(self.advantage(), self.expectile)

    def of_critic(self) -> Float[Tensor, " EC"]:
        """Each Q's loss."""
        with torch.no_grad():
            after = self.v(self.batch.next_states)
        y = bellman(self.batch, self.gamma, after)
        error = self.critic.of(self.batch.states, self.batch.actions) - y[:, None]
        return error.square().mean(-1).flatten()

    def update_of_value(self) -> Update:
        """The first part of a step."""
        return Update("value", self.of_value, self.lr)

    def update_of_critic(self) -> Update:
        """The last part of a step."""
        follows = Averaging(self.target, self.critic, self.polyak)
        return Update("critic", self.of_critic, self.lr, after=[follows])
