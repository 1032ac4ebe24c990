"""What the grid consists of: the steps of a cell (task, method), and when they are done again.

    dataset -> behavior -> support -> q -> policy -> evaluate
           \\-> q_beta             (the behaviour's own value; not every method has every step)

The first five belong to a task and serve all its methods; policy and evaluate belong to a method.
All seeds are in one step. What a step comes after and depends on is declared here, field by field
of Hyper and Budget, and a test watches the training code read them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from arq_core.book import notebook as runner
from arq_core.config import own_methods, settings
from arq_core.config.files import sha256_of
from arq_core.config.hyper import NEIGHBOURS, Budget, Hyper
from arq_core.config.labels import columns
from arq_core.config.tasks import Task, task, tasks
from arq_core.results import records
from arq_core.results import rows as results

GRID = Path("_build/grid")  # below the root of the checkout
ORDER = ("dataset", "behavior", "support", "q", "q_beta", "policy", "evaluate")
NOTEBOOK = {step: f"notebooks/grid/{step}.ipynb" for step in ORDER}
TASK_COLUMNS = (
    "loader",
    "group",
    "cuts",
    "version",
    "sha256",
    "state_dim",
    "action_dim",
)  # of tasks.csv: what the data depend on
SCORE_COLUMNS = (
    "environment",
    "horizon",
    "termination",
    "score_min",
    "score_max",
)  # what an episode and its score depend on


@dataclass(frozen=True)
class Step:
    """What a step comes after, and the fields of Hyper and Budget that it reads itself.

    Those of earlier steps come with them.
    """

    after: tuple[str, ...] = ()
    hyper: tuple[str, ...] = ()
    budget: tuple[str, ...] = ()


SEEDS = ("seeds", "first_seed")
CRITIC = ("gamma", "batch", "polyak")
WARM = ("warm_start", "warm_start_lr")
ARQ = ("variant", "k", "log_epsilon", "q_lr", *CRITIC, *WARM)
SHARED = {
    "dataset": Step(hyper=("reward",), budget=("transitions",)),
    "behavior": Step(
        ("dataset",),
        ("ensemble", "width", "batch", "score_lr", "ema", "score_schedule", "time_power"),
        (*SEEDS, "score_steps", "times_per_batch", "precision"),
    ),
    "support": Step(
        ("behavior",), ("n",), ("sampler", "sampler_steps", "density", "probes", "precision")
    ),
    "q": Step(("support",), ARQ, ("q_steps", "target_every", "critic_precision")),
    "q_beta": Step(
        ("dataset",), ("q_beta_lr", *CRITIC, *WARM), (*SEEDS, "q_beta_steps", "critic_precision")
    ),
}
HEAD, HEAD_STEPS = ("head", "policy_lr", "batch"), (*SEEDS, "policy_steps", "precision")
PENALISED = Step(
    ("dataset",), ("dqp", "width", "q_lr", "policy_lr", *CRITIC), ("q_steps", *HEAD_STEPS)
)
EPISODES = ("episodes", "precision")


@dataclass(frozen=True)
class Method:
    """How a method of methods.METHODS goes on from the shared steps, one line a method.

    `policy` where it trains more, its evaluation, and what it `draws` from the score model at every
    step of an episode: "nothing", "one" action, or "n" candidates with their densities.
    """

    evaluate: Step
    policy: Step | None = None
    draws: str = "nothing"


def _scored(*after: str, hyper: tuple[str, ...] = ()) -> Step:
    return Step(after, hyper, EPISODES)


UNFILTERED = tuple(field for field in ARQ if field != "log_epsilon")
Q_STEPS = ("q_steps", "target_every", "critic_precision")
ROWS = ("none", "brac-kl", "brac-mmd", "td3+bc", "anti-exploration", "ploff", "mopo")
TRAINED_NEIGHBOURS = tuple(m for m in NEIGHBOURS if m != "idql")  # on the data alone


def _neighbour(name: str) -> Method:
    """A column of others, trained on the data alone; its settings say what it makes of rewards."""
    field = NEIGHBOURS[name]
    own = ("seeds", "first_seed", f"{field}_steps", "precision")
    return Method(_scored("policy"), Step(("dataset",), (field, "gamma"), own))


def _own() -> Method:
    """A method of the user's own: nothing is known of what it reads, so all of it counts."""
    hyper, budget = (tuple(f.name for f in fields(record)) for record in (Hyper, Budget))
    return Method(_scored("policy"), Step(("dataset",), hyper, budget))


