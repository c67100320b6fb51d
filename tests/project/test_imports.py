"""Which file may import which: no circles, floors of rooms, and what belongs to one room alone.

Imports in functions and under ``TYPE_CHECKING`` count, those of stubs too: code that needs a module
only sometimes still depends on it. Where two rooms must know each other, the lower one has a
``typing.Protocol``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sources import ROOT, Import, imports, module_of, modules

ROOMS = (  # lowest first; a room imports the rooms above its line, rooms of one line none another
    "escaping",
    "starting errors version lazy_imports exports layer_names records",
    "names extras dtypes files hardware amp own_version",
    "reading",
    "host",
    "fx hub autograd utils",
    "cuda finite importing journal values workers",
    "weights",
    "tensor",
    "ops",
    "module",
    "nn einops",
    "torch_functions torch_names jit",
    "torch_modules",
    "precision backend recipes",
    "network",
    "graph",
    "reference",
    "plugins",
    "detection",
    "imaging",
    "quantization analysis",
    "verification",
    "search",
    "building",
    "engines",
    "benchmark",
    "zoo",
    "pipeline",
    "studies",
    "tasks explorer",
    "serving certify",
    "trtnet",
    "cli",
)
ALLOWED = {  # (file, room that it imports): why; three at most
    ("trtnet/graph/__init__.pyi", "analysis"): "`trtnet.graph.cost` is public",
    ("weights/__init__.pyi", "pipeline"): "`trtnet.weights.extract` is public",
    ("weights/__init__.pyi", "zoo"): "`trtnet.weights.convert` is public",
}
TOP = "trtnet"  # the package itself, whose stub re-exports from the rooms above its line


def edges() -> Mapping[str, set[str]]:
    """The modules that each module imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, every in all_imports():
        target = module_of(every.target)
        if target and target != name:
            found[name].add(target)
    return found


def all_imports() -> Iterator[tuple[str, Import]]:
    for name, files in modules().items():
        for file in files:
            for found in imports(file, name):
                path = found.file.relative_to(ROOT).as_posix()
                if (path, room(module_of(found.target))) not in ALLOWED:
                    yield name, found


def room(module: str) -> str:
    """``python -m trtnet.zoo`` is a program of the command line, whose rooms it is in."""
    if module.endswith(".__main__"):
        return "cli"
    return module.split(".")[1] if "." in module else TOP


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of modules that all import each other, however far around (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return found


def test_circles_are_found() -> None:
    chain = {"a": {"b"}, "b": {"c"}, "c": {"d"}}
    assert circles(chain) == []
    assert circles({**chain, "d": {"b"}, "x": {"y", "a"}, "y": {"x"}}) == [
        ["b", "c", "d"],
        ["x", "y"],
    ]


def test_all_imports_of_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        "import a.b\n"
        "from c import d as e\n"
        "from .near import f\n"
        "from .. import above\n"
        "if TYPE_CHECKING:\n    from typed import g\n"
        "def function():\n    import inside\n"
        "importlib.import_module('named.module')\n"
    )
    targets = [found.target for found in imports(file, "package.room.file")]
    assert sorted(targets) == sorted(
        ["a.b", "c.d", "package.room.near.f", "package.above", "typed.g", "inside", "named.module"]
    )
    package = file.rename(tmp_path / "__init__.py")
    assert "package.room.near.f" in {found.target for found in imports(package, "package.room")}


def test_no_circle_of_files() -> None:
    assert not circles(edges())


def test_rooms_import_only_rooms_below() -> None:
    floor = {name: number for number, line in enumerate(ROOMS) for name in line.split()}
    unknown = sorted({room(module) for module in modules()} - floor.keys())
    assert not unknown, f"rooms without a floor: {unknown}"
    upward = [
        f"{found}: {room(name)} may not"
        for name, found in all_imports()
        if (target := module_of(found.target))
        and room(name) != room(target)
        and floor[room(target)] >= floor[room(name)]
    ]
    assert not upward, "\n" + "\n".join(upward)


def test_few_imports_are_excused_and_all_of_them_exist() -> None:
    assert len(ALLOWED) <= 3
    real = {
        (found.file.relative_to(ROOT).as_posix(), room(module_of(found.target)))
        for name, files in modules().items()
        for file in files
        for found in imports(file, name)
    }
    assert ALLOWED.keys() <= real
    assert all(ALLOWED.values())


@pytest.mark.parametrize(
    ("packages", "home"),
    [
        (("tensorrt", "tensorrt_rtx", "tensorrt_lean"), "backend"),
        (("trtnet.cli",), "cli"),
    ],
)
def test_one_room_alone_imports(packages: tuple[str, ...], home: str) -> None:
    wrong = [
        str(found)
        for name, found in all_imports()
        if f"{found.target}.".startswith(tuple(f"{package}." for package in packages))
        and room(name) != home
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_reference_imports_no_kernels_and_no_engines() -> None:
    forbidden = ("triton", "cuda", "torch.backends.cudnn", "torch.cuda", "trtnet.engines",
                 "trtnet.backend", "trtnet.building", "trtnet.cuda")  # fmt: skip
    wrong = [
        str(found)
        for name, found in all_imports()
        if f"{name}.".startswith("trtnet.reference.")
        and f"{found.target}.".startswith(tuple(f"{package}." for package in forbidden))
    ]
    for module, files in modules().items():
        if f"{module}.".startswith("trtnet.reference."):
            # its own operators; the switch that turns TF32 off is no kernel
            wrong += [f"{file} calls cuDNN" for file in files if "cudnn_" in file.read_text()]
    assert not wrong, "\n" + "\n".join(wrong)


def test_tools_do_not_import_the_command_line() -> None:
    wrong = [
        str(found)
        for file in sorted((ROOT / "tools").glob("*.py"))
        for found in imports(file)
        if f"{found.target}.".startswith("trtnet.cli.")
    ]
    assert not wrong, "\n" + "\n".join(wrong)
