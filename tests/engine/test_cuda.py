"""The same mathematics on a CUDA device: what it must share with the processor, and what its
replayed graphs must not change.

The device's random numbers are its own, so weights are compared on one device, and values of one
network across devices.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import chain, tiny

from arq_core.algorithm.behavior import fit_behavior, with_budget
from arq_core.algorithm.policies import fit_awr
from arq_core.algorithm.qlearning import fit_q, fit_q_beta
from arq_core.algorithm.support import sample_support
from arq_core.config import settings
from arq_core.engine import machine
from arq_core.engine import train as train_module
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore
from arq_core.engine.streams import Streams
from arq_core.experiments.episodes import evaluate
from arq_core.experiments.methods import METHODS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CUDA = "cuda"
SEEDS = (0, 1)


class Replayed(Streams):
    """Draws recorded numbers, so that two devices can be given the same."""

    def __init__(self, device):
        super().__init__(SEEDS, device)

    def _draw(self, sampler, *args, **kw):
        seeds = [torch.Generator().manual_seed(s) for s in self.seeds]
        return torch.stack([sampler(*args, generator=g, **kw) for g in seeds]).to(self.device)


def candidates(data, hyper, budget):
    rng = Streams(SEEDS, CUDA)
    behavior = fit_behavior(data, hyper, budget, rng, NoStore())
    return sample_support(behavior, data.states, hyper.n, rng, NoStore(), {})


def fits(data, hyper, budget):
    """Every kind of training, as a function of a store."""
    support, zero = (
        candidates(data, hyper, budget),
        torch.zeros(len(SEEDS), len(data.actions), device=CUDA),
    )

    def rng():
        return Streams(SEEDS, CUDA)

    every = [replace(budget, target_every=n) for n in (1, 4)]
    return {
        "behavior": lambda store: (
            fit_behavior(data, replace(hyper, score_schedule="cosine"), budget, rng(), store).net
        ),
        "q of each batch": lambda store: (
            fit_q(data, support, hyper, every[0], rng(), store, {}).net
        ),
        "q of kept values": lambda store: (
            fit_q(data, support, hyper, every[1], rng(), store, {}).net
        ),
        "q_beta": lambda store: fit_q_beta(data, hyper, budget, rng(), store).net,
        "policy": lambda store: fit_awr(data, zero, 1.0, hyper, budget, rng(), store, {}).head,
    }


KINDS = ("behavior", "q of each batch", "q of kept values", "q_beta", "policy")
TWENTY = dict(score_steps=20, q_steps=20, q_beta_steps=20, policy_steps=20)


def assert_same_weights(a, b, **tolerance):
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_graph_takes_the_steps_that_ordinary_ones_take(kind, monkeypatch):
    data, (h, b) = chain().to(CUDA), tiny(**TWENTY)
    fit = fits(data, h, b)[kind]
    graph = fit(NoStore())
    monkeypatch.setattr(train_module, "replayed", lambda one_step, rng: one_step)
    assert_same_weights(graph, fit(NoStore()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_two_trainings_are_equal_bit_for_bit(kind):
    data, (h, b) = chain().to(CUDA), tiny(**TWENTY)
    fit = fits(data, h, b)[kind]
    assert_same_weights(fit(NoStore()), fit(NoStore()), rtol=0, atol=0)


@pytest.mark.parametrize("stop", [2, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_training_resumes_before_and_after_its_graph(kind, stop, tmp_path, monkeypatch):
    """As on a processor: the weights of an uninterrupted run, bit for bit."""
    data, (h, b) = chain().to(CUDA), tiny(**TWENTY)
    fit = fits(data, h, b)[kind]
    straight = fit(NoStore())
    monkeypatch.setattr(train_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(train_module, "CHECKPOINT_LONGEST", 0)
    store = FileStore(tmp_path)
    save = store.save

    def interrupt(name, key, tensors):
        save(name, key, tensors)
        if name.endswith(".partial") and int(tensors["step"]) == stop:
            raise KeyboardInterrupt

    store.save = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(store)
    assert_same_weights(fit(FileStore(tmp_path)), straight, rtol=0, atol=0)


@pytest.mark.parametrize(
    "budget",
    [
        dict(density="same_solve", probes=0),
        dict(density="same_solve", probes=2),
        dict(density="multistep", probes=0),
        dict(density="rk45", probes=2, sampler="sde_dpmpp_2m"),
        dict(density="multistep", sampler="predictor_corrector_batch", sampler_steps=16),
    ],
)
def test_samples_and_densities_are_those_of_the_processor(budget):
    """One network, the same random numbers: float32 differs in its last digits only."""
    data, (h, b) = chain(), tiny(score_steps=200)
    on_cpu = with_budget(fit_behavior(data, h, b, Streams(SEEDS), NoStore()), **budget)
    moved = type(on_cpu.of_state)
    on_cuda = replace(
        on_cpu,
        net=on_cpu.net.to(CUDA),
        of_state=moved(*(x.to(CUDA) for x in vars(on_cpu.of_state).values())),
        of_action=moved(*(x.to(CUDA) for x in vars(on_cpu.of_action).values())),
    )
    there = on_cuda.sample_with_log_prob(
        data.states[:20].to(CUDA).expand(2, -1, -1), 5, Replayed(CUDA)
    )
    on_cpu.net.to("cpu")
    here = on_cpu.sample_with_log_prob(data.states[:20].expand(2, -1, -1), 5, Replayed("cpu"))
    for x, y, what in zip(here, there, ("actions", "log densities")):
        torch.testing.assert_close(
            y.cpu(), x, rtol=2e-3, atol=2e-3, msg=lambda text, what=what: f"{what}: {text}"
        )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_acts(method):
    data, (h, b) = chain().to(CUDA), tiny(**TWENTY)
    policy = METHODS[method](data, h, b, Streams(SEEDS, CUDA), NoStore()).policy
    policy.reset(7)
    actions = policy.act(data.states[:7].expand(2, -1, -1), Streams(SEEDS, CUDA))
    assert (
        actions.shape == (2, 7, 2)
        and actions.device.type == CUDA
        and bool((actions.abs() <= 1).all())
    )


class Walk:
    """States that the actions move, so that an episode feels every action before."""

    state_dim, action_dim, horizon = 3, 2, 12

    def reset(self, seeds):
        self.states = np.stack([np.random.default_rng(s).standard_normal(3) for s in seeds]).astype(
            np.float32
        )
        return self.states

    def step(self, actions):
        self.states = 0.9 * self.states + np.pad(actions, ((0, 0), (0, 1))).astype(np.float32)
        return (
            self.states,
            self.states.sum(1, dtype=np.float64),
            np.zeros(len(actions), bool),
            np.zeros(len(actions), bool),
        )


@pytest.mark.parametrize("method", ["s_psi", "arq+s_psi", "arq+s_psi unfiltered", "dt"])
@pytest.mark.parametrize(
    "budget",
    [
        dict(),
        dict(probes=0),
        dict(sampler="predictor_corrector_batch", density="multistep"),
        dict(density="rk45", sampler_steps=2),
    ],
    ids=lambda budget: "-".join(map(str, budget.values())) or "walk",
)
def test_episodes_are_the_same_replayed_or_launched_one_by_one(method, budget, monkeypatch):
    data, (h, b) = chain().to(CUDA), tiny(**TWENTY | budget)
    policy = METHODS[method](data, h, b, Streams(SEEDS, CUDA), NoStore()).policy
    replayed = evaluate(policy, Walk(), 5, Streams(SEEDS, CUDA), Walk.horizon)["return"]
    monkeypatch.setattr(type(policy), "replayable", False)
    ordinary = evaluate(policy, Walk(), 5, Streams(SEEDS, CUDA), Walk.horizon)["return"]
    np.testing.assert_allclose(replayed, ordinary, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_programs_compute_what_the_lines_do(precision, monkeypatch):
    """Trainings and a solve, compiled: the loss curves agree to the precision's digits."""
    data, (h, b) = (
        chain().to(CUDA),
        tiny(**TWENTY | dict(score_steps=100, q_steps=100), precision=precision),
    )
    h = settings.with_changes(h, dict(width=64), "test")
    plain = fit_behavior(data, h, b, Streams(SEEDS, CUDA), NoStore()), candidates(data, h, b)
    monkeypatch.setattr(machine, "PAYS_FROM_UNITS", 0)
    fast = fit_behavior(data, h, b, Streams(SEEDS, CUDA), NoStore()), candidates(data, h, b)
    torch.testing.assert_close(
        fast[0].loss, plain[0].loss, rtol=2e-2 if precision == "bfloat16" else 1e-3, atol=0
    )
    q_plain, q_fast = (
        fit_q(data, s, h, b, Streams(SEEDS, CUDA), NoStore(), {}) for s in (plain[1], fast[1])
    )
    torch.testing.assert_close(
        q_fast.loss, q_plain.loss, rtol=0.1 if precision == "bfloat16" else 1e-2, atol=0
    )
