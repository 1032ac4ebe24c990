"""The page of results: the code that it shows runs, and counts what it says."""

import re

import numpy as np
import pandas as pd
import torch
from example_rows import committed
from sphinx_books import ROOT

from arq_core.algorithm import arq, behavior
from arq_core.algorithm.types import SupportSet
from arq_core.experiments import experiment

SHOWN = re.findall(r"```python\n(.*?)```", (ROOT / "book/results.md").read_text("utf-8"), re.S)


def test_the_share_of_states_with_fewer_than_k_candidates_is_counted(monkeypatch, capsys):
    """Of four states none of the first seed has fewer than K = 9, of the second two have."""
    inside = torch.tensor([[9, 9, 30, 10], [8, 30, 30, 0]])
    log_prob = torch.where(torch.arange(30) < inside[..., None], -5.0, -5.1)
    support = SupportSet(torch.zeros(2, 4, 30, 28), log_prob)
    monkeypatch.setattr(behavior, "fit_behavior", lambda *given: None)
    monkeypatch.setattr(arq, "behavior_support", lambda *given: support)
    prepare = experiment.prepare
    toy = dict(n=30, k=9, log_epsilon=-5.0)
    shown = lambda name, profile: prepare("bridge", "toy", changes=toy)
    monkeypatch.setattr(experiment, "prepare", shown)
    [code] = SHOWN
    exec(compile(code, "book/results.md", "exec"), {})
    assert "[0.0000, 0.5000]" in capsys.readouterr().out


def test_the_line_of_walker2d_says_what_its_rows_say():
    """A choice by value earns twice the clone; both policies of ARQ are above BC and the clone by
    more than two combined standard errors; SARSA's and ARQ's values choose equally well."""
    rows = [
        r
        for r in committed()
        if (r["task"], r["profile"]) == ("walker2d-medium-replay-recollected", "fast")
    ]
    by_seed = pd.DataFrame(rows).groupby(["method", "seed"])["score"].mean().unstack()
    mean, error = by_seed.mean(axis=1), by_seed.std(axis=1) / by_seed.shape[1] ** 0.5
    assert by_seed.shape[1] == 3
    for method in ("q_beta+s_psi", "arq+s_psi"):
        assert 1.9 < mean[method] / mean["s_psi"] < 2.5
    for method in ("arq+pi", "arq+s_psi"):
        for other in ("bc", "s_psi"):
            apart = (mean[method] - mean[other]) / np.hypot(error[method], error[other])
            assert apart > 2, (method, other, apart)
    gap = abs(mean["q_beta+s_psi"] - mean["arq+s_psi"])
    assert gap < np.hypot(error["q_beta+s_psi"], error["arq+s_psi"])
