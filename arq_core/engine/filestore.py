"""Files between the steps: a `store.Store` on disk, safetensors with a JSON sidecar, written
atomically."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import struct
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from arq_core.config.files import replacing, write_atomic
from arq_core.engine.store import fingerprint

SAFETENSORS_NAMES = {torch.float32: "F32", torch.float64: "F64"}


class FileStore:
    """Keeps a step's tensors as `<folder>/<name>-<hash of the key>.safetensors`; the sidecar .json
    says what the key was.

    The key is also inside the safetensors file, so tensors and key cannot come apart. A damaged
    file is reported, not guessed at. `snapshots` is how many each training leaves on its way
    (train.marks).
    """

    def __init__(self, folder: str | Path, snapshots: int = 0):
        self.folder, self.snapshots = Path(folder), snapshots
        # of every step that this store has given or taken: what it took to compute
        self.seconds: dict[Path, float] = {}

    def _note(self, path: Path, tensors: dict[str, Tensor]) -> None:
        if "seconds" in tensors:
            self.seconds[path] = float(tensors["seconds"])

    def path(self, name: str, key: dict) -> Path:
        """The file of a step."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{name}-{digest}.safetensors"

    def load(self, name: str, key: dict) -> dict[str, Tensor] | None:
        """The tensors of a step, or None; ValueError for a damaged file."""
        path = self.path(name, key)
        if not path.exists():
            return None
        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{path}: saw a damaged file ({error}), expected the tensors of step {name!r}; "
                "delete it, and the step is computed again."
            ) from error
        self._note(path, tensors)
        return tensors

    def save(self, name: str, key: dict, tensors: dict[str, Tensor]) -> None:
        """Write a step's file and its sidecar."""
        text = json.dumps(key, sort_keys=True)
        owned = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        path = self.path(name, key)
        self._note(path, tensors)
        write_atomic(path, safetensors.torch.save(owned, metadata=dict(step=name, key=text)))
        self.write_sidecar(name, key)

    def write_sidecar(self, name: str, key: dict) -> None:
        """Write the .json that says what the key was, and which torch and Python made the step."""
        made = dict(torch=torch.__version__, python=platform.python_version())
        text = json.dumps(dict(step=name, key=key, **made), indent=1, sort_keys=True)
        write_atomic(self.path(name, key).with_suffix(".json"), text.encode())

    def discard(self, name: str, key: dict) -> None:
        """Remove the files of a step, if there are any."""
        path = self.path(name, key)
        self.seconds.pop(path, None)
        for file in (path, path.with_suffix(".json")):
            file.unlink(missing_ok=True)

    def blocks(self, name: str, key: dict, count: int) -> FileBlocks:
        """The `count` parts of a step, files of their own."""
        return FileBlocks(self, name, key, count)


