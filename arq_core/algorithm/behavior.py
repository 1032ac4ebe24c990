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
from arq_core.algorithm.nets import ScoreNet
from arq_core.algorithm.sde import VPSDE, power_grid
from arq_core.algorithm.types import DataError, Transitions
from arq_core.config.hyper import Budget, Hyper
from arq_core.engine.machine import (
    BACK_AND_FORTH,
    activations,
    compiled,
    compiled_with_gathering,
    equal_pieces,
    solve_rows,
)
from arq_core.engine.store import Store, fingerprint
from arq_core.engine.streams import Streams
from arq_core.engine.train import SCHEDULES, Averaging, train, warmed_up

BLOCKS = 3             # residual blocks of the score network, appendix A.2
STD_FLOOR = 0.05       # standard deviations are floored here before dividing by them; released code
T_MIN_TRAIN = 1e-5     # diffusion times of training are uniform on [1e-5, 1]; released code
T_MIN_SAMPLE = 1e-3    # samplers stop at this time, appendix A.2
T_MIN_DENSITY = 1e-5   # the density ODE starts here; released code
TIMES_REMEMBERED = 4096   # embedded diffusion times kept by a model; a grid has tens, adaptive RK45 hundreds
ARITHMETIC = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DENSITY_GRID_POWER = 4  # times t ~ u^4: half the error of a log-SNR grid at 16 evaluations; u^5 errs less still (benchmarks/density_grid.py)


@dataclass(frozen=True)
class Normalizer:
    """x -> (x - mean)/scale with scale = max(std, 0.05), and x -> 0 where the std is exactly 0 (released code).

    Of one set of data for all members [D], or of each member's own, with axes of 1 so that it broadcasts: [E, 1, D] or [E, 1, 1, D].
    """

    mean: Float[Tensor, "... D"]
    scale: Float[Tensor, "... D"]

    @classmethod
    def of(cls, x: Float[Tensor, "... M D"], keepdim: bool = False) -> Normalizer:
        mean, std = x.double().mean(-2, keepdim), x.double().std(-2, correction=0, keepdim=keepdim)
        return cls(mean.float(), torch.where(std == 0, 0.0, std.clamp(min=STD_FLOOR)).float())

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.scale == 0, 0.0, (x - self.mean) / self.scale.clamp(min=STD_FLOOR))

    def inverse(self, z: Tensor) -> Tensor:
        return self.mean + self.scale * z


