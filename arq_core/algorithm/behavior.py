"""Train s_psi: the behaviour policy cloned as a score model (the first line of Algorithm 1)."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arq_core.algorithm import likelihood, samplers
from arq_core.algorithm.nets import Normalizer, ScoreNet
from arq_core.algorithm.sde import VPSDE, Times, power_grid
from arq_core.algorithm.types import Candidates, DataError, Pairs, States, Transitions, Values
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.machine import BACK_AND_FORTH, activations, compiled_with_gathering, passes
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.train import train
from arq_core.engine.updates import SCHEDULES, Averaging, Update, warmed_up

BLOCKS = 3                # residual blocks of the score network, appendix A.2
T_MIN_TRAIN = 1e-5        # diffusion times of training are uniform on [1e-5, 1]; released code
T_MIN_SAMPLE = 1e-3       # samplers stop at this time, appendix A.2
T_MIN_DENSITY = 1e-5      # the density ODE starts here; released code
TIMES_REMEMBERED = 4096   # embedded times kept by a model; a grid has tens, adaptive RK45 hundreds
ARITHMETIC = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DENSITY_GRID_POWER = 4    # t ~ u^4: half of a log-SNR grid's error (benchmarks/density_grid.py)


def score_matching_loss(net: ScoreNet, actions: Float[Tensor, "E B A"],
                        states: Float[Tensor, "E B S"], t: Float[Tensor, "E T"],
                        z: Float[Tensor, "E B A"], sde: VPSDE) -> Float[Tensor, " E"]:
    """S3, denoising score matching weighted by sigma(t)²: mean ‖sigma·s(x_t, t) + z‖² with
    x_t = alpha·a + sigma·z (Vincent 2011).

    T times per batch, each shared by B/T consecutive rows; the paper draws one per row (T = B).
    """
    rows = z.shape[1] // t.shape[1]
    alpha, sigma = (m.repeat_interleave(rows, 1)[..., None] for m in sde.marginal(t))
    x_t = alpha * actions + sigma * z
    out = net(x_t, net.of_state(states), net.embed_time(t))                           # sigma·s
    return (out.float() + z).square().sum(-1).mean(-1)


class NetScore:
    """The mean score of the C networks of each seed at fixed states, as the function of (x, t) that
    samplers and likelihood take.

    x is [E, B, n, A] with E seeds; the networks' members are E·C. What does not change along a
    solve is computed once: `net` is already in the arithmetic of the solve, states are embedded
    here, and times are embedded by `embed_time` (which remembers them). `calls`: ScoreBehavior's.
    """

    def __init__(self, net: ScoreNet, sde: VPSDE, embedded: Float[Tensor, "EC B W"],
                 embed_time: Callable, copies: int, calls: int):
        self.net, self.sde, self.state = net, sde, embedded
        self.embed_time, self.copies, self.calls = embed_time, copies, calls

    def __call__(self, x: Candidates, t: Tensor) -> Candidates:
        """The score at one time t, per unit of the standardised action."""
        out, = self._passes(ScoreNet.forward, t, x)
        return self._score(out, t, x)

    def jvp(self, x: Candidates, t: Tensor, tangents: Float[Tensor, "P E B n A"],
            ) -> tuple[Candidates, Float[Tensor, "P E B n A"]]:
        """The score and its derivatives along `tangents`, by one forward-mode pass."""
        out, d_out = self._passes(ScoreNet.jvp, t, x, tangents)
        return self._score(out, t, x), self._score(d_out, t, tangents)

    def _passes(self, f: Callable, t: Tensor, *x: Tensor) -> list[Tensor]:
        return passes(f, self.net, self.state, self.embed_time(t), *x, copies=self.copies,
                      layers=len(self.net.dense), calls=self.calls)

    def _score(self, out: Float[Tensor, "... EC B n A"], t: Tensor, like: Tensor) -> Tensor:
        mean = out.float().unflatten(-4, (-1, self.copies)).mean(-4)
        return mean.to(like.dtype) / self.sde.marginal(t)[1].to(like.dtype)


@dataclass(frozen=True)
class ScoreBehavior:
    """beta_psi(a|s), a `types.Behavior`: E seeds of an ensemble of C score networks. Log-densities
    are of the standardised action, in nats, as in the released code."""

    net: ScoreNet
    copies: int
    of_state: Normalizer
    of_action: Normalizer
    budget: Budget
    loss: Float[Tensor, "EC points"]
    sde: VPSDE = VPSDE()
    calls: int = 2_000   # evaluations of one size that are expected: compiling has to pay in them

    @cached_property
    def _cast(self) -> ScoreNet:
        """The network in the solves' arithmetic; `net` embeds times and states, in float32."""
        return copy.deepcopy(self.net).to(ARITHMETIC[self.budget.precision])

    @cached_property
    def _embed_time(self) -> Callable[[Tensor], Tensor]:
        dtype, weight = ARITHMETIC[self.budget.precision], self.net.out.weight

        @torch.no_grad()
        def embed(t: float) -> Tensor:
            times = torch.full((len(weight), 1), t, device=weight.device)
            return self.net.embed_time(times).to(dtype)

        remembered = lru_cache(maxsize=TIMES_REMEMBERED)(embed)
        return lambda t: remembered(float(t))

    def score(self, states: States) -> NetScore:
        """The score at these states. DataError where S is not the training data's."""
        if states.shape[-1] != self.of_state.mean.shape[-1]:
            raise DataError(f"states: saw dimension {states.shape[-1]}, expected "
                            f"{self.of_state.mean.shape[-1]}, that of the training data; use the "
                            "environment or dataset that the model was trained for.")
        embedded = self.net.of_state(self.of_state(states).repeat_interleave(self.copies, 0))
        embedded = embedded.to(ARITHMETIC[self.budget.precision])
        return NetScore(self._cast, self.sde, embedded, self._embed_time, self.copies, self.calls)

    @torch.no_grad()
    def sample(self, states: States, n: int, rng: Streams) -> Candidates:
        """n actions for each state, not clipped to the box, by the budget's sampler."""
        name = self.budget.sampler
        times = samplers.make_grid(name, self.sde, self.budget.sampler_steps, T_MIN_SAMPLE)
        x = self._noise(states, n, rng)
        x = samplers.SAMPLERS[name](self.score(states), self.sde, x, times, rng)
        return self.of_action.inverse(x)

    @torch.no_grad()
    def sample_with_log_prob(self, states: States, n: int, rng: Streams,
                             clip: bool = False) -> tuple[Candidates, Values]:
        """n actions for each state and their log-density, from one solve if "same_solve"; with
        `clip` in the box, see `types.Behavior`."""
        box = 1.0 if clip else torch.inf
        if self.budget.density != "same_solve":
            actions = self.sample(states, n, rng).clamp(-box, box)
            return actions, self.log_prob(actions, states, rng)
        x = self._noise(states, n, rng)
        x, log_prob = likelihood.sample_with_log_prob(
            self.score(states), self.sde, x, self.density_grid(), self._divergence(x, rng))
        return self.of_action.inverse(x).clamp(-box, box), log_prob

    @torch.no_grad()
    def log_prob(self, actions: Candidates, states: States, rng: Streams) -> Values:
        """log beta(a|s) in nats; "rk45" is the released setting, else the multistep walk."""
        x, score = self.of_action(actions), self.score(states)
        divergence = self._divergence(x, rng)
        if self.budget.density == "rk45":
            return likelihood.log_prob_rk45(score, self.sde, x, divergence, t_start=T_MIN_DENSITY)
        return likelihood.log_prob_multistep(score, self.sde, x, divergence, self.density_grid())

    def _noise(self, states: States, n: int, rng: Streams) -> Candidates:
        return rng.randn(states.shape[1], n, self.of_action.mean.shape[-1])

    def density_grid(self) -> Times:
        """Both walks take one evaluation more than the grid has steps."""
        steps = self.budget.sampler_steps - 1
        return power_grid(self.sde, steps, T_MIN_SAMPLE, p=DENSITY_GRID_POWER)

    def _divergence(self, x: Tensor, rng: Streams) -> likelihood.Divergence:
        if self.budget.probes == 0:
            return likelihood.exact_divergence
        probes = likelihood.rademacher(rng, x, self.budget.probes)
        return likelihood.hutchinson_divergence(probes)


