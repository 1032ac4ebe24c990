"""One part of a training step: a network, its loss, and how its weights move.

Adam, its weight decay and clipping, the schedules of its learning rate, and the averaging of
weights that comes after. `engine.train` runs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from arq_core.engine.machine import compiled

# Nanoseconds of a step that one program for its update saves on an H200, as in machine.compiled
UPDATE_UNITS = 50_000
WARM_UP = 100  # steps over which `cosine` rises to the whole learning rate
CLIP_FLOOR = 1e-6  # added to a norm before it divides, as torch.nn.utils.clip_grad_norm_ does

# (steps taken, steps in all) -> the share of the learning rate that the next step uses
Schedule = Callable[[int, int], float]


def cosine(taken: int, steps: int) -> float:
    """Up in a straight line over WARM_UP steps, down to 0 along half a cosine (Loshchilov and
    Hutter 2017)."""
    return min(1.0, (taken + 1) / WARM_UP) * cosine_from_the_start(taken, steps)


def cosine_from_the_start(taken: int, steps: int) -> float:
    """Down from the whole learning rate to 0 along half a cosine (Loshchilov and Hutter 2017)."""
    return (1 + math.cos(math.pi * taken / steps)) / 2


def warmed_up_linearly(over: int) -> Schedule:
    """Up in a straight line over so many steps, and constant after them: step t, counted from 1,
    uses t/over of the learning rate."""
    return lambda taken, steps: min(1.0, (taken + 1) / over)


def exponential(factor: float, per: int) -> Schedule:
    """factor^(t/per) after t steps."""
    return lambda taken, steps: factor ** (taken / per)


SCHEDULES: dict[str, Schedule | None] = {"constant": None, "cosine": cosine}


class Averaging:
    """average <- decay·average + (1 - decay)·model, in place, at every step, or every `every`-th.
    Polyak averaging of a target network is the same formula.

    Lists the parameters once: that takes as long as averaging them. A decay that changes is a
    tensor [], filled in place.
    """

    def __init__(self, average: nn.Module, model: nn.Module, decay: float | Tensor, every: int = 1):
        self.averages: list[Tensor] = list(average.parameters())
        self.models: list[Tensor] = list(model.parameters())
        self.decay, self.every = decay, every

    @torch.no_grad()
    def __call__(self) -> None:
        """One step of averaging."""
        share = 1 - self.decay
        if isinstance(share, Tensor):
            torch._foreach_lerp_(self.averages, self.models, [share] * len(self.averages))
        else:
            torch._foreach_lerp_(self.averages, self.models, share)


def ema_(average: nn.Module, model: nn.Module, decay: float) -> None:
    """One step of `Averaging`."""
    Averaging(average, model, decay)()


def warmed_up(taken: int, decay: float) -> float:
    """min(decay, (1 + t)/(10 + t)) after t steps: an average of the first steps must not keep the
    initial weights.

    The rule of TensorFlow's and Song et al.'s moving averages (2021, released code). It reaches
    .999 after 8,990 steps, and what came before is forgotten soon after: long trainings end with
    the same average.
    """
    return min(decay, (1 + taken) / (10 + taken))


@dataclass(frozen=True)
class Update:
    """How one module of a training moves at a step: `loss() -> [R]`, where R is the first axis of
    the module's parameters (its members: each sees its own gradient alone), then Adam.

    `schedule` scales the learning rate `lr` (None: constant). With `every` = k the module moves at
    each k-th step and is left alone at the others: a zero gradient would not be the same, Adam's
    moments would move it. `weight_decay` is AdamW's (Loshchilov and Hutter 2019) or, not
    `decoupled`, added to the gradient. `clip` is the largest norm of one member's gradient, over
    all parameters of the module. `after` are the averages that follow.
    """

    trained: str
    loss: Callable[[], Tensor]
    lr: float
    schedule: Schedule | None = None
    every: int = 1
    weight_decay: float = 0.0
    decoupled: bool = True
    clip: float | None = None
    after: Sequence[Averaging] = ()


class AdamSettings(TypedDict):
    """What torch's function `adam` asks for besides tensors and the learning rate."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled_weight_decay: bool
    amsgrad: bool
    maximize: bool


