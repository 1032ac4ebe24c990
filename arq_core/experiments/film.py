"""A film of an episode: what a kept policy does in a task's simulator, drawn off screen, with what
it believed written under each picture.

MuJoCo binds to one graphics backend per process, so the episode is played in one of its own
(envs.picture).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import DataError, in_support
from arq_core.config.files import write_atomic
from arq_core.config.paths import given
from arq_core.config.tasks import task as task_named
from arq_core.datasets.boxes import unit
from arq_core.engine.streams import Streams
from arq_core.envs import picture
from arq_core.envs.vector import VectorEnv
from arq_core.experiments.episodes import check_dimensions
from arq_core.experiments.kept import KeptPolicy, load

SUFFIXES = (".gif", ".mp4")
BAR = 34  # pixels under a picture, for the words
PER_SECOND = 25
HELD = 2  # seconds for which the last picture stays
COLOURS = 128  # of a GIF, for all its pictures
ROOM = 1.3  # for a walker, which leans and jumps
# of what is asked: the least and the most
BOUNDS = dict(
    every=(1, 10_000), size=(64, 2_048), steps=(0, 10**9), seed=(0, 2**63 - 1), tries=(1, 10_000)
)


@dataclass(frozen=True)
class Asked:
    """What to film."""

    task: str
    policy: str
    out: str
    steps: int = 0  # at most; 0: the task's horizon, which is never passed
    every: int = 2  # a picture each so many steps
    size: int = 360
    seed: int = 0
    tries: int = 1  # episodes, from `seed` on; the film is of the one of the highest return
    once: bool = False  # whether a GIF ends with its last picture instead of beginning again


@dataclass(frozen=True)
class Episode:
    """What came of an episode."""

    seed: int
    steps: int
    return_: float  # raw, undiscounted
    success: int | None  # the first step after which the simulator said so, counted from 1

    def __str__(self) -> str:
        reached = "" if self.success is None else f", success at step {self.success}"
        return f"{self.steps} steps, return {_short(self.return_)}{reached}"


@dataclass(frozen=True)
class Film:
    """A film, and the episodes that were played for it."""

    path: Path
    shown: Episode
    played: tuple[Episode, ...]

    def __str__(self) -> str:
        said = f"The film is at {self.path}: episode {self.shown.seed}, {self.shown}."
        if len(self.played) == 1:
            return said
        good = sum(e.success is not None for e in self.played)
        return f"{said} It has the highest return of {len(self.played)}; {good} had success."


def film(asked: Asked) -> Film:
    """Play an episode and write it to `asked.out`, a GIF or (with imageio-ffmpeg) an MP4. A GIF
    holds in its comment, as JSON, which policy and which episode it shows (`results.films.about`).

    DataError for another suffix and for a policy that does not fit the task's simulator; EnvError
    where nothing can be drawn.
    """
    out = given(asked.out)
    if out.suffix not in SUFFIXES or out.is_dir():
        seen = f"the folder {out}" if out.is_dir() else repr(out.name)
        raise DataError(f"out: saw {seen}, expected a name that ends in .gif or .mp4.")
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(asked, name) <= most:
            raise DataError(
                f"{name}: saw {getattr(asked, name)}, expected {least} or more, {most} at most."
            )
    if out.suffix == ".mp4":
        _check_mp4()
    chosen, policy = task_named(asked.task), load(asked.policy)
    check_dimensions(chosen.environments(1), policy.state_dim, len(policy.box.low))
    if not policy.box.same(unit(len(policy.box.low))):
        raise DataError(
            f"policy: saw actions in {policy.box}, expected the box [-1, 1] of {asked.task}; film "
            "it in a loop of your own, with `predict`."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    tqdm.write(
        f"{asked.task}: {asked.tries} {'episode' if asked.tries == 1 else 'episodes'} of at most "
        f"{_horizon(asked)} steps, then the film; this takes a while.",
        file=sys.stderr,
    )
    with TemporaryDirectory() as folder:
        made = Path(folder) / f"film{out.suffix}"
        mine = asdict(asked) | dict(out=str(made), policy=str(given(asked.policy)))
        told = picture.drawn(
            f"film of {asked.task}", __name__, [json.dumps(mine)], chosen.environment
        )
        shown, *played = (Episode(**e) for e in json.loads(told.splitlines()[-1]))
        write_atomic(out, made.read_bytes())
    return Film(out, shown, tuple(played))


def _horizon(asked: Asked) -> int:
    horizon = task_named(asked.task).horizon
    return min(asked.steps or horizon, horizon)


def _check_mp4() -> None:
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise DataError(
            "out: saw a name that ends in .mp4 and no encoder, expected .gif; or install one: "
            "pip install imageio-ffmpeg."
        ) from None


def believed(policy: KeptPolicy, state: Float[np.ndarray, " S"], rng: Streams) -> str:
    """What a policy says of a state before it acts there, in words: how many of the candidates that
    it is about to draw are in the support, and what they are worth. "" for one without candidates.

    `rng` is left as it was.
    """
    acting = policy.policy
    if not isinstance(acting, ImplicitPolicy) or acting.q is None:
        return ""
    same = Streams([0], rng.device)
    same.restore(rng.state())
    states = torch.as_tensor(state, dtype=torch.float32)[None, None]
    if acting.log_epsilon is None:
        candidates = acting.behavior.sample(states, acting.n, same).clamp(-1, 1)
        inside = torch.ones(candidates.shape[:3], dtype=torch.bool)
    else:
        candidates, log_prob = acting.behavior.sample_with_log_prob(states, acting.n, same, True)
        inside = in_support(log_prob, acting.log_epsilon)
    values = acting.q(states, candidates)[inside]
    kept = f"{int(inside.sum())} of {acting.n} in support"
    return f"{kept}, Q {_range(values)}" if len(values) else kept


def _range(values: Tensor) -> str:
    low, high = _short(float(values.min())), _short(float(values.max()))
    return high if len(values) == 1 else f"{low} to {high}"


def _short(x: float) -> str:
    """Three digits, or all before the point: no powers of ten, where a number is not huge."""
    return f"{x:.0f}" if 1e3 <= abs(x) < 1e7 else f"{x:.3g}"


def episode(
    asked: Asked,
    envs: VectorEnv,
    policy: KeptPolicy,
    seed: int,
    look: Callable[[int, float, np.ndarray], Any] = lambda *_: None,
) -> Episode:
    """Play one; `look` sees the step, the return until then and the state, before each action.

    The same seed gives the same episode.
    """
    state, total, success, t = envs.reset([seed])[0], 0.0, None, 0
    policy.reset(1, seed)
    for t in range(_horizon(asked)):
        look(t, total, state)
        states, rewards, terminated, reached = envs.step(policy.predict(state)[None])
        policy.observe(rewards)
        state, total = states[0], total + float(rewards[0])
        if success is None and reached[0]:
            success = t + 1
        if terminated[0]:
            break
    return Episode(seed, t + 1, total, success)


def play(asked: Asked) -> tuple[list[UInt8[np.ndarray, "H W 3"]], Episode, list[Episode]]:
    """The pictures of one episode with their words, that episode, and all that were played; the
    last picture shows its end."""
    import mujoco

    chosen, policy = task_named(asked.task), load(asked.policy)
    envs = chosen.environments(1)
    seeds = range(asked.seed, asked.seed + asked.tries)
    played = [episode(asked, envs, policy, seed) for seed in seeds] if asked.tries > 1 else []
    best = max(played, key=lambda e: e.return_).seed if played else asked.seed
    envs.reset([best])
    model, data = picture.simulation(envs)
    # MuJoCo draws off screen into a buffer of this size
    room = model.vis.global_
    room.offwidth, room.offheight = max(room.offwidth, asked.size), max(room.offheight, asked.size)
    frames = []
    with mujoco.Renderer(model, asked.size, asked.size) as renderer:
        camera = picture.camera(model, data, moving=not walks(model))
        camera.distance *= ROOM if walks(model) else 1

        def shown() -> UInt8[np.ndarray, "H W 3"]:
            _, data = picture.simulation(envs)
            if walks(model):
                camera.lookat[0] = data.subtree_com[0][0]
            renderer.update_scene(data, camera)
            return renderer.render()

        def look(t: int, total: float, state: np.ndarray) -> None:
            if t % asked.every == 0:
                words = believed(policy, state, policy.rng[0])
                frames.append(captioned(shown(), f"step {t}, return {_short(total)}", words))

        done = episode(asked, envs, policy, best, look)
        of = f"the highest return of {len(played)} episodes" if played else ""
        frames.append(captioned(shown(), str(done), of))
    return frames, done, played or [done]


def walks(model) -> bool:
    """Whether a model's first joint is free, or slides without an end: it may leave the picture."""
    import mujoco

    if not model.njnt:
        return False
    slides = model.jnt_type[0] == mujoco.mjtJoint.mjJNT_SLIDE and not model.jnt_limited[0]
    return bool(slides or model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE)


