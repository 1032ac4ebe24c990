"""What a row leaves besides its scores: it is what the finished steps say, and changes none."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from problems import streams

import arq_core as arq
from arq_core.algorithm.types import in_support
from arq_core.book.notebook import RunError
from arq_core.book.pages import row_job
from arq_core.config.paths import root
from arq_core.config.settings import UnknownName
from arq_core.engine.filestore import FileStore
from arq_core.engine.store import NoStore
from arq_core.engine.train import marks, snapshot, train
from arq_core.engine.updates import Update
from arq_core.experiments import experiment, logged
from arq_core.experiments.critics import of_candidates


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """60 transitions, scored in the maze, with networks and budgets of nothing; two seeds, in a
    cache of its own."""
    g, ends = np.random.default_rng(0), np.arange(60) % 20 == 19
    actions = g.uniform(-1, 1, (60, 2)).astype(np.float32)
    data = arq.from_arrays(
        g.normal(size=(60, 2)).astype(np.float32),
        actions,
        g.normal(size=60),
        ends,
        ends & False,
        name="mine",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        e = arq.prepare(data, "toy", [0, 1], group="maze", environment="maze", device="cpu")
        small = dict(width=16, ensemble=2, batch=32, n=4, acting_n=4, k=1)
        hyper = replace(e.hyper, **small)
        steps = dict(score_steps=100, q_steps=120, policy_steps=100)
        budget = replace(e.budget, episodes=4, sampler_steps=4, **steps)
        yield replace(e, hyper=hyper, budget=budget, task=replace(e.task, horizon=20))


def table(path):
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_losses_and_seconds_are_those_of_the_finished_steps(setup, tmp_path):
    folder = logged.write(setup, "arq+s_psi", tmp_path)
    assert folder == tmp_path / f"{setup.task.task}.toy.arq+s_psi.released"
    losses, store = table(folder / "losses.csv"), setup.store()
    assert tuple(losses[0]) == ("training", "module", "seed", "copy", "step", "loss")
    files = {p.name.split("-")[0]: p for p in store.folder.glob("*.safetensors")}
    for training, copies, points in (("behavior", 2, 2), ("q", 2, 2)):
        (name,) = [k for k in safetensors.torch.load_file(files[training]) if k == "loss"]
        curve = safetensors.torch.load_file(files[training])[name]
        assert curve.shape == (2 * copies, points)
        of = [x for x in losses if x["training"] == training]
        said = [[int(x["seed"]), int(x["copy"]), int(x["step"])] for x in of]
        assert said == [[s, c, k] for s in (0, 1) for c in range(copies) for k in (50, 100)]
        assert [float(x["loss"]) for x in of] == curve.flatten().tolist()
    seconds = {x["training"]: float(x["seconds"]) for x in table(folder / "seconds.csv")}
    assert list(seconds) == ["behavior", "support", "q"] and min(seconds.values()) > 0
    for name, took in seconds.items():
        assert took == safetensors.torch.load_file(files[name])["seconds"].item()


def test_a_log_asked_for_afterwards_trains_nothing(setup, tmp_path, monkeypatch):
    first = logged.write(setup, "arq+s_psi", tmp_path / "a")
    times = lambda: {p: p.stat().st_mtime_ns for p in setup.store().folder.glob("*.safetensors")}
    before = times()
    again = logged.write(setup, "arq+s_psi", tmp_path / "b")
    assert before == times()
    for name in ("losses.csv", "seconds.csv", "after.csv"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_values_are_means_over_recorded_actions_and_candidates_in_support(setup, tmp_path):
    after = table(logged.write(setup, "arq+s_psi", tmp_path) / "after.csv")
    assert tuple(after[0]) == ("seed", "in_support", "q_data", "q_candidates")
    trained = experiment.train(setup, "arq+s_psi")
    assert [float(x["in_support"]) for x in after] == trained.in_support.tolist()
    data = setup.data
    q = trained.policy.q
    m = torch.linspace(0, len(data.actions) - 1, min(1_000, len(data.actions))).long()
    for e, line in enumerate(after):
        one = [
            q(data.states[data.state[i]].expand(2, 1, -1), data.actions[i].expand(2, 1, 1, -1))[
                e
            ].item()
            for i in m[::37]
        ]
        every = q(
            data.states[data.state[m]].expand(2, -1, -1),
            data.actions[m, None].expand(2, -1, -1, -1),
        )[e, :, 0]
        assert one == pytest.approx(every[::37].tolist(), abs=1e-5)
        assert float(line["q_data"]) == pytest.approx(every.mean().item(), abs=1e-5)
    bc = table(logged.write(setup, "bc", tmp_path) / "after.csv")
    assert [list(x.values()) for x in bc] == [["0", "", "", ""], ["1", "", "", ""]]


def test_candidates_outside_of_the_support_do_not_count():
    from types import SimpleNamespace

    support = SimpleNamespace(
        actions=torch.tensor([[[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]]]),
        log_prob=torch.tensor([[[0.0, -9.0, 0.0], [-9.0, -9.0, 0.0]]]),
    )
    data = SimpleNamespace(
        states=torch.zeros(2, 1),
        state=torch.tensor([0, 1, 1]),
        actions=torch.tensor([[3.0], [5.0], [7.0]]),
    )
    said = of_candidates(data, lambda s, a: a.squeeze(-1), support, -1.0)
    # recorded: 3, 5, 7; in support: 1 and 4 at the first state, 32 at the second, twice
    assert [x.tolist() for x in said] == [[5.0], [pytest.approx((1 + 4 + 32 + 32) / 4)]]
    assert in_support(support.log_prob, -1.0).sum() == 3


@pytest.fixture
def scalars():
    """Reads a run's events by TensorBoard's own reader: {tag: [(step, value)]}."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the extra log is not installed: pip install -c constraints.txt -e '.[log]'",
    )

    def read(run):
        events = reader.EventAccumulator(str(run))
        events.Reload()
        tags = events.Tags()["scalars"]
        return {tag: [(x.step, x.value) for x in events.Scalars(tag)] for tag in tags}

    return read


