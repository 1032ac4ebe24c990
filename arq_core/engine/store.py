"""Where the tensors of a step are kept: the protocol, and stores that keep nothing or memory only.

Files are `filestore`'s.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes: what was computed from equal tensors need not be
    computed again."""
    h = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        h.update(f"{name}{tuple(x.shape)}{x.dtype}".encode())
        h.update(x.detach().cpu().contiguous().numpy().data)  # its memory, not a copy
    return h.hexdigest()


@runtime_checkable
class Blocks(Protocol):
    """The parts of one step, each kept when it is done; several processes may write different
    parts."""

    def finished(self) -> set[int]:
        """The parts that are kept and undamaged."""
        ...

    def has(self, part: int) -> bool:
        """Whether a part is kept and undamaged."""
        ...

    def save(self, part: int, tensors: dict[str, Tensor]) -> None:
        """Keep a part."""
        ...

    def join(self, axis: int) -> dict[str, Tensor] | None:
        """The whole along `axis`, kept as the step; None while a part is missing."""
        ...

    def clear(self) -> None:
        """Remove the parts of a step that is whole."""
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps the tensors of a finished or interrupted step under a name and a key (JSON values)."""

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        """The tensors of a step, or None."""
        ...

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        """Keep the tensors of a step, in place of what was kept."""
        ...

    def discard(self, name: str, key: dict) -> None:
        """Forget a step, whether it is there or not."""
        ...

    def blocks(self, name: str, key: dict, count: int) -> Blocks:
        """The `count` parts of a step."""
        ...


def in_blocks(
    store: Store,
    name: str,
    key: dict,
    compute: Callable[[int], dict[str, Tensor]],
    count: int,
    part: tuple[int, int],
    *,
    axis: int,
    units: tuple[int, str],
) -> dict[str, Tensor] | None:
    """The tensors compute(0) .. compute(count - 1), joined along `axis`; a step's, found or made.

    `part` = (i, p) computes only every p-th block from the i-th on, so that p processes or machines
    with one store share the work; who finds every block done gets the whole, the others None. Each
    block goes to the store when it is done, with the `seconds` it took: memory holds one block, and
    an interrupted run loses one. `units` is what the progress bar counts: (so many a block, of
    what). Raises ValueError for a part that is none.
    """
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"part: saw {part}, expected (i, p) with 0 <= i < p: part i of p.")
    blocks = store.blocks(name, key, count)
    if (done := store.load(name, key)) is not None:
        blocks.clear()
        return done
    mine, finished, (size, unit) = range(part[0], count, part[1]), blocks.finished(), units
    before = size * sum(b in finished for b in mine)
    with tqdm(total=size * len(mine), initial=before, desc=name, unit=unit, mininterval=1.0) as bar:
        for b in mine:
            if b in finished or blocks.has(b):  # perhaps another process did it meanwhile
                continue
            start = time.monotonic()
            tensors = compute(b)
            seconds = torch.tensor(time.monotonic() - start, dtype=torch.float64)
            blocks.save(b, dict(tensors, seconds=seconds))
            bar.update(size)
    return blocks.join(axis)


class BlocksInMemory:
    """`Blocks` that are kept nowhere but here."""

    def __init__(self, count: int):
        self.count: int = count
        self.parts: dict[int, dict[str, Tensor]] = {}

    def finished(self) -> set[int]:
        """The parts that were saved."""
        return set(self.parts)

    def has(self, part: int) -> bool:
        """Whether a part was saved."""
        return part in self.parts

    def save(self, part: int, tensors: dict[str, Tensor]) -> None:
        """Keep a part."""
        self.parts[part] = tensors

    def join(self, axis: int) -> dict[str, Tensor] | None:
        """All parts joined along `axis`; None while one is missing."""
        if len(self.parts) < self.count:
            return None
        return join_blocks([self.parts[i] for i in range(self.count)], axis)

    def clear(self) -> None:
        """Forget the parts."""
        self.parts = {}


def join_blocks(parts: Sequence[Mapping[str, Tensor]], axis: int) -> dict[str, Tensor]:
    """Tensors joined along an axis; scalars (seconds) are summed."""

    def joined(some: list[Tensor]) -> Tensor:
        return torch.cat(some, axis) if some[0].ndim else torch.stack(some).sum()

    return {k: joined([p[k] for p in parts]) for k in parts[0]}


class NoStore:
    """A `Store` that keeps nothing: every step is computed."""

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        """None: nothing is kept."""
        return None

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        """Keeps nothing."""

    def discard(self, name: str, key: dict) -> None:
        """Nothing to discard."""

    def blocks(self, name: str, key: dict, count: int) -> Blocks:
        """`count` blocks in memory, for the time of one step."""
        return BlocksInMemory(count)
