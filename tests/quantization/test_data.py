"""Calibration data from folders, files and memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

import trtnet
from trtnet import ShapeError, UsageError
from trtnet.quantization import calibrate, dataset

PREPROCESSING = {
    "resize_size": [20],
    "crop_size": [16],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
}


@pytest.fixture
def make_graph():
    def make(*inputs):
        net = trtnet.Network("rtx")
        for name, shape in inputs:
            net.output(f"{name}_out", trtnet.ops.relu(net.input(name, shape)))
        return trtnet.graph.read(net.definition)

    return make


@pytest.fixture
def graph(make_graph):
    return make_graph(("input", ("N", 3, 16, 16)))


@pytest.fixture
def folder(tmp_path):
    """Seven images of several sizes and kinds in three folders, and a file that is none."""
    random = np.random.default_rng(2)
    for i, name in enumerate(["b/1.png", "b/0.JPEG", "a/2.png", "a/3.bmp", "c.png", "d.png",
                              "a/0.png"]):  # fmt: skip
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (22 + i, 30 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert("L" if name == "c.png" else "RGB").save(path)
    (tmp_path / "images" / "README.txt").write_text("no image")
    return tmp_path / "images"


def test_images_are_prepared_like_torchvisions(folder, graph):
    batches = dataset(folder, graph, batch=3, preprocessing=PREPROCESSING)
    assert (batches.items, len(batches)) == (7, 3)
    got = [batch["input"] for batch in batches]
    assert [array.shape[0] for array in got] == [3, 3, 1]
    transform = ImageClassification(
        crop_size=16, resize_size=20, interpolation=InterpolationMode.BILINEAR
    )
    paths = sorted(path for path in folder.rglob("*") if path.suffix != ".txt" and path.is_file())
    expected = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    np.testing.assert_allclose(np.concatenate(got), expected.numpy(), rtol=0, atol=1e-5)


def test_the_same_every_time(folder, graph):
    batches = dataset(folder, graph, preprocessing=PREPROCESSING)
    for one, other in zip(batches, batches, strict=True):
        np.testing.assert_array_equal(one["input"], other["input"])


def test_a_bad_image_is_named(folder, graph, raises):
    (folder / "b" / "bad.png").write_bytes(b"\x89PNG no more")
    batches = dataset(folder, graph, preprocessing=PREPROCESSING)
    with raises(UsageError, "bad.png", "cannot be read as an image"):
        list(batches)


def test_images_of_different_sizes(folder, make_graph, raises):
    graph = make_graph(("input", ("N", 3, "H", "W")))
    batches = dataset(folder, graph, preprocessing={"mean": [0.0] * 3})
    with raises(ShapeError, "another size", "crop_size"):
        list(batches)


@pytest.mark.parametrize("stated", [{}, {"letterbox_size": 640}, PREPROCESSING])
@pytest.mark.parametrize("shape", [(3, 20, 12), (1, 16, 16)])
def test_images_are_fitted_to_the_input(folder, make_graph, stated, shape):
    graph = make_graph(("input", ("N", *shape)))
    (batch,) = dataset(folder, graph, preprocessing=stated)
    assert batch["input"].shape == (7, *shape)


def test_images_without_preprocessing(folder, graph, raises):
    with raises(UsageError, str(folder), "prepared", "--preprocess imagenet, or unit", ".npy"):
        dataset(folder, graph)


def test_images_for_two_inputs(folder, make_graph, raises):
    with raises(UsageError, "one input", "a, b"):
        dataset(folder, make_graph(("a", (1, 2)), ("b", (1, 2))), preprocessing=PREPROCESSING)


def test_an_empty_folder(tmp_path, graph, raises):
    with raises(UsageError, "no calibration data", str(tmp_path), ".png"):
        dataset(tmp_path, graph)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((10, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("kind", ["npy", "npz", "npz with the key 'input'", "array"])
def test_arrays(kind, array, tmp_path, make_graph):
    graph = make_graph(("image", ("N", 3, 16, 16)))
    path = tmp_path / f"data.{kind[:3]}"
    if kind == "npy":
        np.save(path, array)
    elif kind.startswith("npz"):
        np.savez(path, **{"input" if "key" in kind else "image": array, "labels": np.arange(10)})
    batches = dataset(array if kind == "array" else path, graph, batch=4)
    got = [batch["image"] for batch in batches]
    assert [len(part) for part in got] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(got), array)
    assert calibrate(graph, ["image"], batches).items == 10


def test_several_inputs_from_one_file(tmp_path, make_graph):
    graph = make_graph(("a", ("N", 2)), ("b", ("N", 3)))
    np.savez(tmp_path / "x.npz", a=np.ones((5, 2), "f4"), b=np.zeros((5, 3), "f4"))
    (batch,) = dataset(tmp_path / "x.npz", graph)
    assert {name: part.shape for name, part in batch.items()} == {"a": (5, 2), "b": (5, 3)}
    np.savez(tmp_path / "y.npz", a=np.ones((5, 2), "f4"), b=np.zeros((4, 3), "f4"))
    with pytest.raises(ShapeError, match="different numbers of items"):
        dataset(tmp_path / "y.npz", graph)


def test_a_limit_is_spread_evenly(array, graph):
    batches = dataset(array, graph, limit=4)
    assert batches.items == 4
    (batch,) = batches
    np.testing.assert_array_equal(batch["input"], array[[0, 2, 5, 7]])
    assert dataset(array, graph, limit=99).items == 10


def test_a_fixed_batch_takes_whole_batches(array, make_graph, raises):
    batches = dataset(array, make_graph(("input", (4, 3, 16, 16))), batch=7)
    assert (batches.items, [len(batch["input"]) for batch in batches]) == (8, [4, 4])
    with raises(UsageError, "less than one batch", "at least 16", "10"):
        dataset(array, make_graph(("input", (16, 3, 16, 16))))


def test_an_iterable_is_given_back(graph, array):
    batches = [array]
    assert dataset(batches, graph) is batches


@pytest.mark.parametrize("options", [{"batch": 0}, {"limit": 0}, {"batch": -2}])
def test_impossible_amounts(graph, array, raises, options):
    with raises(UsageError, "impossible amount", "1 or more"):
        dataset(array, graph, **options)


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), ()])
def test_an_empty_array(graph, tmp_path, raises, shape):
    np.save(tmp_path / "empty.npy", np.zeros(shape, np.float32))
    with raises(UsageError, "no calibration data", "empty.npy"):
        dataset(tmp_path / "empty.npy", graph)


@pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
@pytest.mark.parametrize("content", [b"", b"no array at all", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_damaged_files(graph, tmp_path, raises, name, content):
    (tmp_path / name).write_bytes(content)
    with raises(UsageError, name, "cannot be read", "numpy.save"):
        dataset(tmp_path / name, graph)


def test_objects_are_refused(graph, tmp_path, raises):
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    with raises(UsageError, "objects.npy", "cannot be read"):
        dataset(tmp_path / "objects.npy", graph)


def test_a_file_without_the_input(graph, tmp_path, raises):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with raises(UsageError, "other.npz", "input", "images"):
        dataset(tmp_path / "other.npz", graph)


def test_no_such_file(graph, tmp_path, raises):
    with raises(UsageError, "nothing.txt", "a folder of images", "check the path"):
        dataset(tmp_path / "nothing.txt", graph)
