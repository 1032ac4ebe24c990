"""Networks and records as plain descriptions with tensors beside them, and back: what a trained
policy is made of, without pickle.

A description is JSON. It names classes by their module, and only those of modules that the reader
allows are made again: networks (`torch.nn.Module`) by their attributes, parameters, buffers and
parts, and dataclasses by their fields. Nothing else can be described, and nothing in a file is
executed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

# What nn.Module keeps of itself; parts, parameters and buffers are described apart
OF_MODULES = set(vars(nn.Module()))
CONTAINERS = {
    "torch.nn.ModuleList": nn.ModuleList,
    "torch.nn.ModuleDict": nn.ModuleDict,
    "torch.nn.Identity": nn.Identity,
}
PLAIN = (bool, int, str, type(None))


class ObjectError(ValueError):
    """Something that cannot be described, or a description that cannot be followed."""


def _name(cls: type) -> str:
    known = {v: k for k, v in CONTAINERS.items()}
    return known.get(cls, f"{cls.__module__}.{cls.__qualname__}")


def describe(x: Any, where: str = "policy") -> tuple[Any, dict[str, Tensor]]:
    """A description of an object and its tensors, by the path from `where` to them. ObjectError,
    with the path, for what is neither a network nor a record nor a plain value."""
    if isinstance(x, PLAIN):
        return x, {}
    if isinstance(x, float):
        return {"float": x.hex()}, {}
    if isinstance(x, Tensor):
        return {"tensor": where}, {where: x.detach()}
    if isinstance(x, list | tuple):
        kind, items = type(x).__name__, {str(i): v for i, v in enumerate(x)}
        if kind not in ("list", "tuple"):
            raise ObjectError(f"{where}: saw a {_name(type(x))}, expected a list or a tuple.")
        inner, tensors = _each(items, where)
        return {kind: list(inner.values())}, tensors
    if isinstance(x, Mapping) and all(isinstance(k, str) for k in x):
        inner, tensors = _each(x, where)
        return {"dict": inner}, tensors
    if isinstance(x, nn.Module):
        own = {k: v for k, v in vars(x).items() if k not in OF_MODULES}
        kinds = dict(
            attributes=own, parameters=x._parameters, buffers=x._buffers, modules=x._modules
        )
        parts, tensors = {}, {}
        for kind, values in kinds.items():
            parts[kind], more = _each(values, where)
            tensors |= more
        return {"module": _name(type(x)), **parts}, tensors
    if is_dataclass(x) and not isinstance(x, type):
        inner, tensors = _each({f.name: getattr(x, f.name) for f in _given(x)}, where)
        return {"record": _name(type(x)), "fields": inner}, tensors
    raise ObjectError(
        f"{where}: saw a {_name(type(x))}, expected networks (torch.nn.Module), dataclasses, "
        "tensors, numbers, texts, lists and dicts of them: keep in the policy what it acts by."
    )


def _each(values: Mapping[str, Any], where: str) -> tuple[dict, dict[str, Tensor]]:
    found = {k: describe(v, f"{where}.{k}") for k, v in values.items()}
    return {k: d for k, (d, _) in found.items()}, {
        k: v for _, tensors in found.values() for k, v in tensors.items()
    }


def _given(record: Any) -> list:
    """The fields that a record is made of; others are what it remembers."""
    return [f for f in fields(record) if f.init]


def rebuild(said: Any, tensors: Mapping[str, Tensor], allowed: Sequence[str]) -> Any:
    """The object that `describe` described; classes of modules that begin with one of `allowed`
    alone are made. ObjectError for any other, for a class that is not there or has other fields,
    and for a missing tensor."""
    if isinstance(said, PLAIN):
        return said
    again = lambda x: rebuild(x, tensors, allowed)
    match said:
        case {"float": str(text)}:
            return float.fromhex(text)
        case {"tensor": str(name)}:
            if name not in tensors:
                raise ObjectError(f"saw no tensor {name!r}, expected it beside the others.")
            return tensors[name]
        case {"list": list(items)}:
            return [again(x) for x in items]
        case {"tuple": list(items)}:
            return tuple(again(x) for x in items)
        case {"dict": dict(items)}:
            return {k: again(x) for k, x in items.items()}
        case {"record": str(name), "fields": dict(values)}:
            cls = _class(name, allowed)
            names = {f.name for f in _given(cls)} if is_dataclass(cls) else set()
            if names != values.keys():
                raise ObjectError(
                    f"saw {name} with {', '.join(values)}, expected {', '.join(sorted(names))}: "
                    "it is of another version."
                )
            return cls(**{k: again(x) for k, x in values.items()})
        case {"module": str(name), **parts} if parts.keys() == {
            "attributes",
            "parameters",
            "buffers",
            "modules",
        }:
            return _module(_class(name, allowed), {k: dict(v) for k, v in parts.items()}, again)
    raise ObjectError(f"saw {str(said)[:80]!r}, expected the description of an object.")


def _class(name: str, allowed: Sequence[str]) -> type:
    if name in CONTAINERS:
        return CONTAINERS[name]
    module, _, cls = name.rpartition(".")
    if not any(module == room or module.startswith(f"{room}.") for room in allowed):
        raise ObjectError(
            f"saw the class {name}, expected one of {', '.join(allowed)}: only these are made."
        )
    try:
        found = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError):
        raise ObjectError(
            f"saw the class {name}, which is not there: it is of another version."
        ) from None
    if not (isinstance(found, type) and (issubclass(found, nn.Module) or is_dataclass(found))):
        raise ObjectError(f"saw {name}, expected a network or a dataclass.")
    return found


def _module(cls: type, parts: dict[str, dict], again: Any) -> nn.Module:
    if not issubclass(cls, nn.Module):
        raise ObjectError(f"saw {_name(cls)} described as a network, which it is not.")
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name, x in parts["attributes"].items():
        setattr(module, name, again(x))
    for name, x in parts["parameters"].items():
        value = again(x)
        held = None if value is None else nn.Parameter(value, requires_grad=False)
        module.register_parameter(name, held)
    for name, x in parts["buffers"].items():
        module.register_buffer(name, again(x))
    for name, x in parts["modules"].items():
        module.add_module(name, again(x))
    return module.eval()


def member(said: Any, tensors: Mapping[str, Tensor], e: int, members: int) -> dict[str, Tensor]:
    """The tensors of one seed's part of what was described for `members` seeds: rows of what has a
    member axis. Those of networks all have it, in front, with a seed's copies side by side; of a
    record's, those whose first axis is as long and that have an axis more than a plain vector."""
    inside = set(_of_networks(said))

    def rows(name: str, x: Tensor) -> Tensor:
        if name not in inside and (x.ndim < 2 or len(x) % members):
            return x
        if x.ndim == 0 or len(x) % members:
            raise ObjectError(
                f"{name}: saw the shape {tuple(x.shape)}, expected a first axis of {members} "
                "members or a multiple."
            )
        copies = len(x) // members
        return x[e * copies : (e + 1) * copies]

    return {k: rows(k, v).contiguous().clone() for k, v in tensors.items()}


def _of_networks(said: Any, inside: bool = False) -> list[str]:
    """Names of the tensors that are parameters or buffers of networks."""
    if isinstance(said, list):
        return [name for x in said for name in _of_networks(x, inside)]
    if not isinstance(said, dict):
        return []
    if "tensor" in said:
        return [said["tensor"]] if inside else []
    if "module" in said:
        own = [said["parameters"], said["buffers"]]
        return [
            *(n for x in own for v in x.values() for n in _of_networks(v, True)),
            *(n for v in said["modules"].values() for n in _of_networks(v, True)),
            *(n for v in said["attributes"].values() for n in _of_networks(v, inside)),
        ]
    return [name for x in said.values() for name in _of_networks(x, inside)]


def to(tensors: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """The tensors in the memory of a device."""
    return {k: v.to(device) for k, v in tensors.items()}
