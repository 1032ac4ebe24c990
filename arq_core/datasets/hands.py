"""The four sets of human demonstrations that D4RL's Adroit files were made from: where they are,
what they hold, how they are recognised.

Source: github.com/aravindr93/hand_dapg, dapg/demonstrations, at commit 9a1de23d (Rajeswaran et al.
2018, Apache-2.0). Shapes: the observations and actions of D4RL's environments, and of a start what
their set_env_state asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arq_core.algorithm.types import DataError
from arq_core.config.settings import pick
from arq_core.datasets.fetch import fetch_locked
from arq_core.datasets.readers.demos import Demo, read_demos

FOLDER = "https://raw.githubusercontent.com/aravindr93/hand_dapg/9a1de23df6574e1b94e1da742e3326eb1f61c013/dapg/demonstrations/"


@dataclass(frozen=True)
class Hand:
    """One task of the hand; `blob` is the id under which git keeps the file (SHA-1 of its kind,
    length and bytes).
    """

    state_dim: int
    action_dim: int
    init_shapes: Mapping[str, tuple[int, ...]]
    blob: str


HANDS = {
    "door": Hand(
        39,
        28,
        dict(qpos=(30,), qvel=(30,), door_body_pos=(3,)),
        "ae07c9e8a3eba2afa0852dcaf1e889a2ef03d380",
    ),
    "hammer": Hand(
        46,
        26,
        dict(qpos=(33,), qvel=(33,), board_pos=(3,)),
        "c7d19716750dc97beb3c5e88b9c3c62990088bd0",
    ),
    "pen": Hand(
        45,
        24,
        dict(qpos=(30,), qvel=(30,), desired_orien=(4,)),
        "6322e0f54a39ce40c0e62220e975154655007680",
    ),
    "relocate": Hand(
        39,
        30,
        dict(qpos=(36,), qvel=(36,), obj_pos=(3,), target_pos=(3,)),
        "c388dd632ca3bcfdb36ef591294d80817e9a4511",
    ),
}


def git_blob(path: Path) -> str:
    """The id of the file's contents in git."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def load_hand(name: str) -> list[Demo]:
    """The published demonstrations of a hand: "door", "hammer", "pen" or "relocate"."""
    hand = pick("hand", name, HANDS)
    file = f"{name}-v0_demos.pickle"
    return read_hand(hand, fetch_locked(file, [FOLDER + file]))


def read_hand(hand: Hand, path: Path) -> list[Demo]:
    """The demonstrations of a file that git knows as this hand's; another file is refused before it
    is unpickled.
    """
    if (seen := git_blob(path)) != hand.blob:
        whose = next(
            (
                f", which is the file of {name!r}"
                for name, other in HANDS.items()
                if other.blob == seen
            ),
            "",
        )
        raise DataError(
            f"{path}: saw git blob {seen}{whose}, expected {hand.blob}; get the file from {FOLDER}."
        )
    return read_demos(path, hand.state_dim, hand.action_dim, hand.init_shapes)
