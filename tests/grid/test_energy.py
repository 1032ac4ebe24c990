"""Joules are counted where the machine counts them, and are None with a reason where it does not."""
import ctypes
import os
import threading
import time

import pytest

from arq_core.grid import energy, hardware

RANGE = 262_143_328_850          # microjoules: max_energy_range_uj of a common processor


def zone(root, name, label, microjoules, limit=RANGE):
    folder = root / name
    folder.mkdir(parents=True)
    for file, text in {"name": label, "energy_uj": microjoules, "max_energy_range_uj": limit}.items():
        (folder / file).write_text(f"{text}\n")
    return folder / "energy_uj"


@pytest.fixture
def rapl(tmp_path):
    """A machine of two packages, each with a zone inside; a zone of the platform, and a second way to the first package."""
    for name, label in {"intel-rapl:0:0": "core", "intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0", "intel-rapl:1:0": "dram"}.items():
        zone(tmp_path, name, label, 10)
    return tmp_path, zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000), zone(tmp_path, "intel-rapl:1", "package-1", 0)


def none():
    return None


class Driver:
    """NVML of a machine with `len(millijoules)` devices, as far as we ask it."""

    def __init__(self, *millijoules, energy_code=0):
        self.millijoules, self.energy_code, self.asked = list(millijoules), energy_code, []

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, out):
        out._obj.value = len(self.millijoules)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, out):
        out._obj.value = index.value + 1
        return 0 if index.value < len(self.millijoules) else 6

    def nvmlDeviceGetHandleByUUID(self, identity, out):
        self.asked.append(identity.value)
        out._obj.value = 1
        return 0

    def nvmlDeviceGetName(self, handle, out, length):
        out.value = b"Device %d" % handle.value
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle, out):
        out._obj.total = 80 * 2**30
        return 0

    def nvmlSystemGetDriverVersion(self, out, length):
        out.value = b"600.1"
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, out):
        out._obj.value = self.millijoules[handle.value - 1]
        return self.energy_code


def test_joules_are_those_of_the_packages_alone(rapl):
    root, first, second = rapl
    with energy.meter(root, none) as m:
        first.write_text("8500000")
        second.write_text("2000000")
        for other in set(root.glob("*/energy_uj")) - {first, second}:
            other.write_text("99000000")
    assert m.joules == pytest.approx(3.5 + 2) and m.source == "processor: package-0, package-1"


def test_a_counter_that_starts_again_loses_nothing(rapl):
    root, first, _ = rapl
    first.write_text(str(RANGE - 1_000_000))
    with energy.meter(root, none) as m:
        for reading in (2_000_000, RANGE - 3_000_000, 4_000_000):          # over the end twice; readings in between see both
            first.write_text(str(reading))
            m.read()
    assert m.joules == pytest.approx(1 + RANGE / 1e6 + 4)


def test_work_that_was_partly_done_before_has_no_joules(rapl):
    root, first, _ = rapl
    with energy.meter(root, none) as m:
        first.write_text("7000000")
    assert m.of(m.seconds) == (m.joules, m.source) and m.joules == pytest.approx(2)
    joules, why = m.of(m.seconds + 60)
    assert joules is None and why.startswith("not known: of 60.")


def test_it_reads_by_itself_while_the_work_runs_and_stops_after_it(rapl):
    root, first, _ = rapl
    with energy.meter(root, none, every=0.01) as m:
        first.write_text("7000000")
        deadline = time.monotonic() + 10
        while m.joules != pytest.approx(2) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert m.joules == pytest.approx(2)
    assert "energy" not in [thread.name for thread in threading.enumerate()]


def test_joules_are_counted_up_to_an_error_in_the_work(rapl):
    root, first, _ = rapl
    with pytest.raises(KeyError), energy.meter(root, none) as m:
        first.write_text("6000000")
        raise KeyError
    assert m.joules == pytest.approx(1)


def test_no_counter_is_none_and_says_so(tmp_path):
    with energy.meter(tmp_path, none) as m:
        pass
    assert m.joules is None and m.source == f"no readable counter (processor: no package in {tmp_path})"


