"""The page on the neighbours: every method of the table that can be trained has its place there."""

import json
import re

import pytest
import torch
from sphinx_books import ROOT

from arq_core.book import library
from arq_core.experiments import two_modes
from arq_core.experiments.methods import FITS

PAGE = json.loads((ROOT / "notebooks/19_neighbours.ipynb").read_text(encoding="utf-8"))
TEXT = "\n".join("".join(c["source"]) for c in PAGE["cells"] if c["cell_type"] == "markdown")
FORMULAS = re.findall(r"\{arq-formula\} ([\w.:]+)\n:method: (\S+)\n", TEXT)
WITHIN = {"ibc-small": "ibc"}  # a form of a method that has its own section


@pytest.mark.parametrize("method", FITS)
def test_each_neighbour_that_is_here_has_its_loss_from_its_own_code(method):
    of_method = [where for where, name in FORMULAS if name == WITHIN.get(method, method)]
    assert of_method
    for where in of_method:
        assert len(library.definitions(where)) == 1, where


def test_a_definition_is_found_by_room_and_by_module():
    (by_room,) = library.definitions("baselines:expectile_loss")
    module = f"baselines.{by_room.stem}:expectile_loss"
    assert library.definitions(module) == [by_room]
    assert library.definitions("baselines.clones:expectile_loss") == []
    assert library.definitions("baselines:no_such_function") == []


def test_each_equation_of_the_page_has_a_label_and_a_tag_of_its_own():
    labels, tags = (
        re.findall(r"^\((eq-n-[\w-]+)\)=$", TEXT, re.M),
        re.findall(r"\\tag\{N(\d+)\}", TEXT),
    )
    assert len(labels) == len(set(labels)) == len(set(tags)) == len(tags) >= 11


def test_the_recorded_actions_lie_in_the_two_modes_which_pay_by_turns_of_chance():
    data = two_modes.recorded()
    actions, rewards = data.actions[:, 0], data.rewards
    assert two_modes.off(actions) == pytest.approx(0, abs=1e-6)
    assert two_modes.within(actions, two_modes.LESSER) == pytest.approx(0.5, abs=0.05)
    assert rewards[actions < 0].mean().item() == pytest.approx(0.8, abs=0.01)
    assert rewards[actions > 0].mean().item() == pytest.approx(1.0, abs=0.01)
    assert data.episode.bincount().unique().tolist() == [2]
    assert data.terminals.float().mean() == 0.5


def test_shares_count_what_lies_in_a_mode_or_just_beside_it():
    actions = torch.tensor([-0.84, -0.6, 0.0, 0.3, 0.36, 0.7, 0.9, 1.0])
    assert two_modes.within(actions, two_modes.LESSER) == 2 / 8
    assert two_modes.within(actions, two_modes.BETTER) == 2 / 8
    assert two_modes.off(actions) == 4 / 8
