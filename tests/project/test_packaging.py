"""The three ways to install, and what an import may load."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import trtnet

ROOT = Path(__file__).resolve().parents[2]
NEEDS_TORCH = (  # what runs networks with PyTorch
    *("reference", "verif", "engines.torch.", "quantization.observer", "quantization.running"),
    *("search.finding", "search.sensitivities", "search.suffix"),
    *("plugins.launch", "plugins.running", "plugins.shipped", "plugins.testing"),
)
CHECK = (
    "import trtnet, trtnet.zoo, trtnet.weights; from trtnet.zoo.resnet import resnet50;"
    "print(trtnet.__file__, trtnet.zoo.__file__, trtnet.weights.__file__, sep='\\n')"
)


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "trtnet"
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           cwd=ROOT, capture_output=True, check=True)  # fmt: skip
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder),
           str(source), cwd=folder)  # fmt: skip
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else."""
    target = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel),
           cwd=target)  # fmt: skip
    return target


def test_editable_install_finds_zoo_and_weights_from_anywhere(tmp_path: Path) -> None:
    homes = python("-c", CHECK, cwd=tmp_path).split()
    assert homes == [str(ROOT / name / "__init__.py") for name in ("trtnet", "zoo", "weights")]


def test_installed_package_works_elsewhere(installed: Path, tmp_path: Path) -> None:
    homes = python("-c", CHECK, cwd=tmp_path, path=installed).split()
    assert homes == [
        str(installed / name / "__init__.py") for name in ("trtnet", "trtnet/zoo", "trtnet/weights")
    ]
    assert "resnet50" in python("-m", "trtnet.zoo", "--list", cwd=tmp_path, path=installed)


def test_installed_package_works_inside_the_checkout(installed: Path) -> None:
    """There ./trtnet shadows the installed package."""
    homes = python("-c", CHECK, cwd=ROOT, path=installed).split()
    assert homes[0] == str(ROOT / "trtnet" / "__init__.py")
    assert "resnet50" in python("-m", "trtnet.zoo", "--list", cwd=ROOT, path=installed)


def test_wheel_holds_only_trtnet_with_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"trtnet"}
    assert "trtnet/py.typed" in names
    assert "trtnet/graph/gpus.json" in names
    assert "trtnet/weights/lenet5_digits.safetensors" in names
    assert "trtnet/weights/resnet20_digits.safetensors" in names
    modules = {name for name in names if name.endswith(".py")}
    for folder, package in (
        ("trtnet", "trtnet"),
        ("zoo", "trtnet/zoo"),
        ("weights", "trtnet/weights"),
    ):
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{file.relative_to(ROOT / folder).as_posix()}" in modules


def test_everything_imports_without_torch_and_tensorrt(tmp_path: Path) -> None:
    names = [
        info.name for info in pkgutil.walk_packages(trtnet.__path__[:1], "trtnet.")
        if not any(word in info.name for word in NEEDS_TORCH)
    ]  # fmt: skip
    assert "trtnet.nn.conv" in names
    assert "trtnet.network" in names
    code = (
        "import sys, importlib\n"
        "absent = ['torch', 'torchvision', 'tensorrt', 'tensorrt_rtx']\n"
        "for name in absent: sys.modules[name] = None\n"
        f"names = {names} + ['trtnet.zoo.resnet', 'trtnet.weights']\n"
        "for name in names: importlib.import_module(name)\n"
        "import trtnet\n"
        "for name in trtnet.__all__:\n"
        "    if name not in ('reference', 'verify', 'Verification'): getattr(trtnet, name)\n"
    )
    python("-c", code, cwd=tmp_path)


def test_no_backend_installed_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "import trtnet\n"
        "try: trtnet.Network()\n"
        "except trtnet.BackendError as error: print(error)\n"
    )
    message = python("-c", code, cwd=tmp_path)
    assert "no TensorRT backend is usable" in message
    assert 'pip install "trtnet[rtx]"' in message
