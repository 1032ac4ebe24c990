"""Published policies: read from made-up archives of each family without running their code, refused
with one clear error when damaged, acting as their formulas say, and collected by the recipe.
"""

import hashlib
import io
import json
import math
import os
import pickle
import pickletools
import sys
import zipfile
from dataclasses import replace
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco", reason="the simulators are not installed")

from saved_policies import A, S, archive, tensors  # noqa: E402

from arq_core.algorithm.types import DataError  # noqa: E402
from arq_core.collectors import locomotion  # noqa: E402
from arq_core.collectors.policies import published  # noqa: E402
from arq_core.collectors.policies.acting import episodes  # noqa: E402
from arq_core.collectors.policies.archives import (  # noqa: E402
    FAMILIES,
    MOST,
    read_policy,
    read_statistics,
)
from arq_core.collectors.recording import record  # noqa: E402
from arq_core.config.paths import local_folder  # noqa: E402
from arq_core.envs.locomotion import HORIZON, KINDS  # noqa: E402

RELU, TANH = (f"<class 'torch.nn.modules.activation.{name}'>" for name in ("ReLU", "Tanh"))
ON_POLICY = [name for name, family in FAMILIES.items() if family.normalised]


@pytest.fixture
def foreign(monkeypatch):
    """Classes under the names that a VecNormalize has, while a test writes a pickle."""
    names = {
        "stable_baselines3.common.vec_env.vec_normalize": "VecNormalize",
        "stable_baselines3.common.running_mean_std": "RunningMeanStd",
        "gym.spaces.box": "Box",
    }
    out = {}
    for module, name in names.items():
        stand_in = ModuleType(module)
        out[name] = type(name, (), dict(__module__=module))
        setattr(stand_in, name, out[name])
        for i in range(module.count(".") + 1):
            part = module.rsplit(".", i)[0]
            monkeypatch.setitem(sys.modules, part, stand_in if i == 0 else ModuleType(part))
    return out


def moments(inputs=S):
    rng = np.random.default_rng(1)
    return rng.normal(size=inputs), rng.uniform(0.5, 2, inputs)


def normaliser(path, foreign, inputs=S, **changes):
    """A pickled VecNormalize with what the published ones hold."""
    made = {name: kind() for name, kind in foreign.items()}
    mean, var = moments(inputs)
    made["Box"].__dict__.update(dtype=np.dtype("f4"), low=np.zeros(inputs, "f4"), bounded=True)
    made["RunningMeanStd"].__dict__.update(mean=mean, var=var, count=np.float64(7))
    made["RunningMeanStd"].__dict__.update(changes.pop("rms", {}))
    made["VecNormalize"].__dict__.update(
        observation_space=made["Box"],
        obs_rms=made["RunningMeanStd"],
        norm_obs=True,
        clip_obs=10.0,
        epsilon=1e-8,
        old_reward=np.zeros(1, "f4"),
    )
    made["VecNormalize"].__dict__.update(changes)
    path.write_bytes(pickle.dumps(made["VecNormalize"], protocol=3))
    return path


@pytest.fixture
def make(tmp_path, foreign):
    """A made-up policy of an algorithm, written and read."""

    def made(algorithm, inputs=S, **changes):
        statistics = (
            normaliser(tmp_path / "vecnormalize.pkl", foreign, inputs)
            if FAMILIES[algorithm].normalised
            else None
        )
        changes.setdefault("stored", tensors(algorithm, inputs))
        path = archive(tmp_path / f"{algorithm}.zip", algorithm, **changes)
        return read_policy(path, statistics, algorithm, inputs, S, A)

    return made


def by_hand(algorithm, x, relu):
    """(mean, std) in numpy, from the tensors that `archive` wrote."""
    family, w = (
        FAMILIES[algorithm],
        {k: v.numpy() for k, v in tensors(algorithm, x.shape[1]).items()},
    )
    for name in family.layers:
        x = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        x = np.maximum(x, 0) if relu else np.tanh(x)
    mean = x @ w[f"{family.mean}.weight"].T + w[f"{family.mean}.bias"]
    if family.std_of_state:
        return mean, np.exp(x @ w[f"{family.log_std}.weight"].T + w[f"{family.log_std}.bias"])
    return mean, np.exp(w[family.log_std]) + 0 * mean


