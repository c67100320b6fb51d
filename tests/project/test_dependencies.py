"""pyproject.toml declares what is imported, with the versions that the suite was run with."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sources import ROOT, imports, modules

import trtnet.version
from trtnet.pipeline import ability

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STDLIB = {*sys.stdlib_module_names, "tomllib"}  # tomllib: from Python 3.11 on
DISTRIBUTION_OF = {  # where it is not the module's name
    "PIL": "pillow",
    "cuda": "cuda-python",
    "google": "protobuf",
    "sklearn": "scikit-learn",
    "tensorrt_lean": "tensorrt-lean",
    "tensorrt_rtx": "tensorrt-rtx",
}
OF_SERVERS = {"triton_python_backend_utils"}  # what a server puts on the path of its models
NOT_IMPORTED = {  # declared distributions that no import names
    "nvidia-cuda-nvrtc": "the library that cuda.bindings.nvrtc loads",
    "nvidia-cuda-runtime": "CUDA's headers, included by kernels",
    "grpcio": "what tritonclient.grpc imports",
    "geventhttpclient": "what tritonclient.http imports",
    "pytest-xdist": "an option of pytest",
    "ruff": "a command",
    "mypy": "a command",
    "setuptools": "the build backend of tests without build isolation",
    "tensorrt": "imported by the name in trtnet.backend",
    "tensorrt-rtx": "imported by the name in trtnet.backend",
    "tensorrt-lean": "imported by the name in trtnet.backend",
    "transformers": "imported by the name in tests/integration as well",
    "playwright": "drives a browser in tests/integration and tools",
    "axe-playwright-python": "imported by the name in tests/integration",
    "tritonclient": "imported by tools/triton_client.py",
    "protobuf": "imported by tests/integration",
    "tensorrt-lean-cu13-bindings": "imported by the name in the backend tensorrt",
    "tensorrt-lean-cu13-libs": "the library that its bindings load",
    "tensorrt-dispatch-cu13-bindings": "imported by the name in the backend tensorrt",
    "tensorrt-dispatch-cu13-libs": "the library that its bindings load",
    "pandas": "imported by ray.data",
    "fsspec": "imported by ray.data",
}


class Requirement(NamedTuple):
    name: str
    minimum: str


@functools.cache
def project() -> Mapping[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def parsed(requirements: Iterable[str]) -> list[Requirement]:
    """Requirements with their minimum; those on trtnet's own extras are left out."""
    found = []
    for text in requirements:
        if text.startswith("trtnet["):
            continue
        match = re.fullmatch(r"([\w-]+)>=([\w.]+)(; .*)?", text)
        assert match, f"{text}: expected name>=version"
        found.append(Requirement(match[1], match[2]))
    return found


def declared(*, dev: bool) -> list[Requirement]:
    """Dependencies and extras, with or without ``dev``."""
    extras = project()["project"]["optional-dependencies"]
    groups = [project()["project"]["dependencies"]]
    groups += [items for name, items in extras.items() if dev or name != "dev"]
    return [requirement for items in groups for requirement in parsed(items)]


def distributions(files: Iterable[tuple[Path, str]]) -> dict[str, str]:
    """Distributions that the files import, each with a place where."""
    paths = project()["tool"]["pytest"]["ini_options"]["pythonpath"]
    roots = [ROOT / path for path in ("tools", *paths)]
    ours = {"trtnet", *(path.stem for root in roots for path in root.iterdir())}
    found = {}
    for file, module in files:
        for each in imports(file, module):
            top = each.target.partition(".")[0]
            if file.suffix == ".pyi" and top == "typing_extensions":
                continue  # never imported: every type checker brings it
            if top and top not in ours | STDLIB | OF_SERVERS:
                found[DISTRIBUTION_OF.get(top, top.replace("_", "-"))] = str(each)
    return found


def package_files() -> list[tuple[Path, str]]:
    return [(file, name) for name, files in modules().items() for file in files]


def developer_files() -> list[tuple[Path, str]]:
    folders = ("tools", "tests")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [(file, "") for file in [*files, ROOT / "noxfile.py"]]


def test_the_package_imports_only_what_it_declares() -> None:
    names = {requirement.name for requirement in declared(dev=False)}
    undeclared = {name: at for name, at in distributions(package_files()).items()
                  if name not in names}  # fmt: skip
    assert not undeclared


