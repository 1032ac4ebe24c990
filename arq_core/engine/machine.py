"""What one process does to be fast on the machine it finds itself on: memory, compilation, and
pieces that fit.

Nothing here changes a formula. A compiled program rounds in other places than the same lines run
one by one, so whether a function is compiled is decided by its size and number of calls, never by a
clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
import time
import warnings
from collections.abc import Callable
from os import environ
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from arq_core.engine.streams import Streams

# Rows of a score network of width 256 that one evaluation of a solve sees: what a core's cache
# holds, or 1 GB an activation
SOLVE_ROWS = {"cpu": 8_192, "cuda": 2_097_152}
# Activations over all calls: compiling takes 4 to 15 s of a core and saves about a nanosecond each
PAYS_FROM_UNITS = 1e10
BACK_AND_FORTH = 3  # a loss with its gradient, in passes over its network
# Of one function for different shapes; beyond torch's default of 8 it would silently run eagerly
RECOMPILATIONS = 64
STILL_WRITTEN = 60  # seconds: a linker writes without a pause
TENSOR_CORE = 8  # half-precision numbers in 16 bytes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of the GNU C library


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensor, instead of returning every large
    block to the system.

    Each step of training or of a solver frees and asks again for the same megabytes; fetching them
    from the system page by page made these loops up to twice as slow on two cores. Returns whether
    it could be asked (False outside of the GNU C library).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    largest = (1 << 30, 1 << 25)  # older libraries take 32 MB at most
    if not any(mallopt(M_MMAP_THRESHOLD, size) for size in largest):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1) and mallopt(M_TOP_PAD, 1 << 26))


@functools.cache
def can_compile(device: str) -> bool:
    """Whether `torch.compile` works here for "cpu" or "cuda": a trivial program is tried once. A
    warning says why not.

    Sets what compiled programs need for the whole process: enough shapes, and kernels that are
    never chosen by a clock.
    """
    try:
        from torch._dynamo import config as tracing
        from torch._inductor import config as compiling
        from torch._inductor.runtime import cache_dir_utils

        drop_half_written(Path(cache_dir_utils.cache_dir()))
        tracing.recompile_limit, compiling.deterministic = RECOMPILATIONS, True
        _try_a_program(device, compiling.cpp)
    except Exception as error:  # no compiler, no headers, no Triton: many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"torch.compile does not work here ({reason[:200]}): training and sampling run "
            "uncompiled, and slower; install a C++ compiler and Python's headers (Debian: "
            "g++ python3-dev).",
            stacklevel=2,
        )
        return False
    return True


def _try_a_program(device: str, choice: Any) -> None:
    """A trivial program, compiled and run with the widest instructions that the processor names;
    then, where that fails, with those for which the compiler passes torch's own trials.

    The trials build and load a library for each set of instructions, on a processor
    where nothing is kept from before.
    """
    program = lambda x: x.exp() + 1
    if device == "cpu" and choice.vec_isa_ok is None:  # None: nobody said
        choice.vec_isa_ok = True
        with contextlib.suppress(Exception):
            torch.compile(program)(torch.zeros(8))
            return
        choice.vec_isa_ok = None
        torch.compiler.reset()
    torch.compile(program)(torch.zeros(8, device=device))


def drop_half_written(folder: Path) -> list[Path]:
    """Removes, and returns, the libraries (*.so) below a folder of compiled programs whose writer
    was killed: each later run would find one of them and fail as it is loaded.

    One that was touched within `STILL_WRITTEN` seconds is left to whoever writes it.
    """
    dropped = []
    for path in folder.glob("**/*.so"):
        try:
            state = path.stat()
            if time.time() - state.st_mtime > STILL_WRITTEN and not _whole(path, state.st_size):
                path.unlink()
                dropped.append(path)
        except OSError:  # another process removed it, or owns it
            continue
    return dropped


def _whole(library: Path, size: int) -> bool:
    """Whether an ELF file of 64 bits is as long as its header says: the table of sections is the
    last thing in it. Anything else that is not empty counts as whole."""
    head = library.open("rb").read(64)
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return len(head) == 64
    order = "<" if head[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}Q", head, 40)
    each, count = struct.unpack_from(f"{order}HH", head, 58)
    return start > 0 and start + each * count <= size


def compiled(f: Callable, device: torch.device, *, units: float, calls: float) -> Callable:
    """f as one program for fixed shapes, where `calls` calls of `units` activations each pay for
    compiling it; else f itself."""
    keep_freed_memory()
    return _program(f) if units * calls >= PAYS_FROM_UNITS and can_compile(device.type) else f


def compiled_with_gathering(
    outer: Callable, inner: Callable, device: torch.device, **size: float
) -> Callable:
    """`outer(..., loss=inner)`, which gathers rows of a dataset and calls `inner` on them,
    compiled: all of it on a GPU, `inner` alone on a processor.

    A GPU saves a kernel for every array; on a processor nothing is gained, and each size of a
    dataset would need a program of its own.
    """
    if device.type == "cuda":
        return compiled(outer, device, **size)
    return functools.partial(outer, loss=compiled(inner, device, **size))


def activations(module: torch.nn.Module) -> int:
    """Outputs of all its layers for one row of each member: what a pass computes besides
    products."""
    weights = [p for name, p in module.named_parameters() if name.endswith("weight")]
    return sum(p.shape[0] * p.shape[-1] for p in weights)


@functools.cache
def _program(f: Callable) -> Callable:
    return torch.compile(f, dynamic=False, fullgraph=True)


def replayed(one_step: Callable[[], None], rng: Streams) -> Callable[[], None]:
    """On CUDA: three ordinary steps (they count), then the step captured once as a graph and
    replayed. Elsewhere `one_step` itself.

    The graph holds the streams of `rng`, so its steps draw the numbers that ordinary steps would
    draw. A step must be the same kernels on the same memory each time, and never wait for the
    device.
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
    """`wanted`, but "float32" in the place of "bfloat16" where the processor has no such products:
    imitated, they are up to a hundred times slower."""
    if wanted != "bfloat16":
        return wanted
    device = torch.device(device)
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # torch 2.13 has no public name for these
        has = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return wanted if has else "float32"


