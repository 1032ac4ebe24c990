"""What runs is shown in lines that move, with a remaining time that earlier runs tell."""

import re
import time

import pytest

from arq_core.book import board
from arq_core.book.board import Board


class Clock:
    """Seconds that pass when one says so."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def made(clock, costs, workers=2, terminal=False):
    there = Board(len(costs), workers, costs, now=clock, terminal=terminal)
    there.expect(list(costs))
    return there


def test_what_is_long_is_said_before_it_begins(clock, capsys):
    made(clock, dict(maze=150.0, bridge=90.0, small=10.0))
    said = capsys.readouterr().out
    assert "3 notebooks, 2 at a time: about 2 min" in said
    assert "the longest: maze (2 min), bridge (2 min)" in said and "small" not in said


def test_one_that_is_longer_than_all_others_decides_what_is_left(clock):
    assert made(clock, dict(a=300.0, b=1.0, c=1.0)).left() == 300
    assert made(clock, dict(a=10.0, b=10.0, c=10.0, d=10.0)).left() == 20
    assert made(clock, dict(a=10.0, b=10.0), workers=1).left() == 20


def test_what_is_left_follows_the_pace_of_this_machine(clock, tmp_path):
    there = made(clock, dict(a=100.0, b=100.0), workers=1)
    there.begin("a", tmp_path / "a.log")
    clock.seconds = 300
    there.end("a")
    # three times slower; but sixty seconds of the earlier machine are still trusted
    assert there.left() == pytest.approx(100 * (300 + 60) / (100 + 60))


def test_what_was_never_measured_counts_as_something(clock):
    there = Board(1, 1, {}, now=clock, terminal=False)
    there.expect(["new"])
    assert there.left() == board.UNKNOWN


def test_a_line_of_a_log_comes_every_few_seconds_and_says_where_each_is(clock, tmp_path, capsys):
    there = made(clock, dict(maze=100.0, door=100.0))
    log = tmp_path / "maze.log"
    log.write_bytes("Q:  12%|█  | 1/8\rQ:  45%|████    | 4/8".encode())
    there.begin("maze", log)
    there.begin("door", tmp_path / "none.log")
    there.tell("maze", "cell 7 of 27, Lines 1 to 4")
    capsys.readouterr()
    last = None
    for second in range(60):
        clock.seconds = float(second)
        there.look()
        if said := capsys.readouterr().err:
            assert "maze: cell 7 of 27, Lines 1 to 4, Q:  45%, 0:" in said and "door: 0:" in said
            assert "0 of 2 notebooks done" in said and re.search(r"about \d+ (s|min) left", said)
            assert said != last and second % board.EVERY == 0
            last = said
    assert last


@pytest.mark.parametrize(
    "seconds, said", [(7, "5 s"), (43, "45 s"), (61, "1 min"), (1500, "25 min"), (9000, "2.5 h")]
)
def test_a_duration_that_is_not_known_well_is_rounded(seconds, said):
    assert board.about(seconds) == said


def test_costs_that_are_not_there_or_damaged_are_none(tmp_path):
    path = tmp_path / "costs.json"
    assert board.measured(path) == {}
    for text in ("", "[]", '{"seconds": 3}', '{"other": {}}'):
        path.write_text(text, encoding="utf-8")
        assert board.measured(path) == {}
    path.write_text('{"seconds": {"maze": 3}}', encoding="utf-8")
    assert board.measured(path) == {"maze": 3}


def test_what_says_nothing_itself_is_said_at_once_and_every_few_seconds(monkeypatch, capsys):
    monkeypatch.setattr(board, "EVERY", 0.1)
    with board.said_meanwhile("Snakemake plans"):
        time.sleep(0.45)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  Snakemake plans"
    assert len(lines) >= 3 and re.fullmatch(r"  Snakemake plans, 0:0\d", lines[-1])
