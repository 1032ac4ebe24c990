"""What the paper's constants do when the number of actions A changes: three findings, each with its
closed form and error bars over seeds.

    python benchmarks/findings.py [quick]

langevin    the released per-sample Langevin step against batch norms, no corrector,
    DPM-Solver++(2M) and two kinds of repair. Scores are exact, so
            that only the sampler errs. Off support is what has a lower density than 1 in 10,000
                true samples.
epsilon     the share of behaviour above e^-5, and what a quantile or a per-dimension epsilon does
    instead: closed form, drawn, and by trained networks.
divergence  log-densities by Hutchinson's estimate against the exact divergence, on the same walk at
    the same points.
Laws: a standard normal, and fidelity.py's mixtures of a sharp, a middle and a cut-off wide normal.
    An error is the standard error of the mean
over seeds. A seed is fresh noise and fresh true samples and, for a network, its initial weights and
    its batches; networks share one dataset, and
there is one mixture for each A: errors do not cover other laws. Where a law has no mean (distances
    and stds of the released step at A = 1) or no
variance (1/|s|^2 up to A = 4), the error is that of these samples only and says nothing of the
    next: read the medians and shares.
Runs on one thread; parts that are done are kept in data/cache/findings until the run is over, so
    that an interrupted one goes on. Writes
data/benchmarks/findings.json; `quick` is a small run that writes nothing.
"""

import hashlib
import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fidelity
import torch
from fidelity import SDE, T_END
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.behavior import (
    DENSITY_GRID_POWER,
    T_MIN_SAMPLE,
    ScoreBehavior,
    fit_behavior,
)
from arq_core.algorithm.likelihood import (
    exact_divergence,
    hutchinson_divergence,
    rademacher,
    sample_with_log_prob,
)
from arq_core.algorithm.samplers import (
    SAMPLERS,
    Sampler,
    langevin_step_size,
    make_grid,
    reverse_mean,
    steps,
)
from arq_core.algorithm.sde import power_grid, uniform_grid
from arq_core.algorithm.types import Transitions
from arq_core.config import settings
from arq_core.config.files import write_atomic
from arq_core.config.paths import DATA
from arq_core.densities.distances import density_errors, distance, split_distances
from arq_core.densities.mixture import Mixture
from arq_core.densities.normal import normal_entropy, normal_share, quantile_log_epsilon
from arq_core.engine.filestore import FileStore
from arq_core.engine.machine import keep_freed_memory
from arq_core.engine.store import NoStore, Store
from arq_core.engine.streams import Streams
from arq_core.results.provenance import provenance

FILE = DATA / "benchmarks/findings.json"

# the paper's epsilon; the released code's ratio of signal to noise
LOG_EPSILON, SNR = -5.0, 0.16
OFF_SUPPORT = 1e-4  # share of true samples that counts as off support
KEPT = 0.95  # share that a quantile epsilon keeps
# of DPM-Solver++(2M), as for the full profiles; of a walk with density, as for our own problems
EVALUATIONS, WALK = 20, 16
NEVER = -1e3  # a cut that cuts nothing off
PARTS = DATA / "cache" / "findings"


@dataclass(frozen=True)
class Size:
    seeds: int = 10  # of the Langevin part and of drawn shares
    actions: tuple = (1, 2, 3, 4, 6, 8, 12, 24)  # of the Langevin part
    samples: int = 800  # per seed and state
    steps: int = 500  # of predictor-corrector and Euler-Maruyama
    true: int = 500_000  # samples behind the quantile of off support
    norms: int = 100_000  # per seed, for the mean of a step
    # seeds of probes, and of networks trained on mixtures
    members: int = 5
    normal_members: int = 3  # of networks trained on normals
    networks: tuple = (1, 2, 3, 6, 12, 24, 28)  # numbers of actions of the last two parts
    states: int = 20  # of the mixtures, for networks and probes
    points: int = 100  # per state and seed
    candidates: int = 250  # per state and seed, for shares
    probes: tuple = (1, 2, 10, 100)
    data: int = 40_000  # transitions that networks are trained on
    training: int = 3000  # steps
    width: int = 48