def solve_rows(device: str) -> int:
    """SOLVE_ROWS of a device type, or the number in the environment variable ARQ_SOLVE_ROWS.
    ValueError for what is none."""
    rows = environ.get("ARQ_SOLVE_ROWS", str(SOLVE_ROWS.get(device, SOLVE_ROWS["cuda"])))
    if not rows.isdecimal() or int(rows) == 0:
        raise ValueError(
            f"ARQ_SOLVE_ROWS: saw {rows!r}, expected a whole number of rows, such as "
            f"{SOLVE_ROWS['cpu']}."
        )
    return int(rows)


def equal_pieces(n: int, most: int) -> tuple[int, int]:
    """(pieces, size): the fewest equal pieces of at most `most` that cover n; pieces·size - n rows
    are left to pad."""
    pieces = -(-n // max(1, most))
    return pieces, -(-n // pieces)


def in_pieces(
    values: Callable[[Tensor], Tensor], m: Int[Tensor, "E B"], most: int
) -> Float[Tensor, "E B"]:
    """values(m), at most `most` columns at a time, in pieces of one size (the last is padded): one
    compiled program, in cache."""
    pieces, size = equal_pieces(m.shape[1], most)
    padded = torch.cat([m, m[:, :1].expand(-1, pieces * size - m.shape[1])], 1)
    return torch.cat([values(piece) for piece in padded.split(size, 1)], 1)[:, : m.shape[1]]


def passes(
    f: Callable,
    net: torch.nn.Module,
    state: Float[Tensor, "EC B W"],
    time: Float[Tensor, "EC 1 W"],
    x: Float[Tensor, "E B n A"],
    *tangents: Float[Tensor, "P E B n A"],
    copies: int,
    layers: int,
    calls: float,
) -> list[Float[Tensor, "... EC B n A"]]:
    """What `f(net, rows, state, time, *tangents)` gives for all states, in the type of `state`.
    `calls` is how often this is asked for states of one number.

    f sees rows [EC, R, A] and tangents [EC, P, R, A], each member's `copies` side by side, for a
    few states at a time, so that a pass stays in cache, or in memory; rows do not see each other.
    Pieces are of one size (the last is padded), so that one compiled program serves. MemoryError
    where memory runs out.
    """
    (members, b, width), n, device = state.shape, x.shape[2], state.device
    row = n * members * (1 + sum(len(v) for v in tangents))  # network rows that a state takes
    pieces, size = equal_pieces(b, solve_rows(device.type) * 256 // (width * row))
    f = compiled(f, device, units=size * row * width * layers, calls=pieces * calls)

    def of_members(y: Tensor) -> Tensor:
        return y.to(state.dtype).repeat_interleave(copies, 0)

    results = []
    for i in torch.arange(pieces * size, device=device).clamp(max=b - 1).split(size):
        rows = of_members(x[:, i]).flatten(1, 2)
        along = [of_members(v[:, :, i].movedim(0, 1)).flatten(2, 3) for v in tangents]
        got = _in_memory(f, net, rows, state[:, i], time, *along)
        out, *derived = got if isinstance(got, tuple) else (got,)
        derived = [y.movedim(1, 0).unflatten(2, (size, n)) for y in derived]
        results.append([out.unflatten(1, (size, n)), *derived])
    return [torch.cat(parts, -3)[..., :b, :, :] for parts in zip(*results, strict=True)]


def _in_memory(f: Callable, net: torch.nn.Module, rows: Tensor, *args):
    """f(net, rows, *args), or an error that says what to do when memory runs out."""
    try:
        return f(net, rows, *args)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        device = rows.device.type
        raise MemoryError(
            f"score network: saw memory run out on {device} ({str(error).splitlines()[0]}), with "
            f"up to {solve_rows(device):,} rows of width 256 at once; try ARQ_SOLVE_ROWS="
            f"{solve_rows(device) // 4}. Finished blocks of candidates are kept."
        ) from error


def nth(rows: Float[Tensor, "E B n A"], i: Int[Tensor, "E B"]) -> Float[Tensor, "E B A"]:
    """Row i of the n at each place."""
    return rows.gather(2, i[..., None, None].expand(-1, -1, 1, rows.shape[-1])).squeeze(2)


def product(
    x: Float[Tensor, "E R inputs"], weight: Float[Tensor, "E inputs outputs"]
) -> Float[Tensor, "E R outputs"]:
    """x times weight, member by member.

    On a GPU in half precision both sizes are filled up with zeros to multiples of 8: tensor cores
    read 16 bytes at a time, and fall back to kernels several times slower where rows of 3 or 11
    numbers do not let them.
    """
    half = weight.dtype != torch.float32 or torch.is_autocast_enabled(weight.device.type)
    inputs, outputs = (-size % TENSOR_CORE for size in weight.shape[1:])
    if not (half and weight.is_cuda and (inputs or outputs)):
        return torch.bmm(x, weight)
    filled = F.pad(weight, (0, outputs, 0, inputs))
    return torch.bmm(F.pad(x, (0, inputs)), filled)[..., : weight.shape[2]]