def with_budget(behavior: ScoreBehavior, **changes) -> ScoreBehavior:
    """The same model, solved with other settings, such as `sampler_steps=500`."""
    return replace(behavior, budget=replace(behavior.budget, **changes))


def fit_behavior(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams,
                 store: Store) -> ScoreBehavior:
    """Train s_psi: Adam, each member's batches with replacement, weights averaged by `ema`."""
    of_state, of_action = Normalizer.of(data.states[data.state]), Normalizer.of(data.actions)
    pairs = Pairs(of_state(data.states), of_action(data.actions), data.state)
    key = key_of_scores(data.fingerprint(), hyper, budget, rng)
    average, _, curve = match_scores(pairs, key, hyper, budget, rng, store)
    return ScoreBehavior(average, hyper.ensemble, of_state, of_action, budget, curve)


def key_of_scores(data: str, hyper: Hyper, budget: Budget, rng: Streams) -> dict:
    """What the weights depend on. The paper's schedule and times are not said: older steps keep
    their names."""
    ours = dict(schedule=(hyper.score_schedule, "constant"), time_power=(hyper.time_power, 1.0))
    return dict(data=data, seeds=rng.seeds, ensemble=hyper.ensemble, width=hyper.width,
                batch=hyper.batch, lr=hyper.score_lr, ema=hyper.ema, steps=budget.score_steps,
                times=budget.times_per_batch, precision=budget.precision,
                **{k: value for k, (value, papers) in ours.items() if value != papers})


