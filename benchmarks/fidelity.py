"""Do the fast choices sample the same law, and give the same densities, as the slow ones?

    python benchmarks/fidelity.py [quick]

Behaviour: 20 states, mixtures of a sharp, a middle and a wide normal (standardised stds .03 to 1;
the wide one cut off hard), A = 1, 3 and 24. Two kinds of score: "exact", the closed form, so that
only the solver errs and truth is known; "network", a small net trained here on the same laws,
judged by 500 steps of predictor-corrector (Song et al.'s norms, one state at a time) and by RK45 in
float64 with the exact divergence. Truth is taken at t = 1e-3, where samplers stop: true samples
plus that noise. A distance is Wasserstein-1 at A = 1, else the energy distance, of 5,000 samples a
state, in units of that between two samples of the reference (distances.against_truth defines ratio,
z and z_state). Energy distances hardly see widths, so a second distance compares the samples' true
log-densities (Wasserstein-1, cut off below the reference's least). Prints one JSON line per
setting, from one process per core, and writes them to data/benchmarks/fidelity.json; `quick` is a
small one that writes nothing.
"""

import copy
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context

import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm import likelihood
from arq_core.algorithm.behavior import (
    DENSITY_GRID_POWER,
    T_MIN_DENSITY,
    T_MIN_SAMPLE,
    ScoreBehavior,
    fit_behavior,
    with_budget,
)
from arq_core.algorithm.samplers import SAMPLERS, make_grid
from arq_core.algorithm.sde import VPSDE, log_snr_grid, power_grid
from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities.distances import (
    against_truth,
    density_errors,
    distance,
    own_distance,
    split_distances,
)
from arq_core.densities.mixture import Mixture
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/fidelity.json"
SDE, LOG_EPSILON = VPSDE(), -5.0
T_END, T_DENSITY = (torch.tensor(t, dtype=torch.float64) for t in (T_MIN_SAMPLE, T_MIN_DENSITY))
# of the three components; the cut is .3 std below the wide one's mean
STD_LOW, STD_HIGH, CUT = (0.03, 0.1, 0.3), (0.1, 0.6, 1.0), -0.3
POWER = f"t ~ u^{DENSITY_GRID_POWER}"


@dataclass(frozen=True)
class Size:
    states: int = 20
    samples: int = 5000  # per state, for distances
    splits: int = 256  # of the reference pool, for the null
    densities: int = 250  # per state, exact score
    references: int = 10  # per state and walk, network: RK45 in float64 is slow
    probed: int = 50  # per state, RK45 with an exact score
    actions: tuple = (1, 3, 24)
    data: int = 40_000  # transitions the networks are trained on
    steps: int = 4000  # of their training
    width: tuple = (32, 48, 48)  # of the network for each number of actions


QUICK = Size(
    states=2, samples=200, splits=32, densities=40, references=4, probed=4, data=10_000, steps=600
)


@dataclass(frozen=True)
class Setting:
    """A sampler with its number of evaluations.

    On the power grid it is the walk that also gives a density, one step fewer.
    """

    sampler: str
    evaluations: int
    grid: str = ""  # "" is the sampler's own
    precision: str = "float32"
    coupled: bool = False  # all states in one batch: batch norms then couple them

    def times(self) -> Tensor:
        if self.grid == POWER:
            return power_grid(SDE, self.evaluations - 1, T_MIN_SAMPLE, p=DENSITY_GRID_POWER)
        return make_grid(self.sampler, SDE, self.evaluations, T_MIN_SAMPLE)

    def named(self) -> dict:
        return dict(
            {f.name: getattr(self, f.name) for f in fields(self)},
            grid=self.grid or SAMPLERS[self.sampler].grid.__name__,
        )


