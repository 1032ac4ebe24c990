"""`arq links`: every link of the built book and of the README leads somewhere.

Files and fragments are looked up here, without a network. Links to other hosts are those of the
built pages, so that tables and figures made of HTML count too; Sphinx's own builder `linkcheck`
follows them, from one document that lists each address once.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docutils import nodes
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

from arq_core.config.files import files_in

ADDRESSES = {
    "a": "href",
    "area": "href",
    "link": "href",
    "image": "href",
    "use": "href",
    "object": "data",
    "img": "src",
    "script": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "iframe": "src",
    "embed": "src",
    "track": "src",
}
# what these name is not read, or not by a person
NOT_FOLLOWED = {"link": {"canonical", "preconnect", "dns-prefetch"}}
# linkcheck's settings: two at a time, three tries; the builder waits where an answer 429 asks it to
FOLLOWING = {
    "linkcheck_workers": 2,
    "linkcheck_retries": 3,
    "linkcheck_timeout": 30,
    "linkcheck_rate_limit_timeout": 300.0,
    # 401: there, for those who may
    "linkcheck_allow_unauthorized": True,
    # its pages make their anchors with JavaScript
    "linkcheck_anchors_ignore_for_url": [r"https://github\.com/"],
}
PERMANENT = {301, 308}
WANTED = "addresses.json"
LONGEST = 3600  # seconds for all of them: a host may ask for any delay


class LinksError(RuntimeError):
    """Links that could not be checked; the message says what to do."""


class Page(HTMLParser):
    """`links`, [(line, address)] in a page's order, and `anchors`, what a fragment may name."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.anchors = [], {"", "top"}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        got = {k: v or "" for k, v in attributes}
        self.anchors |= {got[k] for k in (("id", "name") if tag == "a" else ("id",)) if k in got}
        address = got.get(ADDRESSES.get(tag, ""))
        if address is not None and not NOT_FOLLOWED.get(tag, set()) & set(
            got.get("rel", "").lower().split()
        ):
            self.links.append((self.getpos()[0], address.strip()))


def pages(folder: Path) -> dict[Path, Page]:
    """The built pages under `folder`, without the theme's templates in _static.

    An error says where there is none.
    """
    files = [
        path
        for path in files_in(folder, "*.html", deep=True)
        if "_static" not in path.relative_to(folder).parts
    ]
    found = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in files}
    if not found:
        raise LinksError(f"{folder}: saw no page, expected a built book; run `make book` first.")
    return found


def readme(path: Path) -> dict[Path, Page]:
    """The README as a page, with the anchors that GitHub gives its headings."""
    text = (
        MarkdownIt("commonmark")
        .enable("table")
        .use(anchors_plugin, max_level=6)
        .render(path.read_text(encoding="utf-8"))
    )
    return {path.resolve(): Page(text)}


def inside(site: dict[Path, Page], folder: Path, folders: bool = False) -> list[str]:
    """What is wrong with the links between the files under `folder`: "page:line: address: why".

    `folders`: whether one may be linked to.
    """
    home = folder.resolve()
    return [
        f"{path.relative_to(home)}:{line}: {address}: {why}"
        for path, page in site.items()
        for line, address in page.links
        if (why := _wrong(address, path, site, home, folders))
    ]


def _wrong(address: str, path: Path, site: dict[Path, Page], home: Path, folders: bool) -> str:
    """Why a link of the page at `path` leads nowhere, "" where it leads somewhere or to another
    host.
    """
    try:
        parts = urlsplit(address)
    except ValueError as e:
        return f"not an address ({e})"
    if parts.scheme or parts.netloc:
        return ""
    if parts.path.startswith("/"):
        return "starts at the root of a host, which a copied book does not have"
    target, anchor = (
        (path.parent / unquote(parts.path)).resolve() if parts.path else path,
        unquote(parts.fragment),
    )
    if not target.is_relative_to(home):
        return "leads out of the folder"
    if not (target.is_file() or folders and target.is_dir()):
        return "no such file"
    return (
        f"{target.name} has no anchor {anchor!r}"
        if target in site and anchor not in site[target].anchors
        else ""
    )


def problems(folder: Path) -> list[str]:
    """What is wrong with the links inside a built book, without a network."""
    return inside(pages(folder), folder)


