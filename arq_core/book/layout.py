"""`arq layout`: no built page has anything wider than its place, looked at in Chromium.

Each page is opened from its file, with all that is folded unfolded, at the width of a laptop and at
that of a phone. What is wider than its box must lie in one that scrolls and shows that it does; on
the laptop a page's own code must not, as what is said at the ends of its lines is not read, nor the
table of a notebook.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arq_core.config.files import files_in

WIDTHS = (1280, 390)  # CSS pixels
HEIGHT = 900
WAIT = 60_000  # milliseconds, for a page on a machine at work
NOT_PAGES = {"_static"}
PLAIN = '<body class="arq-read">'  # reading.py
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
# no other host, and nothing of the user's own
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]

# Formulas are typeset and fitted (fit.js says so), widgets stand.
STANDS = """() => document.readyState === "complete"
  && !document.querySelector(".arq-widget:not([data-ready])")
  && ("fitted" in document.documentElement.dataset
    || !document.querySelector("script[src*='fit.js']"))
"""
UNFOLD = """() => {
  for (const e of document.querySelectorAll("details")) e.open = true;
  for (const e of document.querySelectorAll(".toggle-hidden")) e.classList.remove("toggle-hidden");
}"""
# what MathJax writes for screen readers is as wide as it likes, out of sight
SEEN = "mjx-assistive-mml { display: none !important }"
DRAWN = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => setTimeout(done, 50))))"""
# A box is the nearest around an element that cuts or scrolls what sticks out, or the article.
LOOK = """() => {
  const LIBRARY = ".literal-block-wrapper, .bd-article-container:has(.viewcode-back)";
  const px = Math.round, out = [], wide = document.documentElement.scrollWidth;
  const article = document.querySelector("article, main") ?? document.body;
  const named = (e) => {
    const kind = [...e.classList].slice(0, 2).map((name) => "." + name).join("");
    const words = (e.getAttribute("alt") || e.textContent || "").trim().replace(/\\s+/g, " ");
    return `<${e.localName}${kind}> ${words.slice(0, 50)}`;
  };
  const out_of_sight = (e) => e.clientWidth < 5 || e.clientHeight < 5 || !e.checkVisibility();
  if (wide > innerWidth + 1) out.push(`the page: ${wide} of ${innerWidth} px`);
  for (const e of article.querySelectorAll("*")) {
    if (e.scrollWidth <= e.clientWidth + 1 || out_of_sight(e) || e.closest("svg, mjx-container"))
      continue;
    const style = getComputedStyle(e), how = style.overflowX, more = e.scrollWidth - e.clientWidth;
    if (style.display.startsWith("inline") && how === "visible") continue;
    if (how === "hidden" || how === "clip") {
      if (style.textOverflow !== "ellipsis") out.push(`cut by ${more} px: ${named(e)}`);
    } else if ((how === "auto" || how === "scroll") && !e.dataset.more)
      out.push(`scrolls by ${more} px and does not show it: ${named(e)}`);
    else if (how !== "visible" && innerWidth > 1000 && e.querySelector("table.dataframe"))
      out.push(`a table is ${more} px too wide for the page: ${named(e)}`);
    else if (e.localName === "pre" && innerWidth > 1000 && !e.closest(LIBRARY))
      out.push(`a line of code is ${more} px too long for the page: ${named(e)}`);
  }
  const room = article.getBoundingClientRect();
  const parts = "mjx-container, table, figure, img, svg, pre, .arq-widget, .admonition";
  for (const e of article.querySelectorAll(parts)) {
    if (e.parentElement.closest("svg") || out_of_sight(e.localName === "svg" ? e.parentElement : e))
      continue;
    const at = e.getBoundingClientRect();
    if (!at.width || (at.right <= room.right + 1 && at.left >= room.left - 1)) continue;
    let box = e.parentElement;
    while (box && box !== article && getComputedStyle(box).overflowX === "visible")
      box = box.parentElement;
    if (box === article || !box)
      out.push(`${px(at.left)} to ${px(at.right)} px in ${px(room.left)} to ${px(room.right)}: `
        + named(e));
  }
  for (const e of article.querySelectorAll("mjx-merror, [data-mjx-error]"))
    out.push(`a formula that is an error: ${named(e)}`);
  return out;
}"""


class LayoutError(RuntimeError):
    """Pages that could not be looked at; the message says what to do."""


def program() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium with a fresh profile and no way to any other host."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise LayoutError("layout: saw no playwright; install the extra `dev`.") from None
    if (path := program()) is None:
        raise LayoutError(
            f"layout: saw none of {', '.join(BROWSERS)}; install one (Debian: apt-get install "
            "chromium)."
        )
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


def faults(page, path: Path, widths: Sequence[int] = WIDTHS) -> list[str]:
    """What a page shows wider than its place, "at 390 px: ..."; `page` is playwright's."""
    page.set_viewport_size({"width": widths[0], "height": HEIGHT})
    page.goto(path.resolve().as_uri(), wait_until="load", timeout=WAIT)
    page.wait_for_function(STANDS, timeout=WAIT)
    page.evaluate(UNFOLD)
    page.add_style_tag(content=SEEN)
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        # the observers of sizes, then the drawing that they ask for
        for _ in range(2):
            page.evaluate(DRAWN)
        found += [f"at {width} px: {fault}" for fault in dict.fromkeys(page.evaluate(LOOK))]
    return found


def chosen(pages: Iterable[Path], folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """Those of the pages under `folder` that have these names, all of them without a name.

    LayoutError for a name that no page has, and where there is no page at all.
    """
    found = {p.relative_to(folder).with_suffix("").as_posix(): p for p in pages}
    wanted = {name.removesuffix(".html") for name in names}
    if not found or (unknown := sorted(wanted - set(found))):
        seen = ", ".join(map(repr, unknown)) if found else "none"
        raise LayoutError(
            f"{folder}: saw no such page: {seen}; expected a built book and names as "
            "executed/cloning; run `make book` first."
        )
    return [page for name, page in found.items() if not wanted or name in wanted]


def built(folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """The built pages under `folder`, or those of these names, as `chosen`."""
    found = [
        path
        for path in files_in(folder, "*.html", deep=True)
        if not NOT_PAGES & set(path.relative_to(folder).parts)
    ]
    return chosen(found, folder, names)


def one_of_each_kind(pages: Iterable[Path]) -> list[Path]:
    """Of executed notebooks that are plain pages of one template, the longest of each folder."""
    plain: dict[Path, Path] = {}
    out = []
    for path in pages:
        if PLAIN not in path.read_text(encoding="utf-8"):
            out.append(path)
        else:
            longest = plain.setdefault(path.parent, path)
            plain[path.parent] = max(longest, path, key=lambda p: p.stat().st_size)
    return [*out, *plain.values()]


def check(root: Path, names: Iterable[str] = ()) -> bool:
    """All of `arq layout`: print what is wider than its place; whether nothing is."""
    folder = root / "_build/html"
    names, broken = list(names), 0
    pages = built(folder, names) if names else one_of_each_kind(built(folder))
    with chromium() as running, running.new_context() as context:
        for path in pages:
            # a page of its own: what one leaves behind is no fault of the next
            page = context.new_page()
            for fault in faults(page, path):
                broken += 1
                print(f"  {path.relative_to(folder)} {fault}", flush=True)
            page.close()
    print(f"{len(pages)} pages at {' and '.join(map(str, WIDTHS))} px: {broken} faults of layout")
    return not broken
