"""Input that cannot be used ends in one error that names the field, what was seen, what was
expected and what to do."""

from dataclasses import replace

import pytest
import torch
from problems import chain

from arq_core.algorithm.types import DataError


def _spoil(name, index, value):
    x = getattr(chain(), name).clone()
    x[index] = value
    return {name: x}


@pytest.mark.parametrize(
    "change, message",
    [
        (
            _spoil("rewards", 3, float("nan")),
            r"rewards: saw nan at index \[3\], expected finite numbers; drop or repair",
        ),
        (
            _spoil("states", (2, 1), float("inf")),
            r"states: saw inf at index \[2, 1\], expected finite",
        ),
        (
            _spoil("actions", (0, 0), 1.5),
            r"actions: saw a magnitude of 1\.5, expected the box \[-1, 1\]; clip or rescale",
        ),
        (_spoil("next_state", 0, 10_000), r"next_state: saw rows .* expected 0 to 131"),
        (
            dict(terminals=torch.zeros(5, dtype=torch.bool)),
            r"terminals: saw shape \(5,\), expected 1 axes and length 120",
        ),
        (dict(states=torch.zeros(132)), r"states: saw shape \(132,\), expected 2 axes"),
    ],
)
def test_unusable_transitions_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        replace(chain(), **change)


def test_fingerprint_sees_a_single_changed_entry():
    assert chain().fingerprint() == chain().fingerprint()
    assert replace(chain(), **_spoil("rewards", 3, 0.125)).fingerprint() != chain().fingerprint()
