"""Hyperparameters and budgets from `data/*.toml`: a `Hyper` by group, a `Budget` by profile.

Unknown names end in one clear error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from arq_core.config.files import read_settings
from arq_core.config.hyper import NEIGHBOURS, RECIPE, Budget, Hyper
from arq_core.config.paths import DATA

# raise it when a constant or formula of a training step changes: finished steps are then computed
# again
STEP_RECIPE = 4
# likewise for episodes, their simulators and scores: the grid then runs them again
EVALUATION_RECIPE = 2
SMOKE_TEST = "smoke_test"  # of profiles.toml: see `smoke_test`
RECIPE_OF = "recipe"  # of profiles.toml: see `recipe`
# of profiles.toml: steps of all neighbours that the same section does not name by themselves
NEIGHBOUR_STEPS = "neighbour_steps"


class UnknownName(ValueError):
    """A task, method, profile, group or parameter that does not exist.

    The message lists those that do.
    """


def pick(kind: str, name: str, known) -> Any:
    """known[name], or an error that says what was seen, what comes near it and what there is."""
    if name not in known:
        near = difflib.get_close_matches(str(name), map(str, known))
        meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownName(
            f"{kind}: saw {name!r}, expected one of {', '.join(map(repr, known))}.{meant}"
        )
    return known[name]


def _table(file: str) -> Mapping[str, Mapping]:
    return read_settings(DATA / file)


def _build(cls, values: dict[str, Any], where: str):
    names = {f.name for f in fields(cls)}
    if unknown := sorted(values.keys() - names):
        raise UnknownName(
            f"{where}: saw {', '.join(unknown)}, expected only {', '.join(sorted(names))}."
        )
    if missing := sorted(names - values.keys()):
        raise UnknownName(
            f"{where}: {', '.join(missing)} not given, expected all of {', '.join(sorted(names))}."
        )
    own = {name: dict(x) if isinstance(x, Mapping) else x for name, x in values.items()}
    return cls(**own)


def profiles() -> list[str]:
    """Names in profiles.toml."""
    return list(_table("profiles.toml"))


def groups() -> list[str]:
    """Names of task groups in hyperparameters.toml."""
    return [name for name in _table("hyperparameters.toml") if name != "default"]


def paper_steps(group: str) -> dict[str, int]:
    """The paper's training steps of a task group by the kind of step, and those that the
    neighbours' authors take; {} for an unknown group."""
    groups = _table("hyperparameters.toml")
    if group not in groups:
        return {}
    theirs = {name: _neighbour(name, group)["steps"] for name in NEIGHBOURS.values()}
    return theirs | groups[group].get("steps", {})


def _neighbour(name: str, group: str, environment: str = "") -> dict:
    """What neighbours.toml says of a method and a task group, and of an environment of tasks.csv
    (Task.environment) where two tasks of a group differ."""
    own = pick("neighbours.toml: method", name, _table("neighbours.toml"))
    return _values_of(own, group) | own.get(environment, {})


def hyper(group: str, profile: str = "", environment: str = "") -> Hyper:
    """Tables A.1 to A.3 for a task group; with what the recipe of a profile replaces of them, where
    it names one, and what a neighbour's authors chose for an environment.
    """
    groups = dict(_table("hyperparameters.toml"))
    default = groups.pop("default")
    chosen = {k: v for k, v in pick("group", group, groups).items() if k != "steps"}
    chosen |= {
        name: {k: v for k, v in _neighbour(name, group, environment).items() if k != "steps"}
        for name in NEIGHBOURS.values()
    }
    own = _build(Hyper, {**default, **chosen}, f"hyperparameters.toml [{group}]")
    if not (name := recipe(profile, group) if profile else ""):
        return own
    replaced = _values_of(pick("profiles.toml: recipe", name, _table("recipes.toml")), group)
    if wrong := sorted(replaced.keys() - RECIPE):
        raise UnknownName(
            f"recipes.toml [{name}]: saw {', '.join(wrong)}, expected only "
            f"{', '.join(sorted(RECIPE))}: a recipe changes no formula."
        )
    return with_changes(own, replaced, f"recipes.toml [{name}]")


def recipe(profile: str, group: str = "") -> str:
    """The name of the recipe by which a profile trains a task group (by itself, unless the group is
    named), "" for the group's own hyperparameters: rows say the profile, and tables the recipe.
    """
    return _profile(profile, group).get(RECIPE_OF, "")


def _profile(profile: str, group: str) -> dict:
    """What profiles.toml says of a profile and a task group. What a profile that is `like` another
    does not set is the other's.
    """
    every, merged = _table("profiles.toml"), {}
    own = pick("profile", profile, every)
    like = pick("profiles.toml: like", own["like"], every) if "like" in own else {}
    for table in (like, own):
        for values in (_plain(table), table.get(group, {})):
            merged |= {k: v for k, v in values.items() if k not in ("like", NEIGHBOUR_STEPS)}
            if (steps := values.get(NEIGHBOUR_STEPS)) is not None:
                fields_of = [f"{name}_steps" for name in NEIGHBOURS.values()]
                merged |= {field: steps for field in fields_of if field not in values}
    return merged


def _plain(table: Mapping) -> dict:
    """What a table says of every group."""
    return {k: v for k, v in table.items() if not isinstance(v, Mapping)}


def _values_of(table: Mapping, group: str) -> dict:
    """What a table says, refined by what it says of a group."""
    return _plain(table) | table.get(group, {})


def smoke_test(profile: str, group: str) -> bool:
    """Whether a profile affords a task group so little that its scores say nothing: it shows that
    everything runs.
    """
    return _profile(profile, group).get(SMOKE_TEST, False)


def budget(profile: str, group: str) -> Budget:
    """What a profile affords for a task group; a profile that sets anything but a budget is
    refused.
    """
    found = _profile(profile, group)
    merged = {k: v for k, v in found.items() if k not in (SMOKE_TEST, RECIPE_OF)}
    pick("group", group, _table("hyperparameters.toml"))
    for name, paper in paper_steps(group).items():
        if merged[f"{name}_steps"] == "paper":
            merged[f"{name}_steps"] = paper
    return _build(Budget, merged, f"profiles.toml [{profile}]")


def with_changes(record, changes: dict, where: str):
    """A record with some fields replaced; a field that does not exist, or another type of value, is
    refused.
    """
    names = {f.name: type(getattr(record, f.name)) for f in fields(record)}
    for name, value in changes.items():
        kind = pick(where, name, names)
        if not (isinstance(value, kind) or (kind is float and isinstance(value, int))):
            raise UnknownName(f"{where}.{name}: saw {value!r}, expected a {kind.__name__}.")
    return replace(record, **changes)
