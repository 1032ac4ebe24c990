"""The only training loop: progress, checkpoints, exact resumption, and the averaging of weights."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from tqdm import tqdm

from arq_core.engine.machine import compiled, keep_freed_memory, replayed
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams

# What a power cut may cost; Ctrl-C costs nothing, it stops at a step's end
CHECKPOINT_SECONDS = 30.0
# Of the time that writing may take: where a checkpoint is large, the next one waits longer,
CHECKPOINT_SHARE = 0.05
CHECKPOINT_LONGEST = 20  # but no longer than so many times CHECKPOINT_SECONDS
LOSS_EVERY = 50  # steps averaged into one point of the loss curve
# Nanoseconds of a step that one program for its update saves on an H200, as in machine.compiled
UPDATE_UNITS = 50_000
WARM_UP = 100  # steps over which `cosine` rises to the whole learning rate


class AdamSettings(TypedDict):
    """What torch's function `adam` asks for besides tensors and the learning rate."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    amsgrad: bool
    maximize: bool


ADAM = AdamSettings(  # Kingma and Ba 2015; appendix A.2
    beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False
)

# (steps taken, steps in all) -> the share of the learning rate that the next step uses
Schedule = Callable[[int, int], float]


def cosine(taken: int, steps: int) -> float:
    """Up in a straight line over WARM_UP steps, down to 0 along half a cosine (Loshchilov and
    Hutter 2017)."""
    return min(1.0, (taken + 1) / WARM_UP) * (1 + math.cos(math.pi * taken / steps)) / 2


SCHEDULES: dict[str, Schedule | None] = {"constant": None, "cosine": cosine}


