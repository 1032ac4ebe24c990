"""The only training loop: progress, checkpoints, exact resumption, and the averaging of weights."""
from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from tqdm import tqdm

from arq_core.engine.machine import compiled, keep_freed_memory, replayed
from arq_core.engine.store import Store
from arq_core.engine.streams import Streams

CHECKPOINT_SECONDS = 30.0   # what a power cut may cost; Ctrl-C costs nothing, it stops at a step's end
CHECKPOINT_SHARE = 0.05     # of the time that writing may take: where a checkpoint is large, the next one waits longer,
CHECKPOINT_LONGEST = 20     # but no longer than so many times CHECKPOINT_SECONDS
ADAM = dict(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False)     # Kingma and Ba 2015; appendix A.2
LOSS_EVERY = 50             # steps averaged into one point of the loss curve
UPDATE_UNITS = 50_000       # nanoseconds of a step that one program for its update saves on an H200, in the units of machine.compiled
WARM_UP = 100               # steps over which `cosine` rises to the whole learning rate

Schedule = Callable[[int, int], float]     # (steps taken, steps in all) -> the share of the learning rate that the next step uses


def cosine(taken: int, steps: int) -> float:
    """Up in a straight line over WARM_UP steps, down to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return min(1.0, (taken + 1) / WARM_UP) * (1 + math.cos(math.pi * taken / steps)) / 2


SCHEDULES: dict[str, Schedule | None] = {"constant": None, "cosine": cosine}


def ema_(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay·average + (1 - decay)·model, in place. Polyak averaging of a target network is the same formula."""
    Averaging(average, model, decay)()


class Averaging:
    """`ema_` for every step: listing a module's parameters takes as long as averaging them. A decay that changes is a tensor [], filled in place."""

    def __init__(self, average: nn.Module, model: nn.Module, decay: float | Tensor):
        self.averages, self.models, self.decay = list(average.parameters()), list(model.parameters()), decay

    @torch.no_grad()
    def __call__(self) -> None:
        share = 1 - self.decay
        torch._foreach_lerp_(self.averages, self.models, [share] * len(self.averages) if isinstance(share, Tensor) else share)


def adam_and_average(parameters: list[Tensor], gradients: tuple[Tensor, ...], mean: list[Tensor], square: list[Tensor], taken: list[Tensor],
                     rate: float | Tensor, averages: list[Tensor], models: list[Tensor], decay: float | Tensor) -> None:
    """A step of Adam, then `ema_` (nothing where `averages` is empty), written for a compiler: one program over all tensors.

    torch's fused Adam gives a block of a GPU 65,536 numbers, so that a small network keeps a third of an H200 busy; this one is spread over all of it.
    """
    adam(parameters, gradients, mean, square, [], taken, foreach=True, capturable=True, lr=rate, **ADAM)
    if averages:
        share = 1 - decay
        difference = torch._foreach_sub(models, averages)
        torch._foreach_add_(averages, torch._foreach_mul(difference, [share] * len(averages) if isinstance(share, Tensor) else share))


def warmed_up(taken: int, decay: float) -> float:
    """min(decay, (1 + t)/(10 + t)) after t steps: an average of the first steps must not keep the initial weights.

    The rule of TensorFlow's and Song et al.'s moving averages (2021, released code). It reaches .999 after 8,990 steps, and what came before is
    forgotten soon after: long trainings end with the same average.
    """
    return min(decay, (1 + taken) / (10 + taken))


def precision(name: str, device: torch.device | str = "cpu"):
    """A context in which matrix products run in `name` ("float32" or "bfloat16"); weights and sums stay float32."""
    if name == "float32":
        return contextlib.nullcontext()
    if name == "bfloat16":
        return torch.autocast(torch.device(device).type, torch.bfloat16)
    raise ValueError(f"precision: saw {name!r}, expected 'float32' or 'bfloat16'.")


