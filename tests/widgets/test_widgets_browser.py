"""Promises of every widget (browser.WIDGETS) in a built page that nothing serves: it answers as
Python does, offline, by hand or keys, for all.
"""

import base64
import json
import re

import browser
import numpy as np
import pytest

from arq_core.widgets.backup import Backup

NAMES = [name for name, _, _ in browser.WIDGETS]
TRAITS = {name: traits for name, _, traits in browser.WIDGETS}
HTML = browser.ROOT / "_build/html"
BUILT = sorted(
    p.relative_to(HTML).as_posix()
    for p in (*HTML.glob("*.html"), *(HTML / "executed").glob("*.html"))
    if 'class="arq-widget"' in p.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module", params=NAMES)
def shown(request, reused, widget_book):
    """A widget's page, opened once for all tests of that widget; `ours` is its twin in Python, and
    stands where the page stands.
    """
    with browser.served(widget_book, "file") as home, reused.page() as page:
        watched = browser.Watched(page, home)
        watched.name, watched.ours = request.param, browser.widget(request.param)
        watched.took = watched.open(f"{request.param}.html")
        yield watched
        watched.leave()


def stands_alone(watched, seconds, worked):
    watched.page.wait_for_timeout(200)  # what is asked for late
    assert watched.requests == [] and watched.errors == []
    assert (
        watched.figure.locator("svg").count() > 0
        and watched.figure.locator("[role=alert]:visible").count() == 0
    )
    # others may keep the machine busy; the page's own work is then what counts
    assert seconds < 2 or worked < 1 and seconds < 30


def test_a_file_needs_no_other_and_answers_in_two_seconds(shown):
    assert shown.sentence() == shown.ours.finding()
    stands_alone(shown, *shown.took)


SLOW = pytest.mark.slow(reason="what is served is the same file, which each test above opens")


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(n, marks=SLOW) for n in NAMES[1:])])
def test_a_served_page_needs_no_other_host_and_answers_in_two_seconds(offline_page, name):
    watched = offline_page("http")
    stands_alone(watched, *watched.open(f"{name}.html"))


def test_the_page_says_what_python_says_wherever_its_controls_stand(shown):
    for trait, values in TRAITS[shown.name]:
        assert len(set(values)) > 1, f"{shown.name}.{trait}: saw one value, expected several."
        for value, (stands, said) in zip(values, browser.put(shown.figure, trait, values)):
            assert stands == pytest.approx(value), (
                f"{shown.name}.{trait}: saw {stands}, expected {value}; choose values on "
                "the steps of its control."
            )
            setattr(shown.ours, trait, value)
            assert said == shown.ours.finding()
    assert shown.errors == []


def test_keys_and_a_drag_move_its_first_slider(shown):
    slider = shown.figure.locator("input[type=range]").first
    control = shown.ours.controls[trait := slider.get_attribute("name")]

    def check(low, high):
        shown.page.evaluate(browser.DRAWN)
        stands = float(slider.input_value())
        setattr(shown.ours, trait, type(getattr(shown.ours, trait))(stands))
        assert low - 1e-9 <= stands <= high + 1e-9
        assert shown.sentence() == shown.ours.finding()
        return stands

    slider.focus()
    for key, at in {
        "End": control.high,
        "ArrowLeft": control.high - control.step,
        "Home": control.low,
        "ArrowRight": control.low + control.step,
    }.items():
        slider.press(key)
        check(at, at)
    slider.press("PageUp")
    check(min(control.high, control.low + 2 * control.step), control.high)
    box, mouse = slider.bounding_box(), shown.page.mouse
    middle, span = box["y"] + box["height"] / 2, control.high - control.low
    mouse.move(box["x"] + 0.1 * box["width"], middle)
    mouse.down()
    for to in (0.95, 0.05):
        mouse.move(box["x"] + to * box["width"], middle, steps=5)
        check(
            *(
                (control.low + 0.6 * span, control.high)
                if to > 0.5
                else (control.low, control.low + 0.4 * span)
            )
        )
    mouse.up()


@pytest.mark.parametrize("name", NAMES)
def test_a_drag_in_a_plot_goes_on_while_the_plot_is_drawn_anew(offline_page, name):
    (shown := offline_page()).open(f"{name}.html")
    ours = browser.widget(name)
    plot, mouse = shown.figure.locator("svg.arq-pick").first, shown.page.mouse
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()

    def move(share):
        mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"], steps=3)
        shown.page.evaluate(browser.DRAWN)
        for trait in ours.controls:
            stands = browser.stands(shown.figure, trait)
            setattr(ours, trait, type(getattr(ours, trait))(stands))
        assert shown.sentence() == ours.finding()
        return shown.sentence()

    before = move(0.2)
    mouse.down()
    said = [move(share) for share in (0.3, 0.45, 0.6, 0.75)]
    mouse.up()
    # one stop may fall on the value where another stood
    assert len({before, *said}) >= 3
    assert move(0.25) == said[-1] and shown.errors == []  # the hand has let go


def test_the_button_of_the_support_filter_moves_the_line_to_the_tick(offline_page):
    (shown := offline_page()).open("support_filter.html")
    button, ours = shown.figure.locator("button"), browser.widget("support_filter")
    assert button.count() == 1 and button.inner_text() == "ε: 1% held out"
    button.click()
    shown.page.evaluate(browser.DRAWN)
    ours.log_epsilon = ours.words["tick"]["at"]
    assert ours.log_epsilon == -3.25 and shown.sentence() == ours.finding()
    assert ours.words["tick"]["told"] in shown.figure.locator(".arq-note").inner_text()
    assert shown.figure.locator("button").count() == 1 and shown.errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(shown, axe_source, theme):
    shown.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    assert browser.axe(shown.page, axe_source) == []


