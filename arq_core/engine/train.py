"""The only training loop: progress, checkpoints, exact resumption."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from arq_core.engine.machine import keep_freed_memory, replayed
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams
from arq_core.engine.updates import Part, Update, named_parts

# What a power cut may cost; Ctrl-C costs nothing, it stops at a step's end
CHECKPOINT_SECONDS = 30.0
# Of the time that writing may take: where a checkpoint is large, the next one waits longer,
CHECKPOINT_SHARE = 0.05
CHECKPOINT_LONGEST = 20  # but no longer than so many times CHECKPOINT_SECONDS
LOSS_EVERY = 50  # steps averaged into one point of the loss curve


def marks(steps: int, count: int) -> list[int]:
    """After how many of `steps` steps `count` snapshots are kept: equally far apart, the last at
    the end; fewer where there are fewer steps."""
    return sorted({steps * i // count for i in range(1, count + 1)} - {0})


def snapshot(name: str, step: int) -> str:
    """Under which name a store keeps what a training had after so many steps."""
    return f"{name}.at_{step}"


class Kept(nn.Module):
    """A tensor that belongs into the checkpoint."""

    def __init__(self, tensor: Tensor):
        super().__init__()
        self.register_buffer("tensor", tensor)


def precision(name: str, device: torch.device | str = "cpu") -> contextlib.AbstractContextManager:
    """A context in which matrix products run in `name` ("float32" or "bfloat16"; ValueError for
    another); weights and sums stay float32."""
    if name == "float32":
        return contextlib.nullcontext()
    if name == "bfloat16":
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    raise ValueError(f"precision: saw {name!r}, expected 'float32' or 'bfloat16'.")


@contextlib.contextmanager
def _interrupt_at_step_end():
    """Yields a function that says whether Ctrl-C was pressed; the step under way is finished
    first."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def train(
    name: str,
    key: dict,
    modules: Mapping[str, nn.Module],
    updates: Sequence[Update | tuple[Update, ...]],
    *,
    steps: int,
    rng: Streams,
    store: Store,
    before_step: Callable[[int], None] = lambda taken: None,
    begin: Callable[[], None] = lambda: None,
    arithmetic: str = "float32",
) -> dict[str, Tensor]:
    """Train `modules` for `steps` steps; a step is `begin()` and then each of `updates` in order.

    Updates in one tuple see the weights from before the first of them moves. A step (draws from
    `rng`, losses, gradients, Adam, averages) never asks what time or step it is, so that CUDA can
    replay it as a graph, one for each step that differs by `Update.every`; what depends on the
    number of steps taken goes into `before_step(taken)`, which runs outside of it, or is a schedule
    of a learning rate. `begin` draws what several updates see, such as one batch for all of them.
    All modules, Adam's moments and the state of `rng` go into a checkpoint of `store`, so an
    interrupted run goes on where it stopped and ends with the weights of an uninterrupted one.
    Finished weights are kept under `name` and `key`, and a step that is found there is not trained
    again; `seconds` in the file is what it took, over all interruptions. A store with a number of
    `snapshots` is also given the weights after `marks` of the steps, as if they were finished then.

    Returns the loss curve [R, points] of each module that is trained, a point a mean over
    LOSS_EVERY steps. ValueError for updates that do not fit `modules`; FloatingPointError where a
    loss or a weight is not finite; KeyboardInterrupt, with a checkpoint, after Ctrl-C.
    """
    keep_freed_memory()
    groups = named_parts(updates, dict(modules), rng.device, steps)
    period = math.lcm(*(n for group in groups for part in group for n in _periods(part.update)))
    state = _State(name, key, modules, [part for group in groups for part in group], rng, store)
    if (done := state.load()) is not None:
        return done

    def one_step(step: int) -> None:
        begin()
        for group in groups:
            due = [part for part in group if part.is_due(step)]
            with precision(arithmetic, rng.device):
                losses = [part.update.loss() for part in due]
            last = len(due) - 1
            found = [p.gradients(losses[i], retain=i < last) for i, p in enumerate(due)]
            for part, gradients in zip(due, found, strict=True):
                part.move(gradients, step)

    programs = [replayed(partial(one_step, phase), rng) for phase in range(period)]
    kept_at = marks(steps, getattr(store, "snapshots", 0))
    bar = tqdm(total=steps, initial=state.step, desc=name, mininterval=1.0)
    with _interrupt_at_step_end() as interrupted, bar:
        while state.step < steps:
            before_step(state.step)
            for part in state.parts:
                part.schedule(state.step)
            programs[state.step % period]()
            state.took_a_step()
            if state.step in kept_at:
                state.keep_snapshot()
            bar.update()
            stop = interrupted()
            if stop or state.is_due():
                state.save()
            if stop:
                raise KeyboardInterrupt(
                    f"{name}: stopped at step {state.step} of {steps}; start again to go on from "
                    "there."
                )
    return state.finish()


def _periods(update: Update) -> list[int]:
    """After how many steps an update does the same again. ValueError where that does not fit into
    the window of the loss curve."""
    if LOSS_EVERY % update.every:
        raise ValueError(
            f"{update.trained}.every: saw {update.every}, expected a divisor of {LOSS_EVERY}, so "
            "that each point of its loss curve is a mean over equally many."
        )
    return [update.every, *(average.every for average in update.after)]


