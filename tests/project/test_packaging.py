"""The three ways to install, and what an import may load."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sources import PACKAGES, ROOT, build_wheel, modules, tracked_files
from sources import run_python as python

from trtnet import lazy_imports
from trtnet.extras import install

NEEDS_TORCH = (  # what runs networks with PyTorch
    *("reference", "verif", "engines.torch.", "engines.openvino."),
    *("recipes.torch_operations", "recipes.watch", "quantization.observer", "quantization.running"),
    *("search.ablation", "search.finding", "search.measuring", "search.sensitivities"),
    *("search.stored_sensitivities", "search.suffix"),
    *("plugins.kernel_execution", "plugins.reference_execution", "plugins.shipped"),
    *("detection.greedy_nms.kernel", "detection.greedy_nms.reference"),
    *("plugins.tensor_views", "plugins.testing", "pipeline.float64"),
    *("certify.running", "certify.limits", "certify.child"),
    *("zoo.torch_", "zoo.segmentation.torch_", "zoo.detection.torch_", "torch_modules."),
    *("zoo.detection.detr.torch_", "zoo.detection.yolo.torch_"),
)
RUN_BY_TORCH = ("reference", "verify", "Verification", "from_torch")
CHECK = (
    "import trtnet, trtnet.zoo, trtnet.weights; from trtnet.zoo.resnet import resnet50;"
    "print(trtnet.__file__, trtnet.zoo.__file__, trtnet.weights.__file__, sep='\\n')"
)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else."""
    target = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel),
           cwd=target)  # fmt: skip
    return target


def test_editable_install_finds_zoo_and_weights_from_anywhere(tmp_path: Path) -> None:
    homes = [Path(home).resolve() for home in python("-c", CHECK, cwd=tmp_path).split()]
    assert homes == [ROOT / name / "__init__.py" for name in ("trtnet", "zoo", "weights")]


def test_clone_on_the_path_finds_zoo_and_weights(clone: Path, tmp_path: Path) -> None:
    assert not (clone / "trtnet" / "zoo").exists()
    homes = [Path(home) for home in python("-c", CHECK, cwd=tmp_path, path=clone).split()]
    assert homes == [clone / name / "__init__.py" for name in ("trtnet", "zoo", "weights")]


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


def test_wheel_holds_what_git_has_of_the_packages_and_nothing_else(wheel: Path) -> None:
    tracked = {
        f"{package.replace('.', '/')}/{name.removeprefix(f'{folder}/')}"
        for folder, package in PACKAGES.items()
        for name in tracked_files()
        if name.startswith(f"{folder}/") and (ROOT / name).is_file()
    }
    assert {"trtnet/py.typed", "trtnet/__init__.pyi", "trtnet/zoo/resnet.py"} <= tracked
    assert "trtnet/weights/lenet5_digits.safetensors" in tracked
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == tracked


