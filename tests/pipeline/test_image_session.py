"""Which backend a model is built with for images, and for which
shapes."""

from __future__ import annotations

from typing import Any

import pytest

import trtnet
from trtnet.pipeline import Ability, image_session
from trtnet.pipeline.image_session import choose_backend, shapes_for_images


@pytest.mark.parametrize(
    ("able", "device", "wanted"),
    [
        ({"tensorrt", "rtx"}, "auto", "tensorrt"),
        ({"rtx"}, "auto", "rtx"),
        ({"rtx"}, "cuda:1", "rtx"),
        (set(), "auto", "torch"),
        ({"tensorrt", "rtx"}, "cpu", "torch"),
    ],
)
def test_tensorrt_where_it_can_run(
    able: set[str], device: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(able, monkeypatch)
    assert choose_backend("auto", device) == wanted


def test_without_a_gpu_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_session, "missing_gpu", lambda: "no GPU")
    monkeypatch.setattr(image_session, "abilities", None)  # it would import every TensorRT there is
    assert choose_backend("auto", "auto") == "torch"


def test_what_is_asked_for_or_why_not(monkeypatch: pytest.MonkeyPatch, raises: Any) -> None:
    with_gpu({"rtx"}, monkeypatch)
    assert choose_backend("rtx", "auto") == "rtx"
    assert choose_backend("torch", "cuda") == "torch"
    with raises(trtnet.BackendError, "tensorrt is missing", "fix: install it"):
        choose_backend("tensorrt", "auto")


def with_gpu(able: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, on which the TensorRTs in `able` can run."""
    found = [
        Ability(f"run {name}", "")
        if name in able
        else Ability(f"run {name}", "", f"{name} is missing", "install it")
        for name in ("tensorrt", "rtx")
    ]
    monkeypatch.setattr(image_session, "missing_gpu", lambda: None)
    monkeypatch.setattr(image_session, "abilities", lambda machine: found)


@pytest.mark.parametrize(
    ("sizes", "preprocessing", "declared", "profile"),
    [
        ([(64, 48)], {}, (1, 3, 48, 64), [(48, 64)] * 3),
        ([(64, 48), (64, 20)], {}, (1, 3, "H", 64), [(20, 64), (48, 64), (48, 64)]),
        (
            [(90, 30), (10, 80), (40, 40)],
            {},
            (1, 3, "H", "W"),
            [(30, 10), (40, 40), (80, 90)],
        ),
        ([(90, 30), (31, 62)], {"resize_size": [9, 7]}, (1, 3, 9, 7), [(9, 7)] * 3),
        ([(90, 30), (31, 62)], {"resize_size": [30]}, (1, 3, "H", "W"),
         [(30, 30), (60, 30), (60, 90)]),
        ([(90, 30), (31, 62)], {"resize_size": [30], "crop_size": [20]}, (1, 3, 20, 20),
         [(20, 20)] * 3),
        ([(30_000, 1), (64, 48)], {"resize_size": [480]}, (1, 3, 480, 640), [(480, 640)] * 3),
        ([], {}, (1, 3, 5, 6), [(5, 6)] * 3),  # the model's own
    ],
)  # fmt: skip
def test_shapes_for_the_images(
    sizes: list[tuple[int, int]],
    preprocessing: dict[str, Any],
    declared: tuple[int | str, ...],
    profile: list[tuple[int, int]],
) -> None:
    """The narrow image would become too large: it is refused later."""
    found = shapes_for_images((3, 5, 6), sizes, preprocessing)
    assert found.declared == declared
    (shapes,) = found.profiles
    assert [shapes.min, shapes.opt, shapes.max] == [(1, 3, *size) for size in profile]
