"""The pictures of Eq. 4, 5 and 6: what is drawn and what the captions say is what the equations
make of the candidates; and they follow the page's light and dark.
"""

import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from scipy.stats import norm
from sphinx_books import ROOT, file, sphinx

from arq_core.algorithm.qlearning import bootstrap_released
from arq_core.experiments import method_pictures as pictures
from arq_core.figures.inline import INK, html
from arq_core.widgets.hero import believed, log_density, true_value

matplotlib.use("svg")
METHOD = (ROOT / "book/method.md").read_text(encoding="utf-8")
EQUATIONS = ("eq_4", "eq_5", "eq_6")


@pytest.fixture(scope="module")
def drawn():
    return {name: getattr(pictures, name)() for name in EQUATIONS}


@pytest.fixture(scope="module")
def c():
    """action, log-density, Q, kept (by numpy alone)."""
    actions = pictures.candidates().actions.numpy()
    log_prob = log_density(actions, pictures.CLONE)
    return actions, log_prob, believed(actions), log_prob >= pictures.LOG_EPSILON


def said(x):
    return f"{x:.2f}".replace("-", "−")


def test_candidates_are_at_equally_likely_places_of_the_clone(c):
    below = lambda a: sum(share * norm.cdf(a, m, w) for share, m, w in pictures.CLONE)
    share = (below(c[0]) - below(-1)) / (below(1) - below(-1))
    assert share == pytest.approx((np.arange(pictures.N) + 0.5) / pictures.N, abs=2e-3)
    assert c[3].any() and not c[3].all()


def test_the_penalty_is_zero_under_what_is_kept_and_infinite_under_what_is_dropped(drawn, c):
    ax, strip = drawn["eq_4"].figure.axes
    actions, log_prob, _, kept = c
    signs = {t.get_position()[0]: t.get_text() for t in strip.texts}
    for action, one in zip(actions, kept):
        (bar,) = [b for b in strip.patches if b.get_x() <= action < b.get_x() + b.get_width()]
        assert signs[bar.get_x() + bar.get_width() / 2] == ("0" if one else "∞")
    dots = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert np.allclose(dots["kept"], np.c_[actions, log_prob][kept])
    assert np.allclose(dots["dropped"], np.c_[actions, log_prob][~kept])
    assert f"keeps {kept.sum()} of {pictures.N} candidates" in drawn["eq_4"].caption
    curve = log_density(grid := np.linspace(-1, 1, 4001), pictures.CLONE)
    times = np.exp(curve[grid > 0].max() - curve[grid < 0].max())
    assert f"Right is {times:.0f} times as dense as left" in drawn["eq_4"].caption


def test_the_bars_are_the_sorted_values_and_the_kth_of_the_kept_is_marked(drawn, c):
    (ax,) = drawn["eq_5"].figure.axes
    actions, _, q, kept = c
    heights = np.array([bar.get_height() for bar in ax.patches])
    assert heights == pytest.approx(np.sort(q)[::-1])
    kth = np.sort(q[kept])[::-1][pictures.K - 1]
    marked = [b for b in ax.patches if to_hex(b.get_facecolor()) == INK["truth"]]
    assert [b.get_height() for b in marked] == pytest.approx([kth])
    outlined = [b.get_height() for b in ax.patches if b.get_facecolor()[3] == 0]
    assert sorted(outlined) == pytest.approx(sorted(q[~kept]))
    assert any(np.allclose(line.get_ydata(), kth) for line in ax.lines)
    best, caption = q.argmax(), drawn["eq_5"].caption
    assert not kept[best] and f"The largest value, {said(q[best])}, is of a dropped" in caption
    assert f"in truth it is {said(true_value(actions)[best])}" in caption
    assert (
        f"kept ones, {said(kth)}," in caption and f"it would be {said(q[kept].max())}." in caption
    )