def normalised(x):
    mean, var = moments(x.shape[1])
    return ((x - mean) / np.sqrt(var + 1e-8)).clip(-10, 10)


STATES = torch.randn(5, S, generator=torch.Generator().manual_seed(2)) * 3
NOISE = torch.randn(5, A, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_actions_and_log_probs_are_those_of_the_formulas(make, algorithm):
    actions, log_prob = make(algorithm)(STATES, NOISE, 0)
    family, x = FAMILIES[algorithm], STATES.numpy()
    mean, std = by_hand(algorithm, normalised(x) if family.normalised else x, not family.normalised)
    u, z = mean + std * NOISE.numpy(), NOISE.numpy()
    gaussian = (-(z**2) / 2 - np.log(std) - math.log(2 * math.pi) / 2).sum(1)
    if family.std_of_state:
        expected, folding = np.tanh(u), np.log(1 - np.tanh(u) ** 2).sum(1)
    else:
        expected, folding = u.clip(-1, 1), 0
        assert (np.abs(u) > 1).any() and (np.abs(u) < 1).any()
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    np.testing.assert_allclose(log_prob, gaussian - folding, atol=1e-2)


def test_observations_far_from_the_mean_are_clipped_at_ten(make):
    policy = make("ppo")
    far, farther = (policy.parameters(torch.full((1, S), x)) for x in (1e4, 1e6))
    assert torch.equal(far, farther)


def test_the_activation_is_the_one_that_data_names(make):
    chosen = make("ppo", settings=dict(policy_kwargs=dict(activation_fn=RELU)))
    mean, _ = by_hand("ppo", normalised(STATES.numpy()), relu=True)
    np.testing.assert_allclose(chosen.parameters(STATES)[:, :A], mean, atol=1e-5)
    assert (
        make("sac", settings=dict(policy_kwargs=dict(activation_fn=TANH))).activation is torch.tanh
    )


def test_one_input_more_is_the_share_of_the_episode_that_is_left(make):
    policy = make("ppo", inputs=S + 1)
    for t in (0, 250, 999):
        x = np.concatenate([STATES.numpy(), np.full((5, 1), 1 - t / HORIZON)], 1)
        mean, _ = by_hand("ppo", normalised(x), relu=False)
        np.testing.assert_allclose(policy.parameters(STATES, t)[:, :A], mean, atol=1e-5)
    assert policy.clock and not make("ppo").clock


@pytest.mark.parametrize("algorithm", ["sac", "trpo"])
def test_added_noise_adds_variances(make, algorithm):
    policy = make(algorithm)
    mean, log_std = policy.parameters(STATES).chunk(2, 1)
    wide_mean, wide = replace(policy, noise=0.5).parameters(STATES).chunk(2, 1)
    torch.testing.assert_close(wide.exp() ** 2, log_std.exp() ** 2 + 0.25)
    assert torch.equal(wide_mean, mean)


def refused(message, call, *arguments, **more):
    with pytest.raises(DataError, match=message) as caught:
        call(*arguments, **more)
    text = str(caught.value)
    assert (
        "saw" in text and "expected" in text and text.endswith(".") and text.count("expected") == 1
    )


@pytest.mark.parametrize("algorithm", ["sac", "trpo"])
@pytest.mark.parametrize(
    "damage, message",
    [
        (dict(version="2.3.0"), "version '2.3.0'"),
        (dict(settings=dict(policy_kwargs={}, use_sde=True)), "expected policy_kwargs"),
        (dict(settings=dict()), "expected policy_kwargs"),
        (
            dict(settings=dict(policy_kwargs=dict(activation_fn="gelu"))),
            "saw the activation 'gelu'",
        ),
        (dict(data=b"{"), "cannot be read"),
        (dict(data=b"[" * 100_000), "cannot be read"),
        (dict(data=None), "no data"),
        ({"policy.pth": None}, "no policy.pth"),
        ({"policy.pth": b"nothing"}, "cannot be read"),
        ({"../evil.py": b"x"}, "'../evil.py'"),
        (dict(stored=[1, 2]), "saw list"),
        (dict(stored={"a": torch.zeros(1)}), "saw no tensor"),
    ],
    ids=str,
)
def test_what_a_file_lacks_or_has_too_much_is_said(make, algorithm, damage, message):
    refused(message, make, algorithm, **damage)


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_every_tensor_must_be_there_of_its_shape_and_finite(make, algorithm):
    whole = tensors(algorithm)
    for name in whole:
        if name.startswith("critic"):
            continue
        refused("expected", make, algorithm, stored={k: v for k, v in whole.items() if k != name})
        refused("expected", make, algorithm, stored=whole | {name: whole[name][..., :-1]})
        refused("expected", make, algorithm, stored=whole | {name: whole[name].double()})
        refused("finite", make, algorithm, stored=whole | {name: whole[name] * math.nan})
    deeper = {FAMILIES[algorithm].part + "9.weight": torch.zeros(1, 1)}
    refused("expected two layers", make, algorithm, stored=whole | deeper)


def test_another_width_of_observations_is_refused(make, tmp_path):
    refused("shape", make, "sac", stored=tensors("sac", S + 3))
    refused("inputs listed", read_policy, tmp_path / "sac.zip", None, "sac", S + 3, S, A)


def test_the_same_member_twice_and_large_members_are_refused(tmp_path):
    path = archive(tmp_path / "a.zip", "sac")
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("data", b"{}")
    refused("once each", read_policy, path, None, "sac", S, S, A)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("data", "policy.pth", "_stable_baselines3_version"):
            file.writestr(name, bytes(MOST + 1))
    refused("at most", read_policy, tmp_path / "b.zip", None, "sac", S, S, A)
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(MOST + 1))
    bomb = {"policy.pth": inside.getvalue()}
    refused("at most", read_policy, archive(path, "sac", **bomb), None, "sac", S, S, A)


