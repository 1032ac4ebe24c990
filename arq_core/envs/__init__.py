"""Simulators as vectors of episodes: `reset(seeds) -> states`, `step(actions) -> states, rewards, terminated, success`."""


class EnvError(RuntimeError):
    """A simulator that cannot be used, or is used wrongly. The message says what was seen, what was expected, and what to do."""