QUICK = Size(
    seeds=3,
    actions=(1, 3),
    samples=200,
    steps=60,
    true=20_000,
    norms=5000,
    members=2,
    normal_members=2,
    networks=(1, 3),
    states=3,
    points=20,
    candidates=40,
    probes=(1, 10),
    data=4000,
    training=200,
    width=24,
)


def normal(a: int, u: Tensor) -> Mixture:
    """N(0, I) at every state u."""
    return widths(torch.ones_like(u), a)


def widths(width: Tensor, a: int) -> Mixture:
    """N(0, width^2 I), a width for each state."""
    zero = torch.zeros(len(width), 1, dtype=torch.float64)
    return Mixture(
        SDE,
        zero,
        zero[..., None].expand(-1, -1, a),
        width[:, None, None].expand(-1, -1, a),
        torch.full_like(width, NEVER),
    )


LAWS = {"normal": normal, "mixture": fidelity.problem}


def over_seeds(values: Tensor) -> dict[str, float] | None:
    """Mean over seeds and its standard error, four digits; None where it is undefined for a seed
    (nan).
    """
    values = values.double()
    if values.isnan().any():
        return None
    return {
        name: float(f"{v.item():.4g}")
        for name, v in dict(mean=values.mean(), error=values.std() / len(values) ** 0.5).items()
    }


# ---- the Langevin step


def mean_squared_ratio(dim: int) -> float:
    """E[|z|^2 / |s|^2] for the score s of N(0, I) and independent noise z: A E[1/chi^2_A] = A/(A -
    2), infinite for A <= 2.
    """
    return dim / (dim - 2) if dim > 2 else math.inf


def noise_excess(dim: int) -> float:
    """How much a step in proportion to |z|^2 inflates the noise sqrt(2 step) z, against a step of
    the same mean: E[|z|^2 z_i^2] / A = (A + 2)/A.
    """
    return (dim + 2) / dim


def jump_share(radius: float, dim: int, snr: float) -> float:
    """P(|x'| > radius) after one released step from x ~ N(0, I), for a large radius: it falls as
    radius^-A only.

    Near x = 0 the step throws x' to 2 snr |z|^2 / |x| times |direction of z - snr direction of x|,
    and P(|x| < r) = r^A / (2^(A/2) Gamma(A/2 + 1)). E[|z|^(2A)] = 2^A Gamma(3A/2) / Gamma(A/2); the
    last factor's A-th moment is 1 + (A - 1) snr^2 to second order. Derived here, no source.
    """
    moment = dim * math.log(2) + math.lgamma(1.5 * dim) - math.lgamma(dim / 2)
    ball = -dim / 2 * math.log(2) - math.lgamma(dim / 2 + 1)
    return math.exp(ball + moment + dim * math.log(2 * snr / radius)) * (1 + (dim - 1) * snr**2)


