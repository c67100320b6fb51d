"""What a type checker sees: the real types of public names, in a user's script and in the package.

mypy runs outside the checkout, as a user runs it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from sources import ROOT

REVEALED = {  # expression → pattern of its type
    "trtnet.Network": r"def \(.*\) -> trtnet\.[\w.]*Network",
    "trtnet.Tensor": r"def \(.*\) -> trtnet\.[\w.]*Tensor",
    "trtnet.Module": r"def \(\) -> trtnet\.[\w.]*Module",
    "trtnet.build": r"def \(network: trtnet\.[\w.]*Network, .*\) -> trtnet\.[\w.]*Plan",
    "trtnet.Plan": r"def \(engine: bytes, .*\) -> trtnet\.[\w.]*Plan",
    "trtnet.Session": r"def \(plan: (Union\[)?trtnet\.[\w.]*Plan\W+.*\) -> trtnet\.[\w.]*Session",
    "trtnet.verify": r"def \(network: trtnet\.[\w.]*Network, .*\) -> trtnet\.[\w.]*Verification",
    "trtnet.zoo.get_model": r"def \(name: str, .*\) -> trtnet\.[\w.]*Module",
    "trtnet.weights.load": r"def \(path: (Union\[)?str\W+.*\) -> trtnet\.weights\.[\w.]*Weights",
    "nn.Conv2d(3, 8, 3)": r"trtnet\.nn\.[\w.]*Conv2d",
    "trtnet.cat": r"def \(.*\) -> trtnet\.[\w.]*Tensor",
    "trtnet.float16": r"trtnet\.[\w.]*DType",
    "trtnet.search.sensitivity": r"def .* -> trtnet\.records\.Records\[trtnet\.[\w.]*Sensitivity\]",
    "trtnet.quantization.calibrate": r"def \(.*\) -> trtnet\.[\w.]*",
    "trtnet.__version__": r"(builtins\.)?str",
    "Gate": r"def \(slope: float =\) -> script\.Gate",
    "Gate(slope=0.1).slope": "float",
    "Gate()": r"script\.Gate",
}
SCRIPT = [
    "import trtnet, trtnet.plugins, trtnet.quantization, trtnet.search",
    "from trtnet import nn",
    "@trtnet.plugin('example::gate')",
    "class Gate(trtnet.plugins.Plugin):",
    "    slope: float = 0.5",
    "nn.Sequential(Gate(0.1))",
    *(f"reveal_type({expression})" for expression in REVEALED),
]
PLANTED = "trtnet.weights.Weights({}).no_such_method()"


def mypy(*arguments: str, cwd: Path, python: str | Path = sys.executable) -> list[str]:
    """The lines that mypy prints, with a cache of its own."""
    command = ["-m", "mypy", "--python-executable", str(python), "--cache-dir", str(cwd / "cache")]
    done = subprocess.run(
        [sys.executable, *command, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout.splitlines()


def assert_real_types(folder: Path, python: str | Path) -> None:
    """mypy gives the types of REVEALED, and one error: PLANTED."""
    (folder / "script.py").write_text("\n".join([*SCRIPT, PLANTED]))
    lines = mypy("script.py", cwd=folder, python=python)
    revealed = [match[1] for line in lines if (match := re.search(r'type is "(.*)"$', line))]
    for (expression, pattern), got in zip(REVEALED.items(), revealed, strict=True):
        plain = got.replace("builtins.", "")  # older versions of mypy spell it out
        assert re.fullmatch(pattern, plain), f"{expression} is {got}"
    errors = [line for line in lines if ": error: " in line]
    assert_planted_alone(errors, f"script.py:{len(SCRIPT) + 1}")


def assert_planted_alone(errors: Sequence[str], place: str) -> None:
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"{place}: error: ")
    assert '"Weights" has no attribute "no_such_method"' in errors[0]


def is_editable() -> bool:
    """Whether this Python has trtnet as an editable install of this checkout."""
    try:
        text = importlib.metadata.distribution("trtnet").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return False
    origin = json.loads(text or "{}")
    editable = origin.get("dir_info", {}).get("editable", False)
    return bool(editable) and origin["url"] == ROOT.as_uri()


@pytest.mark.skipif(not is_editable(), reason="this checkout is not installed with pip install -e")
def test_a_users_script_against_the_editable_install(tmp_path: Path) -> None:
    assert_real_types(tmp_path, sys.executable)


def test_a_users_script_against_a_wheel(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the wheel's files, and this one's packages beside them."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "others.pth").write_text("\n".join(others))
    assert_real_types(tmp_path, environment / "bin" / "python")


def test_a_mistake_in_the_package_is_found(clone: Path, tmp_path: Path) -> None:
    """With the project's own settings, as CI runs mypy."""
    source = tmp_path / "trtnet"
    shutil.copytree(clone, source)
    subprocess.run([sys.executable, "tools/build_backend.py"], cwd=source, check=True)
    module = source / "trtnet" / "names.py"
    planted = f"{module.read_text()}\n\nimport trtnet.weights\n\n{PLANTED}\n"
    module.write_text(planted)
    lines = mypy("trtnet/names.py", cwd=source)
    errors = [line for line in lines if line.startswith("trtnet/names.py")]
    assert_planted_alone(errors, f"trtnet/names.py:{len(planted.splitlines())}")
