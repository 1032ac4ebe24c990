"""Random numbers that Python and a page draw alike: Threefry-2x32 with 20 rounds (Salmon, Moraes,
Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011), which engine.js repeats.

A block of two 32-bit words is a function of a key and a counter, and of nothing drawn before. So
the noise of a candidate is the same whatever else is drawn, in whatever order, by whoever computes
it. key = (seed, what is drawn), counter = (65536·step + walker, candidate).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from arq_core.engine.streams import Streams

CANDIDATES, CHOICES, STARTS = 0, 1, 2  # what is drawn, the second word of the key
TRIES = 8  # of a start that is drawn again where it is too far off: one in ninety is
STEP = 1 << 16  # walkers that the first word of the counter keeps apart
PARITY = 0x1BD11BDA
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
ROUNDS = 20


def threefry(key: tuple[int, int], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two words of 32 bits for each counter (first, second), which broadcast: [2, ...]."""
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = (np.array(c, np.uint32) for c in np.broadcast_arrays(first, second))
    x += np.uint32(keys[0])
    y += np.uint32(keys[1])
    for i in range(ROUNDS):
        turn = np.uint32(ROTATIONS[i % len(ROTATIONS)])
        x += y
        y = (y << turn | y >> np.uint32(32 - turn)) ^ x
        if i % 4 == 3:
            s = i // 4 + 1
            x += np.uint32(keys[s % 3])
            y += np.uint32(keys[(s + 1) % 3] + s & 0xFFFFFFFF)
    return np.stack([x, y])


def uniform(words: np.ndarray) -> np.ndarray:
    """Words as numbers on [0, 1) with 24 bits, all of them exact in float32."""
    return (words >> np.uint32(8)) / 2.0**24


def normal_pair(words: np.ndarray) -> np.ndarray:
    """Two standard normal numbers for two words [2, ...]: [..., 2] (Box and Muller 1958)."""
    u, v = (words[0] + 1.0) / 2.0**32, words[1] / 2.0**32
    length = np.sqrt(-2 * np.log(u))
    return np.stack([length * np.cos(2 * np.pi * v), length * np.sin(2 * np.pi * v)], -1)


class Noise(Streams):
    """The numbers that a policy draws at one step of some walkers, as `Streams` of one member.

    It draws what `ImplicitPolicy.act` does: for each walker and candidate a pair of normal numbers,
    or of uniform ones, and for each walker a uniform one; ValueError for any other shape.
    """

    def __init__(self, seed: int, step: int, walkers: Sequence[int]):
        super().__init__([seed])
        self.first = STEP * step + np.asarray(walkers, np.uint32)

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Normal numbers [1, walkers, candidates, 2]."""
        return torch.from_numpy(normal_pair(self._of_candidates("normal", shape))).to(dtype)[None]

    def rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Uniform numbers [1, walkers], or [1, walkers, candidates, 2]."""
        if len(shape) == 3:
            words = self._of_candidates("uniform", shape)
            return torch.from_numpy(np.moveaxis(uniform(words), 0, -1)).to(dtype)[None]
        if shape != self.first.shape:
            raise ValueError(
                f"Noise: saw uniform numbers of shape {shape} asked for, expected one for each of "
                f"{len(self.first)} walkers."
            )
        words = threefry((self.seeds[0], CHOICES), self.first, np.zeros_like(self.first))
        return torch.from_numpy(uniform(words[0])).to(dtype)[None]

    def _of_candidates(self, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) != 3 or (shape[0], shape[2]) != (len(self.first), 2):
            raise ValueError(
                f"Noise: saw {kind} numbers of shape {shape} asked for, expected "
                f"({len(self.first)}, candidates, 2): actions of two dimensions."
            )
        return threefry((self.seeds[0], CANDIDATES), self.first[:, None], np.arange(shape[1]))


def starts(seed: int, walkers: int) -> np.ndarray:
    """Where walkers start, from -1 up to 1 of the farthest, [walkers], float64."""
    words = threefry((seed, STARTS), np.arange(walkers), np.zeros(walkers))
    return 2 * uniform(words[0]) - 1


def normal_starts(seed: int, walkers: int) -> np.ndarray:
    """Where walkers might start, standard normal numbers [walkers, TRIES, 2], float64."""
    return normal_pair(threefry((seed, STARTS), np.arange(walkers)[:, None], np.arange(TRIES)))
