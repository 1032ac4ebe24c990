"""What is fast does what is slow: compiled programs, pieces, and the choices between them."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import chain, streams, tiny

from arq_core.algorithm.behavior import fit_behavior
from arq_core.algorithm.policies import fit_awr
from arq_core.algorithm.qlearning import fit_q, fit_q_beta
from arq_core.algorithm.support import sample_support
from arq_core.engine import machine
from arq_core.engine.machine import replayed
from arq_core.engine.store import NoStore
from arq_core.experiments import experiment


@given(st.integers(1, 10_000), st.integers(-3, 10_000))
def test_equal_pieces_cover_with_less_than_one_row_of_padding_a_piece(n, most):
    pieces, size = machine.equal_pieces(n, most)
    assert n <= pieces * size < n + pieces
    assert size <= max(1, most) or pieces == n


PAYS = machine.PAYS_FROM_UNITS  # as imported: while tests run nothing pays (conftest)


@pytest.fixture(autouse=True)
def compiling_pays_as_it_does(monkeypatch):
    monkeypatch.setattr(machine, "PAYS_FROM_UNITS", PAYS)


def test_small_functions_are_not_compiled_and_large_ones_are(monkeypatch):
    monkeypatch.setattr(machine, "can_compile", lambda device: True)
    monkeypatch.setattr(machine, "_program", lambda f: "program")
    cpu = torch.device("cpu")
    assert machine.compiled(torch.sin, cpu, calls=10, units=1000) is torch.sin
    assert (
        machine.compiled(torch.sin, cpu, calls=10, units=machine.PAYS_FROM_UNITS / 10) == "program"
    )


def test_without_a_compiler_a_warning_says_so_and_the_function_runs_as_it_is(monkeypatch):
    def fails(f, **_):
        raise RuntimeError("InvalidCxxCompiler: no g++\n  more")

    machine.can_compile.cache_clear()
    monkeypatch.setattr(torch, "compile", fails)
    try:
        with pytest.warns(
            UserWarning, match="torch.compile does not work here .*no g.*install a C.. compiler"
        ):
            assert (
                machine.compiled(torch.sin, torch.device("cpu"), units=1e9, calls=1e9) is torch.sin
            )
    finally:
        machine.can_compile.cache_clear()


@pytest.mark.parametrize("works, seen", [(True, [True]), (None, [True, None])])
def test_the_widest_instructions_are_tried_first_and_then_those_that_pass_torchs_trials(
    monkeypatch, works, seen
):
    """`works` is what has to be said of the instructions for a program to run."""
    choice, tried = SimpleNamespace(vec_isa_ok=None), []

    def compiles(f):
        tried.append(choice.vec_isa_ok)
        if choice.vec_isa_ok is not works:
            raise RuntimeError("unrecognized option -mamx-tile")
        return f

    monkeypatch.setattr(torch, "compile", compiles)
    machine._try_a_program("cpu", choice)
    assert tried == seen and choice.vec_isa_ok is works


@pytest.mark.parametrize("said", [True, False])
def test_what_somebody_said_of_the_instructions_is_kept(monkeypatch, said):
    choice = SimpleNamespace(vec_isa_ok=said)
    monkeypatch.setattr(torch, "compile", lambda f: f)
    machine._try_a_program("cpu", choice)
    assert choice.vec_isa_ok is said


def _q(data, h, b):
    h_behavior, b_behavior = tiny(score_steps=1)
    behavior = fit_behavior(data, h_behavior, b_behavior, streams(), NoStore())
    return fit_q(
        data,
        sample_support(behavior, data.states, h.n, streams(), NoStore(), {}),
        h,
        b,
        streams(),
        NoStore(),
        {},
    ).loss


TRAINERS = {
    "behavior": lambda data, h, b: fit_behavior(data, h, b, streams(), NoStore()).loss,
    "q": _q,
    "q_beta": lambda data, h, b: fit_q_beta(data, h, b, streams(), NoStore()).loss,
    "policy": lambda data, h, b: (
        fit_awr(data, torch.zeros(2, len(data.actions)), 1.0, h, b, streams(), NoStore(), {}).loss
    ),
}


@pytest.mark.slow(reason="compiles for half a minute each")
@pytest.mark.parametrize("name", TRAINERS)
def test_compiled_training_is_the_same_training(name, monkeypatch):
    """Loss over 50 steps, to what rounding in another order leaves."""
    data, (h, b) = chain(), tiny(score_steps=50, q_steps=50, q_beta_steps=50, policy_steps=50)
    eager = TRAINERS[name](data, h, b)
    compiled = []
    monkeypatch.setattr(machine, "PAYS_FROM_UNITS", 0)
    monkeypatch.setattr(
        machine, "_program", lambda f, real=machine._program: compiled.append(f) or real(f)
    )
    torch.testing.assert_close(TRAINERS[name](data, h, b), eager, rtol=1e-3, atol=1e-4)
    assert compiled or not machine.can_compile("cpu"), "nothing was compiled"


@pytest.mark.slow(reason="compiles a solve, which takes longer than all of this file besides")
def test_compiled_solve_gives_the_same_samples_and_densities(monkeypatch):
    behavior = fit_behavior(chain(), *tiny(score_steps=50), streams(), NoStore())
    states = torch.randn(1, 9, 3).expand(2, -1, -1)
    eager = behavior.sample_with_log_prob(states, 4, streams())
    monkeypatch.setattr(machine, "PAYS_FROM_UNITS", 0)
    for a, b in zip(behavior.sample_with_log_prob(states, 4, streams()), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_compiling_for_a_solve_has_to_pay_in_the_evaluations_that_are_expected(monkeypatch):
    behavior, asked = fit_behavior(chain(), *tiny(score_steps=1), streams(), NoStore()), []
    states = torch.randn(1, 9, 3).expand(2, -1, -1)
    monkeypatch.setattr(machine, "compiled", lambda f, _, units, calls: asked.append(calls) or f)
    for model in (behavior, replace(behavior, calls=3)):
        model.sample(states, 4, streams())
    assert set(asked) == {behavior.calls, 3}


def test_on_a_cpu_a_step_is_not_captured():
    def step():
        pass

    assert replayed(step, streams()) is step


@pytest.mark.parametrize(
    "amx, avx512, expected",
    [
        (True, True, "bfloat16"),
        (False, True, "bfloat16"),
        (True, False, "bfloat16"),
        (False, False, "float32"),
    ],
)
def test_bfloat16_is_used_only_where_the_processor_multiplies_in_it(
    monkeypatch, amx, avx512, expected
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert machine.fast_precision("bfloat16", "cpu") == expected
    assert machine.fast_precision("float32", "cpu") == "float32"
    assert experiment.prepare("maze", "lite", device="cpu").budget.precision == expected


def library(path, share, age=3600):
    """A part of one of numpy's, last touched that many seconds ago."""
    whole = Path(np._core._multiarray_umath.__file__).read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole[: int(share * len(whole))])
    stamp = path.stat().st_mtime - age
    os.utime(path, (stamp, stamp))
    return path


def test_a_compiled_program_that_was_half_written_is_made_again(tmp_path):
    halves = [
        library(tmp_path / f"{i}/x.so", share) for i, share in enumerate((0, 1e-6, 0.5, 0.99))
    ]
    kept = [library(tmp_path / "ab/y.so", 1), library(tmp_path / "z.so", 0.5, age=0)]
    (tmp_path / "note.txt").touch()
    assert sorted(machine.drop_half_written(tmp_path)) == sorted(halves)
    assert all(path.exists() for path in kept) and (tmp_path / "note.txt").exists()
    assert machine.drop_half_written(tmp_path / "nowhere") == []
