"""A kept policy as one graph: an ONNX file for any runtime, or a file of torch.export's.

The graph is traced from the code that acts, with the sampler and the walk of the density unrolled.
What a policy draws are inputs beside the observation, so that a graph does the same each time:

    observation [n, S]      in the units of the environment
    normal_i, uniform_i,    standard normal numbers, numbers in [0, 1), and whole numbers below
    integer_i               what the card says, in the order in which they are drawn
    action [n, A]           in the units in which actions were recorded
    candidates [n, N, A]    of a policy that chooses among candidates by Eq. 6; same units
    probability [n, N]      with which each is chosen

Graphs compute in float32. Their card, a JSON text beside the graph, is that of the kept policy with
a list of the inputs.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from arq_core.algorithm.behavior import T_MIN_SAMPLE, NetScore, ScoreBehavior
from arq_core.algorithm.policies import ImplicitPolicy, implicit_probabilities
from arq_core.algorithm.samplers import SAMPLERS, make_grid
from arq_core.algorithm.types import Candidates, DataError, Policy, QFunction, States, in_support
from arq_core.baselines.dt import ReturnPolicy
from arq_core.baselines.ibc import EnergyPolicy
from arq_core.config.files import write_atomic
from arq_core.config.paths import given
from arq_core.engine.streams import Streams
from arq_core.experiments.kept import KeptPolicy, load

SUFFIXES = (".onnx", ".pt2")
CARD = "arq"  # the name of the card in a file's metadata
OPSET = 18
KINDS = {torch.randn: "normal", torch.rand: "uniform", torch.randint: "integer"}
# numbers of states by which the axis of states is found in what is drawn
ONE, OTHER = 3, 5
INSTALL = 'pip install -c constraints.txt -e ".[export]"'


class Known(Tensor):
    """A tensor whose numbers are known while a graph is traced. What is computed from such alone is
    computed at once; beside others a single number enters the graph as a constant."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if all(isinstance(x, Known) for x in tensors):
            with _disable_current_modes():
                return super().__torch_function__(func, types, args, kwargs)

        def plain(x: Any) -> Any:
            if not isinstance(x, Known):
                return x
            with _disable_current_modes(), torch._C.DisableTorchFunctionSubclass():
                return x.item() if x.ndim == 0 else x.as_subclass(Tensor)

        return func(*tree_map(plain, args), **tree_map(plain, kwargs))


class WholeScore(NetScore):
    """The same score, for all states in one pass: pieces would fix their number."""

    def _passes(self, f, t: Tensor, *x: Tensor) -> list[Tensor]:
        rows, *tangents = x
        of_members = lambda y: y.to(self.state.dtype).repeat_interleave(self.copies, 0)
        along = [of_members(v.movedim(0, 1)).flatten(2, 3) for v in tangents]
        got = f(self.net, of_members(rows).flatten(1, 2), self.state, self.embed_time(t), *along)
        out, *derived = got if isinstance(got, tuple) else (got,)
        b, n = rows.shape[1:3]
        derived = [y.movedim(1, 0).unflatten(2, (b, n)) for y in derived]
        return [out.unflatten(1, (b, n)), *derived]


class UnrolledBehavior(ScoreBehavior):
    """The same model, whose solves can be traced: their times are known. One that has acted
    remembers how its times are embedded; a trace uses these."""

    @cached_property
    def _times(self):
        b = self.budget
        sampled = make_grid(b.sampler, self.sde, b.sampler_steps, T_MIN_SAMPLE)
        return sampled.as_subclass(Known), super().density_grid().as_subclass(Known)

    def score(self, states: States) -> NetScore:
        """As the model's, for any number of states."""
        s = super().score(states)
        return WholeScore(s.net, s.sde, s.state, s.embed_time, s.copies, s.calls)

    @torch.no_grad()
    def sample(self, states: States, n: int, rng: Streams) -> Candidates:
        """As the model's."""
        x, solve = self._noise(states, n, rng), SAMPLERS[self.budget.sampler]
        return self.of_action.inverse(solve(self.score(states), self.sde, x, self._times[0], rng))

    def density_grid(self):
        """As the model's."""
        return self._times[1]


class Draws(Streams):
    """The streams of one seed that note what is drawn of them, or hand out what is `given`."""

    def __init__(self, seed: int = 0, given: Sequence[Tensor] | None = None):
        super().__init__([seed])
        self.given = None if given is None else list(given)
        self.kinds: list[tuple[str, int | None]] = []
        self.drawn: list[Tensor] = []

    def _draw(self, sampler, *args, **kw) -> Tensor:
        if self.given is not None:
            return self.given.pop(0)[None]
        if kw.get("dtype", torch.float32) != torch.float32:
            raise DataError(f"policy: saw it draw numbers of {kw['dtype']}, expected float32.")
        drawn = super()._draw(sampler, *args, **kw)
        self.kinds.append((KINDS[sampler], args[0] if sampler is torch.randint else None))
        self.drawn.append(drawn[0])
        return drawn