class Evil:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_no_code_of_a_file_runs(make, tmp_path, foreign):
    refused("cannot be read", make, "sac", stored=dict(a=Evil(tmp_path / "ran")))
    path = normaliser(tmp_path / "evil.pkl", foreign, old_reward=Evil(tmp_path / "ran"))
    refused("mkdir", read_statistics, path, S)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(norm_obs=False), "norm_obs"),
        (dict(clip_obs=math.nan), "positive"),
        (dict(epsilon="1"), "positive"),
        (dict(obs_rms=None), "an object"),
        (dict(rms=dict(mean=np.zeros(S + 1))), "obs_rms.mean"),
        (dict(rms=dict(var=np.full(S, np.nan))), "obs_rms.var"),
        (dict(rms=dict(var=np.full(S, -1.0))), "variance of -1"),
        (dict(rms=dict(mean="zero")), "no numbers"),
    ],
    ids=str,
)
def test_statistics_must_be_those_of_the_observations(tmp_path, foreign, changes, message):
    path = normaliser(tmp_path / "v.pkl", foreign, **changes)
    refused(message, read_statistics, path, S)


def test_absent_files_are_said(tmp_path):
    refused("no such file", read_policy, tmp_path / "a.zip", None, "sac", S, S, A)
    refused("no such file", read_statistics, tmp_path / "v.pkl", S)


def test_statistics_come_with_the_algorithms_that_have_them(tmp_path):
    refused("no statistics", read_policy, tmp_path / "a.zip", None, "ppo", S, S, A)
    refused("saw statistics", read_policy, tmp_path / "a.zip", tmp_path, "sac", S, S, A)


