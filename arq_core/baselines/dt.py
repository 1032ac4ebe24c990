"""Decision Transformer: actions as a sequence model predicts them behind a return that is asked for
(Chen et al. 2021, "Decision Transformer: Reinforcement Learning via Sequence Modeling").

A window of K steps is 3K tokens (R_t, s_t, a_t), where the return to go R_t is the undiscounted sum
of the recorded rewards from t to the end of the episode, over `scale`. To each token of step t the
same learned vector of t is added. A causal transformer sees them; from what the token s_t becomes,

    a_t  ~  tanh(head(.)),      loss = mean over the steps of a batch of (a_t - prediction)²

Nothing is bootstrapped: there is no value and no Bellman equation. To act, R_0 is set to a target
that is chosen before the run, and R_(t+1) = R_t - r_t as rewards come in (`observe`).

Windows, network, initial weights, AdamW with decay on all weights, linear warm-up and the clip of
the gradient are those of the authors' code (decision-transformer, gym/experiment.py,
gym/decision_transformer/models/decision_transformer.py); its heads of returns and states, which it
does not train, are left out. Its warm-up of 10,000 steps is given as a share of its 100,000, so
that shorter trainings leave it too. Of each task one target is taken: of the two that the code
evaluates, the one by which we remember the paper's table to be made (data/neighbours.toml; not
checked). An episode that a time limit ended lacks its last reward here: its returns to go are that
much smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from arq_core.algorithm.nets import Linear
from arq_core.algorithm.types import Actions, DataError, States, Transitions
from arq_core.baselines.neighbours import Settings, training_key
from arq_core.baselines.returns import lambda_returns
from arq_core.baselines.transformer import Transformer
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import Update, train
from arq_core.engine.updates import warmed_up_linearly

STD_SHIFT = 1e-6  # added to standard deviations of states
BEST = "best"  # a target: the best return of the data
COUNTS = ("context", "layers", "width", "batch", "times")
NEEDED = (*COUNTS, "dropout", "lr", "weight_decay", "clip", "warm_up", "scale", "target", "reward")


def returns_to_go(data: Transitions) -> Float[Tensor, " M"]:
    """Rewards from each transition to the end of its episode, summed: reward units."""
    nothing = torch.zeros_like(data.rewards, dtype=torch.float64)
    return lambda_returns(data, 1.0, 1.0, nothing[None], nothing)[0].float()


def squared_error(
    predicted: Float[Tensor, "E B K A"],
    actions: Float[Tensor, "E B K A"],
    seen: Bool[Tensor, "E B K"],
) -> Float[Tensor, " E"]:
    """Mean over the steps that are seen, and over the action's dimensions."""
    error = (predicted - actions).square().mean(-1)
    return (error * seen).sum((1, 2)) / seen.sum((1, 2))


@dataclass(frozen=True)
class Window:
    """K steps of B sequences, the last ones on the right: returns to go over `scale`, standardised
    states, actions, steps since the episode's start, and which are `seen`; the others are padding.
    """

    to_go: Float[Tensor, "E B K"]
    states: Float[Tensor, "E B K S"]
    actions: Float[Tensor, "E B K A"]
    time: Int[Tensor, "E B K"]
    seen: Bool[Tensor, "E B K"]


@dataclass(frozen=True)
class Standardised:
    """(s - mean)/(std + 1e-6) over the states in which the data act (authors' experiment.py)."""

    mean: Float[Tensor, " S"]
    std: Float[Tensor, " S"]

    @classmethod
    def of(cls, data: Transitions) -> Standardised:
        """Mean and std + 1e-6 of the data."""
        s = data.states[data.state].double()
        return cls(s.mean(0).float(), s.std(0, correction=0).float() + STD_SHIFT)

    def __call__(self, states: Float[Tensor, "*rows S"]) -> Float[Tensor, "*rows S"]:
        """The standardised states; DataError for those of another dimension."""
        if states.shape[-1] != len(self.mean):
            raise DataError(
                f"states: saw dimension {states.shape[-1]}, expected {len(self.mean)}, that of "
                "the training data; use its environment."
            )
        return (states - self.mean) / self.std