def ema_(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay·average + (1 - decay)·model, in place. Polyak averaging of a target
    network is the same formula."""
    Averaging(average, model, decay)()


class Averaging:
    """`ema_` for every step: listing a module's parameters takes as long as averaging them.

    A decay that changes is a tensor [], filled in place.
    """

    def __init__(self, average: nn.Module, model: nn.Module, decay: float | Tensor):
        self.averages: list[Tensor] = list(average.parameters())
        self.models: list[Tensor] = list(model.parameters())
        self.decay = decay

    @torch.no_grad()
    def __call__(self) -> None:
        """One step of averaging."""
        share = 1 - self.decay
        if isinstance(share, Tensor):
            torch._foreach_lerp_(self.averages, self.models, [share] * len(self.averages))
        else:
            torch._foreach_lerp_(self.averages, self.models, share)


class Kept(nn.Module):
    """A tensor that belongs into the checkpoint."""

    def __init__(self, tensor: Tensor):
        super().__init__()
        self.register_buffer("tensor", tensor)


def adam_and_average(
    parameters: list[Tensor],
    gradients: list[Tensor],
    mean: list[Tensor],
    square: list[Tensor],
    taken: list[Tensor],
    rate: float | Tensor,
    averages: list[Tensor],
    models: list[Tensor],
    decay: float | Tensor,
) -> None:
    """A step of Adam, then `ema_` (nothing where `averages` is empty), written for a compiler: one
    program over all tensors.

    torch's fused Adam gives a block of a GPU 65,536 numbers, so that a small network keeps a third
    of an H200 busy; this one is spread over all of it.
    """
    moments = parameters, gradients, mean, square, [], taken
    adam(*moments, foreach=True, capturable=True, lr=rate, **ADAM)
    if averages:
        share = 1 - decay
        difference = torch._foreach_sub(models, averages)
        shares = [share] * len(averages) if isinstance(share, Tensor) else share
        torch._foreach_add_(averages, torch._foreach_mul(difference, shares))


def warmed_up(taken: int, decay: float) -> float:
    """min(decay, (1 + t)/(10 + t)) after t steps: an average of the first steps must not keep the
    initial weights.

    The rule of TensorFlow's and Song et al.'s moving averages (2021, released code). It reaches
    .999 after 8,990 steps, and what came before is forgotten soon after: long trainings end with
    the same average.
    """
    return min(decay, (1 + taken) / (10 + taken))


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
    loss: Callable[[], Tensor],
    *,
    trained: str,
    lr: float,
    steps: int,
    rng: Streams,
    store: Store,
    before_step: Callable[[int], None] = lambda taken: None,
    after_step: Averaging | None = None,
    arithmetic: str = "float32",
    schedule: Schedule | None = None,
) -> Tensor:
    """Adam on `modules[trained]` for `steps` steps of `loss() -> [E]` (members summed: each sees
    its own gradient alone).

    A step (draws from `rng`, loss, gradients, Adam, the averaging `after_step`) never asks what
    time or step it is, so that CUDA can replay it as one graph; what depends on the number of steps
    taken goes into `before_step(taken)`, which runs outside of it, or is the `schedule` of the
    learning rate (None: constant). All modules, Adam's moments and the state of `rng` go into a
    checkpoint of `store`, so an interrupted run goes on where it stopped and ends with the weights
    of an uninterrupted one. Finished weights are kept under `name` and `key`, and a step that is
    found there is not trained again; `seconds` in the file is what it took, over all interruptions.

    Returns the loss curve [E, points], each point a mean over LOSS_EVERY steps. FloatingPointError
    where a loss or a weight is not finite; KeyboardInterrupt, with a checkpoint, after Ctrl-C.
    """
    keep_freed_memory()
    state = _State(name, key, modules, trained, rng, store)
    if (done := state.load()) is not None:
        return done
    rate = torch.tensor(lr, device=rng.device) if schedule else lr
    update = _update(state, rate, after_step, steps)

    def one_step() -> None:
        with precision(arithmetic, rng.device):
            losses = loss()
        update(torch.autograd.grad(losses.sum(), state.parameters))
        state.window.add_(losses.detach())

    program = replayed(one_step, rng)
    bar = tqdm(total=steps, initial=state.step, desc=name, mininterval=1.0)
    with _interrupt_at_step_end() as interrupted, bar:
        while state.step < steps:
            before_step(state.step)
            if schedule and isinstance(rate, Tensor):  # so that a replayed graph sees it move
                rate.fill_(lr * schedule(state.step, steps))
            program()
            state.took_a_step()
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


def _update(
    state: _State, rate: float | Tensor, after_step: Averaging | None, steps: int
) -> Callable[[tuple[Tensor, ...]], None]:
    """The function of the gradients that takes a step of Adam and averages: on a GPU one program
    where that pays, else torch's fused Adam."""
    moments, cuda = (state.mean, state.square), state.rng.device.type == "cuda"
    program = adam_and_average
    if cuda:
        program = compiled(adam_and_average, state.rng.device, units=UPDATE_UNITS, calls=steps)

    @torch.no_grad()
    def as_one_program(gradients: tuple[Tensor, ...]) -> None:
        a = after_step
        averaged = (a.averages, a.models, a.decay) if a else ([], [], 0.0)
        program(state.parameters, list(gradients), *moments, state.taken, rate, *averaged)

    @torch.no_grad()
    def fused(gradients: tuple[Tensor, ...]) -> None:
        # fused Adam reads them as if they lay in memory as the weights do
        tensors = state.parameters, [g.contiguous() for g in gradients], *moments, []
        adam(*tensors, state.taken, fused=True, capturable=cuda, lr=rate, **ADAM)
        if after_step:
            after_step()

    return fused if program is adam_and_average else as_one_program


class _State:
    """Everything that a checkpoint holds: tensors of the modules, Adam's moments, the streams, how
    many steps were taken, and the loss curve with its unfinished window."""

    def __init__(
        self,
        name: str,
        key: dict,
        modules: Mapping[str, nn.Module],
        trained: str,
        rng: Streams,
        store: Store,
    ):
        self.name, self.key, self.rng, self.store = name, key, rng, store
        self.module = modules[trained]
        self.parameters: list[Tensor] = list(self.module.parameters())
        self.taken = [torch.zeros((), device=p.device) for p in self.parameters]
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]
        self.window = torch.zeros(len(self.parameters[0]), device=rng.device)
        self.tensors = {
            f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()
        }
        adams = dict(step=self.taken, exp_avg=self.mean, exp_avg_sq=self.square)
        self.moments = {f"adam.{i}.{k}": v for k, s in adams.items() for i, v in enumerate(s)}
        self.step, self.curve = 0, []
        self.kept: int | None = None  # the step of the last checkpoint
        self.before, self.start = 0.0, time.monotonic()  # seconds of former runs; when this began
        self.saved, self.wait = self.start, CHECKPOINT_SECONDS

    def load(self) -> Tensor | None:
        """The loss curve [E, points] of a finished step; else None, and the checkpoint's state."""
        if (done := self.store.load(self.name, self.key)) is not None:
            _copy_into(self.tensors, done)
            return done["loss"].to(self.rng.device)
        if (partial := self.store.load(self.name + ".partial", self.key)) is not None:
            _copy_into({**self.tensors, **self.moments, "window": self.window}, partial)
            self.rng.restore(partial["rng"])
            self.step = self.kept = int(partial["step"])
            self.curve = list(partial["loss"].T.to(self.rng.device))
            self.before = float(partial["seconds"])
        self.saved = time.monotonic()
        return None

    def took_a_step(self) -> None:
        """Count it; at the end of a window, check the losses and add a point to the curve."""
        self.step += 1
        if self.step % LOSS_EVERY == 0:
            self.refuse_nonfinite()
            self.curve.append(self.window / LOSS_EVERY)
            self.window.zero_()

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.saved > self.wait

    def save(self) -> None:
        """Write a checkpoint, and see how long the next one waits."""
        now = time.monotonic()
        self.refuse_nonfinite(self.module)
        streams, step = self.rng.state(), torch.tensor(self.step)
        more = dict(rng=streams, step=step, window=self.window, **self._result())
        self.store.save(self.name + ".partial", self.key, {**self.tensors, **self.moments, **more})
        self.saved, self.kept = time.monotonic(), self.step
        longest = CHECKPOINT_LONGEST * CHECKPOINT_SECONDS
        wanted = min((self.saved - now) / CHECKPOINT_SHARE, longest)
        self.wait = max(CHECKPOINT_SECONDS, wanted)

    def finish(self) -> Tensor:
        """Keep the step, discard its checkpoint; the loss curve [E, points]."""
        self.refuse_nonfinite(self.module)
        self.store.save(self.name, self.key, {**self.tensors, **self._result()})
        self.store.discard(self.name + ".partial", self.key)
        return _columns(self.curve)

    def _result(self) -> dict[str, Tensor]:
        seconds = self.before + time.monotonic() - self.start
        return dict(loss=_columns(self.curve), seconds=torch.tensor(seconds, dtype=torch.float64))

    def refuse_nonfinite(self, module: nn.Module | None = None) -> None:
        """Raise FloatingPointError if a loss since the last check, or a weight of `module`, is not
        finite. Nothing is saved then."""
        named = module.named_parameters() if module is not None else ()
        bad = sorted(k for k, v in named if not torch.isfinite(v).all())
        if torch.isfinite(self.window).all() and not bad:
            return
        members = (~torch.isfinite(self.window)).nonzero().flatten().tolist()
        weights = f"; weights that are not finite: {', '.join(bad)}" if bad else ""
        checkpoint = (
            f"The last good checkpoint, of step {self.kept}, is kept"
            if self.kept is not None
            else "No checkpoint was written yet"
        )
        raise FloatingPointError(
            f"{self.name}: the loss became {self.window.tolist()} (members {members}) by step "
            f"{self.step}, expected finite numbers{weights}. {checkpoint}; look at the loss before "
            "it, for extreme entries in the data (rewards, states), or lower the learning rate of "
            f"{self.name}."
        )


def _columns(curve: list[Tensor]) -> Tensor:
    return torch.stack(curve, 1) if curve else torch.zeros(0, 0)


@torch.no_grad()
def _copy_into(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for k, v in tensors.items():
        v.copy_(saved[k])
