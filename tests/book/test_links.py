"""Links of the book and of the README: those inside are looked up, those to other hosts are
followed by Sphinx's linkcheck.
"""

import contextlib
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from arq_core.book import links

ROOT = Path(__file__).resolve().parents[2]
TARGET = '<html><body><h1 id="there">T</h1><a name="old"></a></body></html>'


def site(folder, body, **files):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for name, text in {
        "index.html": f"<html><body>\n{body}\n</body></html>",
        "sub/target.html": TARGET,
        "sub/data file.csv": "a",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "link",
    [
        '<a href="sub/target.html">',
        '<a href="sub/target.html#there">',
        '<a href="./sub/../sub/target.html#old">',
        '<a href="sub/target.html?q=1#there">',
        '<a href="#">',
        '<a href="">',
        '<a href="#top">',
        '<a id="é"></a><a href="#%C3%A9">',
        '<a href="sub/data%20file.csv#row=2">',
        '<a href="mailto:a@b.c">',
        '<a href="data:text/plain,x">',
        '<a href="https://example.org/nowhere#x">',
        '<a href="//example.org/x">',
        "<a>",
        '<link rel="canonical" href="https://example.org/"><link rel="preconnect" href="nowhere">',
        '<script>var a = "<a href=nowhere>"</script>',
    ],
)
def test_links_that_lead_somewhere_are_no_problem(tmp_path, link):
    assert links.problems(site(tmp_path, link)) == []