def adam_settings(update: Update) -> AdamSettings:
    """Kingma and Ba 2015, appendix A.2 of the paper, with the update's weight decay."""
    return AdamSettings(
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        weight_decay=update.weight_decay,
        decoupled_weight_decay=update.decoupled,
        amsgrad=False,
        maximize=False,
    )


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
    settings: AdamSettings,
) -> None:
    """A step of Adam, then `Averaging` (nothing where `averages` is empty), written for a compiler:
    one program over all tensors.

    torch's fused Adam gives a block of a GPU 65,536 numbers, so that a small network keeps a third
    of an H200 busy; this one is spread over all of it.
    """
    moments = parameters, gradients, mean, square, [], taken
    adam(*moments, foreach=True, capturable=True, lr=rate, **settings)
    if averages:
        share = 1 - decay
        difference = torch._foreach_sub(models, averages)
        shares = [share] * len(averages) if isinstance(share, Tensor) else share
        torch._foreach_add_(averages, torch._foreach_mul(difference, shares))


def clipped_by_member(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients [R, ...] of one module, each member's scaled down to the norm `most` over all of
    them where it is larger (Pascanu et al. 2013): one norm over all members would couple them."""
    squares = [g.square().reshape(len(g), -1).sum(1) for g in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    share = (most / (norm + CLIP_FLOOR)).clamp(max=1)
    return [g * share.view(-1, *[1] * (g.ndim - 1)) for g in gradients]


class Part:
    """An Update at work: its parameters, Adam's moments, and the sum of its losses since the last
    point of the curve."""

    def __init__(self, update: Update, module: nn.Module, device: torch.device, steps: int):
        self.update, self.module = update, module
        self.parameters: list[Tensor] = list(module.parameters())
        self.taken = [torch.zeros((), device=p.device) for p in self.parameters]
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]
        self.window = torch.zeros(len(self.parameters[0]), device=device)
        self.steps, self.cuda = steps // update.every, device.type == "cuda"
        self.rate = torch.tensor(update.lr, device=device) if update.schedule else update.lr
        self.settings = adam_settings(update)
        self.program: Callable = adam_and_average
        if self.cuda:
            self.program = compiled(adam_and_average, device, units=UPDATE_UNITS, calls=self.steps)

    def is_due(self, step: int) -> bool:
        """Whether step number `step`, counted from 0, moves this module."""
        return (step + 1) % self.update.every == 0

    def schedule(self, step: int) -> None:
        """Set the learning rate for a step, so that a replayed graph sees it move."""
        if (share := self.update.schedule) and isinstance(self.rate, Tensor):
            self.rate.fill_(self.update.lr * share(step // self.update.every, self.steps))

    def gradients(self, losses: Tensor, retain: bool) -> list[Tensor]:
        """Of the members' losses [R], clipped."""
        self.window.add_(losses.detach())
        found = torch.autograd.grad(losses.sum(), self.parameters, retain_graph=retain)
        if self.update.clip is None:
            return list(found)
        with torch.no_grad():
            return clipped_by_member(found, self.update.clip)

    @torch.no_grad()
    def move(self, gradients: list[Tensor], step: int) -> None:
        """A step of Adam and the averages that are due: on a GPU one program where that pays, else
        torch's fused Adam."""
        due = [a for a in self.update.after if (step + 1) % a.every == 0]
        moments = self.mean, self.square
        if self.program is adam_and_average:
            # fused Adam reads them as if they lay in memory as the weights do
            tensors = self.parameters, [g.contiguous() for g in gradients], *moments, []
            how = self.settings
            adam(*tensors, self.taken, fused=True, capturable=self.cuda, lr=self.rate, **how)
        else:
            first = due.pop(0) if due else None
            last = (first.averages, first.models, first.decay) if first else ([], [], 0.0)
            self.program(
                self.parameters, gradients, *moments, self.taken, self.rate, *last, self.settings
            )
        for average in due:
            average()


def named_parts(
    updates: Sequence[Update | tuple[Update, ...]],
    modules: dict[str, nn.Module],
    device: torch.device,
    steps: int,
) -> list[list[Part]]:
    """The parts of each group of `updates`. ValueError for a module that is not there, or that two
    updates move."""
    groups = [u if isinstance(u, tuple) else (u,) for u in updates]
    names = [u.trained for group in groups for u in group]
    if not names or len(set(names)) < len(names) or not set(names) <= modules.keys():
        raise ValueError(
            f"updates: saw those of {', '.join(names) or 'nothing'}, expected at least one, each "
            f"of another module among {', '.join(modules)}."
        )
    return [[Part(u, modules[u.trained], device, steps) for u in group] for group in groups]
