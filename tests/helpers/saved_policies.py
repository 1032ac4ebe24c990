"""Made-up policies in archives as Stable-Baselines3 writes them."""

import io
import json
import zipfile

import torch

from arq_core.collectors.policies.archives import FAMILIES

S, A, WIDTH = 17, 6, 8  # those of Walker2d, and layers of 8 units


def tensors(algorithm, inputs=S, actions=A, seed=0):
    """Made-up weights under the names that the family has in a saved policy, and a critic's."""
    family, rng = FAMILIES[algorithm], torch.Generator().manual_seed(seed)
    shapes = dict(zip(family.layers, ((WIDTH, inputs), (WIDTH, WIDTH))))
    shapes[family.mean] = (actions, WIDTH)
    if family.std_of_state:
        shapes[family.log_std] = (actions, WIDTH)
    out = {f"{k}.weight": torch.randn(*v, generator=rng) / 3 for k, v in shapes.items()}
    out |= {f"{k}.bias": torch.randn(v[0], generator=rng) / 3 for k, v in shapes.items()}
    if not family.std_of_state:
        out[family.log_std] = torch.randn(actions, generator=rng) / 3 - 1
    return out | {"critic.qf0.0.weight": torch.zeros(3, 3)}


def archive(path, algorithm, stored=None, settings=None, version="1.3.1a0", **members):
    """An archive as Stable-Baselines3 writes it; further members by name, None to leave one out."""
    buffer = io.BytesIO()
    torch.save(tensors(algorithm) if stored is None else stored, buffer)
    said = dict(policy_kwargs={}, use_sde=False) if settings is None else settings
    said = said | {"policy_class": {":type:": "x", ":serialized:": "gASVgQAAAAAAAAB9"}}
    parts = {
        "data": json.dumps(said).encode(),
        "pytorch_variables.pth": b"never read",
        "policy.pth": buffer.getvalue(),
        "_stable_baselines3_version": version.encode(),
        "system_info.txt": b"made up",
    } | members
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            if data is not None:
                file.writestr(name, data)
    return path
