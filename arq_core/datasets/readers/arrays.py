"""Arrays as people hand them over (of numpy, torch, tables, lists), checked one by one: each is
read right, or refused by one DataError that begins with its name.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from arq_core.algorithm.types import DataError
from arq_core.datasets.readers.narrow import narrowed

# what tables hold besides numbers and their ways to say "missing"
NO_NUMBERS = (str, bytes, datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)
FLAGS = ("terminals", "timeouts")
# number of axes; of all others 2
VECTORS = ("rewards", *FLAGS)


def checked(given: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Numbers as float32 and flags as bool, by the names of `given`, [M] or [M n] each with as many
    rows as `actions`; and what float32 loses, a sentence each.
    """
    arrays = {name: _array(name, x) for name, x in given.items()}
    steps = len(arrays["actions"]) if arrays["actions"].ndim else 0
    notes: list[str] = []
    # by its rows the others are judged
    for name in sorted(arrays, key=lambda name: name != "actions"):
        x, axes = arrays[name], 1 if name in VECTORS else 2
        if axes == 1 and x.ndim == 2 and x.shape[1] == 1:
            # a column is as good as a vector
            x = x[:, 0]
        if x.dtype.kind not in "fiub" or x.ndim != axes or len(x) != steps or not x.size:
            raise DataError(
                f"{name}: saw {x.dtype} of shape {x.shape}, expected numbers with {axes} "
                f"axes and {steps:,} rows, one per action{_advice(x)}."
            )
        arrays[name] = _flags(name, x) if name in FLAGS else _numbers(name, x, notes)
    after, before = arrays.get("next_observations"), arrays["observations"]
    if after is not None and after.shape != before.shape:
        raise DataError(
            f"next_observations: saw {after.shape[1]} numbers a row, expected "
            f"{before.shape[1]}, as in observations; give the same columns in both."
        )
    return arrays, notes


def _advice(x: np.ndarray) -> str:
    """What to do about a wrong type or shape."""
    if x.dtype.kind == "O":
        kinds = (f"an entry is {type(v).__name__}" for v in x.flat if not _is_number(v))
        seen = next(kinds, "an integer is too large")
        return f" ({seen}); make numbers of them, as in .astype('float32')"
    if x.dtype.kind == "c":
        return "; give real and imaginary parts as columns of their own"
    if x.dtype.kind in "SUT":
        return "; make numbers of the texts, as in .astype('float32')"
    if x.dtype.kind in "mM":
        return "; give seconds since the first of them as numbers"
    if x.dtype.kind == "V":
        return (
            "; give its fields as columns, as in numpy.lib.recfunctions.structured_to_unstructured"
        )
    return "; reshape or cut it"


def _is_number(value) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _numbers(name: str, x: np.ndarray, notes: list[str]) -> np.ndarray:
    out, rounding = narrowed(x, name)
    bad = ~np.isfinite(out)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{name}: saw {int(bad.sum()):,} entries that are not finite as float32 (the first is "
            f"{x[at]} at index {at}), expected finite float32 numbers; drop or repair these rows."
        )
    notes += rounding.notes()
    return out


def _flags(name: str, x: np.ndarray) -> np.ndarray:
    bad = ~np.isin(x, (0, 1))
    if bad.any():
        raise DataError(
            f"{name}: saw {x[bad][0]}, expected 0 or 1 (at index {int(np.flatnonzero(bad)[0])}); "
            "write flags."
        )
    return x.astype(bool)


def _array(name: str, x: Any) -> np.ndarray:
    """What was given as an array of numpy's; DataError where numpy cannot make one."""
    if x is None:
        raise DataError(f"{name}: saw None, expected an array with one row per step; give it.")
    if isinstance(x, torch.Tensor):
        return _tensor(name, x)
    parts = x if isinstance(x, list | tuple) else ()
    for i, part in enumerate(parts):
        if part is None:
            raise DataError(
                f"{name}: saw None at row {i}, expected a number or a row of numbers; drop the row."
            )
        if isinstance(part, torch.Tensor):
            _tensor(f"{name}: row {i}", part, f"torch.stack({name})")
    try:
        if any(isinstance(part, np.ma.MaskedArray) for part in parts):
            # numpy alone would forget the masks
            x = np.ma.stack(parts)
        out = np.ma.asarray(x) if isinstance(x, np.ma.MaskedArray) else np.asarray(x)
        if out.dtype.kind == "O" and hasattr(x, "to_numpy"):
            # a table of pandas' with columns of several types, or with its own way to say "missing"
            numeric = not any(isinstance(value, NO_NUMBERS) for value in out.flat)
            out = x.to_numpy(dtype=np.float64, na_value=np.nan) if numeric else out
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        lengths = sorted({len(part) for part in parts if hasattr(part, "__len__")})
        if lengths[1:] or "inhomogeneous" in str(error):
            between = f" ({lengths[0]:,} to {lengths[-1]:,} entries)" if lengths[1:] else ""
            raise DataError(
                f"{name}: saw rows of different lengths{between}, expected an array of numbers, "
                "all rows of one length; cut or fill the rows."
            ) from error
        raise DataError(
            f"{name}: saw {type(x).__name__}, of which numpy makes no array ({error}), expected "
            "an array of numbers; make one of it first."
        ) from error
    if isinstance(out, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(out).sum())
        if masked:
            raise DataError(
                f"{name}: saw {masked:,} masked entries, expected numbers: what is masked is not "
                "known; drop these steps (and cut the episode there), or fill them yourself "
                "with .filled(...)."
            )
        out = out.data
    if out.ndim == 0:
        dense = f"{name}.toarray()" if hasattr(x, "toarray") else ""
        raise DataError(
            f"{name}: saw {type(x).__name__}, which numpy takes for a single value, expected an "
            f"array with one row per step; give {dense or 'a list or an array'}."
        )
    return out


def _tensor(name: str, x: torch.Tensor, whole: str = "") -> np.ndarray:
    """A tensor's numbers; refused where numpy would need a copy that the caller has to choose.
    `whole` is how the tensor is called of which it is a row.
    """
    if x.is_nested:
        raise DataError(
            f"{name}: saw a nested tensor, expected rows of one length; cut or fill the rows "
            "(.to_padded_tensor)."
        )
    seen = (
        (x.layout != torch.strided, f"a tensor of layout {x.layout}", ".to_dense()"),
        (x.is_quantized, f"a quantised tensor ({x.dtype})", ".dequantize()"),
        (x.device.type != "cpu", f"a tensor on the device {x.device}", ".cpu()"),
        (x.requires_grad, "a tensor that requires grad", ".detach()"),
        (x.dtype not in NUMPY, f"a tensor of type {x.dtype}", ".float()"),
        (x.is_conj() or x.is_neg(), "a tensor whose sign is pending", ".resolve_neg()"),
    )
    faults = [fault for fault in seen if fault[0]]
    if faults:
        raise DataError(
            f"{name}: saw {' and '.join(fault[1] for fault in faults)}, expected numbers in this "
            "machine's memory that numpy can read; give "
            f"{whole or name}{''.join(fault[2] for fault in faults)}."
        )
    return x.numpy()


# types of tensors that numpy has too
NUMPY = {
    torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