class _State:
    """Everything that a checkpoint holds: tensors of the modules, Adam's moments, the streams, how
    many steps were taken, and the loss curves with their unfinished windows."""

    def __init__(
        self,
        name: str,
        key: dict,
        modules: Mapping[str, nn.Module],
        parts: list[Part],
        rng: Streams,
        store: Store,
    ):
        self.name, self.key, self.rng, self.store = name, key, rng, store
        self.parts = parts
        self.tensors = {
            f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()
        }
        adam = [dict(step=p.taken, exp_avg=p.mean, exp_avg_sq=p.square) for p in parts]
        rows = [dict(zip(a, x, strict=True)) for a in adam for x in zip(*a.values(), strict=True)]
        self.moments = {f"adam.{i}.{k}": v for i, row in enumerate(rows) for k, v in row.items()}
        self.windows = {self._named("window", p): p.window for p in parts}
        self.curves: dict[str, list[Tensor]] = {self._named("loss", p): [] for p in parts}
        self.step = 0
        self.kept: int | None = None  # the step of the last checkpoint
        self.before, self.start = 0.0, time.monotonic()  # seconds of former runs; when this began
        self.saved, self.wait = self.start, CHECKPOINT_SECONDS

    def _named(self, what: str, part: Part) -> str:
        """The name in a file of something of a part: of the only one, without its name."""
        return what if len(self.parts) == 1 else f"{what}.{part.update.trained}"

    def _by_part(self, curve_of: Callable[[str], Tensor]) -> dict[str, Tensor]:
        return {p.update.trained: curve_of(self._named("loss", p)) for p in self.parts}

    def load(self) -> dict[str, Tensor] | None:
        """The loss curves of a finished step; else None, and the checkpoint's state."""
        if (done := self.store.load(self.name, self.key)) is not None:
            _copy_into(self.tensors, done)
            return self._by_part(lambda name: done[name].to(self.rng.device))
        if (partial := self.store.load(self.name + ".partial", self.key)) is not None:
            _copy_into({**self.tensors, **self.moments, **self.windows}, partial)
            self.rng.restore(partial["rng"])
            self.step = self.kept = int(partial["step"])
            self.curves = {k: list(partial[k].T.to(self.rng.device)) for k in self.curves}
            self.before = float(partial["seconds"])
        self.saved = time.monotonic()
        return None

    def took_a_step(self) -> None:
        """Count it; at the end of a window, check the losses and add a point to each curve."""
        self.step += 1
        if self.step % LOSS_EVERY == 0:
            self.refuse_nonfinite()
            for curve, part in zip(self.curves.values(), self.parts, strict=True):
                curve.append(part.window / (LOSS_EVERY // part.update.every))
                part.window.zero_()

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.saved > self.wait

    def save(self) -> None:
        """Write a checkpoint, and see how long the next one waits."""
        now = time.monotonic()
        self.refuse_nonfinite(weights=True)
        more = dict(rng=self.rng.state(), step=torch.tensor(self.step), **self._result())
        tensors = {**self.tensors, **self.moments, **self.windows, **more}
        self.store.save(self.name + ".partial", self.key, tensors)
        self.saved, self.kept = time.monotonic(), self.step
        longest = CHECKPOINT_LONGEST * CHECKPOINT_SECONDS
        wanted = min((self.saved - now) / CHECKPOINT_SHARE, longest)
        self.wait = max(CHECKPOINT_SECONDS, wanted)

    def keep_snapshot(self) -> None:
        """Keep what a training of as many steps as were taken would end with."""
        curves = {name: _columns(curve) for name, curve in self.curves.items()}
        self.store.save(snapshot(self.name, self.step), self.key, self.tensors | curves)

    def finish(self) -> dict[str, Tensor]:
        """Keep the step, discard its checkpoint; the loss curves."""
        self.refuse_nonfinite(weights=True)
        self.store.save(self.name, self.key, {**self.tensors, **self._result()})
        self.store.discard(self.name + ".partial", self.key)
        return self._by_part(lambda name: _columns(self.curves[name]))

    def _result(self) -> dict[str, Tensor]:
        seconds = self.before + time.monotonic() - self.start
        curves = {name: _columns(curve) for name, curve in self.curves.items()}
        return curves | dict(seconds=torch.tensor(seconds, dtype=torch.float64))

    def refuse_nonfinite(self, weights: bool = False) -> None:
        """Raise FloatingPointError if a loss since the last check, or with `weights` one of the
        weights that are trained, is not finite. Nothing is saved then."""
        for part in self.parts:
            named = part.module.named_parameters() if weights else ()
            bad = sorted(k for k, v in named if not torch.isfinite(v).all())
            if bad or not torch.isfinite(part.window).all():
                self._refuse(part, bad)

    def _refuse(self, part: Part, bad: list[str]) -> None:
        members = (~torch.isfinite(part.window)).nonzero().flatten().tolist()
        weights = f"; weights that are not finite: {', '.join(bad)}" if bad else ""
        whose = "" if len(self.parts) == 1 else f" of {part.update.trained}"
        checkpoint = (
            f"The last good checkpoint, of step {self.kept}, is kept"
            if self.kept is not None
            else "No checkpoint was written yet"
        )
        raise FloatingPointError(
            f"{self.name}: the loss{whose} became {part.window.tolist()} (members {members}) by "
            f"step {self.step}, expected finite numbers{weights}. {checkpoint}; look at the loss "
            "before it, for extreme entries in the data (rewards, states), or lower the learning "
            f"rate of {self.name}."
        )


def _columns(curve: list[Tensor]) -> Tensor:
    return torch.stack(curve, 1) if curve else torch.zeros(0, 0)


@torch.no_grad()
def _copy_into(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for k, v in tensors.items():
        v.copy_(saved[k])
