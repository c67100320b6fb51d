"""The page as a reader uses it: rows, filter, sorting, choices, links between views, keys."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet import explorer
from trtnet.benchmark.profile import average, to_json
from trtnet.cli.main import main
from trtnet.explorer import subject_of

Json = dict[str, Any]
VIEWS = (
    "modules", "charts", "graph", "precision", "memory", "engine", "comparison", "provenance"
)  # fmt: skip


def names(page: Any) -> list[str]:
    """What the first cells of the rows in view say."""
    return page.locator("#panel-modules [role=rowheader] .name").all_inner_texts()


def cost(capsys: pytest.CaptureFixture[str], *arguments: str) -> Json:
    capsys.readouterr()
    assert main(["cost", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def bound(page: Any) -> float:
    return float(page.locator('[data-tile="bound"]').get_attribute("data-value"))


def test_the_tree_opens_and_closes(show: Any, resnet: Json) -> None:
    page = show(resnet, "depth=1")
    assert "layer1" in names(page)
    assert names(page)[0] == "whole network"
    before = len(names(page))
    row = page.get_by_role("row", name="layer1 Sequential")
    assert row.get_attribute("aria-expanded") == "false"
    row.locator(".twist").click()
    assert row.get_attribute("aria-expanded") == "true"
    assert len(names(page)) == before + 2
    page.locator("#depth").select_option("all")
    assert int(page.get_by_role("treegrid").get_attribute("aria-rowcount")) > before + 20


def test_filters_and_totals(show: Any, resnet: Json) -> None:
    page = show(resnet, "layout=flat")
    kernels = resnet["builds"][0]["variants"][0]["kernels"]
    query = page.get_by_role("searchbox", name="Filter")
    expected = [name for name in kernels["layer"] if name.startswith("layer1.")]
    for text in ("layer1.", r"/^layer1\./", '"layer1."'):
        query.fill(text)
        assert names(page) == expected
    rows = [row for row, name in enumerate(kernels["layer"]) if name in expected]
    macs = sum(kernels["macs"][row] for row in rows)
    total = page.locator("#panel-modules .totals").inner_text()
    assert total.startswith(
        f"{len(rows)} of {len(kernels['layer'])} kernels: {macs / 1e6:.1f} MMAC"
    )
    query.fill("type:pooling")
    assert names(page) == ["maxpool/max_pool"]
    query.fill("measured>5 measured<=7")
    assert names(page) == kernels["layer"][5:7]
    query.fill("weight>3")
    assert "unknown number weight" in page.locator("#query-note").inner_text()
    query.fill("/(/")
    assert "no regular expression" in page.locator("#query-note").inner_text()
    page.get_by_role("button", name="Clear").click()
    page.locator("#type").select_option("REDUCE")
    assert names(page) == ["avgpool/mean"]


def test_the_gap_is_that_of_a_study(show: Any, tmp_path: Path) -> None:
    """Of a kernel and of modules: the least time over the bound of all that is inside."""
    layers = ["c1/conv + tanh/tanh", "c3/conv + tanh#1/tanh", "f6/matmul + f6/add"]
    profile = average([[(name, 0.01 * (1 + run)) for name in layers] for run in range(7)])
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(to_json(profile, 7)))
    page = show(explorer.write("lenet5:fp16", gpu="h200", profile=path))
    found = page.evaluate("() => Page.rows.network().modules.map((row) => [row.path, row.gap])")
    study = trtnet.study("lenet5:fp16", gpu="h200", profile=profile)
    wanted = {row["module"]: row["gap"] for row in study.tree() if row["op"] is None}
    compared = {name: gap for name, gap in found if gap is not None and "#" not in name}
    assert {"", "c1", "c3", "f6"} <= compared.keys()
    for name in {"", "c1", "c3", "f6"}:
        assert compared[name] == pytest.approx(wanted[name])


def test_sorting(show: Any, resnet: Json) -> None:
    page = show(resnet, "layout=flat")
    kernels = resnet["builds"][0]["variants"][0]["kernels"]
    by_weights = sorted(
        range(len(kernels["layer"])), key=lambda row: -kernels["parameters"][row]
    )  # a stable sort, as the page's
    head = page.get_by_role("columnheader", name="weights")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert names(page)[:5] == [kernels["layer"][row] for row in by_weights[:5]]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert names(page)[:5] == kernels["layer"][:5]


def test_every_gpu_and_precision_gives_the_figures_of_trtnet_cost(
    show: Any, resnet: Json, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    page = show(resnet, "layout=flat")
    for gpu, precision in (("h200", "fp16"), ("l4", "tf32"), ("l4", "int8"), ("rtx4090", "fp8")):
        page.locator("#gpu").select_option(gpu)
        page.locator("#precision").select_option(precision)
        target = "resnet18" if precision == "tf32" else f"resnet18:{precision}"
        told = cost(capsys, target, "--gpu", gpu)
        assert bound(page) == told["bound"]["seconds"]
        with page.expect_download() as download:
            page.get_by_role("button", name="JSON").click()
        file = tmp_path / "rows.json"
        download.value.save_as(file)
        rows = json.loads(file.read_text())
        assert [row["path"] for row in rows] == [layer["name"] for layer in told["layers"]]
        for key, own in (
            ("bound_s", "seconds"), ("macs", "macs"), ("parameters", "parameters"),
            ("precision", "precision"), ("limit", "limit"), ("intensity", "intensity"),
        ):  # fmt: skip
            assert [row[key] for row in rows] == [layer[own] for layer in told["layers"]]


def test_a_chosen_rate_gives_the_bound_of_cost(show: Any, resnet: Json) -> None:
    page = show(resnet, "gpu=h200")
    page.locator("#rate").select_option("fp32")
    assert bound(page) == subject_of("resnet18:fp16").cost.bound("h200", "fp32").seconds


def test_a_gpu_without_the_rate_says_so(show: Any, resnet: Json) -> None:
    page = show(resnet, "gpu=t4&precision=fp8")
    assert "No fp8 ceiling is known" in page.locator("#banners").inner_text()
    assert page.locator('[data-tile="bound"] dd').first.inner_text() == "\N{EN DASH}"


def test_exports_hold_the_rows_in_view(show: Any, resnet: Json, tmp_path: Any) -> None:
    page = show(resnet, "layout=flat&query=layer2.0")
    found = {}
    for kind in ("CSV", "LaTeX"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        file = tmp_path / kind
        download.value.save_as(file)
        found[kind] = file.read_text("utf-8")
    rows = list(csv.DictReader(found["CSV"].splitlines()))
    kernels = resnet["builds"][0]["variants"][0]["kernels"]
    expected = [row for row, name in enumerate(kernels["layer"]) if name.startswith("layer2.0")]
    assert [row["path"] for row in rows] == [kernels["layer"][row] for row in expected]
    assert [int(row["macs"]) for row in rows] == [kernels["macs"][row] for row in expected]
    assert found["LaTeX"].count("\\\\") == len(expected) + 1
    assert "layer2.0.conv1/conv & " in found["LaTeX"]


def test_the_address_holds_the_view(show: Any, resnet: Json) -> None:
    page = show(resnet)
    page.get_by_role("searchbox", name="Filter").fill("conv2")
    page.locator("#gpu").select_option("l4")
    page.get_by_role("tab", name="Charts").click()
    address = page.url
    again = show(resnet, address.partition("#")[2])
    assert again.get_by_role("searchbox", name="Filter").input_value() == "conv2"
    assert again.locator("#gpu").input_value() == "l4"
    assert again.get_by_role("tab", name="Charts").get_attribute("aria-selected") == "true"


def test_a_selection_links_tree_charts_and_graph(show: Any, resnet: Json) -> None:
    page = show(resnet, "view=charts")
    figure = page.locator("figure", has_text="Roofline")
    figure.locator(".point").nth(3).click()
    chosen = page.locator(".details dd").first.inner_text()
    assert chosen in resnet["builds"][0]["variants"][0]["kernels"]["layer"]
    assert figure.locator(".point.selected").count() == 1
    page.get_by_role("tab", name="Modules").click()
    selected = page.locator("#panel-modules [role=row][aria-selected=true]")
    assert selected.count() == 1
    assert chosen.endswith(selected.locator(".name").first.inner_text())
    page.get_by_role("button", name="Show in the graph").click()
    assert chosen in page.locator("#panel-graph .node.selected").get_attribute("aria-label")


def test_a_brush_filters_everything(show: Any, resnet: Json) -> None:
    page = show(resnet, "view=charts")
    overlay = page.locator("figure", has_text="Roofline").locator(".brush .overlay")
    overlay.scroll_into_view_if_needed()
    box = overlay.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=4)
    page.mouse.up()
    note = page.locator("#query-note").inner_text()
    assert "A brush in a chart is part of the filter" in note
    count = int(note.split()[0])
    page.get_by_role("tab", name="Modules").click()
    page.locator("#layout").select_option("flat")
    assert page.get_by_role("treegrid").get_attribute("aria-rowcount") == str(count + 1)


def test_a_trial_becomes_a_what_if(show: Any, resnet: Json) -> None:
    """A set that was measured shows its measurement; another is a prediction, and labelled so."""
    page = show(resnet, "view=charts")
    page.locator("figure", has_text="Trials of the search").locator(".point").last.click()
    page.get_by_role("button", name="Start the what-if from it").click()
    panel = page.get_by_label("What if", exact=True)
    assert "Measured (trial 0)" in panel.inner_text()
    found = resnet["builds"][0]["precision"]["sensitivities"]
    path = resnet["builds"][0]["modules"]["path"][found["module"][0]]
    page.get_by_role("checkbox", name=f"{path} in int8", exact=True).click()
    text = panel.inner_text()
    assert "Prediction" in text
    assert f"{found['rel_l2'][0]:.3g}" in text
    assert f'"{path}"' not in page.locator("#whatif-policy").text_content()


def test_the_policy_of_a_what_if_is_one_that_trtnet_reads(
    show: Any, resnet: Json, tmp_path: Any
) -> None:
    from trtnet.precision import Policy

    page = show(resnet, "view=precision&low=none")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save policy.toml").click()
    file = tmp_path / "policy.toml"
    download.value.save_as(file)
    policy = Policy.load(file)
    modules = resnet["builds"][0]["modules"]["path"]
    candidates = resnet["builds"][0]["precision"]["sensitivities"]["module"]
    assert policy.compute == "int8"
    assert set(policy.keep) == {modules[row] for row in candidates}
    assert set(policy.keep.values()) == {"fp16"}


def test_the_comparison_shows_what_changed(show: Any, compared: Json) -> None:
    page = show(compared, "view=comparison")
    modules = compared["comparison"]["modules"]
    changed = [
        path for path, status in zip(modules["path"], modules["status"], strict=True)
        if status != "equal"
    ]  # fmt: skip
    rows = page.locator("#panel-comparison [role=rowheader] .name")
    assert rows.all_inner_texts() == [path or "whole network" for path in changed]
    page.get_by_label("show also").check()
    assert rows.count() == len(modules["path"])


@pytest.mark.parametrize("view", VIEWS)
def test_absent_data_is_said_in_a_sentence(view: str, show: Any) -> None:
    from trtnet import explorer

    page = show(explorer.write("lenet5"), f"view={view}")
    assert page.locator(f"#panel-{view}").inner_text().strip()


def test_keys_reach_everything(show: Any, resnet: Json) -> None:
    page = show(resnet, "depth=1")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(
            "document.activeElement.id || document.activeElement.getAttribute('role') "
            "|| document.activeElement.textContent"
        ))  # fmt: skip
        if "treegrid" in reached:
            break
    assert {"gpu", "precision", "rate", "theme", "tab-modules", "query", "CSV"} <= reached
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".details dd").first.inner_text() == "conv1"
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{active}.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(f"{active}.getAttribute('aria-level')") == "3"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(f"{active}.getAttribute('aria-expanded')") == "false"
    page.locator("#tab-modules").focus()
    for view in VIEWS[1:]:
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{view}"
        assert page.locator(f"#panel-{view}").is_visible()


def test_keys_move_between_marks_of_a_chart(show: Any, resnet: Json) -> None:
    page = show(resnet, "view=charts")
    chart = page.get_by_role("listbox", name="Roofline")
    chart.focus()
    for key in ("Home", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert (
        page.locator(".details dd").first.inner_text()
        in (resnet["builds"][0]["variants"][0]["kernels"]["layer"])
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Roofline as an SVG file").click()
    text = download.value.path().read_text("utf-8")
    assert text.startswith("<svg")
    assert "rgb(" in text


DEPENDS_ON_COLOURS = {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]}


@pytest.mark.parametrize(
    ("theme", "width", "rules"), [("light", 1440, None), ("dark", 390, DEPENDS_ON_COLOURS)]
)
def test_axe_finds_nothing(
    theme: str,
    width: int,
    rules: Json | None,
    show: Any,
    resnet: Json,
    compared: Json,
    violations: Any,
) -> None:
    options = {"color_scheme": theme, "viewport": {"width": width, "height": 844}}
    page = show({**resnet, "comparison": None}, "selected=m:layer1.0", **options)
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        assert not violations(page, rules)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    page = show(compared, "view=comparison", **options)
    assert not violations(page, rules)


def test_print_shows_the_rows_without_the_controls(show: Any, resnet: Json) -> None:
    page = show(resnet, "depth=all")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator("#query").is_visible()
    rows = page.locator("#panel-modules .paper tbody tr").count()
    assert rows == int(page.locator(".grid").first.get_attribute("aria-rowcount")) - 1
