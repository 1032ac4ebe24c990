"""arq_core.datasets.hands: pickles of all four hands are read in the layout of hand_dapg, and only
the published files are.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.config.paths import local_folder
from arq_core.datasets import hands
from arq_core.datasets.hands import HANDS, git_blob, load_hand, read_hand
from arq_core.datasets.readers.demos import read_demos

LENGTHS = (7, 4, 5)


def demonstrations(hand):
    """Three demonstrations in float64, as published; a start also holds what nobody asks for."""
    rng = np.random.default_rng(0)
    return [
        dict(
            observations=rng.normal(size=(n, hand.state_dim)),
            actions=rng.normal(size=(n, hand.action_dim)),
            rewards=rng.normal(size=n),
            init_state_dict={k: rng.normal(size=s) for k, s in hand.init_shapes.items()}
            | dict(extra=np.zeros(3)),
        )
        for n in LENGTHS
    ]


@pytest.fixture(params=HANDS)
def published(request, tmp_path):
    """A hand whose published file is the one that was just written, the file, and what is in it;
    protocol 3 is that of hand_dapg.
    """
    items = demonstrations(HANDS[request.param])
    path = tmp_path / f"{request.param}-v0_demos.pickle"
    path.write_bytes(pickle.dumps(items, protocol=3))
    return replace(HANDS[request.param], blob=git_blob(path)), path, items


def test_every_demonstration_comes_out_as_it_went_in(published):
    hand, path, items = published
    read = read_hand(hand, path)
    assert [len(d.actions) for d in read] == list(LENGTHS)
    for demo, item in zip(read, items, strict=True):
        for field in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(demo, field), item[field])
        assert demo.init_state.keys() == hand.init_shapes.keys()
        for field in hand.init_shapes:
            np.testing.assert_array_equal(demo.init_state[field], item["init_state_dict"][field])


def test_a_start_without_one_of_its_fields_is_refused(published):
    hand, path, items = published
    field = list(hand.init_shapes)[-1]
    del items[1]["init_state_dict"][field]
    path.write_bytes(pickle.dumps(items, protocol=3))
    with pytest.raises(
        DataError, match=f"demo 1, init_state_dict: saw the fields .*, expected a field '{field}'"
    ):
        read_hand(replace(hand, blob=git_blob(path)), path)


def test_the_file_of_another_hand_is_refused_by_its_shapes_too(published):
    _, path, items = published
    for other in HANDS.values():
        if (other.state_dim, other.action_dim) != (
            items[0]["observations"].shape[1],
            items[0]["actions"].shape[1],
        ):
            with pytest.raises(DataError, match="demo 0.*saw shape"):
                read_demos(path, other.state_dim, other.action_dim, other.init_shapes)


def test_another_file_is_refused_before_it_is_unpickled_and_named_if_known(published, monkeypatch):
    hand, path, _ = published
    monkeypatch.setattr(hands, "HANDS", HANDS | {"of the test": hand})
    with pytest.raises(
        DataError, match="saw git blob .*, which is the file of 'of the test', expected"
    ):
        read_hand(HANDS["door"], path)
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(DataError, match="saw git blob [0-9a-f]{40}, expected"):
        read_hand(hand, path)


def test_ids_are_git_s():
    """git hash-object gives this id for the empty file (git-scm.com, Git Objects)."""
    import tempfile
    from pathlib import Path

    with tempfile.NamedTemporaryFile() as file:
        assert git_blob(Path(file.name)) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_the_published_door_demonstrations_are_recognised():
    if not (local_folder() / "door-v0_demos.pickle").is_file():
        pytest.skip("no copy of door-v0_demos.pickle in the local folder")
    from arq_core.datasets.door import load_demos

    demos, same = load_hand("door"), load_demos()
    assert len(demos) == len(same) == 25
    assert all((a.actions == b.actions).all() for a, b in zip(demos, same, strict=True))


def test_door_s_own_recipe_names_the_same_shapes():
    from arq_core.datasets.door import DEMOS, INIT_SHAPES

    assert INIT_SHAPES == HANDS["door"].init_shapes and DEMOS["url"].startswith(hands.FOLDER)