@pytest.mark.parametrize("method", ["arq+s_psi", "bc", "iql"])
def test_events_are_the_numbers_of_the_csv(setup, tmp_path, scalars, method):
    e = replace(setup, budget=replace(setup.budget, iql_steps=100))
    for _ in range(2):  # a second log takes the place of the first
        folder = logged.write(e, method, tmp_path)
    losses, after = table(folder / "losses.csv"), table(folder / "after.csv")
    for seed in setup.seeds:
        expected = {}
        for x in losses:
            if int(x["seed"]) == seed:
                tag = "/".join(filter(None, ("loss", x["training"], x["module"], x["copy"])))
                expected.setdefault(tag, []).append((int(x["step"]), np.float32(x["loss"])))
        (last,) = [x for x in after if int(x["seed"]) == seed]
        values = {k: v for k, v in last.items() if k != "seed" and v}
        expected |= {f"after/{k}": [(0, np.float32(v))] for k, v in values.items()}
        assert expected and scalars(folder / f"seed-{seed}") == expected


def test_events_of_a_curve_are_each_seeds_scores(alone, tmp_path, scalars):
    folder = logged.write(alone, "bc", tmp_path)
    points = json.loads((folder / "curve.json").read_text(encoding="utf-8"))["points"]
    for i, seed in enumerate(alone.seeds):
        said = [(p["step"], np.float32(p["score_by_seed"][i])) for p in points]
        assert len(said) == 3 and scalars(folder / f"seed-{seed}")["curve/score"] == said


def test_events_of_seeds_that_the_csv_no_longer_has_are_gone(setup, tmp_path, scalars):
    folder = logged.write(setup, "bc", tmp_path)
    (folder / "seed-1/notes.txt").write_text("mine", encoding="utf-8")
    only = arq.prepare(setup.dataset, "toy", [0], group="maze", environment="maze", device="cpu")
    only = replace(setup, rng=only.rng)
    assert logged.write(only, "bc", tmp_path) == folder
    assert {x["seed"] for x in table(folder / "losses.csv")} == {"0"}
    left = sorted(str(p.relative_to(folder)) for p in folder.glob("seed-*/*"))
    assert left[0].startswith("seed-0/events.") and left[1:] == ["seed-1/notes.txt"]


