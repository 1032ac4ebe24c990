"""Behaviour cloning by a mixture of Gaussians, robomimic's BC of human demonstrations (Mandlekar et
al. 2021, "What Matters in Learning from Offline Human Demonstrations for Robot Manipulation").

    pi  <-  argmax  E log sum_k w_k(s) N(a; tanh(m_k(s)), diag std_k(s)²),
    std_k = softplus(.) + 1e-4

An action is a mode that is drawn by its weight, nearly without noise (std 1e-4), as in that code
(models/policy_nets.py, `GMMActorNetwork`, evaluated with `low_noise_eval`; sizes and learning rate
of scripts/generate_paper_configs.py). Its policy of machine-generated data has no mixture: that is
`bc-mse`. Its recurrent policy is another column of that paper.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.types import Actions, Candidates, States, Transitions
from arq_core.baselines.neighbours import Batch, Drawing, Settings, training_key
from arq_core.baselines.networks import (
    Perceptron,
    drawn_components,
    mixture_log_prob,
    refuse_other_states,
)
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train

LEAST_STD = 1e-4  # added to softplus
ACTING_STD = 1e-4  # of every component, while acting
NEEDED = ("modes", "lr", "batch", "width", "reward")


class MixtureActor(nn.Module):
    """pi(a|s) as a mixture whose weights, means in the box and standard deviations are functions of
    the state."""

    def __init__(
        self, state_dim: int, action_dim: int, modes: int, rng: Streams, widths: Sequence[int]
    ):
        super().__init__()
        self.net = Perceptron(state_dim, modes * (1 + 2 * action_dim), rng, widths)
        self.state_dim, self.modes, self.action_dim = state_dim, modes, action_dim

    def forward(
        self, states: States
    ) -> tuple[Float[Tensor, "E B K"], Float[Tensor, "E B K A"], Float[Tensor, "E B K A"]]:
        """log weights, means, log standard deviations."""
        refuse_other_states(states, self.state_dim)
        k, a = self.modes, self.action_dim
        logits, means, spread = self.net(states).float().split([k, k * a, k * a], -1)
        log_stds = (F.softplus(spread) + LEAST_STD).log()
        parts = means.tanh().unflatten(-1, (k, a)), log_stds.unflatten(-1, (k, a))
        return logits.log_softmax(-1), *parts

    def log_prob(self, states: States, actions: Actions) -> Float[Tensor, "E B"]:
        """log pi(a|s), nats."""
        return mixture_log_prob(actions, *self(states))

    def draw(self, states: States, n: int, rng: Streams) -> Candidates:
        """n actions of each state: drawn modes with noise of ACTING_STD."""
        log_weights, means, _ = self(states)
        k = drawn_components(log_weights, n, rng)[..., None].expand(-1, -1, -1, self.action_dim)
        modes = means.gather(2, k)
        return modes + ACTING_STD * rng.randn_like(modes)


def fit_bc_gmm(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> Drawing:
    """The policy after `budget.bc_gmm_steps` steps with the settings `hyper.bc_gmm`. DataError for
    a setting that is missing or of the wrong kind."""
    own = Settings("bc_gmm", hyper.bc_gmm, NEEDED)
    draws, sizes = rng.fork("bc_gmm"), (data.states.shape[1], data.actions.shape[1])
    widths = [own.count("width")] * 2
    actor = MixtureActor(*sizes, own.count("modes"), rng.fork("bc_gmm", "actor"), widths)
    actor.to(rng.device)
    batch = Batch(data, own.count("batch"), draws)

    def loss() -> Float[Tensor, " E"]:
        return -actor.log_prob(batch.states, batch.recorded).mean(-1)

    steps, precision = budget.bc_gmm_steps, budget.precision
    no_gamma = 0.0  # nothing is discounted: a change of it trains nothing again
    train(
        "bc_gmm",
        training_key("bc_gmm", hyper.bc_gmm, data, rng, steps, no_gamma, precision),
        dict(actor=actor),
        [Update("actor", loss, own["lr"])],
        steps=steps,
        rng=draws,
        store=store,
        begin=batch.draw,
        arithmetic=precision,
    )
    return Drawing(actor.requires_grad_(False))
