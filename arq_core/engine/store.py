"""Where the tensors of a step are kept: the protocol, and stores that keep nothing or memory only. Files are `filestore`'s."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes: what was computed from equal tensors need not be computed again."""
    h = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        h.update(f"{name}{tuple(x.shape)}{x.dtype}".encode())
        h.update(x.detach().cpu().contiguous().numpy().data)                # its memory, not a copy
    return h.hexdigest()


class Blocks(Protocol):
    """The parts of one step, each kept when it is done; several processes may write different parts."""

    def finished(self) -> set[int]: ...                                         # parts that are kept and undamaged
    def has(self, part: int) -> bool: ...
    def save(self, part: int, tensors: dict[str, Tensor]) -> None: ...
    def join(self, axis: int) -> dict[str, Tensor] | None: ...                  # the whole, kept as the step; None while a part is missing
    def clear(self) -> None: ...                                                # remove the parts of a step that is whole


class Store(Protocol):
    """Keeps the tensors of a finished or interrupted step under a name and a key (JSON values). Files live outside the maths."""

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None: ...
    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None: ...
    def discard(self, name: str, key: dict) -> None: ...
    def blocks(self, name: str, key: dict, count: int) -> Blocks: ...


class BlocksInMemory:
    """`Blocks` that are kept nowhere but here."""

    def __init__(self, count: int):
        self.count, self.parts = count, {}

    def finished(self):
        return set(self.parts)

    def has(self, part):
        return part in self.parts

    def save(self, part, tensors):
        self.parts[part] = tensors

    def join(self, axis):
        if len(self.parts) < self.count:
            return None
        return join_blocks([self.parts[i] for i in range(self.count)], axis)

    def clear(self):
        self.parts = {}


def join_blocks(parts: Sequence[Mapping[str, Tensor]], axis: int) -> dict[str, Tensor]:
    """Tensors joined along an axis; scalars (seconds) are summed."""
    return {k: torch.cat([p[k] for p in parts], axis) if x.ndim else torch.stack([p[k] for p in parts]).sum() for k, x in parts[0].items()}


class NoStore:
    """A `Store` that keeps nothing: every step is computed."""

    def load(self, name, key):
        return None

    def save(self, name, key, tensors):
        pass

    def discard(self, name, key):
        pass

    def blocks(self, name, key, count):
        return BlocksInMemory(count)
