"""What the tests of the walks that run in a page share: the walk and its candidates asked of the
page, without its drawings, and widgets whose saved numbers were spoilt.
"""

import json
import re
from contextlib import ExitStack, contextmanager

import browser
import numpy as np

from arq_core.widgets.base import packed

UNPACK = """
  const data = { words: spec.words };
  for (const [name, array] of Object.entries(spec.arrays)) data[name] = unpacked(name, array);
  delete data.words.first;
"""
# where the walkers are at each step, and what each chose from
WALK = """async ([spec, settings]) => {
  CODE UNPACK
  const how = HOW;
  const stage = stageOf(data, PLACE(data), () => {}), walked = [];
  for (const at of settings) {
    stage.go(JSON.stringify(at), how(at));
    while (!stage.run.done && !stage.failed) await new Promise((done) => setTimeout(done, 2));
    if (stage.failed) throw new Error(stage.failed);
    const { states, steps, end, empty, believed, earned } = stage.run;
    walked.push({ states: states.map((row) => Array.from(row)), steps: Array.from(steps),
      end: Array.from(end), empty, believed, earned });
  }
  stage.end();
  return walked;
}"""
DRAW = """([spec, jobs]) => {
  CODE UNPACK
  const engine = walkEngine(modelOf(data));
  return jobs.map((job) => {
    const drawn = engine.candidates(job, engine.place(job.n));
    return [drawn.actions, drawn.logProb, drawn.q].map((x) => Array.from(x));
  });
}"""


def asked(page, script, widget, what):
    script = script.replace("UNPACK", UNPACK).replace("CODE", widget.code())
    return page.evaluate(script, [widget._spec(), what])


def walked(page, widget, place: str, how: str, settings) -> list[dict]:
    """The walks of the page: `place` names the function of its code that knows the place, `how` is
    one of JavaScript that makes of a setting what the stage expects.
    """
    return asked(page, WALK.replace("HOW", how).replace("PLACE", place), widget, settings)


def drawn(page, widget, jobs) -> list[list[list[float]]]:
    """(actions, log-densities, values) of the candidates that the page draws for each job."""
    return asked(page, DRAW, widget, jobs)


@contextmanager
def empty_page(chromium, folder):
    """A page that nothing serves, for scripts to run in."""
    (folder / "empty.html").write_text("<!doctype html><title>t</title>", encoding="utf-8")
    page = chromium.new_page()
    page.goto((folder / "empty.html").as_uri())
    yield page
    page.close()


def spoilt(name: str, change) -> str:
    """A page with that widget, whose saved numbers and words went through `change`."""
    fragment = browser.widget(name).to_html()
    start, data, end = re.match(r'(.*class="arq-spec">)(.*?)(</script>.*)', fragment, re.S).groups()
    saved = json.loads(data)
    change(saved["spec"])
    html = start + json.dumps(saved) + end
    return f"<!doctype html><html lang='en'><title>t</title>{html}</html>"


def huge_units(name: str) -> dict:
    """The units of that widget's weights as it saves them, too large for any walk."""
    return packed(np.full(len(browser.widget(name).arrays["units"]), 1e30, np.float32))


def told_and_nothing_drawn(chromium, html: str) -> str:
    """What a page says that opens with an error, and draws nothing."""
    page, errors = chromium.new_page(), []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.set_content(html)
    page.wait_for_selector(".arq-widget[data-ready]")
    told = page.locator("[role=alert]").text_content()
    assert not page.locator(".arq-finding").is_visible()
    assert page.locator(".arq-plots *").count() == 0 and errors == []
    page.close()
    return told


@contextmanager
def opener(reused, folder, page: str):
    """open(scripts, before, **context): the page of that folder in a browser.Watched, after a
    script that runs `before` its own."""
    with ExitStack() as stack:

        def make(scripts=True, before="", **context):
            if before:
                own = stack.enter_context(reused.chromium.new_context(**context)).new_page()
                own.add_init_script(before)
            else:
                own = stack.enter_context(reused.page(**context))
            watched = browser.Watched(own, folder.as_uri() + "/")
            stack.callback(watched.leave)
            watched.open(page, scripts)
            return watched

        yield make
