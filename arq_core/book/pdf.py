"""`arq pdf`: the built book on paper, printed page by page in Chromium and put together.

A widget is printed as it stands when its page is opened, with the sentence that says what it shows.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from arq_core.book import layout
from arq_core.config.files import read_text, write_atomic

FILE = "_build/the-arq-book.pdf"
MARGIN = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
SHEET = {"width": 790, "height": 1120}  # CSS pixels, at this scale
SCALE = 0.85
SMALL = "font: 8px sans-serif; width: 100%; padding: 0 16mm; color: #555"
FOOT = '<div style="{}; text-align: right">{}, <span class="pageNumber"></span></div>'
# On paper an answer is open, and a link to another page of the book leads nowhere.
PAPER = """() => {
  for (const e of document.querySelectorAll(".toggle-hidden")) e.classList.remove("toggle-hidden");
  for (const e of document.querySelectorAll("a[href]"))
    if (e.protocol === "file:" && e.pathname !== location.pathname) e.removeAttribute("href");
  for (const e of document.querySelectorAll("img")) e.loading = "eager";
}"""
# programs that put files together, and how they are called
TOGETHER = {
    "pdfunite": lambda parts, out: [*parts, out],
    "gs": lambda parts, out: ["-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=pdfwrite", "-o", out, *parts],
}


def pages(root: Path) -> list[Path]:
    """The built pages in the order of book/_toc.yml."""
    names = re.findall(r"^\s*(?:- )?(?:root|file): (\S+)", read_text(root / "book/_toc.yml"), re.M)
    found = [root / "_build/html" / f"{name}.html" for name in names]
    if missing := [path for path in found if not path.exists()]:
        raise layout.LayoutError(
            f"{missing[0]}: saw no such page, expected the built book; run `make book` first."
        )
    return found


def _printed(page, path: Path, out: Path) -> str:
    """Print a built page to a file; its title."""
    page.goto(path.resolve().as_uri(), wait_until="load", timeout=layout.WAIT)
    page.wait_for_function(layout.STANDS, timeout=layout.WAIT)
    title = page.title().split(" — ")[0]
    page.evaluate(PAPER)
    page.emulate_media(media="print", color_scheme="light")
    # formulas and widgets are fitted to the width of the paper
    page.set_viewport_size(SHEET)
    for _ in range(2):
        page.evaluate(layout.DRAWN)
    foot = FOOT.format(SMALL, escape(title))
    page.pdf(
        path=out,
        format="A4",
        scale=SCALE,
        margin=MARGIN,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=foot,
    )
    return title


def count(path: Path) -> int:
    """The pages of a PDF as Chromium writes it."""
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def contents(titles: Sequence[str], sizes: Iterable[int]) -> str:
    """A first sheet: each page of the book with the sheet that it begins on."""
    lines, at = [], 2
    for title, size in zip(titles, sizes, strict=True):
        lines.append(f"<tr><td>{escape(title)}</td><td>{at}</td></tr>")
        at += size
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>The ARQ Book</title><style>'
        "body { font: 10.5pt/1.25 sans-serif } td { padding: 1pt 0 } table { width: 100% }"
        "td + td { text-align: right } h1 { font-weight: 400 }</style><h1>The ARQ Book</h1>"
        f"<table>{''.join(lines)}</table></html>"
    )


def make(root: Path, out: Path | None = None, names: Sequence[str] = ()) -> Path:
    """All of `arq pdf`: the file, of all pages or of those with these names."""
    folder, out = root / "_build/html", out or root / FILE
    chosen = layout.chosen(pages(root), folder, names)
    program = next(filter(shutil.which, TOGETHER), None)
    if program is None:
        raise layout.LayoutError(
            f"pdf: saw none of {', '.join(TOGETHER)}, which puts the pages together; install one "
            "(Debian: apt-get install poppler-utils)."
        )
    with TemporaryDirectory() as place, layout.chromium() as running:
        parts, titles = [Path(place) / "000.pdf"], []
        for i, path in enumerate(chosen, 1):
            page = running.new_page(viewport=SHEET)
            parts.append(Path(place) / f"{i:03}.pdf")
            titles.append(_printed(page, path, parts[-1]))
            page.close()
            print(f"  {titles[-1]}", flush=True)
        first = Path(place) / "contents.html"
        first.write_text(contents(titles, map(count, parts[1:])), encoding="utf-8")
        page = running.new_page()
        page.goto(first.as_uri())
        page.pdf(path=parts[0], format="A4", margin=MARGIN)
        whole = Path(place) / "whole.pdf"
        subprocess.run([program, *TOGETHER[program]([*map(str, parts)], str(whole))], check=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, whole.read_bytes())
    return out
