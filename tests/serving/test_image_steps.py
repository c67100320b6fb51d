"""The steps around an engine, with a double of Triton's backend; the server itself is in
tests/integration."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.serving.triton import Settings, export
from trtnet.serving.triton.image_steps import PaintClasses, PlaceBoxes, PrepareImages

Image = pytest.importorskip("PIL.Image")


def opened(step: Any, folder: Path, inputs: list[str], outputs: dict[str, list[int]]) -> Any:
    config = {
        "max_batch_size": 8,
        "input": [{"name": name, "dims": [1]} for name in inputs],
        "output": [{"name": name, "dims": dims} for name, dims in outputs.items()],
    }
    step.initialize({
        "model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1",
        "model_name": folder.name, "model_instance_kind": "CPU", "model_instance_device_id": "0",
    })  # fmt: skip
    return step


def encoded(*sizes: tuple[int, int]) -> np.ndarray:
    """Pictures (width, height) of one colour."""
    found = np.empty((len(sizes), 1), object)
    for place, size in enumerate(sizes):
        file = io.BytesIO()
        Image.new("RGB", size, (255, 0, 51)).save(file, "PNG")
        found[place, 0] = file.getvalue()
    return found


def detector(free: bool) -> trtnet.Plan:
    """One box for each image, in inputs of one size or of several."""
    net = trtnet.Network(backend="torch")
    edges = ("H", "W") if free else (8, 8)
    images = net.input("input", ("N", 3, *edges))
    net.input("image_sizes", ("N", 2), dtype="int32")
    level = images.mean((1, 2, 3)).reshape(-1, 1, 1)
    corners = level * 0.0 + net.constant(np.float32([[[2, 2, 6, 4]]]))
    net.output("detections", trtnet.cat([corners, level, level * 0.0 + 1.0], 2))
    low, high = ((4, 4), (64, 64)) if free else ((8, 8), (8, 8))
    profile = {
        "input": trtnet.Shapes((1, 3, *low), (1, 3, *low), (8, 3, *high)),
        "image_sizes": trtnet.Shapes((1, 2), (1, 2), (8, 2)),
    }
    rules = {"resize_size": [4]} if free else {"letterbox_size": 8, "pad_position": "top-left"}
    return trtnet.build(net, profile, sidecar={"preprocessing": rules, "class_names": ["a", "b"]})


def test_images_become_inputs_with_their_places(tmp_path: Path, backend: Any) -> None:
    export(detector(free=False), tmp_path, Settings("net", ensemble=True))
    assert "model_warmup" not in (tmp_path / "net" / "config.pbtxt").read_text()
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    names = ["input", "image_sizes", "placement"]
    (response,) = step.execute([backend.Request(names, image=encoded((16, 8), (8, 8)))])
    arrays = response.arrays
    assert arrays["input"].shape == (2, 3, 8, 8)
    np.testing.assert_allclose(arrays["input"][0, :, 0, 0], [1, 0, 0.2], atol=1e-6)
    assert arrays["image_sizes"].tolist() == [[4, 8], [8, 8]]
    assert arrays["placement"].tolist()[0] == [8, 16, 4, 8, 0, 0, 8, 8]
    answer = opened(PlaceBoxes(), tmp_path / "net_answer", ["detections", "placement"],
                    {"scores": [1]})  # fmt: skip
    rows = np.float32([[[2, 2, 6, 4, 0.5, 1]], [[0, 0, 0, 0, 0, -1]]])
    given = backend.Request(["num_dets", "boxes", "class_names"], detections=rows,
                            placement=arrays["placement"])  # fmt: skip
    (response,) = answer.execute([given])
    assert response.arrays["num_dets"].tolist() == [[1], [0]]
    assert response.arrays["boxes"].tolist() == [[[4, 4, 12, 8]], [[0, 0, 0, 0]]]
    assert response.arrays["class_names"].tolist() == [[b"b"], [b""]]


def test_images_of_several_sizes_are_several_requests(tmp_path: Path, backend: Any) -> None:
    export(detector(free=True), tmp_path, Settings("net", ensemble=True))
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    sizes = [((8, 8), (16, 16)), ((16, 8),), ((8, 8), (16, 8))]
    requests = [backend.Request(["input"], image=encoded(*each)) for each in sizes]
    same, wide, mixed = step.execute(requests)
    assert same.arrays["input"].shape == (2, 3, 4, 4)
    assert wide.arrays["input"].shape == (1, 3, 4, 8)
    assert "inputs of different sizes" in mixed.error


def test_an_engine_may_take_levels_and_normalise_them_itself(tmp_path: Path, backend: Any) -> None:
    net = trtnet.Network(backend="torch")
    levels = net.input("input", ("N", 3, 8, 8), dtype="uint8").to(trtnet.float32)
    net.output("scores", (levels / 255.0 - 0.5).mean((2, 3)))
    shapes = {"input": trtnet.Shapes((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))}
    raw = {"resize_size": [8, 8], "scale": 1}
    built = trtnet.build(net, shapes, sidecar={"preprocessing": raw})
    export(built, tmp_path, Settings("net", ensemble=True))
    assert "TYPE_UINT8" in (tmp_path / "net_prepare" / "config.pbtxt").read_text()
    step = opened(PrepareImages(), tmp_path / "net_prepare", ["image"], {})
    (response,) = step.execute([backend.Request(["input"], image=encoded((16, 8)))])
    values = response.arrays["input"]
    assert values.dtype == np.uint8
    with trtnet.Session(built, device="cpu") as session:
        np.testing.assert_allclose(session(values)["scores"], [[0.5, -0.5, -0.3]], atol=1e-6)
    for changes in ({"scale": "1/255"}, {"mean": 3}, {"std": 2}):
        about = {**built.sidecar, "preprocessing": {**raw, **changes}}
        with pytest.raises(trtnet.UsageError, match="normalises them itself"):
            export(trtnet.Plan(built.engine, about), tmp_path / "r", Settings("n", ensemble=True))


def test_a_pixel_without_a_class_is_an_error(
    tmp_path: Path, backend: Any, plan: Callable[..., trtnet.Plan]
) -> None:
    export(plan(), tmp_path, Settings("means", ensemble=True))
    step = opened(PaintClasses(), tmp_path / "means_answer", ["classes", "placement"],
                  {"mask": [1], "shares": [3]})  # fmt: skip
    places = np.int32([[2, 2, 2, 2, 0, 0, 2, 2]])
    good, wrong = step.execute([
        backend.Request(["shares"], classes=np.int32([[[0, 1], [2, most]]]), placement=places)
        for most in (2, 3)
    ])  # fmt: skip
    assert good.arrays["shares"].tolist() == [[0.25, 0.25, 0.5]]
    assert "a pixel has no class" in wrong.error
