"""A function with one line changed: for the exercises that ask what would happen."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType


def changed(function: Callable, old: str, new: str) -> Callable:
    """`function` with `new` in the place of `old`, which must stand in its source exactly once.

    Only the copy that is returned is changed: to run it inside of the algorithm, put it in the
    place of the original (`unittest.mock.patch.object`). Decorators such as `torch.no_grad` are
    left out. ValueError where `old` stands there never or more than once.
    """
    plain = inspect.unwrap(getattr(function, "__func__", function))
    source = textwrap.dedent(inspect.getsource(plain))
    if (count := source.count(old)) != 1:
        raise ValueError(
            f"changed: saw {old!r} {count} times in {plain.__qualname__}, expected once; "
            "copy it from the function's source, with as much around it as makes it unique."
        )
    flags = __future__.annotations.compiler_flag
    module = compile(source.replace(old, new), f"<{plain.__qualname__}, changed>", "exec", flags)
    code = next(
        x for x in module.co_consts if isinstance(x, CodeType) and x.co_name == plain.__name__
    )
    copy = FunctionType(
        code, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    copy.__kwdefaults__ = plain.__kwdefaults__
    return copy