def test_it_fits_a_telephone(shown):
    before = shown.page.viewport_size
    assert browser.overflow(shown.page, 390) == [] == browser.laid_over(shown.page)
    shown.page.set_viewport_size(before)


# (left, right) in its plot of the words beside an axis, and of the axis's numbers
EDGES = """() => {
  const svg = document.querySelector(".arq-widget svg"), room = svg.getBoundingClientRect();
  const edges = (e) => ["left", "right"].map((at) => e.getBoundingClientRect()[at] - room.left);
  const numbers = svg.querySelectorAll("text[text-anchor=end]:not(.arq-said)");
  return [svg.querySelector("text[transform]"), ...numbers].map(edges);
}"""


@pytest.mark.parametrize("size", [1.0, 3e3, -2.5e4, -1e6, 4e7, -1e11])
def test_numbers_of_any_length_stay_beside_the_words_of_their_axis(reused, size):
    q = size * np.linspace(0.2, 1, 12)[None]
    widget = Backup(["a state"], q, np.zeros_like(q), q[:, 0], np.zeros(1))
    with reused.page() as page:
        page.set_content(
            f"<!doctype html><html lang='en'><title>t</title>{widget.to_html()}</html>"
        )
        page.wait_for_selector(".arq-widget[data-ready]")
        words, *numbers = page.evaluate(EDGES)
        assert len(numbers) > 1 and min(left for left, _ in numbers) > words[1]


def test_its_plots_and_sentence_are_printed(shown):
    shown.page.emulate_media(media="print")
    assert (
        shown.figure.locator("svg").first.is_visible()
        and shown.figure.locator(".arq-finding").is_visible()
    )
    shown.page.emulate_media(media="screen")


@pytest.mark.parametrize("name", NAMES)
def test_without_javascript_the_sentence_remains(offline_page, name):
    (watched := offline_page(java_script_enabled=False)).open(f"{name}.html", scripts=False)
    assert (
        watched.figure.locator(".arq-finding").is_visible()
        and watched.sentence() == browser.widget(name).finding()
    )


@pytest.mark.parametrize("name", NAMES)
def test_its_code_is_small(name):
    assert browser.code_bytes(browser.widget(name).to_html()) <= browser.MAX_CODE


def test_widgets_of_one_page_share_no_id(offline_page):
    (watched := offline_page()).open("all.html")
    ids = watched.page.evaluate(
        "[...document.querySelectorAll('.arq-widget [id]')].map((e) => e.id)"
    )
    assert ids and len(set(ids)) == len(ids), sorted({i for i in ids if ids.count(i) > 1})


SAME = pytest.mark.slow(reason="the same widgets are tested above; `make layout` opens every page")


@pytest.mark.parametrize(
    "page", [*BUILT[:1], *(pytest.param(p, marks=SAME) for p in BUILT[1:])] or [None]
)
def test_the_pages_of_the_built_book_keep_these_promises(offline_page, axe_source, page):
    if page is None:
        pytest.skip("saw no page with a widget in _build/html; `make book` makes them")
    watched = offline_page(folder=HTML)
    watched.open(page)
    assert watched.requests == [] and watched.errors == []
    assert browser.axe(watched.page, axe_source) == [] and browser.overflow(watched.page) == []


def spoilt(fragment, change):
    """A fragment whose saved data were changed, as a page of another version or a damaged file
    would hold them.
    """
    start, data, end = re.match(r'(.*class="arq-spec">)(.*?)(</script>.*)', fragment, re.S).groups()
    saved = json.loads(data)
    change(saved)
    return start + json.dumps(saved) + end


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda saved: saved["spec"].update(version=0), "saved by version 0"),
        (
            lambda saved: saved["state"].update(log_epsilon=77),
            "log ε: saw 77, expected a number from -20 to 5",
        ),
        (lambda saved: saved["state"].pop("log_epsilon"), "log ε: saw undefined"),
        (
            lambda saved: saved["spec"]["arrays"]["log_prob"].update(
                f4=base64.b64encode(np.full(120, np.nan, "<f4").tobytes()).decode()
            ),
            "not finite",
        ),
        (lambda saved: saved["spec"]["arrays"]["actions"].update(f4=""), "saw 0 values"),
    ],
)
def test_old_or_damaged_data_are_named_in_the_frame_and_the_page_lives(chromium, change, told):
    fragment, page, errors = browser.widget("support_filter").to_html(), chromium.new_page(), []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.set_content(
        "<!doctype html><html "
        f"lang='en'><title>t</title>{spoilt(fragment, change)}{fragment}</html>"
    )
    page.wait_for_function("document.querySelectorAll('.arq-widget[data-ready]').length === 2")
    bad, good = page.locator(".arq-widget").first, page.locator(".arq-widget").last
    assert (
        told in bad.locator("[role=alert]").text_content()
        and not bad.locator(".arq-finding").is_visible()
    )
    before = good.locator(".arq-finding").text_content()
    good.locator("[name=log_epsilon]").press("Home")
    page.evaluate(browser.DRAWN)
    assert good.locator(".arq-finding").text_content() != before and errors == []
    page.close()


def test_a_control_out_of_its_range_is_repaired_by_moving_it(chromium):
    page = chromium.new_page()
    page.set_content(
        "<!doctype html><html lang='en'><title>t</title>"
        + spoilt(
            browser.widget("support_filter").to_html(),
            lambda saved: saved["state"].update(log_epsilon=77),
        )
    )
    page.locator("[name=log_epsilon]").press("Home")
    page.evaluate(browser.DRAWN)
    assert (
        page.locator(".arq-finding").is_visible()
        and "log ε = −20.00" in page.locator(".arq-finding").text_content()
    )
    page.close()
