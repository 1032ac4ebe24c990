"""Pictures, sentences and tables about datasets: they say what the numbers say, for any Dataset,
and start no download.
"""

import json
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
import torch
from problems import chain

from arq_core.algorithm.types import Transitions
from arq_core.book import catalogue, notebook
from arq_core.config.tasks import tasks
from arq_core.datasets import at_hand, official, statistics, traps
from arq_core.datasets.dataset import Dataset
from arq_core.envs import picture
from arq_core.envs.maze import MazeEnvs
from arq_core.envs.vector import EnvError
from arq_core.figures import datasets
from arq_core.figures import traps as figures_traps

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    monkeypatch.setattr(statistics, "QUERIES", 40)
    monkeypatch.setattr(statistics, "NULL_DRAWS", 50)
    monkeypatch.setenv("ARQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARQ_LOCAL_DATA", str(tmp_path / "local"))
    yield tmp_path
    matplotlib.pyplot.close("all")


def data(state_dim=3, action_dim=2, actions=None) -> Transitions:
    out = chain(episodes=6, length=40, state_dim=state_dim, action_dim=action_dim, terminal_every=3)
    return (
        out
        if actions is None
        else Transitions(
            out.states, out.state, out.next_state, actions, out.rewards, out.terminals, out.episode
        )
    )


@pytest.mark.parametrize("state_dim, action_dim", [(1, 1), (2, 2), (39, 28)])
def test_every_figure_is_drawn_for_any_dimensions(state_dim, action_dim):
    x = data(state_dim, action_dim)
    coordinates = [0, 1] if state_dim == 2 else []
    for figure in (
        datasets.returns_and_lengths(x),
        datasets.box(x),
        datasets.coverage(x, statistics.coverage(x), coordinates),
        datasets.behaviour(x, statistics.modes(x), coordinates),
    ):
        figure.canvas.draw()
        assert all(ax.get_xlabel() or ax.get_label() == "<colorbar>" for ax in figure.axes)


def test_bars_of_the_box_are_the_shares_of_atoms():
    actions = torch.zeros(240, 2)
    actions[:60, 0], actions[:24, 1] = 1, -1
    bars = datasets.box(data(actions=actions)).axes[0].patches
    assert sorted(round(float(b.get_height()), 6) for b in bars) == [-0.1, 0, 0, 0.25]
    said = datasets.said_box(data(actions=actions))
    assert "17.5% of all entries" in said and "dimension 1 (25.0%)" in said


def test_sentences_say_how_episodes_end():
    ended, cut, both = (chain(episodes=4, length=5, terminal_every=n) for n in (1, 10**6, 2))
    cut.terminals[:] = False
    assert "All 4 episodes ended by themselves" in datasets.said_returns(ended)
    assert "All 4 episodes were cut" in datasets.said_returns(cut)
    assert "2 of 4 episodes ended" in datasets.said_returns(
        both
    ) and "The others were cut" in datasets.said_returns(both)


def test_the_card_says_the_counts():
    said = datasets.card(Dataset(data(), "", "own", "a file"))
    assert (
        said["transitions"] == "240"
        and said["episodes"].startswith("6, of which 2 ended")
        and said["source"] == "a file"
    )


def test_marks_of_a_recipe_are_the_best_steps():
    found = traps.values(traps.read(traps.corridor(), "cuts are ends"), 1, -1)
    figure = figures_traps.teleports(found, found.v)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["best: left"].get_xdata().tolist() == found.cells[~found.goes_right].tolist()
    assert len(lines["best: left"].get_xdata()) + len(lines["best: right"].get_xdata()) == len(
        found.cells
    )


class Tags(HTMLParser):
    """Fails where tags do not match; collects ids and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.text = [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in ("br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text


def test_tables_are_well_formed_and_name_every_dataset():
    html = (
        catalogue.overview(),
        catalogue.passports(),
        catalogue.versions_table("d4rl"),
        catalogue.versions_table("robomimic"),
    )
    overview, passports, *_ = pages = [Tags(text) for text in html]
    for page in pages:
        assert len(set(page.ids)) == len(page.ids)
    for name in tasks():
        assert name in overview.text and f"passport-{name}" in passports.ids


def test_of_the_paper_s_forty_each_has_one_line_in_the_overview():
    paper = [row for row in tasks().values() if row.published_name]
    assert (
        len(paper)
        == len({row.published_name for row in paper})
        == sum(catalogue.counts(paper).values())
    )
    assert catalogue.overview(paper).count('<th scope="row">') == len(paper)


def test_a_dataset_is_at_hand_only_when_its_file_lies_in_the_cache(few):
    row = tasks()["hopper-medium-v2"]
    assert catalogue.state(row) == "download" and "not in the cache" in at_hand.why_not(row)
    path = few / "cache/downloads" / official.file_name(row)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert catalogue.state(row) == "here" and at_hand.why_not(row) == ""
    assert catalogue.state(tasks()["maze"]) == "computed"


def test_a_published_number_stands_beside_ours_with_its_source():
    card = dict(transitions=1_000_000, episodes=7, returns=dict(mean=1.5, std=0.5, min=1, max=2))
    said = [
        {
            "for": "a-recollected",
            "dataset": "a",
            "statistic": "episodes",
            "value": "3064",
            "source": "https://example.org/a",
        }
    ]
    page = Tags(catalogue.comparison({"a-recollected": card}, said))
    assert (
        "3,064" in page.text
        and "1,000,000" in page.text
        and "https://example.org/a" in page.text
        and page.text.count("not reported") == len(catalogue.COMPARED) - 1
    )


def test_an_address_becomes_a_link_without_the_comma_behind_it():
    html = catalogue.facts_table({"source": "https://example.org/a.pickle, replayed & <read>"}, "x")
    assert (
        '<a href="https://example.org/a.pickle">https://example.org/a.pickle</a>, '
        "replayed &amp; &lt;read&gt;" in html
    )


def test_every_published_number_names_a_statistic_a_number_and_a_source():
    rows = catalogue.published()
    assert rows
    for row in rows:
        assert (
            row["statistic"] in catalogue.COMPARED
            and float(row["value"]) > 0
            and re.match("https://", row["source"])
        ), row
        assert row["for"].endswith("-recollected")


def test_cards_are_read_by_their_names(tmp_path):
    (tmp_path / "x-recollected.json").write_text(json.dumps({"episodes": 1}), encoding="utf-8")
    assert catalogue.cards(tmp_path) == {"x-recollected": {"episodes": 1}}


def test_text_of_a_page_takes_the_parameters_of_its_run():
    cells = [
        dict(cell_type="markdown", source="# A look at {{ task }}"),
        dict(cell_type="code", source='"{{ task }}"'),
    ]
    notebook.fill_in(cells, {"task": "maze", "seeds": [1]})
    assert [c["source"] for c in cells] == ["# A look at maze", '"{{ task }}"']


def test_where_no_frame_can_be_drawn_the_reason_is_said():
    with pytest.raises(EnvError, match="no simulator"):
        picture.first_frame("")
    with pytest.raises(EnvError, match="saw no simulation of MuJoCo"):
        picture.simulation(MazeEnvs(1))


@pytest.mark.slow(reason="draws by OpenGL, which a machine without a display may lack")
def test_a_frame_shows_the_simulator():
    pytest.importorskip("mujoco", reason="needs the simulators: pip install '.[sim]'")
    frame = picture.first_frame("arq_core.envs.locomotion:hopper_envs", 64, 64)
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8 and frame.std() > 5