@pytest.mark.parametrize(
    "link, why",
    [
        ('<a href="sub/gone.html">', "sub/gone.html: no such file"),
        ('<a href="sub/target.html#gone">', "target.html has no anchor 'gone'"),
        ('<a href="#gone">', "index.html has no anchor 'gone'"),
        ('<a href="sub/Target.html">', "no such file"),
        ('<a href="sub/">', "no such file"),
        ('<img src="gone.svg">', "no such file"),
        ('<script src="gone.js"></script>', "no such file"),
        ('<link rel="stylesheet" href="gone.css">', "no such file"),
        ('<a href="/sub/target.html">', "root of a host"),
        ('<a href="../outside.html">', "out of the folder"),
        ('<a href="http://[x">', "not an address"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_with_its_page_and_line(tmp_path, link, why):
    (tmp_path / "outside.html").write_text(TARGET, encoding="utf-8")
    (problem,) = links.problems(site(tmp_path / "site", link))
    assert problem.startswith("index.html:2: ") and why in problem


def test_the_themes_templates_are_no_pages(tmp_path):
    site(tmp_path, "").joinpath("_static").mkdir()
    (tmp_path / "_static/macros.html").write_text('<a href="{{ pathto(1) }}">', encoding="utf-8")
    assert links.problems(tmp_path) == []


def test_a_book_that_is_not_built_is_an_error(tmp_path):
    with pytest.raises(links.LinksError, match="make book"):
        links.problems(tmp_path)


def test_the_readme_links_to_files_folders_and_headings(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        "# Two words\n\n[a](#two-words) [b](README.md) [c](sub/) [d](#gone) "
        "![e](gone.svg)\n\n| t |\n|---|\n| [f](https://example.org/f) |\n",
        encoding="utf-8",
    )
    site(tmp_path, "")
    page = links.readme(path)
    assert [p.split(": ", 1)[1] for p in links.inside(page, tmp_path, folders=True)] == [
        "#gone: README.md has no anchor 'gone'",
        "gone.svg: no such file",
    ]
    assert links.addresses(page) == {"https://example.org/f": ["README.md"]}


def test_the_readme_of_this_project_has_no_broken_link():
    assert links.inside(links.readme(ROOT / "README.md"), ROOT, folders=True) == []


def test_an_address_is_followed_once_and_names_the_pages_that_have_it(tmp_path):
    a, b = "https://example.org/a", "https://example.org/b"
    site(
        tmp_path,
        f'<a href="{a}">x</a><a href="{a}">x</a><a href="//example.org/b">x</a><a '
        'href="sub/target.html">',
    )
    (tmp_path / "second.html").write_text(f'<a href="{a}">', encoding="utf-8")
    assert links.addresses(links.pages(tmp_path)) == {
        a: ["index.html", "second.html"],
        b: ["index.html"],
    }


class Host(BaseHTTPRequestHandler):
    """What other hosts do."""

    def do_HEAD(self):
        path, hits = self.path, self.server.hits
        hits.append((time.monotonic(), self.command, path))
        asked = len([hit for hit in hits if hit[2] == path])
        with contextlib.suppress(OSError):
            if path == "/moved":
                self.answer(301, Location="/fine")
            elif path == "/elsewhere":
                self.answer(302, Location="/fine")
            elif path == "/busy" and asked == 1:
                self.answer(429, Retry_After="1")
            elif path == "/limits":
                self.answer(429)
            elif path == "/flaky" and asked <= 2 or path == "/headless" and self.command == "HEAD":
                self.answer(500)
            elif path == "/down":
                self.answer(503)
            elif path == "/members":
                self.answer(401)
            elif path == "/silent":
                self.server.released.wait(30)
            else:
                self.answer(404 if path == "/gone" else 200, b'<p id="there">' + TARGET.encode())

    do_GET = do_HEAD

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in (
            headers | {"Content_Length": len(body), "Content_Type": "text/html"}
        ).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host():
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        server.hits, server.released = [], threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture(scope="module")
def followed(host, tmp_path_factory):
    """(home, nobody, problems, remarks) of one run over everything that a host may answer; a
    second, closed, host refuses.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as closed:
        nobody = f"http://127.0.0.1:{closed.server_port}/x"
    home = f"http://127.0.0.1:{host.server_port}"
    paths = [
        "fine",
        "fine#there",
        "fine#gone",
        "moved",
        "elsewhere",
        "gone",
        "busy",
        "limits",
        "flaky",
        "headless",
        "down",
        "members",
        "silent",
        "a_(b)_*c*?x=1&copy=2&lt;y",
        "%C3%A9",
    ]
    wanted = {f"{home}/{path}": ["index.html", "README.md"] for path in paths} | {
        nobody: ["index.html"]
    }
    problems, remarks = links.outside(
        wanted,
        tmp_path_factory.mktemp("links"),
        linkcheck_timeout=1,
        linkcheck_rate_limit_timeout=3.0,
    )
    return home, nobody, problems, remarks


def test_only_what_does_not_answer_well_is_broken(followed):
    home, nobody, problems, _ = followed
    broken = {p.split(" (")[0].removeprefix(home) for p in problems}
    assert broken - {nobody} == {"/fine#gone", "/gone", "/limits", "/silent"} and nobody in broken
    assert f"{home}/gone (index.html, README.md): 404 Client Error" in " ".join(
        problems
    ) and "Anchor 'gone' not found" in " ".join(problems)


def test_what_moved_for_good_and_who_is_out_of_service_are_remarks(followed):
    home, _, _, remarks = followed
    assert remarks == [
        f"{home}/down (index.html, README.md): service unavailable",
        f"{home}/moved (index.html, README.md): moved for good to {home}/fine",
    ]


def test_a_host_that_asks_for_time_gets_it(followed, host):
    asked = [when for when, _, path in host.hits if path == "/busy"]
    assert len(asked) == 2 and asked[1] - asked[0] >= 1


def test_an_address_is_asked_as_it_is_written(followed, host):
    assert {"/a_(b)_*c*?x=1&copy=2&lt;y", "/%C3%A9"} <= {path for _, _, path in host.hits}


def test_an_address_without_an_answer_is_not_passed_over():
    answer = {"lineno": 1, "status": "working", "code": 0, "info": ""}
    wanted = [("https://example.org/a", ["a"]), ("https://example.org/b", ["b"])]
    assert links._judged([answer], wanted) == (["https://example.org/b (b): was not followed"], [])


def test_hosts_that_hold_up_the_check_for_too_long_end_it(tmp_path, host):
    with pytest.raises(links.LinksError, match="within 3 s"):
        links.outside(
            {f"http://127.0.0.1:{host.server_port}/silent": ["index.html"]}, tmp_path, longest=3
        )


def test_the_check_prints_what_is_broken(tmp_path, host, capfd):
    home = f"http://127.0.0.1:{host.server_port}"
    (tmp_path / "README.md").write_text(f"[a]({home}/gone)\n", encoding="utf-8")
    with pytest.raises(links.LinksError, match="make book"):
        links.check(tmp_path)
    site(tmp_path / "_build/html", "")
    assert links.check(tmp_path, offline=True)
    assert "1 addresses on other hosts (not followed); 0 broken" in capfd.readouterr().out
    assert not links.check(tmp_path)
    assert f"  broken  {home}/gone (README.md): 404" in capfd.readouterr().out
    site(tmp_path / "_build/html", '<a href="gone.html"><a href="http://[x">')
    assert not links.check(tmp_path, offline=True)
    assert "  broken  index.html:2: gone.html: no such file\n" in (out := capfd.readouterr().out)
    assert "  broken  index.html:2: http://[x: not an address" in out and out.endswith("2 broken\n")


def test_make_links_checks_here_where_it_is_told_to():
    for arguments, wanted in (
        ([], "-m arq_core links"),
        (["OFFLINE=1"], "-m arq_core links --offline"),
    ):
        run = subprocess.run(
            ["make", "--no-print-directory", "-n", "links", *arguments],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        assert run.stdout.strip().splitlines()[-1].strip().endswith(wanted)
