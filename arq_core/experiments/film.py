"""A film of an episode: what a kept policy does in a task's simulator, drawn off screen, with what
it believed written under each picture.

MuJoCo binds to one graphics backend per process, so the episode is played in one of its own
(envs.picture).
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from arq_core.algorithm.policies import ImplicitPolicy
from arq_core.algorithm.types import DataError, in_support
from arq_core.config.files import write_atomic
from arq_core.config.paths import given
from arq_core.config.tasks import task as task_named
from arq_core.datasets.boxes import unit
from arq_core.engine.streams import Streams
from arq_core.envs import picture
from arq_core.experiments.episodes import check_dimensions
from arq_core.experiments.kept import KeptPolicy, load

SUFFIXES = (".gif", ".mp4")
BAR = 34  # pixels under a picture, for the words
PER_SECOND = 25
ROOM = 1.3  # for a walker, which leans and jumps


@dataclass(frozen=True)
class Asked:
    """What to film."""

    task: str
    policy: str
    out: str
    steps: int = 0  # at most; 0: the task's horizon
    every: int = 2  # a picture each so many steps
    size: int = 360
    seed: int = 0


def film(asked: Asked) -> Path:
    """Play an episode and write it to `asked.out`, a GIF or (with imageio-ffmpeg) an MP4.

    DataError for another suffix and for a policy that does not fit the task's simulator; EnvError
    where nothing can be drawn.
    """
    out = given(asked.out)
    if out.suffix not in SUFFIXES:
        raise DataError(f"out: saw {out.name!r}, expected a name that ends in .gif or .mp4.")
    for name, least in (("every", 1), ("size", 64), ("steps", 0), ("seed", 0)):
        if getattr(asked, name) < least:
            raise DataError(f"{name}: saw {getattr(asked, name)}, expected {least} or more.")
    if out.suffix == ".mp4":
        _check_mp4()
    chosen, policy = task_named(asked.task), load(asked.policy)
    check_dimensions(chosen.environments(1), policy.state_dim, len(policy.box.low))
    if not policy.box.same(unit(len(policy.box.low))):
        raise DataError(
            f"policy: saw actions in {policy.box}, expected the box [-1, 1] of {asked.task}; film "
            "it in a loop of your own, with `predict`."
        )
    said = json.dumps(asdict(asked) | dict(out=str(out), policy=str(given(asked.policy))))
    picture.drawn(f"film of {asked.task}", __name__, [said], chosen.environment)
    return out


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
    low, high = float(values.min()), float(values.max())
    return f"{high:.3g}" if len(values) == 1 else f"{low:.3g} to {high:.3g}"


def play(asked: Asked) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The pictures of one episode, with their words."""
    import mujoco

    chosen, policy = task_named(asked.task), load(asked.policy)
    envs = chosen.environments(1)
    state, total, frames = envs.reset([asked.seed])[0], 0.0, []
    policy.reset(1, asked.seed)
    model, data = picture.simulation(envs)
    steps = asked.steps or chosen.horizon
    with mujoco.Renderer(model, asked.size, asked.size) as renderer:
        camera = picture.camera(model, data)
        camera.distance *= ROOM if walks(model) else 1
        for t in range(steps):
            words = believed(policy, state, policy.rng[0])
            if t % asked.every == 0:
                _, data = picture.simulation(envs)
                if walks(model):
                    camera.lookat[0] = data.subtree_com[0][0]
                renderer.update_scene(data, camera)
                frames.append(captioned(renderer.render(), f"step {t}, return {total:.4g}", words))
            acted = policy.predict(state)
            states, rewards, terminated, _ = envs.step(acted[None])
            policy.observe(rewards)
            state, total = states[0], total + float(rewards[0])
            if terminated[0]:
                break
    return frames


def walks(model) -> bool:
    """Whether a model's first joint slides, or is free: it may leave the picture."""
    import mujoco

    free = (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE)
    return model.njnt > 0 and model.jnt_type[0] in free


def captioned(frame: UInt8[np.ndarray, "H W 3"], *lines: str) -> UInt8[np.ndarray, "H2 W 3"]:
    """A picture with lines of text under it."""
    from PIL import Image, ImageDraw

    height, width, _ = frame.shape
    image = Image.new("RGB", (width, height + BAR), "white")
    image.paste(Image.fromarray(frame), (0, 0))
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(filter(None, lines)):
        draw.text((6, height + 3 + 15 * i), line, fill="black")
    return np.asarray(image)


def encoded(frames: list[UInt8[np.ndarray, "H W 3"]], suffix: str) -> bytes:
    """The bytes of a film."""
    if suffix == ".mp4":
        import imageio.v3 as images

        return images.imwrite("<bytes>", frames, extension=".mp4", fps=PER_SECOND)
    from PIL import Image

    buffer = io.BytesIO()
    first, *rest = [Image.fromarray(f) for f in frames]
    how = dict(save_all=True, duration=1000 // PER_SECOND, loop=0)
    first.save(buffer, "GIF", append_images=rest, **how)
    return buffer.getvalue()


if __name__ == "__main__":
    wanted = Asked(**json.loads(sys.argv[1]))
    write_atomic(Path(wanted.out), encoded(play(wanted), Path(wanted.out).suffix))
