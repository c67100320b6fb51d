"""``trtnet doctor``, and the driver behind it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trtnet import backend, hardware
from trtnet.cli.doctor import lines
from trtnet.cli.main import main
from trtnet.errors import BackendError, CudaError
from trtnet.extras import install
from trtnet.hardware import GpuDevice
from trtnet.pipeline import Machine, abilities, examine, packages

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
TASKS = [
    *("build rtx", "build tensorrt", "build torch", "verify"),
    *("run torch cpu", "run torch cuda", "run rtx", "run tensorrt"),
    *("run tensorrt lean", "run tensorrt dispatch"),
]
SMALL = TASKS[-2:]
H200 = GpuDevice(0, "NVIDIA H200", (9, 0), 150 << 30)
RTX4090 = GpuDevice(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30)
INSTALLED: dict[str, str | None] = dict.fromkeys(packages.PACKAGES, "13.1")
NO_DRIVER = "no NVIDIA driver is installed on this machine"


def machine(*gpus: GpuDevice, absent: tuple[str, ...] = (), **changes: Any) -> Machine:
    """A machine with everything but the packages `absent`; without `gpus` it has no driver."""
    found = Machine(
        driver="580.95.05" if gpus else None,
        driver_cuda=(13, 0) if gpus else None,
        problem=None if gpus else NO_DRIVER,
        gpus=gpus,
        packages={name: None if name in absent else v for name, v in INSTALLED.items()},
        torch_cuda="13.2",
    )
    return dataclasses.replace(found, **changes)


@pytest.fixture(autouse=True)
def every_package_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "load", lambda name: None)
    monkeypatch.setattr(hardware, "has_nvidia_card", lambda: False)


def problems(found: Machine) -> dict[str, tuple[str | None, str | None]]:
    return {one.task: (one.problem, one.fix) for one in abilities(found)}


def cannot(found: Machine) -> list[str]:
    return [task for task, (problem, _) in problems(found).items() if problem is not None]


def test_everything_works_on_a_full_machine() -> None:
    assert [one.task for one in abilities(machine(RTX4090))] == TASKS
    assert cannot(machine(RTX4090)) == []


def test_without_a_gpu() -> None:
    found = problems(machine())
    assert cannot(machine()) == [
        *("build tensorrt", "run torch cuda", "run rtx", "run tensorrt", *SMALL)
    ]
    for task in cannot(machine()):
        assert NO_DRIVER in found[task][0]
        assert "use a machine with an NVIDIA GPU" in found[task][1]


def test_a_card_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_nvidia_card", lambda: True)
    assert "https://www.nvidia.com/drivers" in problems(machine())["run rtx"][1]


def test_a_hidden_gpu() -> None:
    hidden = machine(
        problem="CUDA_VISIBLE_DEVICES=-1 hides every GPU", driver="580", driver_cuda=(13, 0)
    )
    assert problems(hidden)["run torch cuda"][1].startswith("unset CUDA_VISIBLE_DEVICES")


def test_rtx_does_not_run_on_data_centre_hopper() -> None:
    problem, fix = problems(machine(H200))["run rtx"]
    assert "NVIDIA H200 (9.0)" in problem
    assert "--backend torch" in fix
    assert cannot(machine(H200)) == ["run rtx"]
    assert cannot(machine(H200, RTX4090)) == []


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((7, 0), False), ((7, 5), True), ((8, 0), True), ((8, 6), True), ((8, 9), True),
     ((9, 0), False), ((10, 0), False), ((12, 0), True), ((12, 1), True)],
)  # fmt: skip
def test_where_rtx_runs(capability: tuple[int, int], runs: bool) -> None:
    gpu = dataclasses.replace(RTX4090, compute_capability=capability)
    assert ("run rtx" not in cannot(machine(gpu))) is runs


@pytest.mark.parametrize(
    ("absent", "tasks", "fix"),
    [
        ("torch", ["build torch", "verify", "run torch cpu", "run torch cuda"], "[torch]"),
        ("torchvision", ["verify"], "[torch]"),
        ("tensorrt-rtx", ["build rtx", "run rtx"], "[rtx]"),
        ("tensorrt", ["build tensorrt", "run tensorrt"], "[tensorrt]"),
        ("cuda-python", ["run torch cuda", "run rtx", "run tensorrt", *SMALL], "[cuda]"),
        ("tensorrt-lean", SMALL[:1], "[lean]"),
        ("tensorrt-dispatch", SMALL[1:], "[lean]"),
        ("rich", TASKS, "pip install rich"),
        ("msgspec", TASKS, "pip install msgspec"),
    ],
)
def test_a_missing_package(absent: str, tasks: list[str], fix: str) -> None:
    found = problems(machine(RTX4090, absent=(absent,)))
    assert cannot(machine(RTX4090, absent=(absent,))) == tasks
    for task in tasks:
        assert fix in found[task][1]


def test_torch_engines_need_one_tensorrt_to_be_built() -> None:
    absent = ("tensorrt", "tensorrt-rtx")
    problem, fix = problems(machine(RTX4090, absent=absent))["build torch"]
    assert "neither TensorRT works" in problem
    assert install("rtx") in fix
    assert "build torch" in cannot(machine(absent=("tensorrt-rtx",)))  # TensorRT needs a GPU
    assert "run torch cpu" not in cannot(machine(absent=absent))


def test_an_old_driver() -> None:
    old = machine(RTX4090, driver_cuda=(12, 8))
    found = problems(old)
    assert cannot(old) == ["run torch cuda", "run rtx", "run tensorrt", *SMALL]
    assert "PyTorch 13.2 needs a driver for CUDA 13, this one has 12.8" in found["run torch cuda"]
    assert "update the driver" in found["run rtx"][1]


def test_a_pytorch_without_cuda() -> None:
    assert cannot(machine(RTX4090, torch_cuda=None)) == ["run torch cuda"]


def test_a_package_that_is_too_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(name: str) -> None:
        raise BackendError(f"{name} 8.6 is too old", fix="pip install -U it")

    monkeypatch.setattr(backend, "load", too_old)
    assert problems(machine(RTX4090))["run tensorrt"] == (
        "tensorrt 8.6 is too old",
        "pip install -U it",
    )

    def broken(name: str) -> None:
        raise FileNotFoundError("libnvinfer.so.11")

    monkeypatch.setattr(backend, "load", broken)
    problem, fix = problems(machine(RTX4090))["build rtx"]
    assert "cannot be imported: libnvinfer.so.11" in problem
    assert "--force-reinstall" in fix


def test_text_says_what_why_and_how() -> None:
    found = machine(H200)
    text = "\n".join(lines(found, abilities(found)))
    assert "driver    580.95.05, for CUDA up to 13.0" in text
    assert "GPU 0     NVIDIA H200, compute capability 9.0, 150.0 GiB" in text
    assert "torch 13.1 (CUDA 13.2)" in text
    assert "  yes  build engines for TensorRT-RTX" in text
    assert "  no   run TensorRT-RTX engines\n         why: TensorRT-RTX runs on" in text


def test_json_on_this_machine(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["do"] for one in found["can"]] == TASKS
    assert all(one["ok"] == (one["why"] is None) == (one["fix"] is None) for one in found["can"])
    assert (found["driver"]["problem"] is None) == bool(found["gpus"])
    import torch

    assert found["torch_cuda"] == torch.version.cuda  # read without importing it
    assert torch.__version__.startswith(found["packages"]["torch"].partition("+")[0])
    assert found["driver"]["problem"] == hardware.missing_gpu()


def test_it_works_with_nothing_but_numpy(tmp_path: Path) -> None:
    """In a process that can import neither the optional packages nor those trtnet depends on."""
    absent = [m for m, _ in packages.PACKAGES.values() if m not in ("numpy", "cuda.bindings")]
    code = (
        "import sys\n"
        f"for name in {[*absent, 'cuda']}: sys.modules[name] = None\n"
        "from trtnet.cli.main import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 3
    assert "torch is not installed" in done.stdout
    assert "pip install rich" in done.stdout
    assert "yes" not in done.stdout


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from trtnet.cli.main import main\n"
        "main(['doctor'])\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


class FakeDriver:
    """The functions of NVIDIA's two libraries that are called, on two GPUs."""

    gpus = (b"NVIDIA H200", 9, 0, 150 << 30), (b"NVIDIA GeForce RTX 4090", 8, 9, 24 << 30)

    def __init__(self, status: int = 0, gpus: int = 2) -> None:
        self.status, self.count = status, gpus

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index + 40
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self.gpus[device.value - 40][0]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
        memory._obj.value = self.gpus[device.value - 40][3]
        return 0

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:  # noqa: N802
        number._obj.value = self.gpus[device.value - 40][{75: 1, 76: 2}[attribute]]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13020
        return 0

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"580.95.05"
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr(hardware, "_library", lambda linux, windows: fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_the_driver_is_asked(driver: FakeDriver) -> None:
    assert hardware.gpus() == [
        GpuDevice(0, "NVIDIA H200", (9, 0), 150 << 30),
        GpuDevice(1, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30),
    ]
    found = examine()
    assert (found.driver, found.driver_cuda, found.problem) == ("580.95.05", (13, 2), None)


def test_what_the_driver_cannot_tell_is_an_error(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    monkeypatch.setattr(driver, "cuDeviceGetAttribute", lambda *arguments: 1, raising=False)
    with raises(CudaError, "cuDeviceGetAttribute failed", "CUDA error 1"):
        hardware.gpus()


def test_a_driver_without_a_gpu(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.count = 0
    assert hardware.missing_gpu() == "this machine has no NVIDIA GPU"
    driver.status = 100
    assert "finds no usable GPU (CUDA error 100)" in str(hardware.missing_gpu())
    assert hardware.gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.missing_gpu() == "CUDA_VISIBLE_DEVICES=-1 hides every GPU"


def test_no_driver_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_library", lambda linux, windows: None)
    assert hardware.missing_gpu() == NO_DRIVER
    assert hardware.gpus() == []
    assert hardware.driver_version() is None
    assert hardware.driver_cuda_version() is None


@pytest.mark.parametrize(
    ("package", "lost"),
    [
        ("triton", "on a GPU, engines of the torch backend run without tactics that are timed"),
        ("openvino", "on a CPU, engines of the torch backend run in PyTorch only"),
    ],
)
def test_what_is_slower_without_a_package(package: str, lost: str) -> None:
    without = machine(RTX4090, absent=(package,))
    assert cannot(without) == []
    assert f"          {package} is not installed: {lost}" in lines(without, [])
    assert f"          {package} 13.1" in lines(machine(RTX4090), [])
    assert lost not in "\n".join(lines(machine(RTX4090), []))


def test_the_list_of_packages_has_a_title() -> None:
    text = lines(machine(), [])
    first = next(iter(INSTALLED))
    assert [line for line in text if line.startswith("packages")] == [f"packages  {first} 13.1"]