REFERENCE, FINE_ODE = Setting("predictor_corrector_batch", 1000), Setting("dpmpp_2m", 200)
FAST = [Setting("dpmpp_2m", n, grid) for grid in ("", POWER) for n in (8, 16, 20, 32)] + [
    Setting("sde_dpmpp_2m", 20),
    Setting("sde_dpmpp_2m", 32),
    Setting("probability_flow", 20),
    Setting("probability_flow", 32),
]
RELEASED, EULER = Setting("predictor_corrector", 1000), Setting("euler_maruyama", 500)
EXACT = [RELEASED, REFERENCE, replace(REFERENCE, coupled=True), EULER, FINE_ODE, *FAST]
NETWORK = [
    RELEASED,
    EULER,
    *FAST,
    Setting("dpmpp_2m", 20, "", "bfloat16"),
    Setting("dpmpp_2m", 16, POWER, "bfloat16"),
]


def problem(a: int, u: Tensor) -> Mixture:
    """beta at states u in [0, 1]: means and weights move with u; stds are drawn log-uniformly, one
    for each axis and component.
    """
    g = torch.Generator().manual_seed(a)
    low, high = (torch.tensor(v, dtype=torch.float64)[:, None] for v in (STD_LOW, STD_HIGH))
    std = low * (high / low) ** torch.rand(3, a, generator=g, dtype=torch.float64)
    middle, slope = (torch.randn(3, a, generator=g, dtype=torch.float64) for _ in range(2))
    v = (2 * u - 1)[:, None]
    # about standardised over all states
    mean = 0.8 * (middle - middle.mean(0)) / middle.std(0) + 0.5 * v[..., None] * slope
    weight = (v * torch.tensor([0.7, 0.0, -0.7])).log_softmax(-1)
    return Mixture(SDE, weight, mean, std.expand_as(mean), mean[:, -1, 0] + CUT * std[-1, 0])


# ---- samples