class Seen:
    """A behaviour and a critic that remember what they said last."""

    def __init__(self, behavior: Any, q: QFunction):
        self.inner, self.of, self.budget = behavior, q, getattr(behavior, "budget", None)

    def sample(self, states: States, n: int, rng: Streams) -> Candidates:
        """As the behaviour."""
        return self.inner.sample(states, n, rng)

    def sample_with_log_prob(self, states: States, n: int, rng: Streams, clip: bool = False):
        """As the behaviour."""
        candidates, self.density = self.inner.sample_with_log_prob(states, n, rng, clip)
        return candidates, self.density

    def log_prob(self, actions: Candidates, states: States, rng: Streams):
        """As the behaviour."""
        return self.inner.log_prob(actions, states, rng)

    def q(self, states: States, actions: Candidates):
        """As the critic."""
        self.candidates, self.values = actions, self.of(states, actions)
        return self.values


class Graph(nn.Module):
    """A policy as a function of observations [n, S] and of what it draws, without state."""

    def __init__(self, kept: KeptPolicy):
        super().__init__()
        self.policy = _traceable(kept.policy)
        sides = (np.asarray(side, np.float64) for side in (kept.box.low, kept.box.high))
        self.low, self.high = map(torch.from_numpy, sides)

    @torch.no_grad()
    def forward(self, observation: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        """(action, or action, candidates, probability)."""
        return self.acts(observation, Draws(given=noise))

    def acts(self, observation: Tensor, rng: Draws) -> tuple[Tensor, ...]:
        """The same with draws from `rng`."""
        states, policy = observation[None], self.policy
        if not isinstance(policy, ImplicitPolicy) or policy.q is None:
            return (self._recorded(policy.act(states, rng)[0]),)
        seen = Seen(policy.behavior, policy.q)
        action = replace(policy, behavior=seen, q=seen.q).act(states, rng)
        p = probabilities(policy, seen)
        return *(self._recorded(x[0]) for x in (action, seen.candidates)), p[0]

    def _recorded(self, actions: Tensor) -> Tensor:
        """From [-1, 1] to the box in which they were recorded (datasets.boxes.from_unit)."""
        return (self.low + (actions.double() + 1) / 2 * (self.high - self.low)).float()


def probabilities(policy: ImplicitPolicy, seen: Seen) -> Float[Tensor, "E B N"]:
    """Eq. 6 of the candidates that were seen: with which probability `policy` chooses each."""
    mask = torch.ones_like(seen.values, dtype=torch.bool)
    if policy.log_epsilon is not None:
        mask = in_support(seen.density, policy.log_epsilon)
        first = torch.arange(policy.n, device=mask.device) == 0
        mask = torch.where(mask.any(-1, keepdim=True), mask, first)
    return implicit_probabilities(seen.values, mask, policy.alpha, policy.logits)


def _traceable(policy: Policy) -> Policy:
    """The policy with a score model that can be traced; DataError for one that cannot be."""
    if isinstance(policy, ReturnPolicy):
        raise DataError(
            "policy: saw one with a memory of its episode, expected one that acts by the "
            "observation alone; use the kept policy itself (arq_core.load)."
        )
    if isinstance(policy, EnergyPolicy):
        raise DataError(
            "policy: saw one that climbs an energy by its gradient while it acts, expected one "
            "whose action is computed forwards; use the kept policy itself (arq_core.load)."
        )
    for name, part in vars(policy).items():
        if isinstance(part, ScoreBehavior):
            return replace(policy, **{name: _unrolled(part, policy)})  # type: ignore[type-var]
        inner = getattr(part, "behavior", None)
        if isinstance(inner, ScoreBehavior):
            again = replace(part, behavior=_unrolled(inner, policy))
            return replace(policy, **{name: again})  # type: ignore[type-var]
    return policy


def _unrolled(b: ScoreBehavior, policy: Policy) -> UnrolledBehavior:
    filtered = isinstance(policy, ImplicitPolicy) and policy.q and policy.log_epsilon is not None
    if filtered and b.budget.density == "rk45":
        raise DataError(
            "policy: saw densities by RK45, which chooses its steps while it runs, expected a walk "
            "of known times; keep the policy from a profile whose density is same_solve or "
            "multistep."
        )
    budget = replace(b.budget, precision="float32")
    return UnrolledBehavior(b.net, b.copies, b.of_state, b.of_action, budget, b.loss, b.sde)


@dataclass(frozen=True)
class Traced:
    """A graph, the names of its inputs and outputs, and the card that goes with it."""

    program: torch.export.ExportedProgram
    inputs: list[str]
    outputs: list[str]
    card: dict[str, Any]


def draws(kept: KeptPolicy, n: int, seed: int) -> list[np.ndarray]:
    """What `predict(observations [n, S], seed)` draws: the inputs of a graph after the
    observation."""
    rng = Draws(seed)
    with torch.no_grad():
        Graph(kept).acts(torch.zeros(n, kept.state_dim), rng)
    return [x.numpy() for x in rng.drawn]


def traced(kept: KeptPolicy) -> Traced:
    """The graph of a kept policy. DataError for one that cannot be a graph: with a memory, with an
    action found by gradients, or with densities by an adaptive solver."""
    graph = Graph(kept)
    found = {n: Draws() for n in (ONE, OTHER)}
    for n, rng in found.items():  # the score model remembers its times from here on
        with torch.no_grad():
            outputs = graph.acts(torch.zeros(n, kept.state_dim), rng)
    said, several = [], torch.export.Dim("n", min=1)
    shapes: list[dict] = [{0: several}]
    for (kind, below), a, b in zip(
        found[ONE].kinds, found[ONE].drawn, found[OTHER].drawn, strict=True
    ):
        each: dict[int, int] = {}  # of an axis: how many numbers a state takes along it
        for i, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)):
            if x != y:
                each[i] = x // ONE
                if (x, y) != (each[i] * ONE, each[i] * OTHER):
                    raise DataError(
                        f"policy: saw it draw {x} and {y} numbers for {ONE} and {OTHER} "
                        "observations, expected as many for each."
                    )
        shapes.append({i: several if k == 1 else k * several for i, k in each.items()})
        named = {i: "n" if k == 1 else f"{k}*n" for i, k in each.items()}
        shape = [named.get(i, x) for i, x in enumerate(a.shape)]
        more = {} if below is None else dict(below=below)
        said.append(dict(name=f"{kind}_{len(said)}", kind=kind, shape=shape, **more))
    names = ["action", "candidates", "probability"][: len(outputs)]
    card = {k: v for k, v in kept.card.items() if k != "probe"}
    low, high = kept.box.low, kept.box.high
    card |= dict(state_dim=kept.state_dim, draws=said, actions_in=dict(low=low, high=high))
    example = (torch.zeros(ONE, kept.state_dim), *found[ONE].drawn)
    drawn = [tuple(shapes[1:])] if said else []
    with _quietly(), torch.no_grad():
        program = torch.export.export(
            graph, example, dynamic_shapes=(shapes[0], *drawn), strict=False
        )
    return Traced(program, ["observation", *(x["name"] for x in said)], names, card)


