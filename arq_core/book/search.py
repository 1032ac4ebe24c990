"""The search shows the words around what it found, also from a disk: there a page may not read
another one, so the texts of all pages lie in a script beside the index.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

TEXTS = "search_texts.js"
SECTIONS = {"section", "dt"}
LEFT_OUT = {"script", "style", "svg", "button"}
TEX = re.compile(r"\\[()\[\]]")  # around a formula
# what searchtools.js would fetch is answered from here
ANSWER = """
(() => {
  const asked = window.fetch.bind(window);
  const text = (name) => {
    const main = document.createElement("div"), page = document.createElement("div");
    main.setAttribute("role", "main");
    for (const [id, words] of pages[name]) {
      const part = document.createElement("section");
      part.id = id;
      part.textContent = words + " ";
      main.append(part);
    }
    page.append(main);
    return page.innerHTML;
  };
  window.fetch = (address, ...more) => {
    const name = Object.keys(pages).find((page) => String(address).replace(/^\\.\\//, "") === page);
    return name ? Promise.resolve(new Response(text(name))) : asked(address, ...more);
  };
})();
"""


class Sections(HTMLParser):
    """`found`, [(id, text)] of an article's sections, each without those inside it."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.open: list[tuple[str, list[str] | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        got = dict(attributes)
        inside = self.open[-1][1] if self.open else None
        if tag == "article" or inside is not None and tag in SECTIONS and got.get("id"):
            inside = []
            self.found.append((got.get("id") or "", inside))
        if tag in SECTIONS | {"article"} | LEFT_OUT or "headerlink" in (got.get("class") or ""):
            self.open.append((tag, None if tag not in SECTIONS | {"article"} else inside))

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open and (into := self.open[-1][1]) is not None:
            into.append(data)


def texts(folder: Path, names: list[str]) -> dict[str, list]:
    """{page: [[id, text], ...]} of built pages."""
    out = {}
    for name in sorted(names):
        path = folder / f"{name}.html"
        if path.exists():
            found = Sections(path.read_text(encoding="utf-8")).found
            out[path.relative_to(folder).as_posix()] = [
                [anchor, text]
                for anchor, words in found
                if (text := " ".join(TEX.sub("", "".join(words)).split()))
            ]
    return out


def write(app, exception) -> None:
    """Write the texts beside the built pages."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir)
        pages = json.dumps(texts(folder, list(app.env.found_docs)), ensure_ascii=False)
        # U+2028 and U+2029 are whitespace, gone with the rest of it
        script = f"const pages = {pages};\n{ANSWER}"
        (folder / "_static" / TEXTS).write_text(f"{{\n{script}}}\n", encoding="utf-8")


def show(app, page, template, context, doctree) -> None:
    """The search page loads them."""
    if page == "search":
        app.add_js_file(TEXTS)