def addresses(*sites: dict[Path, Page]) -> dict[str, list[str]]:
    """{address on another host: the names of the pages that link to it}, in the order of the
    pages.
    """
    out: dict[str, list[str]] = {}
    for path, page in (item for site in sites for item in site.items()):
        for _, address in page.links:
            if match := re.match(r"(https?:)?//", address, re.I):
                names = out.setdefault(address if match[1] else f"https:{address}", [])
                names += [path.name] * (path.name not in names)
    return out


def outside(
    wanted: dict[str, list[str]], folder: Path, longest: float = LONGEST, **settings
) -> tuple[list[str], list[str]]:
    """(problems, remarks) of following every address; `folder` takes linkcheck's files, `settings`
    go over FOLLOWING.

    A remark is an address that moved for good, or a host that is out of service just now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = FOLLOWING | settings | {"root_doc": "links", "exclude_patterns": ["out"]}
    (folder / "conf.py").write_text(
        "from arq_core.book.links import setup\n"
        + "".join(f"{name} = {value!r}\n" for name, value in chosen.items()),
        encoding="utf-8",
    )
    (folder / "links.rst").write_text("Links\n=====\n", encoding="utf-8")
    (folder / WANTED).write_text(json.dumps(list(wanted)), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "linkcheck",
        "-q",
        "-E",
        str(folder),
        str(folder / "out"),
    ]
    (folder / "out/output.json").unlink(missing_ok=True)
    try:
        run = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=longest)
    except subprocess.TimeoutExpired:
        raise LinksError(
            f"links: not all answered within {longest:.0f} s, see "
            f"{folder / 'out/output.txt'}; try again later."
        ) from None
    try:
        answers = [
            json.loads(line)
            for line in (folder / "out/output.json").read_text(encoding="utf-8").splitlines()
        ]
    except OSError:
        raise LinksError(
            f"links: linkcheck wrote no answers: {run.stderr.strip()[-2000:]}"
        ) from None
    return _judged(answers, list(wanted.items()))


def setup(app) -> None:
    """For Sphinx: its document holds a reference to each address, whose line is its place in the
    list, from 1.
    """
    app.connect("doctree-read", _refer)


def _refer(app, document: nodes.document) -> None:
    for line, address in enumerate(
        json.loads((Path(app.srcdir) / WANTED).read_text(encoding="utf-8")), 1
    ):
        reference = nodes.reference("", address, refuri=address)
        reference.line = line
        document += nodes.paragraph("", "", reference)


def _judged(
    answers: list[dict], wanted: list[tuple[str, list[str]]]
) -> tuple[list[str], list[str]]:
    """(problems, remarks). The line of an answer says which address it is of."""
    problems, remarks, left = (
        [],
        [],
        {
            line: f"{address} ({', '.join(names)})"
            for line, (address, names) in enumerate(wanted, 1)
        },
    )
    for answer in answers:
        told, moved = (
            answer["info"] or answer["status"],
            answer["status"] == "redirected" and answer["code"] in PERMANENT,
        )
        line = f"{left.pop(answer['lineno'])}: {'moved for good to ' * moved}{told}"
        if moved or answer["status"] == "ignored":
            remarks.append(line)
        elif answer["status"] not in ("working", "redirected"):
            problems.append(line)
    return sorted(problems + [f"{line}: was not followed" for line in left.values()]), sorted(
        remarks
    )


def check(root: Path, offline: bool = False) -> bool:
    """All of `arq links`: print what is broken; whether nothing is.

    `offline`: ask no other host.
    """
    book, front = pages(root / "_build/html"), readme(root / "README.md")
    far = addresses(book, front)
    found = inside(book, root / "_build/html") + inside(front, root, folders=True)
    broken, remarks = outside(far, root / "_build/links") if far and not offline else ([], [])
    for line in remarks:
        print(f"  note    {line}")
    for line in [*found, *broken]:
        print(f"  broken  {line}")
    links = sum(len(page.links) for page in [*book.values(), *front.values()])
    print(
        f"{len(book)} pages and the README: {links} links, {len(far)} addresses on other hosts"
        f"{' (not followed)' * offline}; {len(found) + len(broken)} broken"
    )
    return not found and not broken
