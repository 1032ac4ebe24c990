"""Random streams with the member axis: member e draws the same numbers whoever trains beside it.

A `torch.Generator` is one stream; a batch of E members needs E of them. `Streams` is that batch,
and every random draw of the library goes through it. `fork` names a new, independent set of
streams, so that the numbers of one step of Algorithm 1 do not depend on how many another step has
drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(*path: object) -> int:
    """A 63-bit seed from a path such as (seed, "behavior", 2): SHA-256 of its text, so it is the
    same on every machine."""
    digest = hashlib.sha256("/".join(map(str, path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """E independent random streams, one per member. Draws have a leading axis E and live on
    `device`.

    On another device the numbers differ (each device has its own generator); on one device they are
    the same bit for bit.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.seeds, self.device = tuple(int(s) for s in seeds), torch.device(device)
        self.generators = [
            torch.Generator(self.device).manual_seed(derive_seed(s)) for s in self.seeds
        ]

    def __len__(self) -> int:
        return len(self.seeds)

    def fork(self, *path: object, copies: int = 1) -> Streams:
        """New streams named by `path`; with copies = C there are E·C of them, member e's copies
        side by side."""
        seeds = [derive_seed(s, *path, c) for s in self.seeds for c in range(copies)]
        return Streams(seeds, self.device)

    def _draw(self, sampler, *args, **kw) -> Tensor:
        draws = [sampler(*args, generator=g, device=self.device, **kw) for g in self.generators]
        return torch.stack(draws)

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws, [E, *shape]."""
        return self._draw(torch.randn, shape, dtype=dtype)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal draws of the shape and type of x, whose first axis is E."""
        return self.randn(*x.shape[1:], dtype=x.dtype)

    def rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform draws on [0, 1), [E, *shape]."""
        return self._draw(torch.rand, shape, dtype=dtype)

    def randint(self, high: int, *shape: int) -> Tensor:
        """Integers in 0 .. high - 1, [E, *shape]."""
        return self._draw(torch.randint, high, shape)

    def state(self) -> Tensor:
        """The streams' state, [E, bytes], to be written into a checkpoint."""
        return torch.stack([g.get_state() for g in self.generators])

    def restore(self, state: Tensor) -> None:
        """Go on from a state that `state` returned."""
        for g, row in zip(self.generators, state, strict=True):
            g.set_state(row.cpu().clone())
