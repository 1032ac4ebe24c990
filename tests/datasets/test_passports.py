"""arq_core.datasets.passports: every dataset has one, it says what the table says, and what nobody
states is not invented.
"""

from arq_core.config import settings
from arq_core.config.tasks import tasks
from arq_core.datasets.passports import UNKNOWN, of, passport, passports


def test_every_task_has_a_passport_that_repeats_its_row():
    for name, row in tasks().items():
        p = passport(name)
        text = str(p)
        assert p == of(row) and p in passports([name])
        for said in (
            name,
            row.version,
            row.sha256,
            row.licence,
            row.also_known,
            *row.source.split(),
            *row.other_versions.replace("=", " ").split(),
        ):
            assert said in text
        assert p.reward == settings.hyper(row.group).reward
    assert [p.name for p in passports()] == list(tasks())


def test_an_unstated_field_says_so():
    from dataclasses import replace

    row = replace(tasks()["hopper-medium-v2"], sha256="", licence="", transitions=None)
    lines = dict(of(row).lines())
    assert lines["SHA-256"] == lines["steps"] == lines["licence"] == UNKNOWN


def test_a_number_never_stands_without_its_source():
    for row in tasks().values():
        assert bool(row.sha256) <= bool(row.sha256_source) and bool(row.transitions) <= bool(
            row.transitions_source
        )
        assert row.score_source


def test_what_a_reward_does_is_said_to_the_end():
    said = {p.reward: dict(p.lines())["reward"] for p in passports()}
    assert all(line.endswith(".") for line in said.values()), said


def test_lines_are_one_line_each():
    for p in passports():
        assert all(what and text and "\n" not in text for what, text in p.lines())
