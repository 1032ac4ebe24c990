"""Rows of OGBench and Minari, fetched from a server on this machine: what they become, what lies
where, and what is refused.
"""

import io
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from arq_core.algorithm.types import DataError
from arq_core.config.tasks import task, tasks
from arq_core.datasets import at_hand, later, official
from arq_core.datasets.fetch import FetchError

OGBENCH, MINARI = "pointmaze-medium-navigate-singletask-v0", "minari-pen-human-v2"
STEPS = 5


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Its `files` are {"/path": bytes}; cache and local files are folders of the test."""
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.daemon_threads = {}, True
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(
            target=server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True
        ).start()
        yield server
        server.shutdown()


@pytest.fixture
def row(server, monkeypatch):
    """The row of a name, its address on the server."""

    def give(name, path):
        changed = replace(task(name), source=f"{server.address}{path}")
        known = tasks() | {name: changed}
        monkeypatch.setattr(later, "task", lambda name: known[name])
        monkeypatch.setattr(official, "tasks", lambda: known)
        return changed

    return give


def npz(width=2):
    held, places = io.BytesIO(), np.linspace(0, 20, 2 * (STEPS + 1)).reshape(-1, 2)
    ends = np.arange(len(places)) == len(places) - 1
    np.savez(
        held,
        observations=np.tile(places, (1, width // 2)).astype(np.float32),
        actions=np.zeros((len(places), 2), np.float32),
        terminals=ends.astype(np.float32),
        qpos=places,
    )
    return held.getvalue()


def minari_files(width=45, actions=24):
    box = dict(type="Box", dtype="float64")
    space = box | dict(shape=[width], low=[-1e9] * width, high=[1e9] * width)
    acts = box | dict(shape=[actions], low=[-1.0] * actions, high=[1.0] * actions)
    meta = dict(
        data_format="hdf5",
        observation_space=json.dumps(space),
        action_space=json.dumps(acts),
        total_episodes=1,
        total_steps=STEPS,
        dataset_id="D4RL/pen/human-v2",
    )
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        episode = file.create_group("episode_0")
        episode["observations"] = np.arange(width * (STEPS + 1.0)).reshape(-1, width) / 100
        episode["actions"] = np.zeros((STEPS, actions))
        episode["rewards"] = np.arange(STEPS, dtype=float)
        episode["terminations"] = np.zeros(STEPS, bool)
        episode["truncations"] = np.arange(STEPS) == STEPS - 1
    return {"/a/main_data.hdf5": held.getvalue(), "/a/metadata.json": json.dumps(meta).encode()}


def test_a_row_of_ogbench_is_fetched_and_read_for_its_own_goal(server, row):
    server.files["/points-v0.npz"] = npz()
    data = later.load_ogbench(row(OGBENCH, "/points-v0.npz").task)
    # (20, 20) is the last row; the fifth, (18.2, 18.2) and (16.4, 16.4) are no goal within 1
    assert data.transitions.rewards.tolist() == [-1] * STEPS and data.fidelity == "official"
    assert data.notes[-1] == f"{OGBENCH}, version v0, no published SHA-256: the first that came"


def test_a_row_of_minari_is_fetched_as_two_files_and_read_as_its_folder(server, row, tmp_path):
    server.files |= minari_files()
    wanted = row(MINARI, "/a/main_data.hdf5")
    data = later.load_minari(wanted.task)
    # the last step of an episode that was cut is dropped
    assert data.transitions.rewards.tolist() == [0, 1, 2, 3] and data.name == "D4RL/pen/human-v2"
    assert at_hand.file_of(wanted) == tmp_path / "cache/downloads/minari-pen-human-v2.hdf5"
    server.files.clear()  # found again without the server
    assert later.load_minari(wanted.task).sha256 == data.sha256


def test_the_first_file_is_locked_and_another_under_its_name_is_refused(server, row, tmp_path):
    server.files["/points-v0.npz"] = npz()
    name = row(OGBENCH, "/points-v0.npz").task
    later.load_ogbench(name)
    (tmp_path / "cache/downloads/points-v0.npz").unlink()
    server.files["/points-v0.npz"] = npz(4)
    with pytest.raises(FetchError, match="locked on"):
        later.load_ogbench(name)


def test_a_file_of_other_dimensions_is_refused(server, row):
    server.files["/points-v0.npz"] = npz(4)
    with pytest.raises(DataError, match="saw 4 state and 2 action dimensions, expected 2 and 2"):
        later.load_ogbench(row(OGBENCH, "/points-v0.npz").task)
    server.files |= minari_files(width=40)
    with pytest.raises(DataError, match="saw 40 state and 24 action dimensions, expected 45"):
        later.load_minari(row(MINARI, "/a/main_data.hdf5").task)
