"""Collected datasets: the same recipe gives the same bytes, stops and goes on, and its file says
what was collected.
"""

import json

import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.collectors.recording import Recipe, data_card, record
from arq_core.config.files import sha256_of
from arq_core.datasets.readers.d4rl import read_d4rl

ROBOMIMIC = dict(
    env_args=dict(env_name="Lift", type=1, env_kwargs={}), observation_keys=dict(eef=1, object=2)
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path))
    return tmp_path


def episodes(i, *, masks=False):
    rng = np.random.default_rng(i)
    out = []
    for j, steps in enumerate((3 + i, 1, 4)):
        out.append(
            dict(
                observations=rng.normal(size=(steps + 1, 3)),
                actions=rng.uniform(-1, 1, (steps, 2)),
                rewards=np.arange(steps) == 2,
                terminal=j == 2,
                attrs=dict(masks=["train" if j else "valid"]) if masks else {},
            )
        )
        if not masks:
            out[-1]["infos/clock"] = np.arange(steps)
    return out


def recipe(part=episodes, **changes):
    return Recipe(
        **dict(
            dict(
                name="toy-recollected",
                layout="d4rl",
                parts=3,
                key=dict(seed=1),
                part=part,
                card=dict(how="random numbers"),
            ),
            **changes,
        )
    )


def test_d4rl_file_holds_the_episodes_row_by_row():
    path = record(recipe())
    flat = [e for i in range(3) for e in episodes(i)]
    with h5py.File(path) as file:
        for name, rows in (
            ("observations", slice(None, -1)),
            ("next_observations", slice(1, None)),
        ):
            assert np.array_equal(
                file[name],
                np.concatenate([e["observations"][rows] for e in flat]).astype(np.float32),
            )
        ends = np.cumsum([len(e["actions"]) for e in flat]) - 1
        assert np.flatnonzero(file["terminals"]).tolist() == ends[2::3].tolist()
        assert np.flatnonzero(file["timeouts"]).tolist() == np.delete(ends, [2, 5, 8]).tolist()
        assert np.array_equal(file["infos/clock"], np.concatenate([e["infos/clock"] for e in flat]))
        assert file["metadata/how"][()] == b"random numbers"


def test_our_reader_reads_what_was_recorded():
    data = read_d4rl(record(recipe()), fidelity="recollected")
    steps = sum(len(e["actions"]) for i in range(3) for e in episodes(i))
    # two of the three episodes of a part were cut: each loses its last
    assert len(data.transitions.actions) == steps - 6
    assert (
        int(data.transitions.terminals.sum()) == 3 and data.sha256 == data_card(recipe())["sha256"]
    )


def test_card_counts_what_was_collected():
    card = data_card(recipe())
    returns = [float(np.sum(e["rewards"])) for i in range(3) for e in episodes(i)]
    assert (card["episodes"], card["terminals"], card["timeouts"]) == (9, 3, 6)
    assert card["returns"]["mean"] == pytest.approx(np.mean(returns)) and card["returns"][
        "max"
    ] == max(returns)
    assert card["transitions"] == sum(len(e["actions"]) for i in range(3) for e in episodes(i))


@pytest.mark.parametrize("layout", ["d4rl", "robomimic"])
def test_same_recipe_same_bytes(layout, tmp_path, monkeypatch):
    hashes = []
    for folder in "ab":
        monkeypatch.setenv("ARQ_CACHE", str(tmp_path / folder))
        hashes.append(
            sha256_of(
                record(
                    recipe(lambda i: episodes(i, masks=True), layout=layout, robomimic=ROBOMIMIC)
                )
            )
        )
    assert hashes[0] == hashes[1]


def test_interrupted_collection_goes_on_where_it_was():
    made = []

    def part(i, stop=True):
        made.append(i)
        if i == 2 and stop:
            raise KeyboardInterrupt
        return episodes(i)

    with pytest.raises(KeyboardInterrupt):
        record(recipe(part))
    assert not recipe().path.exists()
    path = record(recipe(lambda i: part(i, stop=False)))
    assert made == [0, 1, 2, 2] and not path.with_suffix(".parts").exists()
    # finished: nothing is collected again
    record(recipe(part))
    assert made == [0, 1, 2, 2]


def test_damaged_part_is_collected_again():
    with pytest.raises(ZeroDivisionError):
        record(recipe(lambda i: episodes(i) if i < 2 else 1 / 0))
    part = recipe().path.with_suffix(".parts") / "00001.safetensors"
    part.write_bytes(part.read_bytes()[:-7])
    damaged = record(recipe()).read_bytes()
    recipe().path.unlink()
    assert record(recipe()).read_bytes() == damaged


def test_changed_file_is_refused():
    path = record(recipe())
    with h5py.File(path, "r+") as file:
        file["rewards"][0] = 5
    with pytest.raises(DataError, match="saw SHA-256 .* expected .* delete the file"):
        record(recipe())


def test_robomimic_layout():
    path = record(
        recipe(lambda i: episodes(i, masks=True), layout="robomimic", robomimic=ROBOMIMIC)
    )
    with h5py.File(path) as file:
        data = file["data"]
        assert (
            data.attrs["total"]
            == sum(d.attrs["num_samples"] for d in data.values())
            == data_card(recipe(layout="robomimic", robomimic=ROBOMIMIC))["transitions"]
        )
        assert json.loads(data.attrs["env_args"]) == ROBOMIMIC["env_args"]
        demo, e = data["demo_3"], episodes(1)[0]
        assert np.array_equal(demo["obs/object"], e["observations"][:-1, 1:].astype(np.float32))
        assert np.array_equal(demo["next_obs/eef"], e["observations"][1:, :1].astype(np.float32))
        # success at the third step, end at the fourth
        assert demo["dones"][:].tolist() == [0, 0, 1, 1]
        assert list(file["mask/valid"]) == [b"demo_0", b"demo_3", b"demo_6"]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(rewards=np.full(4, np.nan)), "rewards.*not finite"),
        (dict(observations=np.zeros((4, 3))), "observations.*saw 4 rows, expected 5"),
        (
            dict(
                actions=np.zeros((0, 2)),
                rewards=np.zeros(0),
                observations=np.zeros((1, 3)),
                **{"infos/clock": np.zeros(0)},
            ),
            "no step",
        ),
    ],
)
def test_broken_episode_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        record(recipe(lambda i: [episodes(0)[2] | change]))
    assert not recipe().path.exists()
