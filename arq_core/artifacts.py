"""Files between the steps: a `types.Store` on disk, safetensors with a JSON sidecar, written atomically."""
from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor


def write_atomic(path: Path, data: bytes) -> None:
    """The file under `path` is the old one or the new one, never a part: temporary file beside it, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


class FileStore:
    """Keeps a step's tensors as `<folder>/<name>-<hash of the key>.safetensors`; the sidecar .json says what the key was.

    The key is also inside the safetensors file, so tensors and key cannot come apart. A damaged file is reported, not guessed at.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.seconds: dict[Path, float] = {}     # of every step that this store has given or taken: what it took to compute

    def _note(self, path: Path, tensors: dict[str, Tensor]) -> None:
        if "seconds" in tensors:
            self.seconds[path] = float(tensors["seconds"])

    def path(self, name: str, key: dict) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{name}-{digest}.safetensors"

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        path = self.path(name, key)
        if not path.exists():
            return None
        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: saw a damaged file ({error}), expected the tensors of step {name!r}; delete it, and the step "
                             "is computed again.") from error
        self._note(path, tensors)
        return tensors

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        text = json.dumps(key, sort_keys=True)
        owned = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        path = self.path(name, key)
        self._note(path, tensors)
        write_atomic(path, safetensors.torch.save(owned, metadata=dict(step=name, key=text)))
        sidecar = dict(step=name, key=key, torch=torch.__version__, python=platform.python_version())
        write_atomic(path.with_suffix(".json"), json.dumps(sidecar, indent=1, sort_keys=True).encode())

    def discard(self, name: str, key: dict) -> None:
        path = self.path(name, key)
        self.seconds.pop(path, None)
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)