class FileBlocks:
    """`store.Blocks` on disk: one safetensors file a block beside the step's own, with a checksum,
    written atomically.

    Processes on several machines may share the folder. When all blocks are there they are joined
    into the step's file, block by block, so that memory never holds the whole; loaded from there,
    tensors are read from disk where they are touched.
    """

    def __init__(self, store: FileStore, name: str, key: dict, count: int):
        self.store, self.name, self.key, self.count = store, name, key, count
        self.folder = store.path(name, key).with_suffix(".blocks")

    def path(self, part: int) -> Path:
        """The file of a block."""
        return self.folder / f"{part:06d}.safetensors"

    def _metadata(self, part: int, tensors: dict[str, Tensor]) -> dict[str, str]:
        key = json.dumps(self.key, sort_keys=True)
        return dict(sha256=fingerprint(tensors), part=str(part), of=str(self.count), key=key)

    def finished(self) -> set[int]:
        """Blocks that are there and pass their checksum; one that does not is removed, and said."""
        return {i for i in range(self.count) if self.has(i)}

    def has(self, part: int) -> bool:
        """Whether a block is there and passes its checksum."""
        path = self.path(part)
        try:
            with safetensors.safe_open(path, "pt") as f:
                tensors = {k: f.get_tensor(k) for k in f.keys()}
                intact = f.metadata() == self._metadata(part, tensors)
        except FileNotFoundError:
            return False
        except safetensors.SafetensorError:
            intact = False
        if not intact:
            tqdm.write(
                f"{path}: saw a block that fails its checksum, expected block {part} of "
                f"{self.count} of step {self.name!r}; it is computed again."
            )
            path.unlink(missing_ok=True)
        return intact

    def save(self, part: int, tensors: dict[str, Tensor]) -> None:
        """Write the file of a block."""
        owned = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        metadata = self._metadata(part, owned)
        write_atomic(self.path(part), safetensors.torch.save(owned, metadata=metadata))

    def join(self, axis: int) -> dict[str, Tensor] | None:
        """The step's tensors once every block is there, else None. Tensors are joined along `axis`;
        float64 scalars (seconds) are summed. OSError where there is no room for them."""
        target = self.store.path(self.name, self.key)
        if not target.exists():
            if len(self.finished()) < self.count and not target.exists():
                return None
            try:
                self._write_joined(target, axis)
            except FileNotFoundError:  # another process joined them and cleaned up meanwhile
                if not target.exists():
                    raise
            except OSError as error:
                raise OSError(
                    f"{target}: saw {error}, expected room for the joined blocks beside them; make "
                    "room and run the same command again: finished blocks are kept."
                ) from error
        self.clear()
        return self.store.load(self.name, self.key)

    def clear(self) -> None:
        """Removes the blocks of a step that is joined."""
        self.store.write_sidecar(self.name, self.key)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, part: int) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.path(part))

    def _write_joined(self, target: Path, axis: int) -> None:
        """Write the safetensors format by hand: a header, then each block's rows at their place."""
        first, last = self._read(0), self._read(self.count - 1)
        shapes = {k: list(x.shape) for k, x in first.items()}
        for k, shape in shapes.items():
            if shape:
                shape[axis] = (self.count - 1) * first[k].shape[axis] + last[k].shape[axis]
        sums = {k: 0.0 for k, shape in shapes.items() if not shape}
        if unknown := [k for k in sums if first[k].dtype != torch.float64]:
            raise TypeError(
                f"{self.name}: saw scalars {unknown} that are not float64, expected float64 to be "
                "summed."
            )
        header, starts, size = self._header(first, shapes)
        with replacing(target) as temporary, open(temporary, "wb") as f:
            f.write(header)
            f.truncate(len(header) + size)
            for part in range(self.count):
                for k, x in self._read(part).items():
                    if not shapes[k]:
                        sums[k] += x.item()
                        continue
                    inner = torch.Size(shapes[k][axis + 1 :]).numel() * x.element_size()
                    width, before = shapes[k][axis] * inner, part * first[k].shape[axis] * inner
                    rows = torch.Size(shapes[k][:axis]).numel()
                    for row, piece in enumerate(x.reshape(rows, -1)):
                        f.seek(len(header) + starts[k] + row * width + before)
                        f.write(piece.numpy().data)
            for k, total in sums.items():
                f.seek(len(header) + starts[k])
                f.write(struct.pack("<d", total))

    def _header(
        self, first: dict[str, Tensor], shapes: dict[str, list[int]]
    ) -> tuple[bytes, dict[str, int], int]:
        """(the header's bytes, where each tensor starts behind it, the size of them all)."""
        about = dict(step=self.name, key=json.dumps(self.key, sort_keys=True))
        header: dict[str, dict] = {"__metadata__": about}
        starts, end = {}, 0
        wide_first = sorted(shapes, key=lambda k: -first[k].element_size())  # the format wants it
        for k in wide_first:
            starts[k], end = end, end + first[k].element_size() * torch.Size(shapes[k]).numel()
            dtype = SAFETENSORS_NAMES[first[k].dtype]
            header[k] = dict(dtype=dtype, shape=shapes[k], data_offsets=[starts[k], end])
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text, starts, end
