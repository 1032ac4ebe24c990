"""Joules are counted where the machine counts them, and are None with a reason where it does
not.
"""

import os
import threading
import time
from types import SimpleNamespace

import pynvml
import pytest

from arq_core.grid import energy, hardware

RANGE = 262_143_328_850  # microjoules: max_energy_range_uj of a common processor


def zone(root, name, label, microjoules, limit=RANGE):
    folder = root / name
    folder.mkdir(parents=True)
    for file, text in {
        "name": label,
        "energy_uj": microjoules,
        "max_energy_range_uj": limit,
    }.items():
        (folder / file).write_text(f"{text}\n", encoding="utf-8")
    return folder / "energy_uj"


@pytest.fixture
def rapl(tmp_path):
    """A machine of two packages, each with a zone inside; a zone of the platform, and a second way
    to the first package.
    """
    for name, label in {
        "intel-rapl:0:0": "core",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
        "intel-rapl:1:0": "dram",
    }.items():
        zone(tmp_path, name, label, 10)
    return (
        tmp_path,
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        zone(tmp_path, "intel-rapl:1", "package-1", 0),
    )


class NoDriver:
    """pynvml on a machine without NVIDIA's driver."""

    def nvmlInit(self):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


none = NoDriver()


class Driver:
    """pynvml on a machine with `len(millijoules)` devices, as far as we ask it."""

    def __init__(self, *millijoules, refuses=None, code=pynvml.NVML_ERROR_NOT_SUPPORTED):
        self.millijoules, self.refuses, self.code, self.asked = list(millijoules), refuses, code, []

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "__dict__").get("refuses"):
            return lambda *_: self.fails(self.code)
        return object.__getattribute__(self, name)

    @staticmethod
    def fails(code):
        raise pynvml.NVMLError(code)

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index if index < len(self.millijoules) else self.fails(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetHandleByUUID(self, identity):
        self.asked.append(identity)
        return 0

    def nvmlDeviceGetName(self, handle):
        return f"Device {handle + 1}"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=80 * 2**30)

    def nvmlSystemGetDriverVersion(self):
        return "600.1"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.millijoules[handle]


ENERGY = "nvmlDeviceGetTotalEnergyConsumption"


def test_joules_are_those_of_the_packages_alone(rapl):
    root, first, second = rapl
    with energy.meter(root, none) as m:
        first.write_text("8500000", encoding="utf-8")
        second.write_text("2000000", encoding="utf-8")
        for other in set(root.glob("*/energy_uj")) - {first, second}:
            other.write_text("99000000", encoding="utf-8")
    assert m.joules == pytest.approx(3.5 + 2) and m.source == "processor: package-0, package-1"


def test_a_counter_that_starts_again_loses_nothing(rapl):
    root, first, _ = rapl
    first.write_text(str(RANGE - 1_000_000), encoding="utf-8")
    with energy.meter(root, none) as m:
        # over the end twice; readings in between see both
        for reading in (2_000_000, RANGE - 3_000_000, 4_000_000):
            first.write_text(str(reading), encoding="utf-8")
            m.read()
    assert m.joules == pytest.approx(1 + RANGE / 1e6 + 4)


def test_work_that_was_partly_done_before_has_no_joules(rapl):
    root, first, _ = rapl
    with energy.meter(root, none) as m:
        first.write_text("7000000", encoding="utf-8")
    assert m.of(m.seconds) == (m.joules, m.source) and m.joules == pytest.approx(2)
    joules, why = m.of(m.seconds + 60)
    assert joules is None and why.startswith("not known: of 60.")


def test_it_reads_by_itself_while_the_work_runs_and_stops_after_it(rapl):
    root, first, _ = rapl
    with energy.meter(root, none, every=0.01) as m:
        first.write_text("7000000", encoding="utf-8")
        deadline = time.monotonic() + 10
        while m.joules != pytest.approx(2) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert m.joules == pytest.approx(2)
    assert "energy" not in [thread.name for thread in threading.enumerate()]


def test_joules_are_counted_up_to_an_error_in_the_work(rapl):
    root, first, _ = rapl
    with pytest.raises(KeyError), energy.meter(root, none) as m:
        first.write_text("6000000", encoding="utf-8")
        raise KeyError
    assert m.joules == pytest.approx(1)