def loss_of_pairs(net: ScoreNet, pairs: Pairs, m: Int[Tensor, "EC B"], t: Float[Tensor, "EC T"],
                  z: Float[Tensor, "EC B A"], sde: VPSDE,
                  loss: Callable = score_matching_loss) -> Float[Tensor, " EC"]:
    """`score_matching_loss` on pairs m."""
    return loss(net, *pairs[m], t, z, sde)


def match_scores(pairs: Pairs, key: dict, hyper: Hyper, budget: Budget, rng: Streams, store: Store,
                 keep_at: Sequence[int] = ()) -> tuple[ScoreNet, dict[int, ScoreNet], Tensor]:
    """Minimise S3: the averaged weights, copies of them at steps `keep_at`, the loss curve."""
    (m, action_dim), state_dim = pairs.actions.shape[-2:], pairs.states.shape[-1]
    members = rng.fork("behavior", copies=hyper.ensemble)
    net = ScoreNet(state_dim, action_dim, hyper.width, BLOCKS, members).to(members.device)
    average = copy.deepcopy(net).requires_grad_(False)
    kept, sde = {k: copy.deepcopy(average) for k in keep_at}, VPSDE()
    matching = compiled_with_gathering(
        loss_of_pairs, score_matching_loss, members.device,
        units=BACK_AND_FORTH * hyper.batch * activations(net.dense), calls=budget.score_steps)

    def loss() -> Tensor:
        rows = members.randint(m, hyper.batch)
        u = members.rand(budget.times_per_batch).pow(hyper.time_power)
        t = T_MIN_TRAIN + (1 - T_MIN_TRAIN) * u
        return matching(net, pairs, rows, t, members.randn(hyper.batch, action_dim), sde)

    decay = torch.zeros((), device=members.device)

    def before(taken: int) -> None:
        decay.fill_(warmed_up(taken, hyper.ema))
        if taken in kept:
            kept[taken].load_state_dict(average.state_dict())

    modules = dict(net=net, average=average) | {f"at_{k}": v for k, v in kept.items()}
    update = Update("net", loss, hyper.score_lr, SCHEDULES[hyper.score_schedule],
                    after=[Averaging(average, net, decay)])
    curve = train("behavior", key, modules, [update], steps=budget.score_steps, rng=members,
                  store=store, before_step=before, arithmetic=budget.precision)["net"]
    return average, kept, curve