class NetScore:
    """The mean score of the C networks of each seed at fixed states, as the function of (x, t) that samplers and likelihood take.

    x is [E, B, n, A] with E seeds; the networks' members are E·C. What does not change along a solve is computed once: `net` is
    already in the arithmetic of the solve, states are embedded here, and times are embedded by `embed_time` (which remembers them).
    A pass over the network takes a few states at a time, so that it stays in cache, or in memory; rows do not see each other.
    """

    def __init__(self, net: ScoreNet, sde: VPSDE, embedded: Float[Tensor, "EC B W"], embed_time: Callable, copies: int):
        self.net, self.sde, self.state, self.embed_time, self.copies = net, sde, embedded, embed_time, copies

    def __call__(self, x: Float[Tensor, "E B n A"], t: Tensor) -> Float[Tensor, "E B n A"]:
        out, = self._passes(ScoreNet.forward, t, x)
        return self._score(out, t, x)

    def jvp(self, x: Tensor, t: Tensor, tangents: Float[Tensor, "P E B n A"]) -> tuple[Tensor, Tensor]:
        """The score and its directional derivatives along `tangents`, by one forward-mode pass."""
        out, d_out = self._passes(ScoreNet.jvp, t, x, tangents)
        return self._score(out, t, x), self._score(d_out, t, tangents)

    def _score(self, out: Float[Tensor, "... EC B n A"], t: Tensor, like: Tensor) -> Tensor:
        mean = out.float().unflatten(-4, (-1, self.copies)).mean(-4)
        return mean.to(like.dtype) / self.sde.marginal(t)[1].to(like.dtype)

    def _passes(self, f: Callable, t: Tensor, x: Tensor, *tangents: Tensor) -> list[Tensor]:
        """f of `ScoreNet` over all states, in pieces of one size (the last is padded), so that one compiled program serves."""
        (members, b, width), n, device = self.state.shape, x.shape[2], self.state.device
        row = n * members * (1 + sum(len(v) for v in tangents))                              # network rows that a state takes
        pieces, size = equal_pieces(b, solve_rows(device.type) * 256 // (width * row))
        f = compiled(f, device, units=size * row * width * len(self.net.dense))
        results = []
        for i in torch.arange(pieces * size, device=device).clamp(max=b - 1).split(size):
            rows = self._members(x[:, i]).flatten(1, 2)
            along = [self._members(v[:, :, i].movedim(0, 1)).flatten(2, 3) for v in tangents]
            got = _in_memory(f, self.net, rows, self.state[:, i], self.embed_time(t), *along)
            got = got if isinstance(got, tuple) else (got,)
            results.append([y.movedim(1, 0).unflatten(2, (size, n)) if y.ndim == 4 else y.unflatten(1, (size, n)) for y in got])
        return [torch.cat(parts, -3)[..., :b, :, :] for parts in zip(*results)]

    def _members(self, x: Float[Tensor, "E ..."]) -> Float[Tensor, "EC ..."]:
        return x.to(self.state.dtype).repeat_interleave(self.copies, 0)


def _in_memory(f: Callable, *args):
    """f(...), or an error that says what to do when memory runs out."""
    try:
        return f(*args)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        device = args[1].device.type
        raise MemoryError(f"score network: saw memory run out on {device} ({str(error).splitlines()[0]}), with up to {solve_rows(device):,} rows of "
                          f"width 256 at once; try ARQ_SOLVE_ROWS={solve_rows(device) // 4}. Finished blocks of candidates are kept.") from error


def score_matching_loss(net: ScoreNet, actions: Float[Tensor, "E B A"], states: Float[Tensor, "E B S"], t: Float[Tensor, "E T"],
                        z: Float[Tensor, "E B A"], sde: VPSDE) -> Float[Tensor, "E"]:
    """S3, denoising score matching weighted by sigma(t)²: mean ‖sigma·s(x_t, t) + z‖² with x_t = alpha·a + sigma·z (Vincent 2011).

    T distinct times per batch, each shared by B/T consecutive rows; the paper draws one per row (T = B).
    """
    alpha, sigma = (m.repeat_interleave(z.shape[1] // t.shape[1], 1)[..., None] for m in sde.marginal(t))
    out = net(alpha * actions + sigma * z, net.of_state(states), net.embed_time(t))       # sigma·s
    return (out.float() + z).square().sum(-1).mean(-1)


@dataclass(frozen=True)
class ScoreBehavior:
    """beta_psi(a|s): E seeds of an ensemble of C score networks (averaged weights). See `types.Behavior`.

    Log-densities are of the standardised action, in nats, as in the released code.
    """

    net: ScoreNet
    copies: int
    of_state: Normalizer
    of_action: Normalizer
    budget: Budget
    loss: Float[Tensor, "EC points"]
    sde: VPSDE = VPSDE()

    @cached_property
    def _cast(self) -> ScoreNet:
        """The network in the arithmetic of the solves; times and states are embedded by `net`, in float32."""
        return copy.deepcopy(self.net).to(ARITHMETIC[self.budget.precision])

    @cached_property
    def _embed_time(self) -> Callable[[Tensor], list[Tensor]]:
        dtype, e, device = ARITHMETIC[self.budget.precision], len(self.net.out.weight), self.net.out.weight.device

        @torch.no_grad()
        def embed(t: float) -> list[Tensor]:
            return [x.to(dtype) for x in self.net.embed_time(torch.full((e, 1), t, device=device))]

        remembered = lru_cache(maxsize=TIMES_REMEMBERED)(embed)
        return lambda t: remembered(float(t))

    def score(self, states: Float[Tensor, "E B S"]) -> NetScore:
        if states.shape[-1] != self.of_state.mean.shape[-1]:
            raise DataError(f"states: saw dimension {states.shape[-1]}, expected {self.of_state.mean.shape[-1]}, that of the training "
                            "data; use the environment or dataset that the model was trained for.")
        embedded = self.net.of_state(self.of_state(states).repeat_interleave(self.copies, 0)).to(ARITHMETIC[self.budget.precision])
        return NetScore(self._cast, self.sde, embedded, self._embed_time, self.copies)

    @torch.no_grad()
    def sample(self, states: Float[Tensor, "E B S"], n: int, rng: Streams) -> Float[Tensor, "E B n A"]:
        """n actions for each state, not clipped to the box, by the budget's sampler."""
        times = samplers.make_grid(self.budget.sampler, self.sde, self.budget.sampler_steps, T_MIN_SAMPLE)
        x = rng.randn(states.shape[1], n, self.of_action.mean.shape[-1])
        return self.of_action.inverse(samplers.SAMPLERS[self.budget.sampler](self.score(states), self.sde, x, times, rng))

    @torch.no_grad()
    def sample_with_log_prob(self, states: Tensor, n: int, rng: Streams) -> tuple[Float[Tensor, "E B n A"], Float[Tensor, "E B n"]]:
        """n actions for each state and their log-density; from one solve where the budget's `density` is "same_solve"."""
        if self.budget.density != "same_solve":
            actions = self.sample(states, n, rng)
            return actions, self.log_prob(actions, states, rng)
        x = rng.randn(states.shape[1], n, self.of_action.mean.shape[-1])
        x, log_prob = likelihood.sample_with_log_prob(self.score(states), self.sde, x, self._density_grid(), self._divergence(x, rng))
        return self.of_action.inverse(x), log_prob

    @torch.no_grad()
    def log_prob(self, actions: Float[Tensor, "E B n A"], states: Float[Tensor, "E B S"], rng: Streams) -> Float[Tensor, "E B n"]:
        """log beta(a|s) in nats, of the standardised action; "rk45" is the released setting, otherwise the multistep walk."""
        x, score = self.of_action(actions), self.score(states)
        if self.budget.density == "rk45":
            return likelihood.log_prob_rk45(score, self.sde, x, self._divergence(x, rng), t_start=T_MIN_DENSITY)
        return likelihood.log_prob_multistep(score, self.sde, x, self._divergence(x, rng), self._density_grid())

    def _density_grid(self) -> Tensor:
        """Both walks take one evaluation more than the grid has steps."""
        return power_grid(self.sde, self.budget.sampler_steps - 1, T_MIN_SAMPLE, p=DENSITY_GRID_POWER)

    def _divergence(self, x: Tensor, rng: Streams) -> Callable:
        if self.budget.probes == 0:
            return likelihood.exact_divergence
        return likelihood.hutchinson_divergence(likelihood.rademacher(rng, x, self.budget.probes))


def fit_behavior(data: Transitions, hyper: Hyper, budget: Budget, rng: Streams, store: Store) -> ScoreBehavior:
    """Train s_psi on (s, a) pairs: Adam, batches drawn with replacement by each member, weights averaged by `hyper.ema`."""
    members = rng.fork("behavior", copies=hyper.ensemble)
    of_state, of_action = Normalizer.of(data.states[data.state]), Normalizer.of(data.actions)
    states, actions = of_state(data.states), of_action(data.actions)

    key = _key(data.fingerprint(), hyper, budget, rng)
    average, _, curve = _match_scores(Pairs(states, actions, data.state), (len(actions), states.shape[1], actions.shape[1]), key, hyper, budget, members, store)
    return ScoreBehavior(average, hyper.ensemble, of_state, of_action, budget, curve)


def fit_members(states: Float[Tensor, "E M S"], actions: Float[Tensor, "E M A"], hyper: Hyper, budget: Budget, rng: Streams, store: Store,
                keep_at: Sequence[int] = ()) -> dict[int, ScoreBehavior]:
    """`fit_behavior` for members that have data of their own, standardised member by member: E problems trained as one batch.

    Returns the models by the number of steps taken: at each of `keep_at` on the way, and the final one last.
    """
    if wrong := [k for k in keep_at if not 0 <= k < budget.score_steps]:
        raise ValueError(f"keep_at: saw {wrong}, expected steps from 0 to {budget.score_steps - 1}, before the last of the budget.")
    members, row = rng.fork("behavior", copies=hyper.ensemble), torch.arange(len(rng), device=rng.device).repeat_interleave(hyper.ensemble)[:, None]
    of_state, of_action = Normalizer.of(states, keepdim=True), Normalizer.of(actions, keepdim=True)
    x, a = of_state(states), of_action(actions)

    key = dict(_key(fingerprint(dict(states=states, actions=actions)), hyper, budget, rng), keep_at=list(keep_at))
    average, kept, curve = _match_scores(Pairs(x, a, None, row), (*states.shape[1:], actions.shape[2]), key, hyper, budget, members, store, keep_at)
    of_action = Normalizer(of_action.mean[:, None], of_action.scale[:, None])                # [E, 1, 1, A]: actions of a solve are [E, B, n, A]
    return {k: ScoreBehavior(net, hyper.ensemble, of_state, of_action, budget, curve) for k, net in [*kept.items(), (budget.score_steps, average)]}


def _key(data: str, hyper: Hyper, budget: Budget, rng: Streams) -> dict:
    """What the weights depend on. The paper's schedule and times are not said: steps finished before there were others keep their names."""
    ours = dict(schedule=(hyper.score_schedule, "constant"), time_power=(hyper.time_power, 1.0))
    return dict(data=data, seeds=rng.seeds, ensemble=hyper.ensemble, width=hyper.width, batch=hyper.batch,
                lr=hyper.score_lr, ema=hyper.ema, steps=budget.score_steps, times=budget.times_per_batch, precision=budget.precision,
                **{k: value for k, (value, papers) in ours.items() if value != papers})


@dataclass(frozen=True)
class Pairs:
    """Standardised (s, a) to learn from: of all members (`state`: each pair's row of `states`), or each member's own (`member` [E, 1])."""

    states: Float[Tensor, "... S"]
    actions: Float[Tensor, "... M A"]
    state: Int[Tensor, "M"] | None
    member: Int[Tensor, "E 1"] | None = None

    def __getitem__(self, m: Int[Tensor, "E B"]) -> tuple[Float[Tensor, "E B A"], Float[Tensor, "E B S"]]:
        """(actions, states) of pairs m."""
        if self.member is not None:
            return self.actions[self.member, m], self.states[self.member, m]
        return self.actions[m], self.states[self.state[m]]


def loss_of_pairs(net: ScoreNet, pairs: Pairs, m: Int[Tensor, "E B"], t: Float[Tensor, "E T"], z: Float[Tensor, "E B A"], sde: VPSDE,
                  loss: Callable = score_matching_loss) -> Float[Tensor, "E"]:
    """`score_matching_loss` on pairs m."""
    return loss(net, *pairs[m], t, z, sde)


def _match_scores(pairs: Pairs, shape: tuple[int, int, int], key: dict, hyper: Hyper, budget: Budget,
                  members: Streams, store: Store, keep_at: Sequence[int] = ()) -> tuple[ScoreNet, dict[int, ScoreNet], Tensor]:
    """Minimise S3 over `pairs`; `shape` is (M, S, A).

    Returns the averaged weights, copies of them at the steps `keep_at`, and the loss curve.
    """
    m, state_dim, action_dim = shape
    net = ScoreNet(state_dim, action_dim, hyper.width, BLOCKS, members).to(members.device)
    average = copy.deepcopy(net).requires_grad_(False)
    kept, sde = {k: copy.deepcopy(average) for k in keep_at}, VPSDE()
    matching = compiled_with_gathering(loss_of_pairs, score_matching_loss, members.device, units=BACK_AND_FORTH * hyper.batch * activations(net.dense), calls=budget.score_steps)

    def loss():
        rows = members.randint(m, hyper.batch)
        t = T_MIN_TRAIN + (1 - T_MIN_TRAIN) * members.rand(budget.times_per_batch).pow(hyper.time_power)
        return matching(net, pairs, rows, t, members.randn(hyper.batch, action_dim), sde)

    decay = torch.zeros((), device=members.device)

    def before(taken: int) -> None:
        decay.fill_(warmed_up(taken, hyper.ema))
        if taken in kept:
            kept[taken].load_state_dict(average.state_dict())

    modules = dict(net=net, average=average) | {f"at_{k}": v for k, v in kept.items()}         # kept in checkpoints, so they survive a resumption
    curve = train("behavior", key, modules, loss, trained="net", lr=hyper.score_lr, steps=budget.score_steps, rng=members, store=store,
                  before_step=before, after_step=Averaging(average, net, decay), arithmetic=budget.precision,
                  schedule=SCHEDULES[hyper.score_schedule])
    return average, kept, curve


def with_budget(behavior: ScoreBehavior, **changes) -> ScoreBehavior:
    """The same model, solved with other settings: `with_budget(behavior, sampler_steps=500, sampler="predictor_corrector")`."""
    return replace(behavior, budget=replace(behavior.budget, **changes))
