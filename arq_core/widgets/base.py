"""What every widget shares: synced traits with bounds, one script for the live notebook and the
built page, and a sentence that says the finding.

A widget is a Python class and a JavaScript file beside it. The class holds arrays, controls (each a
synced trait) and `finding()`, the sentence for the present state; the script's `view(data, state,
frame)` draws, and says the same sentence (tests compare the two). Live, anywidget carries the
traits; in a page, `to_html` inlines style, script and data. Without JavaScript the sentence
remains.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from pathlib import Path

import anywidget
import numpy as np
import traitlets

HERE = Path(__file__).parent
# of what is sent to the scripts; raise it when they could not read what an older notebook saved
VERSION = 1
MAX_POINTS = 2000  # samples of one state; more are thinned evenly, and the widget says so
LIVE = "export default { render({model, el}) { mount(el, live(model), view); } };"


class WidgetError(ValueError):
    """Data or a state that a widget cannot show: what was seen, what was expected, what to do."""


@dataclass(frozen=True)
class Slider:
    """A number that moves from `low` to `high` by `step`; `unit` is read out after it.

    `names`, one a step, are read instead of the numbers.
    """

    name: str
    label: str
    low: float
    high: float
    step: float
    unit: str = ""
    names: tuple[str, ...] = ()
    kind: str = "slider"

    def check(self, value: float) -> str:
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and self.low <= value <= self.high
        ):
            return ""
        return (
            f"{self.label}: saw {value}, expected a number from {self.low:g} to "
            f"{self.high:g}; set {self.name} within that."
        )


@dataclass(frozen=True)
class Choice:
    """One of `options`, by its place in them (from 0): in a list to open ("choice"), or side by
    side ("radio").
    """

    name: str
    label: str
    options: tuple[str, ...]
    kind: str = "choice"

    def check(self, value: int) -> str:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and 0 <= value < len(self.options)
        ):
            return ""
        return (
            f"{self.label}: saw {value}, expected a whole number from 0 to "
            f"{len(self.options) - 1}; they stand for {', '.join(self.options)}."
        )


Control = Slider | Choice


def fixed(x: float, digits: int = 0) -> str:
    """x with so many decimals, ties away from zero as JavaScript's toFixed breaks them, with a true
    minus sign.
    """
    if not math.isfinite(x):
        return "∞" if x > 0 else "−∞" if x < 0 else "?"
    text = str(Decimal(float(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def percent(part: float, whole: float) -> str:
    """A share as a percentage with one decimal."""
    return fixed(100 * part / whole, 1) + "%"


def narrow(x: np.ndarray) -> np.ndarray:
    """int16 and int8 as they are (counts and fixed-point numbers, fewer bytes), everything else as
    float32.
    """
    x = np.asarray(x)
    return x if x.dtype in (np.int16, np.int8) else x.astype(np.float32)


def packed(x: np.ndarray) -> dict:
    """A narrow array, little-endian, in base64: what `unpacked` in base.js reads.

    Scripts and Python compute on these same numbers.
    """
    kind = x.dtype.str[1:] if x.dtype in (np.int16, np.int8) else "f4"
    return {
        kind: base64.b64encode(np.ascontiguousarray(x, "<" + kind).tobytes()).decode(),
        "shape": list(x.shape),
    }


def unpacked(saved: Mapping) -> np.ndarray:
    """The array that `packed` wrote."""
    kind = next(k for k in ("i1", "i2", "f4") if k in saved)
    return np.frombuffer(base64.b64decode(saved[kind]), "<" + kind).reshape(saved["shape"])


def refuse(name: str, x: np.ndarray) -> None:
    """Raise WidgetError for an array that is empty or holds a number that is not finite."""
    if x.size == 0:
        raise WidgetError(
            f"{name}: saw no values (shape {x.shape}), expected at least one; check "
            "what was selected."
        )
    if (bad := ~np.isfinite(x)).any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise WidgetError(
            f"{name}: saw {int(bad.sum()):,} of {x.size:,} values that are not finite, "
            f"the first ({x[first]}) at {first}; expected finite numbers; drop these "
            "samples or repair the model that made them."
        )


def thinned(x: np.ndarray, axis: int, most: int = MAX_POINTS) -> np.ndarray:
    """At most `most` entries of an axis, evenly spaced over it."""
    n = x.shape[axis]
    return x if n <= most else np.take(x, np.linspace(0, n - 1, most).round().astype(int), axis)


class Widget(anywidget.AnyWidget):
    """Base of the widgets. A subclass sets `title` and `script` (and `parts`, what that needs),
    adds a synced trait for each control, and defines `finding`.

    `arrays` [any shapes] and `words` (JSON values) are what the script is given as `data`. Data
    that cannot be shown do not raise: the widget says what is wrong in its own frame, so that a
    page with several figures stays alive. Setting a control outside its bounds later raises
    traitlets.TraitError.
    """

    title = ""
    script = ""
    parts: tuple[str, ...] = ()
    spec = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        words: Mapping,
        controls: Sequence[Control],
        problem: str = "",
        **position,
    ):
        self.controls = {c.name: c for c in controls}
        self.arrays = {k: narrow(v) for k, v in arrays.items()}
        self.words = dict(words)
        self.problem = problem or self._wrong_at_start(position)
        if self.problem:
            self.arrays, position = {}, {}
        for name in self.controls:
            self._register_validator(Widget._refuse_outside, [name])
        super().__init__(spec=self._spec(), **position)

    def _wrong_at_start(self, position: Mapping) -> str:
        try:
            for name, x in self.arrays.items():
                refuse(name, x)
        except WidgetError as error:
            return str(error)
        return " ".join(
            c.check(position[name]) for name, c in self.controls.items() if name in position
        ).strip()

    def _refuse_outside(self, proposal) -> float:
        if told := self.controls[proposal["trait"].name].check(proposal["value"]):
            raise traitlets.TraitError(told)
        return proposal["value"]

    @property
    def _esm(self) -> str:
        return "\n".join([self.code(), LIVE])

    @property
    def _css(self) -> str:
        return (HERE / "base.css").read_text(encoding="utf-8")

    @classmethod
    def code(cls) -> str:
        """The script, after what all scripts share and the parts of its own, without the lines that
        are comments: pages are small.
        """
        names = ("base.js", *cls.parts, cls.script)
        text = "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
        return re.sub(r"(?m)^ *//.*\n", "", text)

    def _spec(self) -> dict:
        return {
            "version": VERSION,
            "title": self.title,
            "problem": self.problem,
            "words": self.words,
            "controls": [asdict(c) for c in self.controls.values()],
            "arrays": {k: packed(x) for k, x in self.arrays.items()},
        }

    def position(self) -> dict:
        """The present value of every control."""
        return {name: getattr(self, name) for name in self.controls}

    def finding(self) -> str:
        """One sentence with the numbers of the present state."""
        raise NotImplementedError

    def sentence(self) -> str:
        """`finding`, or what is wrong."""
        return f"This figure cannot be shown. {self.problem}" if self.problem else self.finding()

    def picture(self) -> str:
        """HTML that a reader without JavaScript sees beside the sentence; "" for none."""
        return ""

    def to_html(self) -> str:
        """The widget as it stands in a built page: one figure element that needs nothing else."""
        spec = json.dumps(
            {"spec": self._spec(), "state": self.position()}, ensure_ascii=False
        ).replace("</", "<\\/")
        start = (
            "mount(document.currentScript.parentElement, "
            "saved(document.currentScript.parentElement), view);"
        )
        return (
            '<figure class="arq-widget" '
            f'aria-label="{escape(self.title)}"><style>{self._css}</style><p '
            f'class="arq-finding" role="status">{escape(self.sentence())}</p>{self.picture()}'
            f'<script type="application/json" class="arq-spec">{spec}</script><script>(() => '
            f"{{\n{self.code()}\n{start}\n}})();</script></figure>"
        )

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/html": self.to_html(), "text/plain": self.sentence()}, metadata