def test_no_counter_is_none_and_says_so(tmp_path):
    with energy.meter(tmp_path, none) as m:
        pass
    assert (
        m.joules is None
        and m.source == f"no readable counter (processor: no package in {tmp_path})"
    )


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_text("", encoding="utf-8"), "expected microjoules"),
        (lambda file: file.write_text("-1", encoding="utf-8"), "expected microjoules"),
        (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
    ],
)
@pytest.mark.parametrize("during", [False, True])
def test_an_unreadable_counter_is_none_with_its_reason(rapl, damage, reason, during):
    root, first, second = rapl
    if not during:
        damage(second)
    with energy.meter(root, none) as m:
        first.write_text("6000000", encoding="utf-8")
        if during:
            damage(second)
    assert m.joules is None and reason in m.source and str(second) in m.source


def test_a_counter_for_root_only_is_none_with_its_reason(rapl, monkeypatch):
    """As Linux has had it since 5.10.

    Root may read every file, so the refusal is put in its place.
    """

    def refuse(self, *arguments, **named):
        if self.name == "energy_uj":
            raise PermissionError(13, os.strerror(13), str(self))
        return open(self, encoding="utf-8").read()

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with energy.meter(rapl[0], none) as m:
        pass
    assert (
        m.joules is None
        and m.source.startswith("no readable counter (processor: ")
        and "Permission denied" in m.source
    )


def test_devices_are_added_to_the_processor(rapl, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root, first, _ = rapl
    driver = Driver(1_000, 50_000)
    with energy.meter(root, driver) as m:
        first.write_text("6000000", encoding="utf-8")
        driver.millijoules = [4_000, 50_500]
    assert (
        m.joules == pytest.approx(1 + 3 + 0.5)
        and m.source == "processor: package-0, package-1; gpu: Device 1, Device 2"
    )


def test_a_device_without_counter_is_named_as_not_counted(rapl, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root, first, _ = rapl
    with energy.meter(root, Driver(1_000, refuses=ENERGY)) as m:
        first.write_text("6000000", encoding="utf-8")
    assert m.joules == pytest.approx(1)
    assert m.source.endswith(
        f"; not counted: gpu: {ENERGY} of the NVIDIA driver answered: Not Supported"
    )


@pytest.mark.parametrize(
    "visible, names",
    [
        ("", []),
        ("-1", []),
        ("1", ["Device 2"]),
        ("1,0", ["Device 2", "Device 1"]),
        ("GPU-5f", ["Device 1"]),
    ],
)
def test_only_devices_that_a_program_here_may_use_are_counted(visible, names):
    driver = Driver(0, 0)
    assert [gpu.name for gpu in hardware.gpus(driver, visible)] == names
    assert driver.asked == (["GPU-5f"] if "GPU" in visible else [])


@pytest.mark.parametrize("visible, said", [("MIG-1", "slice"), ("7", "answered: Not Found")])
def test_a_device_that_cannot_be_asked_says_why(visible, said):
    with pytest.raises(hardware.Unreadable, match=said):
        hardware.gpus(Driver(0), visible)


def test_an_older_driver_without_the_function_is_no_error(tmp_path):
    older = Driver(0, refuses=ENERGY, code=pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    with energy.meter(tmp_path, older) as m:
        pass
    assert m.joules is None and f"{ENERGY} of the NVIDIA driver answered: Function Not" in m.source


def test_a_driver_that_does_not_begin_is_none_with_its_reason(tmp_path):
    broken = Driver(0, refuses="nvmlInit", code=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with energy.meter(tmp_path, broken) as m:
        pass
    assert m.joules is None and "nvmlInit of the NVIDIA driver answered: Driver Not" in m.source
    assert hardware.hardware(broken)["gpu"].startswith("not known: nvmlInit")


def test_hardware_names_what_the_machine_has(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    told = hardware.hardware(Driver(0, 0))
    assert told["gpu"] == "Device 1, 80.0 GiB; Device 2, 80.0 GiB; driver 600.1"
    assert (
        1 <= int(told["cores"]) <= os.cpu_count()
        and float(told["memory"].removesuffix(" GiB")) > 0
        and told["processor"]
        and told["system"]
    )
    assert "gpu" not in hardware.hardware(none)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert hardware.hardware(Driver(0))["gpu"] == "not known: MIG-1 is a slice of a device"


def test_the_binding_has_every_function_that_is_asked():
    asked = {name for name in vars(Driver) if name.startswith("nvml")}
    assert {name for name in asked if callable(getattr(pynvml, name, None))} == asked
