"""Data and a simulator of one's own, fit for each other before training: states joined in one
order, actions of one box, and a simulator that is tried first.
"""

import functools
import re
import warnings
from collections import OrderedDict

import numpy as np
import pytest

gymnasium = pytest.importorskip(
    "gymnasium", reason="the simulators are an extra: pip install '.[sim]'"
)
from gymnasium.spaces import Box, Dict  # noqa: E402
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv  # noqa: E402
from gymnasium.wrappers import FlattenObservation  # noqa: E402
from gymnasium.wrappers.vector import FlattenObservation as FlattenVector  # noqa: E402

from arq_core.algorithm.types import DataError  # noqa: E402
from arq_core.config.settings import UnknownName  # noqa: E402
from arq_core.datasets.own import from_arrays, read_own  # noqa: E402
from arq_core.datasets.readers.minari import read_minari  # noqa: E402
from arq_core.engine import train  # noqa: E402
from arq_core.envs.gym import GymEnvs  # noqa: E402
from arq_core.envs.own import label, vectors  # noqa: E402
from arq_core.envs.vector import EnvError  # noqa: E402
from arq_core.experiments import experiment  # noqa: E402
from arq_core.experiments.episodes import check_layout  # noqa: E402
from arq_core.experiments.own_task import tried  # noqa: E402

LENGTH = 5
FREE = lambda n: Box(-np.inf, np.inf, (n,), np.float64)
GOAL = dict(achieved_goal=FREE(2), desired_goal=FREE(2), observation=FREE(4))
SPACES = dict(
    fetch=Dict(GOAL),
    kitchen=Dict(
        GOAL
        | {name: Dict(kettle=FREE(7), burner=FREE(2)) for name in ("achieved_goal", "desired_goal")}
    ),
    unsorted=Dict(OrderedDict(velocity=FREE(3), angle=FREE(1), mass=Box(-9, 9, (2, 2)))),
)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


class Drawn(gymnasium.Env):
    """Observations drawn from a seed, LENGTH steps an episode; the reward is the action's mean."""

    def __init__(self, space=None, low=-1.0, high=1.0, repeats=False, paid=lambda x: x, **info):
        self.observation_space = space or FREE(3)
        self.action_space = Box(np.float32(low) + np.zeros(2, np.float32), np.float32(high))
        self.repeats, self.paid, self.info = repeats, paid, info

    def draw(self):
        def of(space):
            if isinstance(space, Dict):
                return {name: of(part) for name, part in space.spaces.items()}
            return self.rng.normal(size=space.shape).astype(space.dtype)

        seen = of(self.observation_space)
        if self.repeats:
            seen["achieved_goal"] = seen["observation"][:2].copy()
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.rng = 0, np.random.default_rng(seed)
        return self.draw(), {}

    def step(self, action):
        assert self.t < LENGTH and self.action_space.contains(action), action
        self.t, self.action = self.t + 1, action
        over = self.t == LENGTH
        return self.draw(), self.paid(float(action.mean())), False, over, self.info


def limited(n=None, *, wrap=lambda env: env, **said):
    """A maker of such environments, as `gymnasium.make` makes them: with a time limit."""
    spec = gymnasium.envs.registration.EnvSpec("Drawn-v0", max_episode_steps=LENGTH)

    def make():
        env = Drawn(**said)
        env.spec = spec
        return wrap(env)

    return make


