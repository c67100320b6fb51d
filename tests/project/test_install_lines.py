"""Every line that installs something works from a clone: in pages, docstrings and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT

from trtnet import extras
from trtnet.backend import descriptions

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found,no-redef]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
OWN = re.compile(r"pip install (?:-\S+ )*[\"']?([^\s\"'`]*\[[^\]]*\])")
ASKED = re.compile(r"\binstall\(['\"](\w+)['\"]\)")


def sources() -> Iterator[Path]:
    for folder, pattern in (
        *((name, "*.py") for name in ("trtnet", "zoo", "weights", "tools", "benchmarks")),
        *((name, "*.md") for name in ("docs", "benchmarks", ".")),
    ):
        found = (ROOT / folder).glob(pattern) if folder == "." else (ROOT / folder).rglob(pattern)
        yield from (path for path in found if path != Path(extras.__file__))


def named_extras(text: str) -> set[str]:
    return {name for listed in text.split(",") if (name := listed.strip())}


def test_install_lines_name_the_clone_and_extras_that_exist() -> None:
    lines = [(path, line) for path in sources() for line in OWN.findall(path.read_text())]
    assert len(lines) > 5
    for path, line in lines:
        place, listed = line.rstrip("]").split("[")
        assert place == ".", f"{path}: trtnet is on no package index: {line}"
        assert named_extras(listed) <= EXTRAS, f"{path}: {line}"


def test_messages_name_extras_that_exist() -> None:
    asked = {name for path in sources() for name in ASKED.findall(path.read_text())}
    assert asked <= EXTRAS
    assert {"rtx", "tensorrt", "torch", "cuda", "plugins", "images", "plot"} <= asked
    for path in sources():
        assert "trtnet[" not in path.read_text().replace("trtnet[/", ""), path


def test_a_message_names_this_clone() -> None:
    assert extras.install("rtx") == f'pip install -e "{ROOT}[rtx]"'
    for found in descriptions():
        assert found.install.startswith(f'pip install -e "{ROOT}[')


def test_where_trtnet_is_installed_pip_takes_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "trtnet" / "extras.py"))
    assert extras.install("cuda") == 'pip install "trtnet[cuda]"'


def test_the_table_of_the_readme_has_every_extra_and_what_it_brings() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## Install") : text.index("To *run* engines on a GPU")]
    rows = dict(re.findall(r"^\| `([^|]+)` \| ([^|]+) \|", table, re.MULTILINE))
    names = {name for key in rows for name in re.findall(r"\w+", key)}
    assert names == EXTRAS
    for listed in re.findall(r'"\.\[([^\]]*)\]"', text):
        assert named_extras(listed) <= EXTRAS
    titles = {f"tensorrt-{kind}-cu13-{part}": f"TensorRT's {kind}"
              for kind in ("lean", "dispatch") for part in ("libs", "bindings")}  # fmt: skip
    titles |= {"nvidia-cuda-nvrtc": "NVRTC", "nvidia-cuda-runtime": "CUDA's headers",
              "torch": "PyTorch", "trtnet": "`cuda`"}  # fmt: skip
    for extra in names - {"integration", "dev"}:
        for requirement in PROJECT["optional-dependencies"][extra]:
            package = re.split(r"[>=;\[ ]", requirement)[0]
            assert titles.get(package, package).lower() in rows[extra].lower(), (extra, package)
    for requirement in PROJECT["dependencies"]:
        package = re.split(r"[>=;\[ ]", requirement)[0]
        assert package in table or "python_version" in requirement