def test_everything_imports_without_torch_and_tensorrt(tmp_path: Path) -> None:
    names = [name for name in modules() if not any(word in name for word in NEEDS_TORCH)]
    for name in ("trtnet.nn.conv", "trtnet.network", "trtnet.zoo.resnet", "trtnet.weights"):
        assert name in names
    code = (
        "import sys, importlib\n"
        "absent = ['torch', 'torchvision', 'tensorrt', 'tensorrt_rtx']\n"
        "for name in absent: sys.modules[name] = None\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "import trtnet\n"
        "for name in trtnet.__all__:\n"
        f"    if name not in {RUN_BY_TORCH}: getattr(trtnet, name)\n"
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
    assert install("rtx") in message


def test_sdist_holds_each_source_once_and_gives_the_same_wheel(
    clone: Path, wheel: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(clone, source)
    code = "import sys; sys.path.insert(0, 'tools'); import build_backend as b; b.build_sdist('..')"
    python("-c", code, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = [member.name.partition("/")[2] for member in members if member.isfile()]
    assert sorted(name for name in names if name.startswith(("trtnet/", "zoo/", "weights/"))) == (
        sorted(name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("trtnet/"))
    )
    (tmp_path / "built").mkdir()
    again = build_wheel(archive, tmp_path / "built")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


@pytest.fixture
def backend() -> Iterator[ModuleType]:
    """tools/build_backend.py."""
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "tools/build_backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with the folders that are linked, and nothing else."""
    for folder in ("trtnet", "zoo", "weights"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def test_links_are_made_once_and_lead_to_the_folders(backend: ModuleType, tree: Path) -> None:
    for _ in range(2):
        backend.make_links(tree)
    for name in ("zoo", "weights"):
        assert os.readlink(tree / "trtnet" / name) == f"../{name}"
        assert (tree / "trtnet" / name / "__init__.py").is_file()


def test_a_link_that_leads_elsewhere_is_replaced(backend: ModuleType, tree: Path) -> None:
    (tree / "trtnet" / "zoo").symlink_to("../weights")
    (tree / "trtnet" / "weights").symlink_to("../gone")
    backend.make_links(tree)
    assert (tree / "trtnet" / "zoo").resolve() == tree / "zoo"
    assert (tree / "trtnet" / "weights").resolve() == tree / "weights"


def test_folders_of_an_unpacked_sdist_stay(backend: ModuleType, tree: Path) -> None:
    for name in ("zoo", "weights"):
        (tree / name).rename(tree / "trtnet" / name)
    backend.make_links(tree)
    for name in ("zoo", "weights"):
        assert not (tree / "trtnet" / name).is_symlink()
        assert (tree / "trtnet" / name / "__init__.py").is_file()


def test_a_folder_in_the_way_is_kept_and_named(backend: ModuleType, tree: Path) -> None:
    (tree / "trtnet" / "zoo").mkdir()
    (tree / "trtnet" / "zoo" / "mine.py").touch()
    with pytest.raises(SystemExit, match="zoo is a folder, expected a link"):
        backend.make_links(tree)
    assert (tree / "trtnet" / "zoo" / "mine.py").is_file()


def test_a_clone_without_the_zoo_is_refused(backend: ModuleType, tree: Path) -> None:
    shutil.rmtree(tree / "zoo")
    with pytest.raises(SystemExit, match="zoo: no such folder"):
        backend.make_links(tree)


def test_a_tree_that_cannot_be_written_to_is_named(
    backend: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may write to any folder

    monkeypatch.setattr(os, "symlink", read_only)
    with pytest.raises(SystemExit, match="cannot be made: Permission denied"):
        backend.make_links(tree)


def test_windows_without_the_privilege_gets_junctions(
    backend: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for Windows: symbolic links fail as they do there, junctions are recorded."""
    made: list[tuple[str, str]] = []
    windows = ModuleType("_winapi")
    windows.CreateJunction = lambda *paths: made.append(paths)  # type: ignore[attr-defined]

    def no_privilege(*_: object, **__: object) -> None:
        raise OSError(22, "A required privilege is not held by the client")

    monkeypatch.setitem(sys.modules, "_winapi", windows)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "symlink", no_privilege)
    backend.make_links(tree)
    assert made == [(str(tree / n), str(tree / "trtnet" / n)) for n in ("zoo", "weights")]


@pytest.mark.parametrize("package", ["trtnet", "trtnet.search", "trtnet.quantization"])
def test_every_name_of_a_stub_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__)) > 5
    assert dir(module) == module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=r"has no .*no_such"):
        module.no_such  # noqa: B018


def test_a_star_in_a_stub_gives_the_names_of_that_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "starred"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(
        "from trtnet import lazy_imports as lazy\n"
        "__getattr__, __dir__ = lazy.from_stub(__name__, __file__)\n"
    )
    (package / "__init__.pyi").write_text("from . import file as file\nfrom .file import *\n")
    (package / "file.py").write_text("__all__ = ['shown']\nshown, hidden = 1, 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    starred = importlib.import_module(name)
    assert "starred.file" not in sys.modules
    assert starred.shown == 1
    assert starred.__all__ == ["file", "shown"]
    with pytest.raises(AttributeError):
        starred.hidden  # noqa: B018


@pytest.mark.parametrize(
    "line",
    ["import os", "from .file import name", "from os import path as path", "x: int",
     "from .a import b as b\nfrom .c import b as b"],
)  # fmt: skip
def test_a_stub_holds_relative_exports_only(line: str, tmp_path: Path) -> None:
    (tmp_path / "__init__.pyi").write_text(line)
    with pytest.raises(SyntaxError, match="expected `"):
        lazy_imports.from_stub("package", str(tmp_path / "__init__.py"))


def test_a_name_is_not_that_of_a_file(tmp_path: Path) -> None:
    """Importing the file would set an attribute of the package that hides the name."""
    (tmp_path / "lint.py").touch()
    (tmp_path / "__init__.pyi").write_text("from .checking import lint as lint")
    with pytest.raises(SyntaxError, match=r"lint\.py would hide the name"):
        lazy_imports.from_stub("package", str(tmp_path / "__init__.py"))
    (tmp_path / "__init__.pyi").write_text("from . import lint as lint")
    lazy_imports.from_stub("package", str(tmp_path / "__init__.py"))