@torch.no_grad()
def draw(scores: Callable[[slice], Callable], setting: Setting, s: int, n: int, a: int) -> Tensor:
    """n samples at each of s states, [S, n, A].

    Settings draw independent noise, so that they do not share their luck.
    """
    blocks = [slice(None)] if setting.coupled else [slice(i, i + 1) for i in range(s)]
    rng = [Streams([i]).fork(setting, a) for i in range(len(blocks))]
    sampler, times = SAMPLERS[setting.sampler], setting.times()
    x = torch.cat(
        [
            sampler(scores(b), SDE, r.randn(s // len(blocks), n, a), times, r)[0]
            for b, r in zip(blocks, rng)
        ]
    )
    if not torch.isfinite(x).all():
        raise FloatingPointError(
            f"{setting}: saw samples that are not finite, expected finite ones."
        )
    return x


class Reference:
    """Reference samples at each state, and by how much two samples of n differ: what halves of a
    pool [S, N, A] do, times sqrt(N / 2n).
    """

    def __init__(self, law: Mixture, pool: Tensor, n: int, splits: int):
        self.law, g, unit = law, torch.Generator().manual_seed(0), (pool.shape[1] / 2 / n) ** 0.5
        log_prob = law.log_prob(pool.double(), T_END)[..., None].float()
        self.null, self.log_null = (
            torch.stack([split_distances(p, splits, g) for p in pools]).double() * unit
            for pools in (pool, log_prob)
        )
        self.take(pool[:, :n])

    def take(self, samples: Tensor) -> None:
        """Compare with these samples [S, n, A] from now on."""
        self.samples, self.log_prob = samples, self.law.log_prob(samples.double(), T_END)
        self.own = [own_distance(y) for y in samples]

    def judge(self, x: Tensor) -> dict[str, float]:
        return self.distances(x) | self.shares(x)

    def distances(self, x: Tensor) -> dict[str, float]:
        """Of x [S, n, A] from the reference: of the samples, and of their log-densities."""
        log_prob = self.law.log_prob(x.double(), T_END)
        d = torch.tensor([distance(a, b, own) for a, b, own in zip(x, self.samples, self.own)])
        widths = (
            (
                log_prob.maximum(self.log_prob.amin(1, keepdim=True)).sort(1).values
                - self.log_prob.sort(1).values
            )
            .abs()
            .mean(1)
        )
        by_density = {
            f"log_density_{k}": v for k, v in against_truth(widths, self.log_null).items()
        }
        return against_truth(d.double(), self.null) | by_density

    def shares(self, x: Tensor) -> dict[str, float]:
        """Off support and in the kept set, by the true law, with binomial errors (as if one sample
        were off at least).
        """
        off = self.law.off_support(x.double(), T_END).double().mean().item()
        kept = (self.law.log_prob(x.double(), T_END) >= LOG_EPSILON).double().mean().item()
        least, n = x.shape[-1] / x.numel(), x.numel() / x.shape[-1]
        return dict(
            off_support=off,
            off_support_error=(max(off, least) * (1 - off) / n) ** 0.5,
            kept=kept,
            kept_error=(kept * (1 - kept) / n) ** 0.5,
        )


# ---- the two kinds of score


def trained(a: int, size: Size) -> tuple[ScoreBehavior, Callable[[Mixture], Mixture]]:
    """A small network trained on the laws of `problem`, and the map from these to the law of its
    standardised actions.
    """
    g = torch.Generator().manual_seed(100 + a)
    u, m = torch.rand(size.data, generator=g, dtype=torch.float64), torch.arange(size.data)
    x = problem(a, u).sample(1, torch.zeros((), dtype=torch.float64), g)[:, 0]
    reach = x.abs().max() * 1.001
    data = Transitions(
        u[:, None].float(),
        m,
        m,
        (x / reach).float(),
        torch.zeros(size.data),
        torch.zeros(size.data).bool(),
        m,
    )
    hyper = settings.with_changes(
        settings.hyper("maze"), dict(width=size.width[size.actions.index(a)]), "fidelity"
    )
    budget = settings.with_changes(
        settings.budget("toy", "maze"),
        dict(seeds=1, score_steps=size.steps, times_per_batch=64),
        "fidelity",
    )
    behavior = fit_behavior(data, hyper, budget, Streams([0]), NoStore())
    mean, scale = behavior.of_action.mean.double(), behavior.of_action.scale.double()
    return behavior, lambda law: law.rescaled(reach * mean, reach * scale)


def net_scores(behavior: ScoreBehavior, u: Tensor, precision: str) -> Callable[[slice], Callable]:
    cast = with_budget(behavior, precision=precision)
    return lambda block: cast.score(u[block].float()[None, :, None])


class DoubleScore:
    """One network's score in float64, for `rk45`."""

    def __init__(self, behavior: ScoreBehavior, u: Tensor):
        self.net = copy.deepcopy(behavior.net).double()
        self.state = self.net.of_state(behavior.of_state(u.float()[None, :, None]).double())

    def _inputs(self, x: Tensor, t: Tensor):
        return x.flatten(1, 2), self.state, self.net.embed_time(t.expand(1, 1))

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(*self._inputs(x, t)).view(x.shape) / SDE.marginal(t)[1]

    def jvp(self, x: Tensor, t: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        out, d_out = self.net.jvp(*self._inputs(x, t), tangents.movedim(0, 1).flatten(2, 3))
        sigma = SDE.marginal(t)[1]
        return out.view(x.shape) / sigma, d_out.movedim(1, 0).reshape(tangents.shape) / sigma


def rk45(
    score: Callable,
    x: Tensor,
    t: Tensor,
    tolerance: float = 1e-6,
    divergence=likelihood.exact_divergence,
) -> Tensor:
    return likelihood.log_prob_rk45(score, SDE, x, divergence, tolerance, tolerance, t.item())


def probing(x: Tensor, probes: int) -> Callable:
    if probes == 0:
        return likelihood.exact_divergence
    return likelihood.hutchinson_divergence(
        likelihood.rademacher(Streams([0]).fork("probes"), x, probes)
    )


def walk(
    score: Callable, x: Tensor, grid: str, evaluations: int, probes: int = 0, back: bool = False
) -> tuple[Tensor, Tensor]:
    """Samples and their log-densities from noise x, or (back) the log-densities of samples x."""
    times = (
        log_snr_grid(SDE, evaluations - 1, T_MIN_SAMPLE)
        if grid == "log_snr_grid"
        else power_grid(SDE, evaluations - 1, T_MIN_SAMPLE, p=DENSITY_GRID_POWER)
    )
    if back:
        return x, likelihood.log_prob_multistep(score, SDE, x, probing(x, probes), times)
    return likelihood.sample_with_log_prob(score, SDE, x, times, probing(x, probes))


def noise(size: Size, n: int, a: int) -> Tensor:
    return Streams([0]).fork("density", a).randn(size.states, n, a)


WALKS = [(grid, n) for grid in ("log_snr_grid", POWER) for n in (8, 16, 20, 32)]


def exact_samples(a: int, size: Size, u: Tensor, report: Callable) -> None:
    """Every setting is compared with fresh true samples, so that settings do not share the luck of
    one reference either.
    """
    law, g = problem(a, u), torch.Generator().manual_seed(a)

    def true(n: int = size.samples, t: Tensor = T_END) -> Tensor:
        return law.sample(n, t, g).float()

    reference = Reference(law, true(2 * size.samples), size.samples, size.splits)
    for name, t in (("truth", T_END), ("truth", T_END), ("truth at t = 0", 0 * T_END)):
        reference.take(true())
        report(dict(sampler=name), reference.judge(true(t=t)))
    for setting in EXACT:
        reference.take(true())
        report(
            setting.named(), reference.judge(draw(law.at, setting, size.states, size.samples, a))
        )


def exact_densities(a: int, size: Size, u: Tensor, report: Callable) -> None:
    law, x = problem(a, u), noise(size, size.densities, a)
    true = law.sample(size.densities, T_END, torch.Generator().manual_seed(a)).float()[None]

    def known(at: Tensor, t: Tensor = T_END) -> Tensor:
        return law.log_prob(at.double(), t)

    probed = [(POWER, 16, probes) for probes in (1, 2, 10) if a > 1]
    for grid, n, probes in [(*w, 0) for w in WALKS] + probed:
        sample, got = walk(law, x, grid, n, probes)
        report(
            dict(density="same_solve", grid=grid, evaluations=n, probes=probes),
            density_errors(got, known(sample), LOG_EPSILON),
        )
    for n in (16, 20, 32):
        report(
            dict(density="multistep", grid=POWER, evaluations=n, probes=0),
            density_errors(walk(law, true, POWER, n, back=True)[1], known(true), LOG_EPSILON),
        )
    few = true[:, :, : size.probed]
    for probes in (0, 10) if a > 1 else (0,):
        got = rk45(law, few, T_DENSITY, 1e-5, probing(few, probes))
        report(
            dict(density="rk45 at t = 1e-5", probes=probes),
            density_errors(got, known(few, T_DENSITY), LOG_EPSILON),
        )
    report(
        dict(density="truth at t = 1e-3, by truth at 1e-5"),
        density_errors(known(true), known(true, T_DENSITY), LOG_EPSILON),
    )


def network_samples(
    a: int, size: Size, u: Tensor, behavior: ScoreBehavior, law: Mixture, report: Callable
) -> None:
    """Solvers of the ODE are also compared (ode_) with the finest of them: a network's ODE and SDE
    need not have one law.
    """

    def drawn(setting: Setting) -> Tensor:
        return draw(
            net_scores(behavior, u, setting.precision), setting, size.states, size.samples, a
        )

    sde, ode = (
        Reference(law, drawn(setting), size.samples, size.splits)
        for setting in (REFERENCE, FINE_ODE)
    )
    report(dict(REFERENCE.named(), reference=True), sde.shares(sde.samples))
    report(dict(FINE_ODE.named(), reference=True), sde.judge(ode.samples))
    report(
        dict(sampler="truth"),
        sde.judge(law.sample(size.samples, T_END, torch.Generator().manual_seed(a)).float()),
    )
    # the released norms break at A <= 3 with exact scores already
    for setting in (s for s in NETWORK if a > 3 or s != RELEASED):
        x = drawn(setting)
        by_ode = (
            {f"ode_{k}": v for k, v in ode.distances(x).items()}
            if SAMPLERS[setting.sampler].deterministic
            else {}
        )
        report(setting.named(), sde.judge(x) | by_ode)


def network_densities(
    a: int, size: Size, u: Tensor, behavior: ScoreBehavior, report: Callable
) -> None:
    """Every walk is judged at its own samples; one RK45 in float64 serves them all."""
    x, exact = noise(size, size.references, a), DoubleScore(behavior, u)
    score = {p: net_scores(behavior, u, p)(slice(None)) for p in ("float32", "bfloat16")}
    walks = [(grid, n, "float32") for grid, n in WALKS] + [(POWER, 16, "bfloat16")]
    solved = {w: walk(score[w[2]], x, *w[:2]) for w in walks}
    points = torch.cat([sample for sample, _ in solved.values()], 2).double()
    known = dict(zip(walks, rk45(exact, points, T_END).split(size.references, 2)))
    for (grid, n, precision), reference in known.items():
        for probes in (0, 1, 2, 10) if a > 1 and (grid, n) == (POWER, 16) else (0,):
            got = (
                walk(score[precision], x, grid, n, probes)[1]
                if probes
                else solved[grid, n, precision][1]
            )
            report(
                dict(
                    density="same_solve",
                    grid=grid,
                    evaluations=n,
                    probes=probes,
                    precision=precision,
                ),
                density_errors(got, reference, LOG_EPSILON),
            )
    finest = (POWER, 32, "float32")
    sample, released = solved[finest][0], rk45(exact, solved[finest][0].double(), T_DENSITY)
    for n in (16, 20, 32):
        report(
            dict(density="multistep", grid=POWER, evaluations=n, probes=0),
            density_errors(
                walk(score["float32"], sample, POWER, n, back=True)[1], known[finest], LOG_EPSILON
            ),
        )
    for probes in (0, 10) if a > 1 else (0,):
        got = rk45(score["float32"], sample, T_DENSITY, 1e-5, probing(sample, probes))
        report(
            dict(density="rk45 at t = 1e-5", probes=probes),
            density_errors(got, released, LOG_EPSILON),
        )
    report(
        dict(density="reference at t = 1e-3, by that at 1e-5"),
        density_errors(known[finest], released, LOG_EPSILON),
    )


def job(kind: str, a: int, size: Size) -> list[dict]:
    """All settings of one kind of score at one number of actions, on one core: the jobs share the
    cores, not their threads.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    # per-sample norms at A <= 3 are what is measured
    warnings.filterwarnings("ignore", message="predictor_corrector")
    u, lines = torch.linspace(0, 1, size.states, dtype=torch.float64), []

    def report(setting: dict, found: dict) -> None:
        rounded = {k: float(f"{v:.4g}") if math.isfinite(v) else None for k, v in found.items()}
        lines.append(dict(score=kind, A=a) | setting | rounded)
        print(json.dumps(lines[-1]), flush=True)

    if kind == "exact":
        exact_samples(a, size, u, report)
        exact_densities(a, size, u, report)
    else:
        behavior, standardised = trained(a, size)
        network_samples(a, size, u, behavior, standardised(problem(a, u)), report)
        network_densities(a, size, u, behavior, report)
    return lines


def main(mode: str = "full") -> None:
    size, start = dict(full=Size(), quick=QUICK)[mode], time.monotonic()
    with ProcessPoolExecutor(torch.get_num_threads(), get_context("spawn")) as workers:
        # longest first
        jobs = {
            (kind, a): workers.submit(job, kind, a, size)
            for a in reversed(size.actions)
            for kind in ("network", "exact")
        }
        for done in tqdm(as_completed(jobs.values()), total=len(jobs), desc="fidelity", unit="job"):
            done.result()
    lines = [
        line
        for kind in ("exact", "network")
        for a in size.actions
        for line in jobs[kind, a].result()
    ]
    measured = dict(
        provenance(own=FILE),
        seconds=round(time.monotonic() - start),
        log_epsilon=LOG_EPSILON,
        unit="nats",
        size=vars(size),
        settings=lines,
    )
    if mode == "full":
        write_atomic(FILE, json.dumps(measured, indent=1).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