def damaged(whole, seed):
    """Bytes cut at a random place, or with a few random bits flipped."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return whole[: rng.integers(len(whole))]
    data = bytearray(whole)
    for at in rng.integers(len(data), size=1 + seed % 4):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def test_a_damaged_archive_reads_the_same_or_is_refused(tmp_path):
    whole = archive(tmp_path / "whole.zip", "sac")
    states, counts = STATES, dict(read=0, refused=0)
    right = read_policy(whole, None, "sac", S, S, A).parameters(states)
    copy = tmp_path / "copy.zip"
    for seed in range(300):
        copy.write_bytes(damaged(whole.read_bytes(), seed))
        try:
            policy = read_policy(copy, None, "sac", S, S, A)
        except DataError as error:
            assert "saw" in str(error) and "expected" in str(error)
            counts["refused"] += 1
            continue
        assert torch.equal(policy.parameters(states), right)
        counts["read"] += 1
    assert min(counts.values()) > 0, counts


def test_a_damaged_policy_inside_a_sound_archive_is_refused_or_read_whole(tmp_path):
    buffer = io.BytesIO()
    torch.save(tensors("sac"), buffer)
    for seed in range(150):
        inner = {"policy.pth": damaged(buffer.getvalue(), seed)}
        path = archive(tmp_path / "copy.zip", "sac", **inner)
        try:
            policy = read_policy(path, None, "sac", S, S, A)
        except DataError as error:
            assert "saw" in str(error) and "expected" in str(error)
            continue
        assert torch.isfinite(policy.parameters(STATES)).all()


def test_damaged_statistics_are_refused_or_finite(tmp_path, foreign):
    whole = normaliser(tmp_path / "v.pkl", foreign).read_bytes()
    copy, refusals = tmp_path / "copy.pkl", 0
    for seed in range(600):
        copy.write_bytes(damaged(whole, seed))
        try:
            x = read_statistics(copy, S)
        except DataError as error:
            assert "saw" in str(error)
            refusals += 1
            continue
        assert torch.isfinite(x.mean).all() and (x.var >= 0).all() and x.clip > 0
    assert 200 < refusals < 600, refusals


def test_the_made_up_pickle_has_the_operations_of_published_ones(tmp_path, foreign):
    data = normaliser(tmp_path / "v.pkl", foreign).read_bytes()
    names = {op.name for op, _, _ in pickletools.genops(data)}
    assert {"NEWOBJ", "BUILD", "REDUCE", "SETITEMS", "GLOBAL"} <= names


def test_fifteen_policies_are_listed_with_addresses_and_hashes():
    rows = [row for env in KINDS for row in published.listed(env).values()]
    assert len(rows) == 15 and {row.algorithm for row in rows} == set(FAMILIES)
    for row in rows:
        files = [(row.policy, row.policy_sha256)]
        if FAMILIES[row.algorithm].normalised:
            files.append((row.observations, row.observations_sha256))
        else:
            assert row.observations == row.observations_sha256 == ""
        for address, sha256 in files:
            assert "/rl-trained-agents/cd35bde6" in address and f"/{row.algorithm}/" in address
            assert len(bytes.fromhex(sha256)) == 32
    hashes = {row.policy_sha256 for row in rows}
    assert len(hashes) == 15 and [r for r in rows if r.clock] == [
        published.listed("walker2d")["ppo"]
    ]


# the collection, from made-up policies of every algorithm


@pytest.fixture
def tiny(tmp_path, foreign, monkeypatch):
    """Five made-up policies of Walker2d in a local folder of the published layout, made-up returns,
    an empty cache, and sets of 300 steps in parts of 100.
    """
    lines = ["env,algorithm,inputs,policy,policy_sha256,observations,observations_sha256"]
    base = "https://data.invalid/owner/agents/commit/"

    def placed(path, sort, *arguments):
        target = tmp_path / "local" / "policies" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        sort(target, *arguments)
        return f"{base}{path},{hashlib.sha256(target.read_bytes()).hexdigest()}"

    for i, algorithm in enumerate(FAMILIES):
        inputs = S + (algorithm == "ppo")
        stored = tensors(algorithm, inputs, seed=i)
        lines.append(
            f"walker2d,{algorithm},{inputs},"
            + placed(f"{algorithm}/W/W.zip", archive, algorithm, stored)
            + ","
            + (
                placed(f"{algorithm}/W/W/v.pkl", normaliser, foreign, inputs)
                if FAMILIES[algorithm].normalised
                else ","
            )
        )
    (tmp_path / "published.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    means = dict(a2c=600, sac=2000, ppo=2800, tqc=3500, trpo=5000)
    returns = {k: dict(stochastic=dict(mean=v, std=1.0)) for k, v in means.items()}
    (tmp_path / "returns.json").write_text(
        json.dumps(dict(returns=dict(walker2d=returns))), encoding="utf-8"
    )
    monkeypatch.setattr(published, "LISTED", tmp_path / "published.csv")
    monkeypatch.setattr(published, "RETURNS", tmp_path / "returns.json")
    monkeypatch.setattr(locomotion, "STEPS", 300)
    monkeypatch.setattr(locomotion, "PART", 100)
    monkeypatch.setattr(locomotion, "SIDE_BY_SIDE", 3)
    monkeypatch.setattr(locomotion, "REPLAY_STEPS", dict(walker2d=302))
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    return tmp_path


def collected(level):
    with h5py.File(record(locomotion.recipe(f"walker2d-{level}-recollected"))) as file:
        texts = {k: file[f"metadata/{k}"][()].decode() for k in file["metadata"]}
        return {k: file[k][()] for k in ("observations", "actions", "timeouts")} | {
            "log_probs": file["infos/action_log_probs"][()],
            "texts": texts,
        }


def test_files_of_one_name_come_from_their_folders_and_lie_apart_in_the_cache(tiny):
    names = {row.load() and row.algorithm for row in published.listed("walker2d").values()}
    assert names == set(FAMILIES)
    assert "agents-ppo-W-W.zip" in os.listdir(tiny / "cache" / "downloads")


def test_medium_is_nearest_to_d4rls_and_expert_is_the_best(tiny):
    chosen = {
        level: [
            (s.rung.source.algorithm, s.steps, s.noise)
            for s in locomotion.stretches("walker2d", level)
        ]
        for level in locomotion.LEVELS
    }
    assert chosen == {
        "medium": [("ppo", 300, 0)],
        "expert": [("trpo", 300, 0)],
        "medium-expert": [("ppo", 300, 0), ("trpo", 300, 0)],
        "medium-replay": [
            ("a2c", 76, locomotion.NOISE),
            ("a2c", 76, 0),
            ("sac", 75, 0),
            ("ppo", 75, 0),
        ],
    }


def test_policies_without_measured_returns_are_said_with_the_command(tiny):
    (tiny / "returns.json").write_text('{"returns": {}}', encoding="utf-8")
    refused("policies.published --env walker2d", published.ladder, "walker2d")


def test_sets_have_their_steps_and_medium_expert_is_both(tiny):
    medium, expert, both = (collected(level) for level in ("medium", "expert", "medium-expert"))
    assert len(medium["actions"]) == 300 and len(collected("medium-replay")["actions"]) == 302
    for name in ("observations", "actions", "log_probs"):
        np.testing.assert_array_equal(both[name], np.concatenate([medium[name], expert[name]]))


def test_logged_log_probs_are_those_of_the_policy(tiny):
    data = collected("expert")
    policy = published.listed("walker2d")["trpo"].load()
    mean, log_std = policy.parameters(torch.from_numpy(data["observations"])).chunk(2, 1)
    inside = (np.abs(data["actions"]) < 1).all(1)
    z = (torch.from_numpy(data["actions"]) - mean) / log_std.exp()
    expected = (-(z**2) / 2 - log_std - math.log(2 * math.pi) / 2).sum(1).numpy()
    assert inside.any() and not inside.all()
    np.testing.assert_allclose(data["log_probs"][inside], expected[inside], atol=1e-3)
    assert np.abs(z[inside].numpy()).mean() > 0.3, "drawn, not the mean"


def test_policies_of_medium_replay_act_in_order_of_their_returns(tiny):
    recipe = locomotion.recipe("walker2d-medium-replay-recollected")
    assert recipe.parts == 4
    for i, algorithm in enumerate(("a2c", "a2c", "sac", "ppo")):
        policy = published.listed("walker2d")[algorithm].load()
        policy = replace(policy, noise=0 if i else locomotion.NOISE)
        inside = 0
        for episode in recipe.part(i):
            actions = torch.from_numpy(episode["actions"]).double()
            steps = enumerate(torch.from_numpy(episode["observations"][:-1]))
            parameters = torch.cat([policy.parameters(s[None], t) for t, s in steps]).double()
            mean, log_std = parameters.chunk(2, 1)
            u = actions.atanh() if FAMILIES[algorithm].std_of_state else actions
            _, expected = policy.family.draw(parameters, (u - mean) / log_std.exp())
            kept = (actions.abs() < 0.999).all(1)
            inside += int(kept.sum())
            seen = torch.from_numpy(episode["infos/action_log_probs"])
            np.testing.assert_allclose(seen[kept], expected[kept], atol=1e-3)
        assert inside, algorithm


def test_a_set_depends_on_its_policies_and_repeats_bit_for_bit(tiny):
    one = locomotion.recipe("walker2d-medium-replay-recollected")
    again = locomotion.recipe("walker2d-medium-replay-recollected").part(0)
    for a, b in zip(one.part(0), again, strict=True):
        np.testing.assert_array_equal(a["actions"], b["actions"])
    rows = (tiny / "published.csv").read_text(encoding="utf-8")
    sha256 = published.listed("walker2d")["sac"].policy_sha256
    (tiny / "published.csv").write_text(rows.replace(sha256, "0" * 64), encoding="utf-8")
    assert locomotion.recipe("walker2d-medium-replay-recollected").digest != one.digest


def test_card_says_what_differs(tiny):
    card = collected("medium-replay")["texts"]
    for said in (
        "1 - t/1000",
        "not Markov",
        "before that",
        "not the replay buffer",
        "averages about 2850",
        "expert (trpo) 5000",
        "4592",
        "rl-trained-agents",
    ):
        assert said in card["differences"], said
    assert "0.5 added" in card["behaviour"] and "MIT" in card["licence"]
    assert "not Markov" not in collected("expert")["texts"]["differences"]


def test_load_reads_what_was_recorded(tiny):
    dataset = locomotion.load("walker2d-medium-recollected")
    assert dataset.fidelity == "recollected" and (dataset.state_dim, dataset.action_dim) == (S, A)


def test_measured_returns_are_written_beside_those_of_others(tiny, monkeypatch):
    monkeypatch.setattr(published, "score", lambda act, envs: dict(stochastic=dict(mean=1, std=2)))
    published.main(["--env", "walker2d", "--algorithm", "sac"])
    said = json.loads((tiny / "returns.json").read_text(encoding="utf-8"))
    assert said["returns"]["walker2d"]["sac"]["stochastic"]["mean"] == 1
    assert said["returns"]["walker2d"]["ppo"]["stochastic"]["mean"] == 2800
    assert set(said["versions"]) >= {"torch", "mujoco"}


@pytest.mark.parametrize(
    "env, medium, best",
    [("hopper", "sac", "tqc"), ("walker2d", "trpo", "sac"), ("halfcheetah", "ppo", "tqc")],
)
def test_returns_of_every_listed_policy_are_kept(env, medium, best):
    rungs, at = published.ladder(env)
    assert len(rungs) == 5 and [r.mean for r in rungs] == sorted(r.mean for r in rungs)
    assert (rungs[at].source.algorithm, rungs[-1].source.algorithm) == (medium, best)
    near = abs(rungs[at].mean - published.MEDIUM[env])
    assert near == min(abs(r.mean - published.MEDIUM[env]) for r in rungs)


@pytest.mark.slow(reason="two whole episodes of real policies, which not everybody has")
@pytest.mark.parametrize(
    "env, algorithm, expected", [("halfcheetah", "ppo", 5887), ("hopper", "trpo", 3624)]
)
def test_real_policies_earn_what_they_earned_elsewhere(env, algorithm, expected):
    row = published.listed(env)[algorithm]
    if not (local_folder() / "policies" / algorithm).is_dir():
        pytest.skip("the published policies are not in ARQ_LOCAL_DATA")
    (episode,) = episodes(row.load(), KINDS[env](1), [0], None)
    assert episode["rewards"].sum(dtype=np.float64) == pytest.approx(expected, rel=0.05)