@contextlib.contextmanager
def _interrupt_at_step_end():
    """Yields a function that says whether Ctrl-C was pressed; the step under way is finished first."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def train(name: str, key: dict, modules: dict[str, nn.Module], loss: Callable[[], Tensor], *, trained: str, lr: float, steps: int,
          rng: Streams, store: Store, before_step: Callable[[int], None] = lambda taken: None, after_step: Averaging | None = None,
          arithmetic: str = "float32", schedule: Schedule | None = None) -> Tensor:
    """Adam on `modules[trained]` for `steps` steps of `loss() -> [E]` (members summed: each sees its own gradient alone).

    A step (draws from `rng`, loss, gradients, Adam, the averaging `after_step`) never asks what time or step it is, so that CUDA can replay it as one
    graph; what depends on the number of steps taken goes into `before_step(taken)`, which runs outside of it, or is the
    `schedule` of the learning rate (None: constant).
    All modules, Adam's moments and the state of `rng` go into a checkpoint of `store`, so an interrupted run goes on where it
    stopped and ends with the weights of an uninterrupted one. Finished weights are kept under `name` and `key`, and a step
    that is found there is not trained again; `seconds` in the file is what it took, over all interruptions. Returns the loss curve
    [E, points], each point a mean over LOSS_EVERY steps.
    """
    keep_freed_memory()
    parameters, rate = list(modules[trained].parameters()), torch.tensor(lr, device=rng.device) if schedule else lr
    taken = [torch.zeros((), device=p.device) for p in parameters]
    mean, square = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    tensors = {f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()}
    moments = {f"adam.{i}.{k}": v for k, state in dict(step=taken, exp_avg=mean, exp_avg_sq=square).items() for i, v in enumerate(state)}

    if (done := store.load(name, key)) is not None:
        _copy_into(tensors, done)
        return done["loss"].to(rng.device)
    step, curve, window = 0, [], torch.zeros(len(parameters[0]), device=rng.device)
    before, start, kept = 0.0, time.monotonic(), None
    if (partial := store.load(name + ".partial", key)) is not None:
        _copy_into({**tensors, **moments, "window": window}, partial)
        rng.restore(partial["rng"])
        step, curve, kept = int(partial["step"]), list(partial["loss"].T.to(rng.device)), int(partial["step"])
        before = float(partial["seconds"])

    whole = compiled(adam_and_average, rng.device, units=UPDATE_UNITS, calls=steps) if rng.device.type == "cuda" else adam_and_average
    averaged = (after_step.averages, after_step.models, after_step.decay) if after_step else ([], [], 0.0)

    @torch.no_grad()
    def update(gradients):
        if whole is not adam_and_average:
            return whole(parameters, gradients, mean, square, taken, rate, *averaged)
        gradients = [g.contiguous() for g in gradients]                        # fused Adam reads them as if they lay in memory as the weights do
        adam(parameters, gradients, mean, square, [], taken, fused=True, capturable=rng.device.type == "cuda", lr=rate, **ADAM)
        if after_step:
            after_step()

    def one_step():
        with precision(arithmetic, rng.device):
            losses = loss()
        update(torch.autograd.grad(losses.sum(), parameters))
        window.add_(losses.detach())

    def seconds():
        return torch.tensor(before + time.monotonic() - start, dtype=torch.float64)

    def checkpoint():
        _refuse_nonfinite(name, step, kept, window, modules[trained])
        store.save(name + ".partial", key, {**tensors, **moments, "rng": rng.state(), "step": torch.tensor(step),
                                            "loss": _columns(curve), "window": window, "seconds": seconds()})

    saved, wait, program = time.monotonic(), CHECKPOINT_SECONDS, replayed(one_step, rng)
    with _interrupt_at_step_end() as interrupted, tqdm(total=steps, initial=step, desc=name, mininterval=1.0) as bar:
        while step < steps:
            before_step(step)
            if schedule:
                rate.fill_(lr * schedule(step, steps))                        # a tensor, so that a replayed graph sees it move
            program()
            step += 1
            bar.update()
            if step % LOSS_EVERY == 0:
                _refuse_nonfinite(name, step, kept, window)
                curve.append(window / LOSS_EVERY)
                window.zero_()
            stop = interrupted()
            if stop or (now := time.monotonic()) - saved > wait:
                checkpoint()
                saved, kept = time.monotonic(), step
                wait = max(CHECKPOINT_SECONDS, min((saved - now) / CHECKPOINT_SHARE, CHECKPOINT_LONGEST * CHECKPOINT_SECONDS))
            if stop:
                raise KeyboardInterrupt(f"{name}: stopped at step {step} of {steps}; start again to go on from there.")
    _refuse_nonfinite(name, step, kept, window, modules[trained])
    store.save(name, key, {**tensors, "loss": _columns(curve), "seconds": seconds()})
    store.discard(name + ".partial", key)
    return _columns(curve)


def _refuse_nonfinite(name: str, step: int, kept: int | None, window: Tensor, module: nn.Module | None = None) -> None:
    """Raise FloatingPointError if a loss since the last check, or a weight of `module`, is not finite. Nothing is saved then."""
    bad = {k for k, v in module.named_parameters() if not torch.isfinite(v).all()} if module is not None else set()
    if torch.isfinite(window).all() and not bad:
        return
    members = (~torch.isfinite(window)).nonzero().flatten().tolist()
    raise FloatingPointError(
        f"{name}: the loss became {window.tolist()} (members {members}) by step {step}, expected finite numbers"
        + (f"; weights that are not finite: {', '.join(sorted(bad))}" if bad else "") + ". "
        + (f"The last good checkpoint, of step {kept}, is kept" if kept is not None else "No checkpoint was written yet")
        + f"; look at the loss before it, for extreme entries in the data (rewards, states), or lower the learning rate of {name}.")


def _columns(curve: list[Tensor]) -> Tensor:
    return torch.stack(curve, 1) if curve else torch.zeros(0, 0)


@torch.no_grad()
def _copy_into(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for k, v in tensors.items():
        v.copy_(saved[k])