def test_tools_and_tests_import_only_what_is_declared() -> None:
    names = {requirement.name for requirement in declared(dev=True)}
    found = distributions(developer_files())
    undeclared = {name: at for name, at in found.items() if name not in names}
    assert not undeclared


def test_the_package_imports_all_that_it_declares() -> None:
    imported = {*distributions(package_files()), *NOT_IMPORTED}
    assert not [each.name for each in declared(dev=False) if each.name not in imported]


def test_developers_import_all_that_is_declared_for_them() -> None:
    imported = {*distributions(package_files()), *distributions(developer_files()), *NOT_IMPORTED}
    assert not [each.name for each in declared(dev=True) if each.name not in imported]


def test_doctor_asks_for_the_declared_dependencies() -> None:
    needed = [text for text in project()["project"]["dependencies"] if "python_version" not in text]
    assert [each.name for each in parsed(needed)] == [*ability.REQUIRED]


def backend_text() -> str:
    """The source of trtnet.backend, a file or a folder."""
    files = [file for file, name in package_files() if f"{name}.".startswith("trtnet.backend.")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_backends_refuse_versions_below_the_promised_minimum() -> None:
    for package in ("tensorrt", "tensorrt-rtx"):
        major, minor = release(oldest()[package])[:2]
        assert f"({major}, {minor})" in backend_text()


def test_packages_named_in_a_table_are_there() -> None:
    """The names of NOT_IMPORTED that a backend imports by a variable."""
    text = backend_text()
    for name, why in NOT_IMPORTED.items():
        if "trtnet.backend" in why and name in {each.name for each in declared(dev=True)}:
            assert f'"{name.replace("-", "_")}"' in text


def oldest() -> dict[str, str]:
    """Versions of tests/oldest.txt, by name."""
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    pairs = [line.split("==") for line in wanted]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version, without zeros at its end: 1.24 is 1.24.0."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_the_oldest_versions_are_the_promised_minimums() -> None:
    promised: dict[str, tuple[int, ...]] = {}
    for name, minimum in [*declared(dev=True), *parsed(project()["build-system"]["requires"])]:
        assert promised.setdefault(name, release(minimum)) == release(minimum), name
    assert {name: release(version) for name, version in oldest().items()} == promised


def test_the_oldest_tensorrt_is_described() -> None:
    """It is not installed for the suite, which holds its own calls against the description."""
    described = ROOT / "tests" / "data" / "tensorrt_api" / f"tensorrt-{oldest()['tensorrt']}.json"
    assert described.is_file()


def test_nox_runs_the_oldest_python() -> None:
    minimum = project()["project"]["requires-python"].removeprefix(">=")
    assert f'python="{minimum}"' in (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert project()["tool"]["mypy"]["python_version"] == minimum
    assert project()["tool"]["ruff"]["target-version"] == f"py{minimum.replace('.', '')}"


def test_the_version_is_written_once() -> None:
    assert "version" not in project()["project"]
    attribute = project()["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "trtnet.version.__version__"
    assert trtnet.__version__ == trtnet.version.__version__
    quoted = f'"{trtnet.__version__}"'
    homes = {str(file.relative_to(ROOT)) for file, _ in package_files()
             if quoted in file.read_text(encoding="utf-8")}  # fmt: skip
    assert homes == {"trtnet/version.py"}


@pytest.fixture
def tool() -> Any:
    """tools/run_versions.py."""
    path = ROOT / "tools" / "run_versions.py"
    spec = importlib.util.spec_from_file_location("run_versions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_replaces_its_own_section(tool: Any) -> None:
    page = tool.with_section("# Title\n\nText.\n", "newest", "first\n")
    page = tool.with_section(page, "oldest", "second\n")
    page = tool.with_section(page, "newest", "third\n")
    assert page == "# Title\n\nText.\n\n## oldest\n\nsecond\n\n## newest\n\nthird\n"


def test_a_report_is_counted(tool: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3" time="90.5"/>'
        "</testsuites>"
    )
    counts = tool.counted(report)
    assert counts == {"passed": 4, "failed": 3, "skipped": 3, "seconds": 90.5}
    text = tool.describe(counts, {"torch": "2.8.0", "numpy": "1.24.0"}, whole=True)
    assert "The whole suite: 4 passed, 3 failed, 3 skipped, in 2 minutes." in text
    assert text.endswith("numpy 1.24.0, torch 2.8.0.\n")
