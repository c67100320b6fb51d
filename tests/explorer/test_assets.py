"""What the page is made of: libraries as their projects published them, scripts without markup."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from trtnet.explorer import page

HERE = Path(page.__file__).parent
SCRIPTS = sorted((HERE / "scripts").glob("*.js"))
PARSES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    r"|srcdoc|\beval\b|new Function|setAttribute\(\"style\"|\.html\("
)
MOST_LINES = 400


def sha256(name: str) -> str:
    return hashlib.sha256((HERE / "libraries" / name).read_bytes()).hexdigest()


def test_libraries_are_those_that_their_projects_published() -> None:
    sources = json.loads((HERE / "libraries" / "SOURCES.json").read_text())
    assert set(sources) == set(page.LIBRARIES)
    held = {file.name for file in (HERE / "libraries").iterdir()} - {"SOURCES.json"}
    assert held == set(sources) | {entry["license_file"] for entry in sources.values()}
    for name, entry in sources.items():
        assert sha256(name) == entry["sha256"]
        assert sha256(entry["license_file"]) == entry["license_sha256"]
        assert entry["license"] in ("ISC", "MIT", "BSD-3-Clause", "Apache-2.0")
        assert entry["source"].startswith("https://registry.npmjs.org/")
        assert entry["version"] in entry["source"]


def test_every_script_is_in_the_page() -> None:
    assert sorted(page.SCRIPTS) == [file.name for file in SCRIPTS]


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_put_text_in_as_text(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not PARSES_MARKUP.search(text)
    assert len(text.splitlines()) <= MOST_LINES
    assert text.startswith('"use strict";')
    assert "</script" not in text.lower()


def test_the_page_names_every_script_by_its_hash() -> None:
    found = page.page("{}")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', found)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert policy[1].count("sha256-") == len(page.SCRIPTS) + len(page.LIBRARIES) + 1


def test_the_filter_knows_the_numbers_that_the_documentation_lists() -> None:
    text = (HERE / "scripts" / "rows.js").read_text("utf-8")
    names = re.findall(r"(\w+): \(row\) =>", text[text.index("const NUMBERS") :].split("};")[0])
    docs = (Path(__file__).parents[2] / "docs" / "explorer.md").read_text("utf-8")
    (line,) = [line for line in docs.splitlines() if line.startswith("| `gap>2 bound>=5`")]
    assert sorted(re.findall(r"`(\w+)`", line)) == sorted(names)
