"""The page under load and under names that somebody else chose."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet import explorer
from trtnet.graph import Graph, Layer, TensorInfo

Json = dict[str, Any]
LAYERS = 5000
HOSTILE = (
    "<img src=x onerror=\"document.title='taken'\">",
    "</script><script>document.title='taken'</script>",
    "<!--<script>",
    "x" * 10_000,
    "\u202egnp.exe",
    "שלום עולם",
    "__proto__",
    "=1+1",
)


def convolutions(names: list[str]) -> Graph:
    """A chain of convolutions of these names: each is a kernel of its own."""
    kernel = np.ones((4, 4, 1, 1), np.float32)
    tensors = ["x", *(f"{name}:0" for name in names)]
    return Graph(
        name="chain",
        inputs=("x",),
        outputs=(tensors[-1],),
        layers=tuple(
            Layer(name, "CONVOLUTION", (tensors[at],), (tensors[at + 1],),
                  {"kernel_size_nd": (1, 1), "num_groups": 1}, {"kernel": kernel})
            for at, name in enumerate(names)
        ),
        tensors={name: TensorInfo(name, "float32", (1, 4, 8, 8)) for name in tensors},
    )  # fmt: skip


@pytest.fixture(scope="module")
def large() -> Json:
    names = [f"stage{i // 500}.block{i // 50}.conv{i}/conv" for i in range(LAYERS)]
    found = explorer.write(convolutions(names))
    assert len(found["builds"][0]["variants"][0]["kernels"]["layer"]) == LAYERS
    return found


def test_5000_layers_are_interactive_within_three_seconds(show: Any, large: Json) -> None:
    page = show(large)  # the file is written and the browser is warm
    seconds = []
    while not seconds or (min(seconds) > 3 and len(seconds) < 4):  # others may use the processors
        start = time.perf_counter()
        page.reload()
        page.wait_for_selector("html[data-ready]")
        page.get_by_role("searchbox", name="Filter").fill("conv4999")
        page.wait_for_function(
            "document.querySelector('#query-note').textContent.startsWith('1 kernel')"
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 3
    assert page.locator("[role=row]").count() <= 300


def test_scrolling_5000_rows_never_blocks(show: Any, large: Json, chromium: Any) -> None:
    """No task of the page's thread takes more than 50 ms of a processor. The time on the wall is
    as long on a machine that does nothing else."""
    page = show(large, "layout=flat")
    grid = page.locator("#panel-modules .grid")
    assert grid.get_attribute("aria-rowcount") == str(LAYERS + 1)
    box = grid.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    chromium.start_tracing(page=page, categories=["toplevel"])
    for _ in range(40):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(16)
    events = json.loads(chromium.stop_tracing())["traceEvents"]
    threads = {
        (event["pid"], event["tid"]) for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }  # fmt: skip
    tasks = [
        event["tdur"] / 1e3 for event in events
        if (event["pid"], event["tid"]) in threads and event["name"].endswith("RunTask")
        and "tdur" in event
    ]  # fmt: skip
    assert len(tasks) > 40
    assert max(tasks) <= 50
    assert grid.evaluate("(node) => node.scrollTop") > 10_000
    assert page.locator("[role=row]").count() <= 300
    grid.focus()
    page.keyboard.press("End")
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    assert page.evaluate(f"{active}.getAttribute('aria-rowindex')") == str(LAYERS + 1)


def test_5000_layers_take_at_most_500_mb(show: Any, large: Json, chromium: Any) -> None:
    page = show(large, "layout=flat")
    for view in ("charts", "graph", "precision", "memory", "provenance", "modules"):
        page.locator(f"#tab-{view}").click()
        page.wait_for_timeout(50)
    session = chromium.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [process["id"] for process in found if process["type"] == "renderer"]
    assert max(map(resident, renderers)) <= 500e6


def resident(process: int) -> int:
    """Bytes of memory of a process that are its own."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no Pss")


def test_hostile_names_stay_text(show: Any, tmp_path: Path) -> None:
    document = explorer.write(convolutions([f"{text}.{text}/{text}" for text in HOSTILE]))
    document = json.loads(json.dumps(document))
    document["builds"][0]["notes"] = list(HOSTILE)
    document["builds"][0]["provenance"]["random_banner"] = HOSTILE[0]
    document["title"] = HOSTILE[0]
    page = show(document, "depth=all")
    elements = set()
    for view in ("modules", "charts", "graph", "precision", "memory", "provenance"):
        page.locator(f"#tab-{view}").click()
        page.wait_for_timeout(50)
        elements |= set(page.evaluate(
            "[...document.body.querySelectorAll('*')].map((node) => node.tagName.toLowerCase())"
        ))  # fmt: skip
    assert not {"img", "iframe", "object", "embed"} & elements
    assert page.title() == HOSTILE[0]
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.locator("#tab-modules").click()
    page.locator("#layout").select_option("flat")
    page.get_by_role("searchbox", name="Filter").fill("=1+1")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert ",'=1+1.=1+1/=1+1," in download.value.path().read_text("utf-8")


def test_the_policy_of_content_blocks_what_is_injected(chromium: Any, tmp_path: Path) -> None:
    """Were markup ever parsed, it could still run nothing and ask for nothing."""
    path = tmp_path / "page.html"
    explorer.write("lenet5", path)
    page = chromium.new_page()
    failed: dict[str, str] = {}
    page.on("requestfailed", lambda request: failed.update({request.url: request.failure}))
    page.goto(path.as_uri())
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', "
        '\'<img src="https://example.invalid/x.png" onerror="document.title=1">\')'
    )
    page.evaluate(
        "const made = document.createElement('script'); made.textContent = 'document.title=2';"
        "document.body.append(made)"
    )
    page.wait_for_timeout(100)
    assert page.title() == "lenet5"
    assert failed == {"https://example.invalid/x.png": "csp"}
    page.close()