def released(score: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    return langevin_step_size(score, z, SNR, "sample")


def expected_score_norm(score: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    """|s| replaced by sqrt(A) / sigma, its value at a point mass: E|s|^2 <= A / sigma^2 for all
    data, so that the step errs to the small side.
    """
    return 2 * (SNR * sigma * z.norm(dim=-1, keepdim=True)) ** 2 / z.shape[-1]


def expected_norms(score: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    """|z| replaced by sqrt(A), too: 2 (snr sigma)^2 for every sample."""
    return (2 * (SNR * sigma) ** 2).expand(*z.shape[:-1], 1).to(z)


def clipped(score: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    """The released step, at most sigma^2: no curvature of log p_t exceeds 1/sigma^2, so that a step
    then overshoots no peak.
    """
    return released(score, z, sigma).clamp(max=sigma**2)


@torch.no_grad()
def corrected(score: Callable, sde, x: Tensor, times: Tensor, rng, step_size: Callable) -> Tensor:
    """samplers.predictor_corrector with its step size left open: step_size(score, z, sigma)."""
    for t_model, t, t_next in steps(times, x):
        s, z = score(x, t_model), rng.randn_like(x)
        step = step_size(s, z, sde.marginal(t)[1])
        x = x + step * s + (2 * step).sqrt() * z
        mean = reverse_mean(score(x, t_model), sde, x, t, t - t_next)
        x = mean + sde.diffusion(t) * (t - t_next).sqrt() * rng.randn_like(x)
    return mean


REPAIRS = {
    f.__name__: Sampler(partial(corrected, step_size=f), uniform_grid, 2)
    for f in (expected_score_norm, expected_norms, clipped)
}
COMPARED = {
    k: SAMPLERS[k]
    for k in ("predictor_corrector", "predictor_corrector_batch", "euler_maruyama", "dpmpp_2m")
} | REPAIRS


def times_of(name: str, size: Size) -> Tensor:
    if name == "dpmpp_2m":
        return make_grid(name, SDE, EVALUATIONS, T_MIN_SAMPLE)
    return uniform_grid(SDE, size.steps, T_MIN_SAMPLE)


def solved(name: str, law: Mixture, rng: Streams, size: Size, n: int) -> Tensor:
    """[E, S, n, A]; every state is a batch of its own."""
    a, drawn = law.mean.shape[-1], []
    for s in range(len(law.cut)):
        own = rng.fork(name, s)
        drawn.append(
            COMPARED[name](
                law.at(slice(s, s + 1)), SDE, own.randn(1, n, a), times_of(name, size), own
            )
        )
    return torch.cat(drawn, 1)


def true_samples(law: Mixture, seed: object, n: int) -> Tensor:
    return law.sample(
        n, T_END, torch.Generator().manual_seed(Streams([0]).fork(seed).seeds[0])
    ).float()


def lowest_log_prob(law: Mixture, count: int) -> Tensor:
    """The log-density that a share OFF_SUPPORT of true samples is below, at each state [S, 1]."""
    blocks = [
        law.log_prob(true_samples(law, ("quantile", i), min(count, 20_000)).double(), T_END)
        for i in range(max(1, count // 20_000))
    ]
    return torch.cat(blocks, 1).sort(1).values[:, int(OFF_SUPPORT * count), None]


def langevin_samples(law_name: str, a: int, size: Size) -> Iterable[dict]:
    """Each sampler's share off support and below epsilon, and its distance from true samples in
    units of that between two true samples.
    """
    u = (
        torch.zeros(1, dtype=torch.float64)
        if law_name == "normal"
        else torch.linspace(0.25, 0.75, 2, dtype=torch.float64)
    )
    law, rng, n = LAWS[law_name](a, u), Streams(range(size.seeds)), size.samples
    lowest, g = lowest_log_prob(law, size.true), torch.Generator().manual_seed(0)
    unit = torch.stack(
        [split_distances(pool, 64, g).mean() for pool in true_samples(law, "null", 2 * n)]
    )
    for name in ("truth", *COMPARED):
        x = (
            torch.stack([true_samples(law, (e, "samples"), n) for e in range(size.seeds)])
            if name == "truth"
            else solved(name, law, rng, size, n)
        )
        finite = torch.isfinite(x).all(-1)
        log_prob = law.log_prob(torch.where(finite[..., None], x, 1e6).double(), T_END)
        ratio = torch.stack(
            [
                torch.tensor(
                    [
                        distance(p[ok], y[ok], None)
                        for p, ok, y in zip(x[e], finite[e], true_samples(law, (e, name), n))
                    ]
                )
                / unit
                for e in range(size.seeds)
            ]
        )
        yield dict(
            law=law_name,
            A=a,
            sampler=name,
            off_support=over_seeds((log_prob < lowest).double().mean((1, 2))),
            below_epsilon=over_seeds((log_prob < LOG_EPSILON).double().mean((1, 2))),
            ratio=over_seeds(ratio.mean(1)),
            ratio_median=float(f"{ratio.mean(1).median().item():.4g}"),
            not_finite=(~finite).double().mean().item(),
        )


def langevin_norms(a: int, size: Size) -> Iterable[dict]:
    """E[|z|^2 / |s|^2] in closed form and as a mean that grows with its number of samples where
    there is no mean; one step from N(0, I).
    """
    rng = Streams(range(size.seeds)).fork("norms", a)
    x, z = (
        rng.randn(size.norms, a, dtype=torch.float64),
        rng.randn(size.norms, a, dtype=torch.float64),
    )
    ratio = z.square().sum(-1) / x.square().sum(-1)
    step = released(-x, z, torch.ones((), dtype=torch.float64))
    after = (x - step * x + (2 * step).sqrt() * z).norm(dim=-1)
    radius, far = (
        (-2 * quantile_log_epsilon(1 - OFF_SUPPORT, a, 1.0) - a * math.log(2 * math.pi)) ** 0.5,
        20.0,
    )
    closed = mean_squared_ratio(a)
    yield dict(
        A=a,
        closed=closed if math.isfinite(closed) else None,
        noise_excess=noise_excess(a),
        mean=over_seeds(ratio.mean(1)),
        first={
            n: over_seeds(ratio[:, :n].mean(1))
            for n in (100, 1000, 10_000, 100_000)
            if n <= size.norms
        },
        largest=over_seeds(ratio.amax(1)),
        off_after_one_step=over_seeds((after > radius).double().mean(1)),
        beyond_20=over_seeds((after > far).double().mean(1)),
        beyond_20_closed=float(f"{jump_share(far, a, SNR):.4g}"),
    )


def langevin_coupling(a: int, size: Size) -> Iterable[dict]:
    """The std of samples at a state of std 0.05, alone or in one batch with 15 states of std 1."""
    width, n = torch.tensor([0.05] + 15 * [1.0], dtype=torch.float64), size.samples // 5
    law, alpha, sigma = widths(width, a), *SDE.marginal(T_END)
    for name in (
        "predictor_corrector",
        "predictor_corrector_batch",
        "euler_maruyama",
        "expected_norms",
    ):
        for states in (1, len(width)):
            rng = Streams(range(size.seeds)).fork("coupling", name, states)
            x = COMPARED[name](
                law.at(slice(states)), SDE, rng.randn(states, n, a), times_of(name, size), rng
            )[:, 0]
            yield dict(
                A=a,
                sampler=name,
                states=states,
                true=((alpha * 0.05) ** 2 + sigma**2).sqrt().item(),
                std=over_seeds(x.square().mean((1, 2)).sqrt()),
                std_median=over_seeds(x.abs().flatten(1).median(1).values / 0.67449),
            )


# ---- epsilon against the number of actions


def epsilon_normal(a: int, size: Size) -> Iterable[dict]:
    """Shares of normals of four widths above e^-5 and above e^-5A: closed form, and drawn; the log
    epsilon that keeps KEPT.
    """
    x = Streams(range(size.seeds)).fork("epsilon", a).randn(size.norms, a, dtype=torch.float64)
    for width in (1.0, 0.5, 0.2, 0.05):
        log_prob = SDE.prior_log_prob(x) - a * math.log(width)
        yield dict(
            A=a,
            width=width,
            entropy=normal_entropy(width),
            share=normal_share(LOG_EPSILON, a, width),
            drawn=over_seeds((log_prob >= LOG_EPSILON).double().mean(1)),
            share_per_dimension=normal_share(LOG_EPSILON * a, a, width),
            drawn_per_dimension=over_seeds((log_prob >= LOG_EPSILON * a).double().mean(1)),
            quantile_log_epsilon=quantile_log_epsilon(KEPT, a, width),
        )


def trained(
    law_name: str, a: int, size: Size, store: Store
) -> tuple[ScoreBehavior, Tensor, Mixture]:
    """Networks of some seeds trained on one dataset of the law, states [E, S, 1], and the law of
    the standardised actions there.
    """
    g, members = (
        torch.Generator().manual_seed(100 + a),
        dict(normal=size.normal_members, mixture=size.members)[law_name],
    )
    u, m = torch.rand(size.data, generator=g, dtype=torch.float64), torch.arange(size.data)
    x = LAWS[law_name](a, u).sample(1, torch.zeros((), dtype=torch.float64), g)[:, 0]
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
    hyper = settings.with_changes(settings.hyper("maze"), dict(width=size.width), "findings")
    budget = settings.with_changes(
        settings.budget("toy", "maze"),
        dict(
            seeds=members,
            score_steps=size.training,
            times_per_batch=64,
            sampler_steps=WALK,
            probes=0,
        ),
        "findings",
    )
    behavior = fit_behavior(data, hyper, budget, Streams(range(members)), store)
    at = torch.linspace(0, 1, size.states, dtype=torch.float64)
    mean, scale = behavior.of_action.mean.double(), behavior.of_action.scale.double()
    return (
        behavior,
        at.float()[:, None].expand(members, -1, -1),
        LAWS[law_name](a, at).rescaled(reach * mean, reach * scale),
    )


def shares(log_prob: Tensor, off: Tensor, a: int) -> dict[str, dict]:
    """For three rules: the share kept, the share of what is on support that is dropped, and of what
    is off support that is kept (by seed; None where a seed has nothing off support).
    """
    quantile = log_prob.flatten(1).quantile(1 - KEPT, dim=1)[:, None, None]
    found = {}
    for rule, log_epsilon in dict(
        density=LOG_EPSILON, quantile=quantile, per_dimension=LOG_EPSILON * a
    ).items():
        kept, on = log_prob >= log_epsilon, ~off
        found[rule] = dict(
            kept=over_seeds(kept.double().mean((1, 2))),
            dropped_on_support=over_seeds((on & ~kept).sum((1, 2)) / on.sum((1, 2))),
            kept_off_support=over_seeds((off & kept).sum((1, 2)) / off.sum((1, 2))),
            empty_states=over_seeds((~kept.any(2)).double().mean(1)),
        )
    return found | dict(quantile_log_epsilon=over_seeds(quantile.flatten()))


def epsilon_trained(law_name: str, a: int, size: Size, store: Store) -> Iterable[dict]:
    """The rules for candidates of trained networks, by their own densities, and for true samples by
    the true one.
    """
    behavior, states, law = trained(law_name, a, size, store)
    rng = Streams(range(len(states))).fork("candidates")
    actions, log_prob = behavior.sample_with_log_prob(states, size.candidates, rng)
    true = torch.stack(
        [true_samples(law, (e, "candidates"), size.candidates) for e in range(len(states))]
    ).double()
    for source, x, density in (
        ("network", behavior.of_action(actions).double(), log_prob.double()),
        ("truth", true, law.log_prob(true, T_END)),
    ):
        off = law.off_support(x, T_END)
        yield dict(
            law=law_name, A=a, source=source, off=over_seeds(off.double().mean((1, 2)))
        ) | shares(density, off, a)


# ---- the divergence


def divergence(kind: str, a: int, size: Size, store: Store) -> Iterable[dict]:
    """Hutchinson's log-densities against the exact ones of the same points: errors in nats, and
    decisions that change.
    """
    if kind == "network":
        behavior, states, _ = trained("mixture", a, size, store)
        score, law = behavior.score(states), None
    else:
        score = law = fidelity.problem(a, torch.linspace(0, 1, size.states, dtype=torch.float64))
    rng = Streams(range(size.members)).fork("divergence", a)
    x, times = (
        rng.randn(size.states, size.points, a),
        power_grid(SDE, WALK - 1, T_MIN_SAMPLE, p=DENSITY_GRID_POWER),
    )
    with torch.no_grad():
        sample, exact = sample_with_log_prob(score, SDE, x, times, exact_divergence)
    thresholds = dict(
        flips=torch.tensor(LOG_EPSILON),
        flips_quantile=exact.flatten(1).quantile(1 - KEPT, dim=1)[:, None, None],
    )
    kept = over_seeds((exact >= LOG_EPSILON).double().mean((1, 2)))
    if law is not None:
        known = law.log_prob(sample.double(), T_END)
        yield compared(kind, a, 0, exact, known, thresholds) | dict(kept=kept, tangents=a)
    else:
        yield dict(score=kind, A=a, probes=0, kept=kept, tangents=a)
    for probes in sorted({*size.probes, a}):
        with torch.no_grad():
            _, got = sample_with_log_prob(
                score,
                SDE,
                x,
                times,
                hutchinson_divergence(rademacher(rng.fork("probes", probes), x, probes)),
            )
        yield compared(kind, a, probes, got, exact, thresholds) | dict(tangents=probes)


def compared(
    kind: str, a: int, probes: int, got: Tensor, reference: Tensor, thresholds: dict[str, Tensor]
) -> dict:
    """probes = 0 is the exact divergence, against the closed form; else Hutchinson's, against the
    exact one.
    """
    by_seed = [density_errors(g, r.double(), -math.inf) for g, r in zip(got, reference)]
    errors = {
        k: over_seeds(torch.tensor([e[k] for e in by_seed])) for k in ("mean_abs", "bias", "p95")
    }
    return (
        dict(score=kind, A=a, probes=probes)
        | errors
        | {
            name: over_seeds(((got >= t) != (reference >= t)).double().mean((1, 2)))
            for name, t in thresholds.items()
        }
    )


# ---- the run


def parts(size: Size, store: Store) -> dict[str, dict[tuple, Callable[[], Iterable[dict]]]]:
    """Every part of every table of the file: independent of the others, and of their order."""
    return {
        "langevin_norms": {(a,): partial(langevin_norms, a, size) for a in size.actions},
        "langevin_samples": {
            (law, a): partial(langevin_samples, law, a, size) for law in LAWS for a in size.actions
        },
        "langevin_coupling": {
            (a,): partial(langevin_coupling, a, size) for a in (1, 3, 8) if a in size.actions
        },
        "epsilon_normal": {
            (a,): partial(epsilon_normal, a, size) for a in range(1, max(size.networks) + 1)
        },
        "epsilon_trained": {
            (law, a): partial(epsilon_trained, law, a, size, store)
            for law in LAWS
            for a in size.networks
            if law == "mixture" or a < 28
        },
        "divergence": {
            (kind, a): partial(divergence, kind, a, size, store)
            for kind in ("exact", "network")
            for a in size.networks
        },
    }


def kept_part(
    folder: Path | None, name: str, key: tuple, compute: Callable[[], Iterable[dict]], size: Size
) -> tuple[list[dict], float]:
    """The lines of a part and the seconds they took, from the folder if they are there.

    Another size or another source is another part.
    """
    source = b"".join(Path(f).read_bytes() for f in (__file__, fidelity.__file__))
    digest = hashlib.sha256(source + repr((name, key, size)).encode()).hexdigest()[:16]
    path = folder and folder / f"{name}-{digest}.json"
    if path and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    start = time.monotonic()
    found = list(compute()), time.monotonic() - start
    if path:
        write_atomic(path, json.dumps(found).encode())
    return found


def main(mode: str = "full") -> None:
    size, folder = dict(full=(Size(), PARTS), quick=(QUICK, None))[mode]
    torch.set_num_threads(1)
    keep_freed_memory()
    # per-sample norms at A <= 3 are what is measured
    warnings.filterwarnings("ignore", message="predictor_corrector")
    tables, seconds = {}, 0.0
    jobs = parts(size, FileStore(folder) if folder else NoStore())
    with tqdm(total=sum(map(len, jobs.values())), desc="findings", unit="part") as bar:
        for name, some in jobs.items():
            tables[name] = []
            for key, compute in some.items():
                bar.set_postfix_str(f"{name} {key}")
                lines, took = kept_part(folder, name, key, compute, size)
                tables[name], seconds = tables[name] + lines, seconds + took
                bar.update()
    measured = dict(
        provenance(own=FILE),
        seconds=round(seconds),
        log_epsilon=LOG_EPSILON,
        unit="nats",
        snr=SNR,
        off_support=OFF_SUPPORT,
        kept=KEPT,
        evaluations=EVALUATIONS,
        walk=WALK,
        size=vars(size),
        **tables,
    )
    text = json.dumps(measured, indent=1, allow_nan=False)
    if mode == "full":
        write_atomic(FILE, text.encode())
        shutil.rmtree(folder)
    else:
        print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