def recorded(make, name="ours/drawn-v0", episodes=3):
    """A Minari dataset of the environment's own episodes, and its name."""
    minari = pytest.importorskip("minari", reason="needs Minari: its writer makes the files")
    from minari.data_collector.episode_buffer import EpisodeBuffer

    buffers, env = [], make()
    stack = lambda seen, like: (
        {k: stack([s[k] for s in seen], like[k]) for k in like}
        if isinstance(like, dict)
        else np.stack(seen)
    )
    for seed in range(episodes):
        seen, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        states, actions = [seen], []
        for _ in range(LENGTH):
            actions.append(env.action_space.sample())
            states.append(env.step(actions[-1])[0])
        buffers.append(
            EpisodeBuffer(
                observations=stack(states, seen),
                actions=np.stack(actions),
                rewards=np.zeros(LENGTH),
                terminations=np.arange(LENGTH) == LENGTH - 1,
                truncations=np.zeros(LENGTH, bool),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=env.observation_space,
            action_space=env.action_space,
        )
    return f"minari:{name}"


def prepared(data, environment, **more):
    return experiment.prepare(
        data, "toy", seeds=1, group="maze", environment=environment, device="cpu", **more
    )


def episode_of(setup, seed):
    """States [LENGTH S] of the episode of a seed in the setup's simulator."""
    envs = setup.task.environments(1)
    states = [envs.reset([seed])[0]]
    for _ in range(LENGTH - 1):
        states.append(envs.step(np.zeros((1, envs.action_dim), np.float32))[0][0])
    return np.stack(states)


WRAPPED = dict(
    plain=lambda make: lambda n: GymEnvs(make, n, LENGTH),
    one=lambda make: lambda n: make(),
    flattened=lambda make: lambda n: FlattenObservation(make()),
    vector=lambda make: lambda n: SyncVectorEnv([make] * n),
    flattened_inside=lambda make: lambda n: SyncVectorEnv([lambda: FlattenObservation(make())] * n),
    flattened_vector=lambda make: lambda n: FlattenVector(SyncVectorEnv([make] * n)),
)


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("space", SPACES)
def test_states_are_joined_in_the_order_of_the_data_wherever_a_policy_acts(space, kind):
    make = limited(space=SPACES[space])
    setup = prepared(recorded(make), WRAPPED[kind](make))
    data = setup.dataset.transitions
    for seed in range(3):
        states = data.states[data.state[data.episode == seed]].numpy()
        assert np.array_equal(states, episode_of(setup, seed)), (space, kind, seed)


def test_a_position_that_the_data_leave_out_is_left_out_where_a_policy_acts():
    make = limited(space=SPACES["fetch"], repeats=True)
    setup = prepared(recorded(make), WRAPPED["plain"](make))
    assert setup.dataset.layout == (("observation", 4), ("desired_goal", 2))
    data = setup.dataset.transitions
    assert np.array_equal(data.states[data.state[:LENGTH]].numpy(), episode_of(setup, 0))
    assert {len(s) for s in episode_of(setup, 1)} == {6}


def test_an_order_that_was_chosen_when_reading_is_kept_where_a_policy_acts():
    make = limited(space=SPACES["fetch"])
    name = recorded(make).removeprefix("minari:")
    for keys in (("desired_goal", "observation"), ("observation", "desired_goal", "achieved_goal")):
        setup = prepared(read_minari(name, observation_keys=keys), WRAPPED["plain"](make))
        data = setup.dataset.transitions
        assert np.array_equal(data.states[data.state[:LENGTH]].numpy(), episode_of(setup, 0))


@pytest.mark.parametrize(
    "other",
    [
        Dict(achieved_goal=FREE(2), desired_goal=FREE(2), velocity=FREE(4)),
        Dict(achieved_goal=FREE(3), desired_goal=FREE(2), observation=FREE(3)),
    ],
)
def test_other_parts_of_the_same_total_width_are_refused_before_training(other):
    data = recorded(limited(space=SPACES["fetch"]))
    with pytest.raises(EnvError, match=r"saw states of .*, expected .* achieved_goal \(2\), obs"):
        prepared(data, WRAPPED["plain"](limited(space=other)))


def test_a_vector_of_ones_own_that_says_another_order_is_refused_before_training(monkeypatch):
    data = recorded(limited(space=SPACES["fetch"]))

    class Mine(GymEnvs):
        arrange = None

    with pytest.raises(DataError, match="the same numbers would mean other things"):
        prepared(data, lambda n: Mine(limited(space=SPACES["fetch"]), n, LENGTH))


def test_a_simulator_that_says_no_order_is_named(capsys):
    data = recorded(limited(space=SPACES["fetch"]))
    prepared(data, limited(space=FREE(8)))
    assert "the simulator does not say how its states are joined" in capsys.readouterr().out


def test_arrays_of_no_stated_order_meet_gymnasiums():
    space = SPACES["fetch"]
    setup = prepared(arrays(-1, 1, states=8), WRAPPED["plain"](limited(space=space)))
    seen, _ = Drawn(space).reset(seed=3)
    assert np.array_equal(
        episode_of(setup, 3)[0], gymnasium.spaces.flatten(space, seen).astype(np.float32)
    )


def arrays(low, high, states=3, steps=60, **said):
    """Arrays whose actions fill a box, its corners among them."""
    rng = np.random.default_rng(0)
    low, high = (np.broadcast_to(np.float32(x), 2) for x in (low, high))
    actions = rng.uniform(low, high, (steps, 2)).astype(np.float32)
    actions[0], actions[1] = low, high
    ends = np.arange(steps) % 20 == 19
    return from_arrays(
        rng.normal(size=(steps, states)), actions, np.ones(steps), ends, np.zeros(steps), **said
    )


BOXES = [(-0.4, 0.4), (-2, 2), ([-0.4, 0], [0.4, 3]), ([0, -5], [0.25, -2])]


@pytest.mark.parametrize("low, high", BOXES)
@pytest.mark.parametrize("said", [True, False])
def test_a_recorded_action_is_the_one_that_acts(low, high, said):
    data = arrays(low, high, bounds=(low, high) if said else None)
    setup = prepared(data, lambda n: Drawn_limited(low, high))
    envs = setup.task.environments(1)
    original = arrays(low, high)
    actions = original.transitions.actions if original.recorded is None else original.recorded
    for policy, meant in zip(setup.dataset.transitions.actions, actions, strict=True):
        envs.reset([0])
        envs.step(policy.numpy()[None])
        acted = envs.envs[0].unwrapped.action
        np.testing.assert_allclose(acted, meant.numpy(), rtol=0, atol=1e-6)
    assert setup.dataset.transitions.actions.abs().max() == 1


def Drawn_limited(low, high):
    return limited(low=low, high=high)()


def test_what_the_simulators_box_decided_is_printed(capsys):
    prepared(arrays(-0.4, 0.4), lambda n: Drawn_limited(-0.4, 0.4))
    said = capsys.readouterr().out
    assert re.search(
        r"own-data-[0-9a-f]{8}-\S+: nobody said in which box the actions were recorded", said
    )
    assert "[-0.4, 0.4], was taken" in said


@pytest.mark.parametrize(
    "data, box, message",
    [
        # scaled to another box than the simulator's
        (dict(low=-1, high=1), (-0.4, 0.4), r"fill \[-1, 1\], .*% outside of the box|outside of"),
        (dict(low=-3, high=3), (-2, 2), r"fill \[-3, 3\].* outside of the box \[-2, 2\]"),
        (dict(low=-2, high=2), (-1, 1), r"fill \[-2, 2\].* outside of the box \[-1, 1\]"),
        # raw, or scaled already: nobody can know
        (dict(low=-1, high=1), (-2, 2), r"fill \[-1, 1\].*the box \[-2, 2\].*bounds='normalized'"),
        (dict(low=-0.3, high=0.3), ([-1, 0], [1, 9]), r"the box \[-1, 0\] to \[1, 9\].*bounds="),
        # the data say another one
        (dict(low=-2, high=2, bounds=(-2, 2)), (-1, 1), r"box \[-2, 2\], expected .* \[-1, 1\]"),
        (
            dict(low=-0.4, high=0.4, bounds=(-0.4, 0.4)),
            (-0.5, 0.4),
            r"box \[-0.4, 0.4\], expected .* \[-0.5, 0.4\]",
        ),
    ],
)
def test_boxes_that_do_not_fit_are_refused_with_both(data, box, message, monkeypatch):
    monkeypatch.setattr(train.torch.optim, "Adam", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(DataError, match=message):
        prepared(arrays(**data), lambda n: Drawn_limited(*box))


def test_a_box_that_minaris_metadata_state_is_compared_with_the_simulators():
    name = recorded(limited(low=-0.4, high=0.4))
    prepared(name, limited(low=-0.4, high=0.4))
    with pytest.raises(DataError, match=r"\[-0.4, 0.4\], expected .* \[-2, 2\]"):
        prepared(name, limited(low=-2, high=2))
    # a wrapper that scales to [-1, 1]
    setup = prepared(name, limited(), bounds="normalized")
    assert setup.dataset.transitions.actions.abs().max() <= 1


def test_without_a_simulator_actions_far_outside_of_the_unit_box_are_refused():
    for low, high in ((-2, 2), ([0, -5], [0.25, -2])):
        with pytest.raises(DataError, match=r"outside of the box \[-1, 1\]"):
            prepared(arrays(low, high), "")
        setup = prepared(arrays(low, high, bounds=(low, high)), "")
        assert setup.dataset.transitions.actions.min() == -1


def test_a_few_entries_outside_are_clipped_and_counted(capsys):
    data = arrays(-1, 1)
    few = data.transitions.actions.clone()
    few[:3] *= 1.2
    columns = np.arange(len(few)) % 19 == 18
    given = from_arrays(np.ones((len(few), 3)), few.numpy(), columns, columns, ~columns & False)
    setup = prepared(given, "")
    assert setup.dataset.transitions.actions.abs().max() == 1
    assert "clipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", ["normal", (1,), (2, -2), ("a", "b"), (-1, np.inf), (-1, [1] * 3)]
)
def test_bounds_that_are_no_box_are_refused(wrong):
    with pytest.raises(DataError, match="bounds: saw"):
        arrays(-1, 1, bounds=wrong)


def test_bounds_of_a_space_of_a_file_and_of_a_command_line(tmp_path):
    import h5py

    space = Box(np.float32([-0.4, 0]), np.float32([0.4, 3]))
    data, path = arrays(space.low, space.high, bounds=space), tmp_path / "mine.hdf5"
    rng, ends = np.random.default_rng(0), np.arange(60) % 20 == 19
    actions = rng.uniform(space.low, space.high, (60, 2)).astype(np.float32)
    actions[0], actions[1] = space.low, space.high
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = rng.normal(size=(60, 3)), actions
        file["rewards"], file["terminals"], file["timeouts"] = np.ones(60), ends, np.zeros(60)
    for bounds in (space, "-0.4,0:0.4,3", ((-0.4, 0), (0.4, 3))):
        for read in (read_own(path, bounds=bounds), prepared(str(path), "", bounds=bounds).dataset):
            assert np.array_equal(read.transitions.actions, data.transitions.actions)
    assert np.array_equal(
        prepared(
            str(path), lambda n: Drawn_limited(space.low, space.high)
        ).dataset.transitions.actions.numpy(),
        data.transitions.actions.numpy(),
    )


def test_tasks_of_the_table_take_no_bounds():
    with pytest.raises(experiment.settings.UnknownName, match="bounds: saw .*expected none"):
        experiment.prepare("maze", "toy", bounds=(-1, 1))


class Callable:
    def __call__(self, n):
        return gymnasium.make("Pendulum-v1")


def seconds(make, n):
    return SyncVectorEnv([make] * n)


PENDULUM = lambda: gymnasium.make("Pendulum-v1")
MAKERS = dict(
    make_vec=lambda n: gymnasium.make_vec("Pendulum-v1", num_envs=n),
    same_step=lambda n: SyncVectorEnv([PENDULUM] * n, autoreset_mode=AutoresetMode.SAME_STEP),
    disabled=lambda n: SyncVectorEnv([PENDULUM] * n, autoreset_mode=AutoresetMode.DISABLED),
    asynchronous=lambda n: gymnasium.make_vec(
        "Pendulum-v1", num_envs=n, vectorization_mode="async"
    ),
    partial=functools.partial(gymnasium.make, "Pendulum-v1"),
    partial_vector=functools.partial(gymnasium.make_vec, "Pendulum-v1"),
    partial_of_ours=functools.partial(seconds, PENDULUM),
    callable_object=Callable(),
    single=lambda n: PENDULUM(),
    without_argument=PENDULUM,
    wider=lambda n: SyncVectorEnv([PENDULUM] * (n + 2)),
    module="gymnasium:gymnasium.envs.classic_control:Pendulum-v1",
)


@pytest.mark.parametrize("name", MAKERS)
def test_simulators_as_users_have_them_give_the_same_episodes(name):
    make, reference = vectors(MAKERS[name]), vectors("gymnasium:Pendulum-v1")(3)
    assert tried(make)[0] == 200
    envs = make(3)
    assert np.array_equal(envs.reset([4, 5, 6]), reference.reset([4, 5, 6]))
    actions = np.random.default_rng(0).uniform(-1, 1, (203, 3, 1)).astype(np.float32)
    for t, a in enumerate(actions):
        # beyond the end nothing is counted, whatever the vector begins by itself
        got, expected = envs.step(a), reference.step(a)
        for x, y in zip(got[1:], expected[1:], strict=True):
            assert np.array_equal(x, y), (name, t)
        if t < 199:
            assert np.array_equal(got[0], expected[0])
    assert got[2].all() and not got[1].any()
    envs.close()
    assert "0x" not in label(MAKERS[name])


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_a_vector_that_is_there_already_is_used_and_stays_open(kind):
    brief = functools.partial(gymnasium.make, "Pendulum-v1", max_episode_steps=LENGTH)
    vector = kind([brief] * 12)
    setup = prepared(arrays_1d(), vector)
    rows = experiment.measure(setup, "s_psi")
    again = experiment.measure(setup, "s_psi")
    assert [r["return_"] for r in rows] == [r["return_"] for r in again]
    vector.close()
    few = SyncVectorEnv([PENDULUM])
    with pytest.raises(EnvError, match="saw a vector of 1 environments for .* episodes"):
        experiment.measure(prepared(arrays_1d(), few), "s_psi")


def arrays_1d():
    rng, ends = np.random.default_rng(0), np.arange(60) % 20 == 19
    return from_arrays(
        rng.normal(size=(60, 3)), rng.uniform(-2, 2, (60, 1)), np.ones(60), ends, ends & False
    )


def test_rewards_of_one_entry_and_successes_of_both_names_are_read():
    for success in (True, np.array([True]), 1.0):
        envs = vectors(
            limited(paid=lambda x: np.array([x]), success=success, is_success=np.array([1]))
        )(2)
        envs.reset([0, 1])
        _, rewards, _, reached = envs.step(np.float32([[1, 1], [0, 0]]))
        assert rewards.tolist() == [1.0, 0.0] and reached.all()


class Ours:
    """A VectorEnv that goes wrong in one way."""

    state_dim, action_dim, horizon = 3, 2, LENGTH

    def __init__(self, n, **wrong):
        self.n, self.wrong = n, wrong

    def reset(self, seeds):
        return self.wrong.get("start", np.zeros((self.n, 3)))

    def step(self, actions):
        zeros = np.zeros(self.n)
        step = dict(states=np.zeros((self.n, 3)), rewards=zeros, over=zeros > 0, success=zeros > 0)
        return self.wrong.get("step", tuple((step | self.wrong)[name] for name in step))


@pytest.mark.parametrize(
    "simulator, message",
    [
        (limited(paid=lambda x: np.nan), "saw the reward nan"),
        (limited(paid=lambda x: np.zeros(2)), r"saw the reward .* of shape \(2,\)"),
        (limited(paid=lambda x: None), "saw the reward None"),
        (limited(success=True, is_success=False), "success = True and is_success = False"),
        (limited(success=np.nan), r"saw info\['success'\] nan"),
        (limited(is_success="no"), r"saw info\['is_success'\] no"),
        (lambda n: Ours(n, start=np.full((n, 3), np.nan)), "saw states that are not finite in 2"),
        (lambda n: Ours(n, start=np.zeros((n, 4))), r"saw states of shape \(2, 4\)"),
        (lambda n: Ours(n, states=np.zeros((n, 2))), r"saw states of shape \(2, 2\)"),
        (lambda n: Ours(n, states=np.full((n, 3), 1e300)), "saw states that are not finite"),
        (lambda n: Ours(n, rewards=np.full(n, np.inf)), "saw rewards that are not finite in 2"),
        (lambda n: Ours(n, rewards=np.zeros((n, 2))), r"saw rewards of shape \(2, 2\)"),
        (lambda n: Ours(n, rewards=0.0), r"saw rewards of shape \(\)"),
        (lambda n: Ours(n, over=np.full(n, np.nan)), "saw terminated that are not finite"),
        (lambda n: Ours(n, success=None), r"saw success of shape \(\)"),
        (lambda n: Ours(n, step=(1, 2, 3, 4, {})), "saw 5 values from step"),
        (lambda n: 1 / 0, "saw ZeroDivisionError: division by zero"),
        (lambda n: object(), "saw an object of type object without state_dim"),
        (lambda a, b: None, "expected a function of one argument"),
        (3, "saw an object of type int, expected a task's name"),
    ],
)
def test_what_is_wrong_with_a_simulator_is_said_before_training(simulator, message, monkeypatch):
    monkeypatch.setattr(train.torch.optim, "Adam", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(EnvError, match=message):
        prepared(arrays(-1, 1), simulator)


def test_an_environment_where_a_maker_belongs_is_refused():
    with pytest.raises(EnvError, match="expected a function that makes them"):
        vectors(PENDULUM())
    one = PENDULUM()
    with pytest.raises(EnvError, match="saw the same .* for several of 2 episodes"):
        vectors(lambda n: one)(2)


def test_what_goes_wrong_later_is_refused_and_not_averaged():
    class Late(Ours):
        t = 0

        def step(self, actions):
            self.t += 1
            states, rewards, over, success = super().step(actions)
            rewards = rewards + (np.nan if self.t == 3 else 0)
            return states, rewards, over, success

    setup = prepared(arrays(-1, 1), Late)
    with pytest.raises(EnvError, match="rewards that are not finite in .* at step 2"):
        experiment.measure(setup, "s_psi")


@pytest.mark.parametrize("seeds", [[], range(3)])
def test_a_count_of_seeds_that_no_simulator_was_made_for_is_refused(seeds):
    for simulator in (limited(), lambda n: SyncVectorEnv([limited()] * n)):
        with pytest.raises(EnvError, match=f"saw {len(seeds)} seeds, expected 1 to 2"):
            vectors(simulator)(2).reset(seeds)


def by_limit(max_steps=7):
    return gymnasium.wrappers.TimeLimit(limited()(), max_steps)


def by_id(env_id="drawn"):
    return dict(drawn=limited())[env_id]()


def vector_by_id(env_id="drawn", num_envs=1):
    return SyncVectorEnv([lambda: by_id(env_id)] * num_envs)


class Empty:
    """A maker that is false where a truth is asked for."""

    def __call__(self, seed=None):
        assert seed is None
        return limited()()

    def __len__(self):
        return 0


@pytest.mark.parametrize("maker", [by_limit, by_id, vector_by_id, Empty(), lambda *a: by_id(*a)])
def test_an_argument_that_is_no_count_keeps_its_own_value(maker):
    envs = vectors(maker)(3)
    assert envs.reset([0, 1, 2]).shape == (3, 3)
    assert envs.horizon == (7 if maker is by_limit else LENGTH) or maker is by_limit
    setup = prepared(arrays(-1, 1), maker)
    assert setup.task.task.endswith(re.sub(r"[^A-Za-z0-9_+]+", "-", label(maker)).strip("-"))


def test_a_plan_of_a_maze_is_no_layout_of_states():
    data = recorded(limited(space=Dict(position=FREE(1), velocity=FREE(1))), "ours/plan-v0")
    assert prepared(data, "maze").task.environments(1).state_dim == 2
    check_layout(prepared(data, "maze").task.environments(1), (("position", 1), ("velocity", 1)))
    for plan in ("#..#", np.ones((3, 3)), dict(start=1), [("a", "b")], None, 3):
        ours = type("Planned", (Ours,), dict(layout=plan))
        check_layout(ours(1), (("position", 1), ("velocity", 2)))
        assert prepared(arrays(-1, 1), ours).task.horizon == LENGTH


@pytest.mark.parametrize(
    "outer",
    [
        lambda env: gymnasium.wrappers.DtypeObservation(env, np.float32),
        gymnasium.wrappers.NormalizeObservation,
    ],
)
def test_states_that_were_joined_and_then_changed_have_the_order_of_the_join(outer):
    space = SPACES["unsorted"]
    data = recorded(limited(space=space), "ours/joined-v0")
    other = Dict({name: space[name] for name in sorted(space.spaces)})
    maker = limited(space=other, wrap=lambda env: outer(FlattenObservation(env)))
    layout = prepared(data, maker).task.environments(1).layout
    assert layout == prepared(data, limited(space=space)).task.environments(1).layout != ()


@pytest.mark.parametrize("name", ["Pendulum-v1", "Walker2d-v5"])
def test_an_id_without_its_sign_is_told_how_to_write_it(name):
    with pytest.raises(UnknownName, match="^environment .*or gymnasium:ID"):
        prepared(arrays(-1, 1), name)


def test_no_simulator_is_nothing_or_none():
    assert not prepared(arrays(-1, 1), None).task.environment


@pytest.mark.parametrize(
    "said", [(-2, 2), np.float32([[-2, -2], [2, 2]]), Box(-2, 2, (2,)), (np.full(2, -2.0), [2, 2])]
)
def test_a_box_of_actions_is_read_in_any_of_its_forms(said):
    ours = type("Boxed", (Ours,), dict(action_box=said, close=None))
    assert tried(ours)[1].same(tried(vectors(limited(low=-2.0, high=2.0)))[1])


@pytest.mark.parametrize("said", [(-2,), 3, (2, -2), "wide"])
def test_a_box_of_actions_that_is_none_is_named(said):
    with pytest.raises(DataError, match="environment: action_box: saw"):
        tried(type("Boxed", (Ours,), dict(action_box=said)))


@pytest.mark.parametrize(
    "simulator",
    [
        limited(paid=lambda x: np.ma.masked),
        limited(success=np.ma.array([1.0], mask=[True])),
        lambda n: Ours(n, rewards=np.ma.array(np.ones(n), mask=np.arange(n) == 1)),
    ],
)
def test_what_a_simulator_masks_is_no_number(simulator):
    with pytest.raises(EnvError, match="environment: saw"):
        prepared(arrays(-1, 1), simulator)


def test_two_nameless_makers_are_two_simulators():
    pole = "CartPole-v1"
    makers = [
        lambda n: gymnasium.make("Hopper-v5"),
        lambda n: gymnasium.make("Hopper-v4"),
        lambda n: gymnasium.make_vec("Hopper-v5", num_envs=n),
        lambda n: gymnasium.make(pole),
    ]
    again = [lambda n: gymnasium.make("Hopper-v5")]
    assert len({label(maker) for maker in makers}) == len(makers)
    assert label(again[0]) == label(makers[0])