@pytest.mark.parametrize("damage, reason", [
    (lambda file: file.unlink(), "No such file"), (lambda file: file.write_text(""), "expected microjoules"),
    (lambda file: file.write_text("-1"), "expected microjoules"), (lambda file: (file.unlink(), file.mkdir()), "Is a directory")])
@pytest.mark.parametrize("during", [False, True])
def test_an_unreadable_counter_is_none_with_its_reason(rapl, damage, reason, during):
    root, first, second = rapl
    if not during:
        damage(second)
    with energy.meter(root, none) as m:
        first.write_text("6000000")
        if during:
            damage(second)
    assert m.joules is None and reason in m.source and str(second) in m.source


def test_a_counter_for_root_only_is_none_with_its_reason(rapl, monkeypatch):
    """As Linux has had it since 5.10. Root may read every file, so the refusal is put in its place."""
    def refuse(self, *arguments, **named):
        if self.name == "energy_uj":
            raise PermissionError(13, os.strerror(13), str(self))
        return open(self).read()
    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with energy.meter(rapl[0], none) as m:
        pass
    assert m.joules is None and m.source.startswith("no readable counter (processor: ") and "Permission denied" in m.source


def test_devices_are_added_to_the_processor(rapl, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root, first, _ = rapl
    driver = Driver(1_000, 50_000)
    with energy.meter(root, lambda: driver) as m:
        first.write_text("6000000")
        driver.millijoules = [4_000, 50_500]
    assert m.joules == pytest.approx(1 + 3 + 0.5) and m.source == "processor: package-0, package-1; gpu: Device 1, Device 2"


def test_a_device_without_counter_is_named_as_not_counted(rapl, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root, first, _ = rapl
    with energy.meter(root, lambda: Driver(1_000, energy_code=3)) as m:
        first.write_text("6000000")
    assert m.joules == pytest.approx(1)
    assert m.source.endswith("; not counted: gpu: nvmlDeviceGetTotalEnergyConsumption of the NVIDIA driver answered 3")


@pytest.mark.parametrize("visible, names", [("", []), ("-1", []), ("1", ["Device 2"]), ("1,0", ["Device 2", "Device 1"]), ("GPU-5f", ["Device 1"])])
def test_only_devices_that_a_program_here_may_use_are_counted(visible, names):
    driver = Driver(0, 0)
    assert [gpu.name for gpu in hardware.gpus(lambda: driver, visible)] == names
    assert driver.asked == ([b"GPU-5f"] if "GPU" in visible else [])


@pytest.mark.parametrize("visible, said", [("MIG-1", "slice"), ("7", "answered 6")])
def test_a_device_that_cannot_be_asked_says_why(visible, said):
    with pytest.raises(hardware.Unreadable, match=said):
        hardware.gpus(lambda: Driver(0), visible)


def test_an_older_driver_without_the_function_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Driver, "nvmlDeviceGetTotalEnergyConsumption", property())
    with energy.meter(tmp_path, lambda: Driver(0)) as m:
        pass
    assert m.joules is None and "has no nvmlDeviceGetTotalEnergyConsumption" in m.source


def test_hardware_names_what_the_machine_has(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    told = hardware.hardware(lambda: Driver(0, 0))
    assert told["gpu"] == "Device 1, 80.0 GiB; Device 2, 80.0 GiB; driver 600.1"
    assert 1 <= int(told["cores"]) <= os.cpu_count() and float(told["memory"].removesuffix(" GiB")) > 0 and told["processor"] and told["system"]
    assert "gpu" not in hardware.hardware(none)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert hardware.hardware(lambda: Driver(0))["gpu"] == "not known: MIG-1 is a slice of a device"


def test_the_driver_is_asked_with_the_types_of_its_interface():
    """nvml.h: nvmlMemory_t is three unsigned 64-bit numbers."""
    assert ctypes.sizeof(hardware._Memory) == 24