def captioned(frame: UInt8[np.ndarray, "H W 3"], *lines: str) -> UInt8[np.ndarray, "H2 W 3"]:
    """A picture with lines of text under it."""
    from PIL import Image, ImageDraw, ImageFont

    height, width, _ = frame.shape
    image = Image.new("RGB", (width, height + BAR), "white")
    image.paste(Image.fromarray(frame), (0, 0))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for i, line in enumerate(filter(None, lines)):
        draw.text((6, height + 3 + 15 * i), line, fill="black", font=font)
    return np.asarray(image)


def encoded(
    frames: list[UInt8[np.ndarray, "H W 3"]], suffix: str, about: str = "", once: bool = False
) -> bytes:
    """The bytes of a film, whose last picture stays for HELD seconds; a GIF has a comment,
    `about`, and begins again, if not `once`."""
    if suffix == ".mp4":
        import imageio.v3 as images

        held = [*frames, *frames[-1:] * (HELD * PER_SECOND)]
        return images.imwrite("<bytes>", held, extension=".mp4", fps=PER_SECOND)
    from PIL import Image

    # one palette, without dots that flicker: what stays as it was is not written again
    some = np.concatenate(frames[:: max(1, len(frames) // 8)])
    palette = Image.fromarray(some).quantize(COLOURS)
    first, *rest = (
        Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames
    )
    buffer, each = io.BytesIO(), 1000 // PER_SECOND
    lasting = [each] * len(rest) + [1000 * HELD]
    how = dict(save_all=True, duration=lasting, comment=about.encode()) | (
        {} if once else dict(loop=0)
    )
    first.save(buffer, "GIF", append_images=rest, **how)
    return buffer.getvalue()


def _about(asked: Asked, card: dict, shown: Episode, played: list[Episode]) -> dict[str, Any]:
    """What `results.films.about` reads in a GIF."""
    names = ("method", "profile", "seed", "commit")
    return dict(
        task=asked.task,
        trained_on=card.get("task"),
        dataset_sha256=card.get("dataset", {}).get("sha256"),
        **{name: card.get(name) for name in names},
        shown=asdict(shown),
        played=len(played),
        succeeded=sum(e.success is not None for e in played),
    )


def _main(asked: Asked) -> None:
    frames, shown, played = play(asked)
    about = json.dumps(_about(asked, load(asked.policy).card, shown, played))
    write_atomic(Path(asked.out), encoded(frames, Path(asked.out).suffix, about, asked.once))
    print(json.dumps([asdict(e) for e in (shown, *played)]))


if __name__ == "__main__":
    _main(Asked(**json.loads(sys.argv[1])))
