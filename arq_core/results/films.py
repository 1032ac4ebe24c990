"""What a film of an episode says of itself: a GIF of `arq film` has it in its comment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arq_core.config.paths import given
from arq_core.results.records import ResultsError


def about(path: str | Path) -> dict[str, Any]:
    """What a GIF of `arq film` shows: task, method, profile, seed and commit of the policy, what it
    was trained on and that file's hash; the episode, "shown" (its seed, steps, return_, and the
    step of its success or None); how many episodes were "played" for it, and how many of these
    "succeeded". ResultsError for another file.
    """
    from PIL import Image

    try:
        with Image.open(given(path)) as image:
            said = json.loads(image.info["comment"])
            if not {"shown", "played"} <= said.keys():
                raise KeyError("shown")
            return said
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: saw no film that says what it shows ({error!r}), expected a GIF that "
            "`arq film` wrote; film the episode again."
        ) from error