class Sequences:
    """A dataset as windows of `context` steps; DataError where no episode has two transitions."""

    def __init__(self, data: Transitions, context: int, scale: float):
        rows = torch.arange(len(data.actions), device=data.actions.device)
        begins = torch.ones_like(data.terminals)
        begins[1:] = data.episode[1:] != data.episode[:-1]
        if begins.all():
            raise DataError(
                f"dt: saw {len(rows)} episodes of one transition each, expected some of two or "
                "more, since it learns from sequences; give the episodes (Transitions.episode) or "
                "choose another method."
            )
        self.data, self.context = data, context
        starts = rows[begins]
        ends = torch.cat([starts[1:], rows[-1:] + 1]) - 1
        number = begins.cumsum(0) - 1
        self.start, self.end = starts[number], ends[number]  # [M], rows
        self.standardised = Standardised.of(data)
        self.states = self.standardised(data.states)
        returns = returns_to_go(data)
        self.to_go, self.best = returns / scale, float(returns[starts].max())

    def windows(self, m: Int[Tensor, "E B"]) -> Window:
        """The steps from transition m on, as far as the context and its episode go."""
        length = (self.end[m] - m + 1).clamp(max=self.context)
        steps = torch.arange(self.context, device=m.device) - self.context
        rows = m[..., None] + steps + length[..., None]
        seen = rows >= m[..., None]
        rows = torch.maximum(rows, m[..., None])
        states, time = self.states[self.data.state[rows]], rows - self.start[rows]
        return Window(self.to_go[rows], states, self.data.actions[rows], time, seen)


class DecisionTransformer(nn.Module):
    """E transformers over (R, s, a); the vectors of time after the first `times` are the last's."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        rng: Streams,
        width: int,
        layers: int,
        times: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.of_return = Linear(1, width, rng)
        self.of_state = Linear(state_dim, width, rng)
        self.of_action = Linear(action_dim, width, rng)
        self.of_time = nn.Parameter(rng.randn(times, width))
        self.transformer = Transformer(width, layers, rng, dropout)
        self.head = Linear(width, action_dim, rng)

    def forward(self, window: Window, rng: Streams | None = None) -> Float[Tensor, "E B K A"]:
        """The action of each step by what came before it; with `rng`, as in training."""
        w, (members, times, _) = window, self.of_time.shape
        first = torch.arange(members, device=w.time.device)[:, None, None] * times
        rows = w.time.clamp(max=times - 1) + first
        time = F.embedding(rows, self.of_time.flatten(0, 1))
        kinds = (
            (self.of_return, w.to_go[..., None]),
            (self.of_state, w.states),
            (self.of_action, w.actions),
        )
        tokens = [f(x.flatten(1, 2)).unflatten(1, x.shape[1:3]) + time for f, x in kinds]
        seen = w.seen.repeat_interleave(len(kinds), -1)
        h = self.transformer(torch.stack(tokens, 3).flatten(2, 3), seen, rng)
        of_state = h[:, :, 1 :: len(kinds)]
        return self.head(of_state.flatten(1, 2)).unflatten(1, w.time.shape[1:]).float().tanh()


class History:
    """What a policy remembers of n episodes that are at the same step. It stays in the same memory,
    so that steps can be replayed as a CUDA graph."""

    def __init__(
        self, shape: tuple[int, int], sizes: tuple[int, int], context: int, to_go: float, device
    ):
        zeros = torch.zeros(*shape, context, sum(sizes) + 1, device=device)
        self.to_go, self.states, self.actions = (
            part.clone() for part in (zeros[..., 0], *zeros[..., 1:].split(sizes, -1))
        )
        self.left = torch.full(shape, to_go, device=device)
        self.time = torch.arange(-context, 0, device=device).expand(*shape, -1).clone()

    def step(self, states: States) -> Window:
        """The window that ends in these states; its last action is not yet known."""
        self.time += 1
        for kept, new in ((self.to_go, self.left), (self.states, states), (self.actions, None)):
            kept.copy_(kept.roll(-1, 2))
            kept[:, :, -1] = 0 if new is None else new
        seen = self.time >= 0
        return Window(self.to_go, self.states, self.actions, self.time.clamp(min=0), seen)


@dataclass
class ReturnPolicy:
    """A `Policy` that asks its model for a return of `target`, by the last steps of each episode.

    Without `reset`, or with another number of states than it began, every state is taken for the
    first of an episode.
    """

    model: DecisionTransformer
    standardised: Standardised
    context: int
    target: float
    scale: float
    history: History | None = field(default=None, init=False, repr=False)

    replayable = True  # episodes.evaluate: `act` may be replayed as a CUDA graph

    def _begun(self, n: int) -> History:
        of_state, of_action = (x.weight for x in (self.model.of_state, self.model.of_action))
        sizes = of_state.shape[1], of_action.shape[1]
        shape, to_go = (len(of_state), n), self.target / self.scale
        return History(shape, sizes, self.context, to_go, of_state.device)

    def reset(self, n: int) -> None:
        """Begin n episodes per member."""
        self.history = self._begun(n)

    @torch.no_grad()
    def act(self, states: States, rng: Streams) -> Actions:
        """The model's action in each state, after what is remembered of its episode."""
        history, n = self.history, states.shape[1]
        if history is None or history.left.shape[1] != n:
            history = self._begun(n)
        action = self.model(history.step(self.standardised(states)))[:, :, -1]
        history.actions[:, :, -1] = action
        return action

    @torch.no_grad()
    def observe(self, rewards: Float[Tensor, "E B"]) -> None:
        """What the last actions earned, in the units of the recorded rewards: the rest is asked
        for from now on."""
        if self.history is not None:
            self.history.left -= rewards / self.scale


