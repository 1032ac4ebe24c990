"""The only training loop: progress, checkpoints, exact resumption, and the averaging of weights."""
from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from arq_core.streams import Streams
from arq_core.types import Store

CHECKPOINT_SECONDS = 30.0   # what a power cut may cost; Ctrl-C costs nothing, it stops at a step's end
LOSS_EVERY = 50             # steps averaged into one point of the loss curve


@torch.no_grad()
def ema_(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay·average + (1 - decay)·model, in place. Polyak averaging of a target network is the same formula."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


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
          rng: Streams, store: Store, after_step: Callable[[int], None] = lambda step: None,
          arithmetic: str = "float32") -> Tensor:
    """Adam on `modules[trained]` for `steps` steps of `loss() -> [E]` (members summed: each sees its own gradient alone).

    All modules, Adam's moments and the state of `rng` go into a checkpoint of `store`, so an interrupted run goes on where it
    stopped and ends with the weights of an uninterrupted one. Finished weights are kept under `name` and `key`, and a step
    that is found there is not trained again; `seconds` in the file is what it took, over all interruptions. Returns the loss curve [E, points], each point a mean over LOSS_EVERY steps.
    """
    parameters = list(modules[trained].parameters())
    adam = torch.optim.Adam(parameters, lr=lr, fused=True)
    adam_state = [dict(step=torch.zeros((), device=p.device), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p)) for p in parameters]
    adam.state.update(zip(parameters, adam_state, strict=True))
    tensors = {f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()}
    moments = {f"adam.{i}.{k}": v for i, state in enumerate(adam_state) for k, v in state.items()}

    if (done := store.load(name, key)) is not None:
        _copy_into(tensors, done)
        return done["loss"].to(rng.device)
    step, curve, window, before, start = 0, [], torch.zeros((), device=rng.device), 0.0, time.monotonic()
    if (partial := store.load(name + ".partial", key)) is not None:
        _copy_into({**tensors, **moments}, partial)
        rng.restore(partial["rng"])
        step, curve, window = int(partial["step"]), list(partial["loss"].T.to(rng.device)), partial["window"].to(rng.device)
        before = float(partial["seconds"])

    def seconds():
        return torch.tensor(before + time.monotonic() - start, dtype=torch.float64)

    def checkpoint():
        store.save(name + ".partial", key, {**tensors, **moments, "rng": rng.state(), "step": torch.tensor(step),
                                            "loss": _columns(curve), "window": window, "seconds": seconds()})

    saved = time.monotonic()
    with _interrupt_at_step_end() as interrupted, tqdm(total=steps, initial=step, desc=name, mininterval=1.0) as bar:
        while step < steps:
            with precision(arithmetic, rng.device):
                losses = loss()
            adam.zero_grad()
            losses.sum().backward()
            adam.step()
            step += 1
            after_step(step)
            bar.update()
            window = window + losses.detach()
            if step % LOSS_EVERY == 0:
                curve.append(window / LOSS_EVERY)
                window = torch.zeros_like(window)
            if (step % LOSS_EVERY == 0 or step == steps) and not torch.isfinite(losses).all():
                raise FloatingPointError(f"{name}: the loss became {losses.tolist()} at step {step}, expected finite numbers; "
                                         "look for extreme entries in the data, or lower the learning rate.")
            stop = interrupted()
            if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint()
                saved = time.monotonic()
            if stop:
                raise KeyboardInterrupt(f"{name}: stopped at step {step} of {steps}; start again to go on from there.")
    store.save(name, key, {**tensors, "loss": _columns(curve), "seconds": seconds()})
    store.discard(name + ".partial", key)
    return _columns(curve)


def _columns(curve: list[Tensor]) -> Tensor:
    return torch.stack(curve, 1) if curve else torch.zeros(0, 0)


@torch.no_grad()
def _copy_into(tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for k, v in tensors.items():
        v.copy_(saved[k])