METHODS = {
    "random": Method(Step(("dataset",), (), (*SEEDS, *EPISODES))),
    "bc": Method(_scored("policy"), Step(("dataset",), HEAD, HEAD_STEPS)),
    "unconstrained": Method(
        _scored("policy", hyper=("acting_n",)),
        Step(("dataset",), ("n", "variant", "q_lr", *CRITIC), (*SEEDS, *Q_STEPS)),
    ),
    "s_psi": Method(Step(("behavior",), (), ("sampler", "sampler_steps", *EPISODES)), draws="one"),
    "q_beta+s_psi": Method(
        _scored("support", "q_beta", hyper=("alpha_q_beta", "log_epsilon", "acting_n")), draws="n"
    ),
    "arq+pi": Method(_scored("policy"), Step(("q",), ("alpha_pi", *HEAD), HEAD_STEPS)),
    "arq+s_psi": Method(_scored("q", hyper=("alpha_arq", "acting_n")), draws="n"),
    "arq+s_psi unfiltered": Method(
        _scored("policy", hyper=("alpha_arq", "log_epsilon", "acting_n")),
        Step(("support",), UNFILTERED, Q_STEPS),
        draws="n",
    ),
    **{name: _neighbour(name) for name in TRAINED_NEIGHBOURS},
    "idql": Method(
        Step(("policy",), ("acting_n",), ("sampler", "sampler_steps", *EPISODES)),
        Step(("behavior",), ("idql", "gamma"), ("idql_steps", "precision")),
        draws="n",
    ),
    **{f"dqp {row}": Method(_scored("policy"), PENALISED) for row in ROWS},
    **{name: _own() for name in own_methods.installed()},
}
# what "all" stands for: every method with a column, and none of Table 1's rows
ALL = tuple(method for method in columns(own_methods.installed()) if method in METHODS)
SLUGS = {method.replace(" ", "-"): method for method in METHODS}


@dataclass(frozen=True)
class Cell:
    """One number of the table: a task and a method at a profile and variant, all seeds."""

    task: str
    method: str
    profile: str
    variant: str = "released"

    @property
    def job(self) -> str:
        """Name of its rows, without suffix (rows.file_name)."""
        return results.file_name(self.task, self.profile, self.method, self.variant).removesuffix(
            ".jsonl"
        )

    def steps(self) -> list[str]:
        """Its steps, in the order in which they can be done."""
        return [*before(self, "evaluate"), "evaluate"]


def step_of(name: str, method: str = "") -> Step:
    """The step of that name; policy and evaluate are the method's."""
    if name in SHARED:
        return SHARED[name]
    return getattr(METHODS[method], name)


def cells(
    tasks_of: Mapping[str, Sequence[str]], methods: Sequence[str], variant: str = "released"
) -> list[Cell]:
    """All cells of tasks x methods, where `tasks_of` has the tasks of each profile; an unknown name
    ends in an error that lists what comes near.
    """
    for profile in tasks_of:
        settings.pick("profile", profile, dict.fromkeys(settings.profiles()))
    task_names = [name for names in tasks_of.values() for name in names]
    if variant not in ("released", "paper"):
        raise settings.UnknownName(f"variant: saw {variant!r}, expected 'released' or 'paper'.")
    for kind, names, known in (("task", task_names, tasks()), ("method", methods, METHODS)):
        if not names or len(set(names)) < len(names):
            raise settings.UnknownName(
                f"{kind}s: saw {list(names)}, expected at least one, each once."
            )
        for name in names:
            if kind == "method":
                own_methods.refuse_wrong(name)
            settings.pick(kind, name, known)
    return [
        Cell(t, m, profile, variant)
        for profile, names in tasks_of.items()
        for t in names
        for m in methods
    ]


def folder(profile: str, variant: str) -> Path:
    return GRID / f"{profile}.{variant}"


def place(cell: Cell, step: str) -> Path:
    """Where a step's files lie, without suffix; shared steps once a task.

    .json is the receipt, .ipynb the executed notebook; .log and .error.json lie beside them.
    """
    base = folder(cell.profile, cell.variant) / cell.task
    return base / step if step in SHARED else base / cell.method.replace(" ", "-") / step


def rows(cell: Cell) -> Path:
    """The rows of a finished cell; its provenance lies beside them as .run.json."""
    return folder(cell.profile, cell.variant) / "rows" / f"{cell.job}.jsonl"


