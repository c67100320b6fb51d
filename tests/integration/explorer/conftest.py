"""Pages in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trtnet import explorer
from trtnet.explorer.page import page as page_of

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

Json = dict[str, Any]
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if os.environ.get("TRTNET_INTEGRATION"):  # a skip would be a failure there
        driver: Any = importlib.import_module("playwright.sync_api")
    else:
        driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        if not Path(CHROMIUM).exists():
            pytest.skip("chromium is not installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def show(show_page: Open) -> Open:
    """Opens a document of the explorer as a page; see `show_page`."""

    def opened(document: Json, fragment: str = "", **options: Any) -> Any:
        return show_page(page_of(json.dumps(document)), fragment, **options)

    return opened


@pytest.fixture
def show_page(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens HTML from a file. In the end nothing may have been said on the console, and nothing
    asked of a network."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(html: str, fragment: str = "", **options: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        options = {"viewport": {"width": 1440, "height": 900}, **options}
        context = chromium.new_context(accept_downloads=True, **options)
        context.set_default_timeout(30_000)  # of a machine that does other things too
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{file.as_uri()}#{fragment}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "blob:"))] == []


@pytest.fixture
def violations() -> Callable[[Any, Json | None], list[str]]:
    """`violations_on`, as a fixture."""
    return violations_on


def violations_on(page: Any, rules: Json | None) -> list[str]:
    """What axe-core finds on the page as it is shown."""
    axe = importlib.import_module("axe_playwright_python.sync_playwright")
    options = {"resultTypes": ["violations"], **(rules or {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {node['html'][:300]}" for one in found for node in one["nodes"]]


@pytest.fixture(scope="session")
def resnet() -> Json:
    """A small model, with a profile and a search whose figures are invented."""
    return with_search(explorer.write("resnet18:fp16"))


@pytest.fixture(scope="session")
def compared() -> Json:
    return explorer.write("lenet5:fp16", other="lenet5:int8")


def with_search(document: Json) -> Json:
    """The document with times of each kernel and a search; the figures are invented."""
    found = json.loads(json.dumps(document))
    build = found["builds"][0]
    classes = build["modules"]["class"]
    modules = [
        row for row, at in enumerate(classes["at"]) if classes["values"][at] in ("Conv2d", "Linear")
    ]
    count = len(modules)
    nothing = [None] * count
    errors = [1e-3 * (row + 1) for row in range(count)]
    build["precision"] |= {
        "to": "int8", "base": "fp16", "rest": "fp16", "best": 1,
        "budget": {"metric": "sqnr_db", "limit": 20.0, "text": "sqnr>=20"},
        "measured_on": {"data": "0" * 64, "items": 8, "gpu": "h200", "method": "invented"},
        "sensitivities": {
            "module": modules, "kind": ["convolution"] * count, "rel_l2": errors,
            "sqnr_db": [60.0 - row for row in range(count)], "cosine": nothing,
            "top1_drop": nothing,
            "map_drop": nothing, "matched": nothing,
            "saved_s": [1e-8 * (row + 1) for row in range(count)],
        },
        "trials": {
            "changed": [[], modules[:3], modules], "rel_l2": [1e-4, 4e-3, 9e-2],
            "sqnr_db": [80.0, 47.5, 20.9], "cosine": [None] * 3, "top1_drop": [None] * 3,
            "map_drop": [None] * 3, "matched": [None] * 3, "seconds": [1.2e-5, 1.1e-5, 8e-6],
            "front": [True, True, False],
        },
    }  # fmt: skip
    kernels = build["variants"][0]["kernels"]
    layers = [build["layers"]["name"].index(name) for name in kernels["layer"]]
    build["study"] = {
        "additive": ["time_s"], "about": {},
        "rows": {
            "module": kernels["module"], "layer": layers, "op": ["op"] * len(layers),
            "time_s": [1e-6 * (row + 1) for row in range(len(layers))],
        },
    }  # fmt: skip
    build["engine"] = _engine(build)
    build["provenance"]["random_banner"] = "The weights are random."
    return found


def _engine(build: Json) -> Json:
    kernels = build["variants"][0]["kernels"]
    first, second = kernels["module"][:2]
    return {
        "source": "invented", "format": "TensorRT 10 inspector", "unproved": True, "gpu": "h200",
        "layers": {
            "name": ["{ForeignNode[a...b]}", "conv"], "type": {"values": ["Myelin"], "at": [0, -1]},
            "precision": ["fp16", None], "tactic": [None, "0x1"], "time_s": [3e-6, 1e-6],
            "members": [[0, 1], [2]], "shares": [[[first, 0.25], [second, 0.75]], [[second, 1.0]]],
            "estimated": [True, False], "opaque": [True, False],
        },
        "total_s": 4e-6,
    }  # fmt: skip