@contextmanager
def _quietly():
    """Exporters warn of their own parts."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def export(policy: str | Path, out: str | Path) -> Path:
    """Write the graph of a kept policy: to a name in .onnx, or in .pt2 for torch.export.load.

    DataError for another suffix, for a policy that cannot be a graph (`traced`), and where the
    packages of ONNX are missing.
    """
    path = given(out)
    if path.suffix not in SUFFIXES:
        raise DataError(f"out: saw {path.name!r}, expected a name that ends in .onnx or .pt2.")
    if path.suffix == ".onnx":
        _check_onnx()
    return write(traced(load(policy)), path)


def write(made: Traced, path: Path) -> Path:
    """Write a graph in the form that the suffix says, with its card."""
    text, buffer = json.dumps(made.card, sort_keys=True), io.BytesIO()
    if path.suffix == ".pt2":
        torch.export.save(made.program, buffer, extra_files={f"{CARD}.json": text})
    else:
        buffer.write(_onnx(made, text))
    write_atomic(path, buffer.getvalue())
    return path


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"out: saw a name that ends in .onnx and no package {error.name!r}, expected .pt2; or "
            f"install what writes ONNX: {INSTALL}"
        ) from None


def _in_words_of_onnx(program: torch.export.ExportedProgram) -> None:
    """Write what onnxruntime does not know in words that it does: a choice between truth values,
    and a search in sorted numbers."""
    graph, aten = program.graph, torch.ops.aten

    def either(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (condition & a) | (~condition & b)

    def before(ordered: Tensor, x: Tensor) -> Tensor:
        return (ordered[..., None, :] < x[..., None]).sum(-1)

    def up_to(ordered: Tensor, x: Tensor) -> Tensor:
        return (ordered[..., None, :] <= x[..., None]).sum(-1)

    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target == aten.searchsorted.Tensor:
            words = up_to if node.kwargs.get("right") else before
        elif node.target == aten.where.self and node.meta["val"].dtype == torch.bool:
            words = either
        else:
            continue
        values = [x.meta["val"] for x in node.args]
        part = make_fx(words)(*values).graph
        with graph.inserting_before(node):
            taken = zip(part.find_nodes(op="placeholder"), node.args, strict=True)
            copied = graph.graph_copy(part, dict(taken))
        node.replace_all_uses_with(copied)
        graph.erase_node(node)
    program.graph_module.recompile()


def _onnx(made: Traced, card: str) -> bytes:
    from onnx_ir.passes.common import DeduplicateInitializersPass

    _in_words_of_onnx(made.program)
    with _quietly():
        program = torch.onnx.export(
            made.program,
            dynamo=True,
            input_names=made.inputs,
            output_names=made.outputs,
            opset_version=OPSET,
            optimize=False,  # runtimes do that
            verbose=False,
        )
    assert program is not None
    # each call of a network has brought its weights along
    DeduplicateInitializersPass(size_limit=sys.maxsize)(program.model)
    program.model.metadata_props[CARD] = card
    return program.model_proto.SerializeToString()
