"""What came after, the questions and how to cite: each sentence has its source, each question its
link, each command names what is there.
"""

import re

import pytest
import torch
import yaml
from sphinx_books import ROOT

from arq_core.algorithm.types import in_support
from arq_core.book.changed import changed
from arq_core.config.settings import profiles
from arq_core.config.tasks import tasks
from arq_core.experiments.methods import METHODS

AFTER, QUESTIONS, REFERENCES = (
    (ROOT / f"book/{name}.md").read_text(encoding="utf-8")
    for name in ("after", "questions", "references")
)
ENTRY = re.compile(r"@\w+\{(\w+),\n(.*?)\n\}", re.S)
ENTRIES = dict(ENTRY.findall((ROOT / "book/references.bib").read_text(encoding="utf-8")))
WORKS = re.findall(r"^- (\*\*.*?)(?=\n- |\n\n)", AFTER, re.M | re.S)
TESTABLE = re.findall(r"^\d\. (.*?)(?=\n\d\. |\Z)", AFTER, re.M | re.S)


def fields(entry):
    found = re.findall(r"^  (\w+)\s*= \{(.*?)\},?$", entry, re.M)
    return {name: re.sub(r"[{}]", "", value) for name, value in found}


def test_each_work_has_a_reference_with_a_year_and_says_what_was_read_of_it():
    assert len(WORKS) == AFTER.count("\n- ") >= 20
    for work in WORKS:
        (key,) = re.search(r"^\*\*[^*]+\*\* \{cite:p\}`(\w+)`: ", work).groups()
        assert 2019 < int(fields(ENTRIES[key])["year"]) < 2027, work
        assert re.search(r"\*(Abstract|Repository|Abstract and repository)\.\*", work), work


def test_each_reference_says_where_the_work_is():
    for key in re.findall(r"\{cite:\w+\}`(\w+)`", AFTER):
        where = fields(ENTRIES[key])
        assert {"booktitle", "howpublished"} & set(where) or re.search(
            r"arXiv:\d{4}\.\d{5}", where["journal"]
        ), key


def test_each_question_that_can_be_tested_has_a_place_to_begin_that_is_there():
    assert 5 <= len(TESTABLE) <= 8
    for text in TESTABLE:
        assert re.search(r"`(make row|METHOD=|[\w/]+\.(py|md)|changed)|\]\(", text), text
    allowed = {"TASK": {*tasks(), "FILE"}, "METHOD": METHODS, "PROFILE": profiles()}
    for name, quoted, plain in re.findall(r'(TASK|METHOD|PROFILE)=(?:"([^"]+)"|([^\s`"]+))', AFTER):
        assert (quoted or plain) in allowed[name], (name, quoted, plain)
    for path in re.findall(r"`((?:[\w-]+/)+[\w.-]+\.\w+|[A-Z]+\.md)`", AFTER):
        assert (ROOT / path).exists(), path


def test_the_line_that_ranks_keeps_half_of_a_states_candidates():
    old, new = re.search(r'`changed\(in_support, "(.*?)", "(.*?)"\)`', AFTER).groups()
    log_prob = torch.randn(5, 31, generator=torch.Generator().manual_seed(0)) - 40
    assert not in_support(log_prob, -5.0).any()
    assert (changed(in_support, old, new)(log_prob, -5.0).sum(-1) == 16).all()


def test_twenty_questions_each_with_the_page_that_answers_it():
    asked = re.findall(r"^(\d+)\. (.*)$", QUESTIONS, re.M)
    assert [int(n) for n, _ in asked] == list(range(1, 21))
    for number, text in asked:
        question, answer = text.rsplit("? ", 1) if "? " in text else text.split(". ", 1)
        assert "](" in answer or "{ref}`" in answer, number
        for page in re.findall(r"\]\((\w[\w/.]*)\)", text):
            toc = (ROOT / "book/_toc.yml").read_text(encoding="utf-8")
            assert f"file: {page.rsplit('.', 1)[0]}\n" in toc, page


@pytest.mark.parametrize("key", ["goo2022know", "arqbook"])
def test_what_is_to_be_copied_agrees_with_the_citation_file(key):
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    told = fields(dict(ENTRY.findall(REFERENCES))[key])
    if key == "arqbook":
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        said = cited | dict(year=config["copyright"])
        assert cited["version"] in told["note"] and config["author"] == told["author"]
    else:
        (said,) = cited["references"]
        assert said["url"].rsplit("/", 1)[1] in told["journal"]
        ours = fields(ENTRIES[key])
        assert all(ours[name] == value for name, value in told.items())
    assert told["title"] == said["title"] and told["year"] == str(said["year"])
    names = [
        person.get("name") or f"{person['family-names']}, {person['given-names']}"
        for person in said["authors"]
    ]
    assert told["author"] == " and ".join(names)