def test_the_weights_are_a_softmax_over_what_is_kept(drawn, c):
    actions, _, q, kept = c
    shares = []
    for ax, alpha in zip(drawn["eq_6"].figure.axes, pictures.ALPHAS, strict=True):
        weight = np.where(kept, np.exp(alpha * q), 0)
        weight /= weight.sum()
        stems = {x: top for (x, _), (_, top) in ax.collections[0].get_segments()}
        assert stems == pytest.approx(dict(zip(actions[kept], weight[kept])))
        (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
        assert crosses.get_xdata() == pytest.approx(actions[~kept])
        assert ax.get_title(loc="left") == f"α = {alpha:g}"
        shares.append(weight[actions < 0].sum())
    told = ", ".join(f"{s:.0%} at {a:g}" for s, a in zip(shares, pictures.ALPHAS))
    assert told in drawn["eq_6"].caption and shares == sorted(shares)
    assert q[kept][actions[kept] < 0].max() > q[kept][actions[kept] > 0].max()


def test_colours_are_the_pages_and_ids_are_no_others(drawn):
    pages = [html(picture, name) for name, picture in drawn.items()]
    for page in pages:
        svg = page[page.index("<svg") :]
        rules = re.findall(r"<style[^>]*>(.*?)</style>", svg, re.S)
        assert rules and all(rule.startswith(".arq-picture ") for rule in rules)
        assert "var(--arq-kept)" in svg and not re.search(r"#[0-9a-f]{6}\b", svg)
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) <= {
            pair for i in ids for pair in ((i, ""), ("", i))
        }
    ids = [i for page in pages for i in re.findall(r'\bid="([^"]+)"', page)]
    assert len(ids) == len(set(ids))


def test_pictures_and_widgets_have_the_same_colours():
    rule = re.compile(r"(--arq-\w+): (#\w+);")
    for selector in (r"^\.arq-{}", r'^html\[data-theme="dark"\] \.arq-{}'):
        ours, theirs = (
            dict(rule.findall(re.search(selector.format(kind) + r"[^}]*}", text, re.M)[0]))
            for kind, text in (
                ("picture", (ROOT / "arq_core/figures/picture.css").read_text(encoding="utf-8")),
                ("widget", (ROOT / "arq_core/widgets/base.css").read_text(encoding="utf-8")),
            )
        )
        assert len(ours) == len(INK) and ours.items() <= theirs.items()
        if "html" not in selector:
            long = {name: re.sub(r"^#(.)(.)(.)$", r"#\1\1\2\2\3\3", x) for name, x in ours.items()}
            assert long == {f"--arq-{name}": colour for name, colour in INK.items()}


def test_the_method_shows_each_beside_its_equation():
    at = lambda text: METHOD.index(text)
    for name, after, before in (
        ("eq_4", "$$ (eq-4)", "$$ (eq-5)"),
        ("eq_5", "$$ (eq-5)", "$$ (eq-6)"),
        ("eq_6", "$$ (eq-6)", "(eq-awr)="),
    ):
        assert at(after) < at(f"arq_core.experiments.method_pictures:{name}\n") < at(before)


def test_the_line_that_arq_changes_is_the_codes_and_without_a_filter_that_of_dqn():
    dqn, arq = re.search(r"```diff\n-    (.*)\n\+    (.*)\n```", METHOD).groups()
    source = (ROOT / "arq_core/algorithm/qlearning.py").read_text(encoding="utf-8")
    assert arq in source[source.index("def bootstrap_released") :].split("\n\n\n")[0]
    values = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    everything = torch.ones_like(values, dtype=torch.bool)
    plain = eval(dqn.removeprefix("return "), {"values": values})
    assert torch.equal(bootstrap_released(values, everything, 1, values[:, -1]), plain)
    some = everything.clone()
    some[range(50), values.argmax(-1)] = False
    lowest = values.amin(-1)
    assert (bootstrap_released(values, some, 1, lowest) < plain).all()


CONF = """extensions = ['myst_parser', 'arq_core.book.figures_in_pages']
html_theme = 'basic'
numfig = True
myst_enable_extensions = ['dollarmath', 'amsmath']
"""
PAGE = "# A page\n\n```{{arq-picture}} arq_core.experiments.method_pictures:{}\n:name: {}\n```\n\n"


def test_a_page_numbers_its_picture_and_a_name_that_makes_none_fails_the_build(tmp_path):
    file(tmp_path / "book/conf.py", CONF)
    equation = "\n\n$$\na\n$$ (eq-4)\n\nSee {numref}`fig`.\n"
    file(tmp_path / "book/index.md", PAGE.format("eq_4", "fig") + equation)
    assert sphinx(tmp_path) == (0, "")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert re.search(r'<figure[^>]* id="fig">\s*<div class="arq-picture">', page)
    assert "Fig. 1" in page[page.index("<figcaption") :] and 'role="img" aria-label="' in page
    file(tmp_path / "book/index.md", PAGE.format("eq_9", "fig"))
    status, told = sphinx(tmp_path)
    assert status != 0 and "expected `module:name` of what makes a picture" in told
