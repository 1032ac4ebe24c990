"""What one process does to be fast on the machine it finds itself on: memory, compilation, and pieces that fit.

Nothing here changes a formula. A compiled program rounds in other places than the same lines run one by one, so whether a
function is compiled is decided by its size and number of calls, never by a clock.
"""
from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable
from os import environ

import torch

from arq_core.engine.streams import Streams

# Rows of a score network of width 256 that one evaluation of a solve sees: what a core's cache holds, or 1 GB an activation
SOLVE_ROWS = {"cpu": 8_192, "cuda": 2_097_152}
PAYS_FROM_UNITS = 1e10         # activations over all calls: compiling takes 4 to 15 s of a core and saves about a nanosecond each
BACK_AND_FORTH = 3             # a loss with its gradient, in passes over its network
CALLS_OF_A_SOLVE = 10_000      # taken for granted where the number of calls is not known: a solver's passes over a network
RECOMPILATIONS = 64            # of one function for different shapes; beyond torch's default of 8 it would silently run eagerly
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3     # malloc.h of the GNU C library


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensor, instead of returning every large block to the system.

    Each step of training or of a solver frees and asks again for the same megabytes; fetching them from the system page by page
    made these loops up to twice as slow on two cores. Returns whether it could be asked (False outside of the GNU C library).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    if not (mallopt(M_MMAP_THRESHOLD, 1 << 30) or mallopt(M_MMAP_THRESHOLD, 1 << 25)):     # older libraries take 32 MB at most
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1) and mallopt(M_TOP_PAD, 1 << 26))


@functools.cache
def can_compile(device: str) -> bool:
    """Whether `torch.compile` works here for "cpu" or "cuda": a trivial program is tried once. A warning says why not.

    Sets what compiled programs need for the whole process: enough shapes, and kernels that are never chosen by a clock.
    """
    try:
        from torch._dynamo import config as tracing
        from torch._inductor import config as compiling
        tracing.recompile_limit, compiling.deterministic = RECOMPILATIONS, True
        torch.compile(lambda x: x.exp() + 1)(torch.zeros(8, device=device))
    except Exception as error:                                      # no compiler, no headers, no Triton: many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(f"torch.compile does not work here ({reason[:200]}): training and sampling run uncompiled, up to twice as slow; "
                      "install a C++ compiler and Python's headers (Debian: g++ python3-dev).", stacklevel=2)
        return False
    return True


def compiled(f: Callable, device: torch.device, *, units: float, calls: float = CALLS_OF_A_SOLVE) -> Callable:
    """f as one program for fixed shapes, where `calls` calls of `units` activations each pay for compiling it; else f itself."""
    keep_freed_memory()
    return _program(f) if units * calls >= PAYS_FROM_UNITS and can_compile(device.type) else f


def compiled_with_gathering(outer: Callable, inner: Callable, device: torch.device, **size: float) -> Callable:
    """`outer(..., loss=inner)`, which gathers rows of a dataset and calls `inner` on them, compiled: all of it on a GPU, `inner` alone on a processor.

    A GPU saves a kernel for every array; on a processor nothing is gained, and each size of a dataset would need a program of its own.
    """
    return compiled(outer, device, **size) if device.type == "cuda" else functools.partial(outer, loss=compiled(inner, device, **size))


def activations(module: torch.nn.Module) -> int:
    """Outputs of all its layers for one row of each member: what a pass computes besides products."""
    return sum(p.shape[0] * p.shape[-1] for name, p in module.named_parameters() if name.endswith("weight"))


@functools.cache
def _program(f: Callable) -> Callable:
    return torch.compile(f, dynamic=False, fullgraph=True)


def replayed(one_step: Callable[[], None], rng: Streams) -> Callable[[], None]:
    """On CUDA: three ordinary steps (they count), then the step captured once as a graph and replayed. Elsewhere `one_step` itself.

    The graph holds the streams of `rng`, so its steps draw the numbers that ordinary steps would draw. A step must be the same kernels on the
    same memory each time, and never wait for the device.
    """
    if rng.device.type != "cuda":
        return one_step
    side, graph, ordinary = torch.cuda.Stream(rng.device), torch.cuda.CUDAGraph(), 3

    def program():
        nonlocal ordinary
        with torch.cuda.device(rng.device):
            if ordinary > 0:
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    one_step()
                torch.cuda.current_stream().wait_stream(side)
            elif ordinary == 0:
                for generator in rng.generators:
                    graph.register_generator_state(generator)
                with torch.cuda.graph(graph, stream=side):
                    one_step()
            if ordinary <= 0:
                graph.replay()
        ordinary -= 1

    return program


def fast_precision(wanted: str, device: torch.device | str) -> str:
    """`wanted`, but "float32" in the place of "bfloat16" where the processor has no such products: imitated, they are up to a hundred times slower."""
    if wanted != "bfloat16":
        return wanted
    device = torch.device(device)
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()     # torch 2.13 has no public name for these
    return wanted if has else "float32"


def solve_rows(device: str) -> int:
    """SOLVE_ROWS of a device type, or the number in the environment variable ARQ_SOLVE_ROWS."""
    rows = environ.get("ARQ_SOLVE_ROWS", str(SOLVE_ROWS.get(device, SOLVE_ROWS["cuda"])))
    if not rows.isdecimal() or int(rows) == 0:
        raise ValueError(f"ARQ_SOLVE_ROWS: saw {rows!r}, expected a whole number of rows, such as {SOLVE_ROWS['cpu']}.")
    return int(rows)


def equal_pieces(n: int, most: int) -> tuple[int, int]:
    """(pieces, size): the fewest equal pieces of at most `most` that cover n; pieces·size - n rows are left to pad."""
    pieces = -(-n // max(1, most))
    return pieces, -(-n // pieces)
