"""The page of a certificate, whose style is the explorer's, in a real browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.certify.certificate import load
from trtnet.certify.page import page
from trtnet.certify.schema import CaseResult, Certificate, TensorResult

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script><script>1</script>" + "x" * 300
FOLDER = Path(__file__).parents[3] / "benchmarks" / "certificates"


@pytest.fixture(scope="module")
def shown() -> Certificate:
    """A real certificate, with one case in each state; their reasons are invented."""
    found = load(next(FOLDER.glob("*.json")))
    first, second, *others = found.cases
    wrong = dataclasses.replace(first.tensors[2], passed=False, error="relative L2 0.2")
    tensors = [*first.tensors[:2], wrong, *first.tensors[3:]]
    changed: list[CaseResult] = [
        dataclasses.replace(first, state="differs", reason=HOSTILE, tensors=tensors),
        dataclasses.replace(second, state="refused", reason="no runners", tensors=[]),
        dataclasses.replace(others[0], state="failed", reason=HOSTILE, tensors=[]),
        dataclasses.replace(others[1], state="built", reason="no GPU", tensors=[]),
        dataclasses.replace(others[2], state="not run", reason="fp8", tensors=[], types=[]),
    ]
    return dataclasses.replace(found, cases=[*changed, *others[3:]])


@pytest.fixture
def open_certificate(show_page: Any, shown: Certificate) -> Callable[..., Any]:
    return lambda **options: show_page(page(shown), **options)


def first_tensor(case: CaseResult) -> TensorResult:
    found = case.first_difference
    assert found is not None
    return found


def test_a_cell_shows_its_cases(open_certificate: Any, shown: Certificate) -> None:
    opened = open_certificate()
    case = shown.cases[0]
    kind = first_tensor(case).type
    cell = opened.get_by_role("button", name=f"{kind} in {case.precision}: differs")
    cell.focus()
    opened.keyboard.press("Enter")
    wanted = [one for one in shown.cases if one.precision == case.precision and kind in one.types]
    visible = opened.locator("details.case:visible")
    assert visible.count() == len(wanted)
    assert f"with {kind}" in opened.locator("#query-note").inner_text()
    summary = visible.first.locator("summary")
    summary.focus()
    opened.keyboard.press("Enter")
    content = visible.first.locator(".content")
    assert f"First tensor beyond its limit: {first_tensor(case).tensor}" in content.inner_text()
    assert content.locator("tbody tr").count() == len(case.tensors)
    opened.get_by_role("button", name="Clear").click()
    assert opened.locator("details.case:visible").count() == len(shown.cases)


def test_filters_and_counts(open_certificate: Any, shown: Certificate) -> None:
    opened = open_certificate()
    counts = shown.counts()
    tiles = dict(zip(
        opened.locator(".tile dt").all_inner_texts(),
        opened.locator(".tile dd:nth-of-type(1)").all_inner_texts(), strict=True,
    ))  # fmt: skip
    assert tiles == {state: str(counts.get(state, 0)) for state in tiles}
    assert len(tiles) == 6
    opened.locator("#state").select_option("refused")
    assert opened.locator("details.case:visible").count() == 1
    opened.locator("#state").select_option("")
    opened.get_by_role("searchbox", name="Filter").fill("kv_cache")
    wanted = [case for case in shown.cases if "KV_CACHE_UPDATE" in case.types]
    assert opened.locator("details.case:visible").count() == len(wanted)
    timed = [case for case in shown.cases if case.timing]
    assert opened.locator("#times tbody tr").count() == len(timed) > 10


@pytest.mark.parametrize(
    ("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]
)
def test_axe_finds_nothing_and_nothing_overflows(
    theme: str, width: int, open_certificate: Any, violations: Any
) -> None:
    opened = open_certificate(color_scheme=theme, viewport={"width": width, "height": 844})
    for number in range(3):
        opened.locator("details.case > summary").nth(number).click()
    assert not violations(opened, None)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    elements = opened.evaluate(
        "[...document.body.querySelectorAll('*')].map((node) => node.tagName.toLowerCase())"
    )
    assert not {"img", "iframe"} & set(elements)
    assert "taken" not in opened.title()


def test_the_theme_is_chosen(open_certificate: Any) -> None:
    opened = open_certificate(color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(colour)
    opened.locator("#theme").select_option("dark")
    assert opened.evaluate(colour) != light