def target_of(own: Settings, sequences: Sequences) -> float:
    """The return that is asked for, reward units: the setting `target`, or of the data their best.
    DataError for another word."""
    asked = own.given["target"]
    if asked == BEST:
        return sequences.best
    if isinstance(asked, str):
        raise DataError(
            f"dt.target: saw {asked!r}, expected a number or {BEST!r}; change it in "
            "data/neighbours.toml."
        )
    return float(asked)


def fit_dt(
    data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store
) -> ReturnPolicy:
    """The policy after `budget.dt_steps` steps with the settings `hyper.dt`; `data` have the
    rewards as recorded. DataError for a setting that is missing or of the wrong kind, and for data
    without sequences."""
    own = Settings("dt", hyper.dt, NEEDED)
    context, layers, width, size, times = map(own.count, COUNTS)
    sequences = Sequences(data, context, own["scale"])
    target = target_of(own, sequences)
    draws, steps, precision = rng.fork("dt"), budget.dt_steps, budget.precision
    dims = data.states.shape[1], data.actions.shape[1]
    weights = rng.fork("dt", "weights")
    model = DecisionTransformer(*dims, weights, width, layers, times, own["dropout"])
    model.to(rng.device)

    def loss() -> Float[Tensor, " E"]:
        window = sequences.windows(draws.randint(len(data.actions), size))
        return squared_error(model(window, draws), window.actions, window.seen)

    learned = {k: v for k, v in hyper.dt.items() if k != "target"}  # by which nothing is trained
    train(
        "dt",
        training_key("dt", learned, data, rng, steps, 1.0, precision),
        dict(model=model),
        [
            Update(
                "model",
                loss,
                own["lr"],
                warmed_up_linearly(max(1, round(own["warm_up"] * steps))),
                weight_decay=own["weight_decay"],
                clip=own["clip"],
            )
        ],
        steps=steps,
        rng=draws,
        store=store,
        arithmetic=precision,
    )
    return ReturnPolicy(
        model.requires_grad_(False),
        sequences.standardised,
        sequences.context,
        target,
        own["scale"],
    )