def done(cell: Cell, step: str) -> Path:
    """The file that is there when a step is done."""
    return rows(cell) if step == "evaluate" else Path(f"{place(cell, step)}.json")


def notebook(cell: Cell, step: str) -> Path:
    """A step's executed notebook."""
    return Path(f"{place(cell, step)}.ipynb")


def files(cell: Cell) -> list[Path]:
    """What is published of a finished cell: rows, their provenance, its executed notebooks."""
    return [
        rows(cell),
        records.run_path(rows(cell)),
        *(notebook(cell, step) for step in cell.steps()),
    ]


def finished(root: Path, cell: Cell) -> bool:
    return all((root / path).exists() for path in files(cell))


def evidence(cell: Cell, step: str) -> str:
    """Where a step's executed notebook is kept beside the results, relative to them."""
    variant = "" if cell.variant == "released" else f".{cell.variant}"
    own = "" if step in SHARED else f"{cell.method.replace(' ', '-')}."
    return f"evidence/{cell.task}.{cell.profile}{variant}/{own}{step}.ipynb"


def before(cell: Cell, step: str) -> list[str]:
    """All steps that a step needs, at whatever distance, in order."""
    found: set[str] = set()
    todo = list(step_of(step, cell.method).after)
    while todo:
        found.add(name := todo.pop())
        todo += step_of(name, cell.method).after
    return [name for name in ORDER if name in found]


def job(cell: Cell, step: str, seeds: Sequence[int] = ()) -> dict:
    """What grid.job is told: the notebook, its parameters, its files.

    The parameters say the seeds ([]: the profile's), the receipts of the steps before it, and where
    its own goes.
    """
    earlier = before(cell, step)
    given = dict(
        task=cell.task,
        profile=cell.profile,
        variant=cell.variant,
        seeds=list(seeds),
        receipts=[str(done(cell, s)) for s in earlier],
    )
    given |= {} if step in SHARED else dict(method=cell.method)
    given |= (
        dict(rows=str(done(cell, step)), notebooks={s: evidence(cell, s) for s in [*earlier, step]})
        if step == "evaluate"
        else dict(receipt=str(done(cell, step)))
    )
    return dict(
        step=step,
        notebook=NOTEBOOK[step],
        place=str(place(cell, step)),
        method="" if step in SHARED else cell.method,
        parameters=given,
    )


@functools.cache
def _values(group: str, profile: str, variant: str, environment: str) -> tuple[dict, dict]:
    hyper = replace(settings.hyper(group, profile, environment), variant=variant)
    return vars(hyper), vars(settings.budget(profile, group))


@functools.cache
def _task(name: str) -> Task:
    return task(name)


@functools.cache
def code_of(notebook: Path) -> str:
    """SHA-256 of what a notebook's code does: prose, comments and layout do not count."""
    return hashlib.sha256(
        "\n".join(ast.dump(ast.parse(cell)) for cell in runner.code_cells(notebook)).encode()
    ).hexdigest()[:16]


@functools.cache
def depends(root: Path, cell: Cell, step: str, recipe: int, seeds: tuple[int, ...] = ()) -> str:
    """Everything that a step itself depends on, as JSON.

    When this text changes, the step and all after it are done again.

    `recipe` is settings.STEP_RECIPE (for evaluate: EVALUATION_RECIPE), which is raised when code
    changes what a step computes.
    """
    row, what = _task(cell.task), step_of(step, cell.method)
    hyper, budget = _values(row.group, cell.profile, cell.variant, row.environment)
    said = dict(
        recipe=recipe,
        code=code_of(root / NOTEBOOK[step]),
        hyper={f: hyper[f] for f in what.hyper},
        budget={f: budget[f] for f in what.budget},
    )
    if "seeds" in what.budget and seeds:
        said["budget"] |= dict(seeds=list(seeds))
    if step == "policy" and cell.method in own_methods.installed():
        said["code of the method"] = own_methods.version(cell.method)
    if step == "dataset":
        card = root / "data/cards" / f"{cell.task}.json"
        said["card"] = sha256_of(card)[:16] if card.is_file() else ""
    columns = {"dataset": TASK_COLUMNS, "evaluate": SCORE_COLUMNS}.get(step, ())
    return json.dumps(said | {c: getattr(row, c) for c in columns}, sort_keys=True, default=dict)
