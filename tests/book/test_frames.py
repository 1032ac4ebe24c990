"""Tables of pandas and numbers in sentences are set as the book sets its own."""

import re

import pandas as pd
import pytest
from sphinx_books import ROOT

from arq_core.book import frames


def as_shown(**columns):
    return frames.page(pd.DataFrame(columns).set_index("policy").to_html())


def test_the_index_is_named_in_the_line_of_the_columns():
    shown = as_shown(policy=["a"], score=[1], steps=[2])
    head = shown.split("<thead>")[1].split("</thead>")[0]
    assert head.count("<tr") == 1
    assert re.findall("<th>(.*?)</th>", head) == ["policy", "score", "steps"]


def test_names_of_two_levels_stand_there_too():
    table = pd.DataFrame({"task": ["a"], "δ": ["1%"], "score": [-1]}).set_index(["task", "δ"])
    head = frames.page(table.to_html()).split("</thead>")[0]
    assert re.findall("<th>(.*?)</th>", head) == ["task", "δ", "score"]
    named = table.rename_axis(columns="what").to_html()
    assert frames.page(named).split("</thead>")[0].count("<tr") == 2


def test_a_table_whose_index_has_no_name_stays_as_it_was():
    table = pd.DataFrame({"score": [1]}, index=["a"]).to_html()
    assert frames.page(table) == table


def test_two_lines_of_heads_that_both_say_something_stay():
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    shown = frames.page(pd.DataFrame([[1, 2]], columns=columns).to_html())
    assert shown.split("</thead>")[0].count("<tr") == 2


@pytest.mark.parametrize(
    "written, read",
    [
        ("-0.96 ± 0.03", "−0.96 ± 0.03"),
        ("from -.5 to (-1, 1)", "from −.5 to (−1, 1)"),
        ("(r - 0.5)·4", "(r − 0.5)·4"),
        ("1e-10", "1e-10"),
        ("hopper-medium-v2, door-1", "hopper-medium-v2, door-1"),
        ("2026-11-30", "2026-11-30"),
        ("ARQ + s_ψ", "ARQ + s<sub>ψ</sub>"),
        ("Q^β + s_ψ", "Q<sup>β</sup> + s<sub>ψ</sub>"),
        ("arq+s_psi, log_p", "arq+s_psi, log_p"),
    ],
)
def test_words_in_a_cell(written, read):
    assert f"<td>{read}</td>" in as_shown(policy=["a"], words=[written])


def test_a_name_in_a_sentence_is_set_like_that_of_a_table():
    body = '<p><span class="pasted-text">BC, ARQ + s_ψ</span></p>'
    assert frames.page(body) == body.replace("s_ψ", "s<sub>ψ</sub>")


def test_a_method_is_called_by_its_name_in_heads_alone():
    shown = as_shown(policy=["q_beta+s_psi", "arq+pi", "all"], key=3 * ["s_psi"])
    heads = re.findall("<th>(.*?)</th>", shown.split("<tbody>")[1])
    assert heads == ["Q<sup>β</sup> + s<sub>ψ</sub>", "ARQ + π<sub>ϕ</sub>", "all"]
    assert shown.count("<td>s_psi</td>") == 3


def test_a_number_in_a_sentence_has_a_minus_and_code_keeps_its_own():
    body = '<p><span class="pasted-text">-8.8</span> <code>x = -1</code></p>'
    assert frames.page(body) == body.replace("-8.8", "−8.8")


def test_the_book_is_built_with_it():
    assert frames.__name__ in (ROOT / "_config.yml").read_text(encoding="utf-8")