def test_without_tensorboard_there_are_csv_files_and_a_word(setup, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    folder = logged.write(setup, "bc", tmp_path)
    assert {p.name for p in folder.iterdir()} == {"losses.csv", "seconds.csv", "after.csv"}
    assert '".[log]"' in capsys.readouterr().out


def test_snapshots_lie_equally_far_apart_and_end_at_the_end():
    assert marks(1_000, 4) == [250, 500, 750, 1_000] and marks(10, 3) == [3, 6, 10]
    assert marks(2, 5) == [1, 2] and marks(100, 0) == []


def trained_line(store, steps, draws=None):
    """The weight of a line fitted to noise by `train`, after so many steps."""
    rng = draws or streams(0)
    line = torch.nn.Module()
    line.weight = torch.nn.Parameter(torch.zeros(1, 1))

    def loss():
        return (line.weight[:, 0] - rng.randn(4).mean(1)).square()

    train(
        "line",
        dict(a=1),
        dict(line=line),
        [Update("line", loss, 0.1)],
        steps=steps,
        rng=rng,
        store=store,
    )
    return line.weight.detach().clone()


def test_snapshots_change_nothing_and_are_what_a_shorter_training_ends_with(tmp_path):
    plain = trained_line(NoStore(), 90)
    store = FileStore(tmp_path, snapshots=3)
    assert torch.equal(trained_line(store, 90), plain)
    for step in (30, 60, 90):
        kept = store.load(snapshot("line", step), dict(a=1))
        assert torch.equal(kept["line.weight"], trained_line(NoStore(), step))
    assert logged.snapshots_of(store, "line", dict(a=1)) == [30, 60, 90]
    assert logged.snapshots_of(FileStore(tmp_path, 6), "line", dict(a=1)) == []
    # seconds of snapshots are no seconds of the row
    assert [p.name.split("-")[0] for p in store.seconds] == ["line"]


def test_a_training_that_was_stopped_leaves_the_same_snapshots(tmp_path, monkeypatch):
    from arq_core.engine import train as module

    store, steps = FileStore(tmp_path, snapshots=3), []
    monkeypatch.setattr(module._State, "is_due", lambda self: self.step == 45)
    save = module._State.save

    def stopped(self):
        save(self)
        steps.append(self.step)
        raise KeyboardInterrupt

    monkeypatch.setattr(module._State, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained_line(store, 90)
    monkeypatch.undo()
    assert steps == [45]
    assert torch.equal(trained_line(store, 90), trained_line(NoStore(), 90))
    kept = [store.load(snapshot("line", k), dict(a=1))["line.weight"] for k in (30, 60, 90)]
    assert all(torch.equal(x, trained_line(NoStore(), k)) for x, k in zip(kept, (30, 60, 90)))


@pytest.mark.parametrize("method", ["bc", "arq+s_psi"])
def test_a_curve_is_the_row_at_fewer_steps_and_ends_with_the_row(setup, tmp_path, method):
    e = replace(setup, snapshots=2)
    row = experiment.measure(setup, method)  # trained without snapshots: once more for the curve
    ends = {p: p.read_bytes() for p in e.store().folder.glob("*.safetensors")}
    folder = logged.write(e, method, tmp_path)
    assert all(p.read_bytes() == content for p, content in ends.items())
    said = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    last, field = ("policy_steps" if method == "bc" else "q_steps"), e.budget
    steps = getattr(field, last)
    assert [p["step"] for p in said["points"]] == [steps // 2, steps]
    scores = np.array([r["score"] for r in row]).reshape(2, 4)
    assert said["points"][-1]["score_by_seed"] == pytest.approx(scores.mean(1).tolist())
    half = experiment.measure(replace(e, budget=replace(e.budget, **{last: steps // 2})), method)
    scores = np.array([r["score"] for r in half]).reshape(2, 4)
    assert said["points"][0]["score_by_seed"] == pytest.approx(scores.mean(1).tolist())
    assert said["training"] == ("bc" if method == "bc" else "q")


def kept_snapshots(e):
    return {p.name for p in e.store().folder.glob("*.at_*")}


@pytest.fixture
def alone(setup, tmp_path, monkeypatch):
    """The experiment with three snapshots, in a cache where nothing is trained."""
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    return replace(setup, snapshots=3)


def test_snapshots_are_removed_once_they_are_scored_and_their_scores_are_found_again(
    alone, tmp_path, monkeypatch
):
    folder = logged.write(alone, "arq+s_psi", tmp_path / "a")
    assert kept_snapshots(alone) == set()  # of no training: of behavior and q there were some
    assert len(list(alone.store().folder.glob("q-*.safetensors"))) == 1
    files = lambda: alone.store().folder.glob("*.safetensors")
    times = lambda: {p: p.stat().st_mtime_ns for p in files()}
    before = times()
    again = logged.write(alone, "arq+s_psi", tmp_path / "b")
    assert times() == before  # nothing is trained, and no episode run
    assert (again / "curve.json").read_bytes() == (folder / "curve.json").read_bytes()
    # another number of them is another question: the last training is done once more
    more = logged.write(replace(alone, snapshots=2), "arq+s_psi", tmp_path / "c")
    points = json.loads((more / "curve.json").read_text(encoding="utf-8"))["points"]
    assert [p["step"] for p in points] == [60, 120] and kept_snapshots(alone) == set()


def test_snapshots_stay_where_that_is_asked_for_and_are_not_trained_again(alone, tmp_path):
    logged.write(alone, "bc", tmp_path, keep_snapshots=True)
    names = kept_snapshots(alone)
    assert {x.split("-")[0] for x in names} == {"bc.at_33", "bc.at_66", "bc.at_100"}
    logged.write(alone, "bc", tmp_path / "again", keep_snapshots=True)
    assert kept_snapshots(alone) == names
    logged.write(alone, "bc", tmp_path / "again")
    assert kept_snapshots(alone) == set()


def test_a_run_that_is_stopped_while_snapshots_are_scored_goes_on_without_training(
    alone, tmp_path, monkeypatch
):
    run, calls = logged.episodes, []

    def stopped(*given):
        calls.append(given[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*given)

    monkeypatch.setattr(logged, "episodes", stopped)
    with pytest.raises(KeyboardInterrupt):
        logged.write(alone, "bc", tmp_path)
    assert calls == [33, 66] and len(kept_snapshots(alone)) == 6  # each with its sidecar
    trained = {p: p.stat().st_mtime_ns for p in alone.store().folder.iterdir()}
    monkeypatch.setattr(logged, "episodes", run)
    folder = logged.write(alone, "bc", tmp_path)
    left = {p: p.stat().st_mtime_ns for p in trained if p.exists()}
    assert left == {p: t for p, t in trained.items() if ".at_" not in p.name}
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "other"))
    whole = logged.write(alone, "bc", tmp_path / "whole")
    assert (folder / "curve.json").read_bytes() == (whole / "curve.json").read_bytes()


def test_a_snapshot_that_another_run_removed_is_said_and_the_end_is_not_scored_in_its_place(
    alone, tmp_path, monkeypatch
):
    run = logged.episodes

    def removed(*given):
        logged.remove_snapshots(store)
        return run(*given)

    experiment.train(alone, "bc")
    store = alone.store()
    store.seconds = {p: 0.0 for p in store.folder.glob("bc-*.safetensors")}
    monkeypatch.setattr(logged, "episodes", removed)
    with pytest.raises(RuntimeError, match="at_66.*saw no snapshot any more.*run this one again"):
        logged.write(alone, "bc", tmp_path)


def test_the_best_of_a_curve_is_each_seeds_and_what_chose_is_told_from_what_scores():
    scores = np.array([[[9.0, 1.0], [0.0, 2.0]], [[4.0, 4.0], [6.0, 2.0]]])
    said = logged.summary(scores)
    # seeds' means: 5 and 1, then 4 and 4; best 5 and 4, last 4 and 4
    assert (said["last"], said["best"], said["best_minus_last"]) == (4.0, 4.5, 0.5)
    # seed 0: by its first episode the first is chosen, which scores 1; by the other the second, 4
    # seed 1: by its first the second, 2; by the other the first of two equals, 0
    assert said["chosen_on_other_episodes"] == pytest.approx(((1 + 2) / 2 + (4 + 0) / 2) / 2)
    assert logged.summary(scores[:, :, :1])["chosen_on_other_episodes"] is None


def test_what_has_no_training_has_no_curve(setup):
    e = replace(setup, snapshots=2)
    with pytest.raises(UnknownName, match="saw no training of random"):
        logged.curve(e, "random")
    with pytest.raises(UnknownName, match="saw no simulator"):
        logged.curve(replace(e, task=replace(e.task, environment="")), "bc")
    with pytest.raises(UnknownName, match="saw 0 snapshots, expected at least one"):
        logged.curve(setup, "bc")


def test_the_row_is_told_where_its_log_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = dict(task="maze", profile="toy", method="bc", group="", environment="", seeds="")
    job = row_job(root(), **given, log="logs", curve=3)
    assert (job.parameters["log"], job.parameters["curve"]) == (str(tmp_path / "logs"), 3)
    assert row_job(root(), **given).parameters.keys().isdisjoint({"log", "curve"})
    kept = row_job(root(), **given, log="logs", curve=3, keep_snapshots=True)
    assert kept.parameters["keep_snapshots"] is True
    assert "keep_snapshots" not in job.parameters
    with pytest.raises(RunError, match="keep-snapshots: saw no --curve"):
        row_job(root(), **given, log="logs", keep_snapshots=True)
    with pytest.raises(RunError, match="expected a number of snapshots, and --log"):
        row_job(root(), **given, curve=3)
