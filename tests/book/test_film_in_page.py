"""The film of the page on own data: the file says what its caption names, and is of a row."""

import re

import pytest
from example_rows import committed
from PIL import Image

from arq_core.config.paths import DATA, root
from arq_core.results import films

PAGE = (root() / "book/own_data.md").read_text(encoding="utf-8")
FILM = DATA / "films/door.gif"


@pytest.fixture(scope="module")
def said():
    return films.about(FILM)


def test_the_caption_is_of_the_rows_of_the_policy_that_is_filmed(said):
    (caption,) = re.findall(r"```\{figure\} \.\./data/films/door\.gif\n(.*?)```", PAGE, re.S)
    job = f"{said['trained_on']} {said['profile']}"
    assert f"{{succeeded}}`{job} {said['method']}`" in caption
    assert f"{{succeeded}}`{job} s_psi`" in caption
    for name in ("trained_on", "profile", "method"):
        assert f"`{said[name]}`" in caption
    of_job = [
        row
        for row in committed()
        if (row["task"], row["profile"], row["method"])
        == (said["trained_on"], said["profile"], said["method"])
    ]
    assert said["seed"] in {row["seed"] for row in of_job}
    assert {row["dataset_sha256"] for row in of_job} == {said["dataset_sha256"]}


def test_the_door_is_opened_in_it_and_a_page_can_carry_it(said):
    shown = said["shown"]
    assert shown["success"] and 1 <= said["succeeded"] <= said["played"]
    assert FILM.stat().st_size <= 300_000
    with Image.open(FILM) as film:
        assert film.width <= 360 and "loop" not in film.info  # no page moves for ever
        film.seek(film.n_frames - 1)
        assert film.info["duration"] >= 1000
