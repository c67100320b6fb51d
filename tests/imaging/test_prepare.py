"""Images as networks take them, against torchvision's own presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.imaging import image_mode, load_image, placement, prepare, prepared_size

PREPROCESSING = {
    "resize_size": [9],
    "crop_size": [8],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
}


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), np.uint8)


def torchvision_preset(image: Image.Image, preprocessing: Mapping[str, Any]) -> np.ndarray:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(
        crop_size=0,
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        interpolation=InterpolationMode(preprocessing["interpolation"]),
    )
    preset.resize_size, preset.crop_size = preprocessing["resize_size"], preprocessing["crop_size"]
    return preset(image)[None].numpy()


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (9, 9), (9, 30), (5, 7)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"interpolation": "bicubic"},
        {"interpolation": "nearest"},
        {"resize_size": [32], "crop_size": [27]},
        {"resize_size": [12, 17], "crop_size": [10, 14]},
        {"crop_size": [16]},  # larger than the image: torchvision pads
        {"resize_size": [8], "crop_size": [11, 5]},
    ],
)
def test_classification_presets(tmp_path: Path, size: tuple[int, int], changes: dict) -> None:
    preprocessing = {**PREPROCESSING, **changes}
    image = Image.fromarray(noise(*size, 3))
    image.save(tmp_path / "a.png")
    got = load_image(tmp_path / "a.png", preprocessing)
    want = torchvision_preset(image, preprocessing)
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert got.shape[2:] == prepared_size(image.size, preprocessing)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(37, 50), (50, 37), (1, 9), (64, 65)])
@pytest.mark.parametrize("resize", [9, 64, None])
def test_segmentation_presets(size: tuple[int, int], resize: int | None) -> None:
    """They resize, or not, and do not crop."""
    from torchvision.transforms._presets import SemanticSegmentation

    image = Image.fromarray(noise(*size, 3))
    sizes = {"resize_size": None if resize is None else [resize], "crop_size": None}
    want = SemanticSegmentation(resize_size=resize)(image)[None].numpy()
    got = prepare(image, PREPROCESSING | sizes)
    assert got.shape[2:] == prepared_size(image.size, PREPROCESSING | sizes)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_a_network_of_one_channel_gets_grey(tmp_path: Path) -> None:
    about, pixels = {"mean": [0.25], "std": [0.5]}, noise(12, 10)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a.png")
    assert image_mode(about) == "L"
    got = load_image(tmp_path / "a.png", about)
    np.testing.assert_allclose(got, (pixels[None, None] / 255 - 0.25) / 0.5, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"interpolation": "sinc"}, "interpolation is one of nearest, nearest-exact, bilinear"),
        ({"interpolation": 3}, "wrong value at interpolation\n  expected: string\n  got: 3"),
        ({"mean": [0, 0]}, "mean has 2 values, channels rgb has 3"),
        ({"mean": [0, 0, float("nan")]}, "wrong value at mean[2]\n  expected: float >= -1000000.0"),
        ({"std": [0, 1, 1]}, "wrong value at std[0]\n  expected: float >= 1e-06\n  got: 0"),
        ({"crop_size": ["a"]}, "wrong value at crop_size[0]\n  expected: int\n  got: 'a'"),
        ({"crop_size": [100_000]}, "the crop has more than 100 megapixels"),
        ({"crop_size": [1, 2, 3]}, "wrong value at crop_size\n  expected: array of length <= 2"),
        ({"resize_size": "large"}, "wrong value at resize_size\n  expected: int | array | null"),
        ({"resize_size": [-4]}, "wrong value at resize_size[0]\n  expected: int >= 1\n  got: -4"),
    ],
)
def test_an_odd_preprocessing_is_refused(
    tmp_path: Path, changes: Any, text: str, raises: Any
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(9, 9, 3)).save(path)
    with raises(trtnet.PlanError, "the preprocessing cannot be used: ", text, "as .npy"):
        load_image(path, {**PREPROCESSING, **changes})
    with raises(trtnet.PlanError, text):
        prepared_size((9, 9), {**PREPROCESSING, **changes})


def test_a_narrow_image_is_not_blown_up(raises: Any) -> None:
    with raises(trtnet.UsageError, "too large", "30000 x 1, resized to 15600000 x 520"):
        prepare(Image.new("RGB", (30_000, 1)), {"resize_size": [520]})
    with raises(trtnet.UsageError, "too large"):
        prepared_size((1, 30_000), {"resize_size": [520]})


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (50, 50), (480, 640), (37, 400), (301, 97)])
@pytest.mark.parametrize(("least", "most"), [(64, 96), (80, 133), (800, 1333), (30, 50)])
def test_torchvisions_detectors(size: tuple[int, int], least: int, most: int) -> None:
    """Resized without antialiasing and rounding, padded to a multiple of 32, and boxes back."""
    import torch
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms.functional import pil_to_tensor

    about = {
        "resize_size": [least], "max_size": most, "size_divisor": 32, "antialias": False,
        "rounding": False, "mean": PREPROCESSING["mean"], "std": PREPROCESSING["std"],
    }  # fmt: skip
    image = Image.fromarray(noise(*size, 3))
    transform = GeneralizedRCNNTransform(least, most, about["mean"], about["std"]).eval()
    values = pil_to_tensor(image).float() / 255
    wanted, _ = transform([values])
    got, placed = prepare(image, about), placement(image.size, about)
    assert placed.resized == tuple(wanted.image_sizes[0])
    assert placed.size == got.shape[2:] == tuple(wanted.tensors.shape[2:])
    # A position near 400 is rounded to 3e-5, and noise changes by up to 4 from pixel to pixel.
    np.testing.assert_allclose(got, wanted.tensors.numpy(), rtol=0, atol=1e-4)
    height, width = placed.resized
    boxes = np.random.default_rng(0).uniform(0, [width, height] * 2, (9, 4)).astype(np.float32)
    found = [{"boxes": torch.from_numpy(boxes)}]
    back = transform.postprocess(found, wanted.image_sizes, [size])[0]["boxes"].numpy()
    np.testing.assert_allclose(placed.to_image(boxes), back, rtol=1e-6)


def test_torchvisions_detectors_of_a_fixed_size() -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms.functional import pil_to_tensor

    about = {"resize_size": [48, 48], "antialias": False, "rounding": False, "mean": 0.5}
    for size in ((40, 60), (100, 48), (48, 48)):
        image = Image.fromarray(noise(*size, 3))
        transform = GeneralizedRCNNTransform(48, 48, [0.5] * 3, [1.0] * 3, 1, (48, 48)).eval()
        wanted = transform([pil_to_tensor(image).float() / 255])[0].tensors
        np.testing.assert_allclose(prepare(image, about), wanted.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"resize_size": [9, 9], "max_size": 12}, "max_size needs resize_size = the shorter edge"),
        ({"size_divisor": 32}, "size_divisor excludes crop_size and letterbox_size"),
        ({"rounding": False}, "rounding = false is for bilinear and bicubic, antialias = false"),
        ({"rounding": False, "antialias": False}, "rounding = false is without a crop"),
    ],
)
def test_what_does_not_go_together(changes: dict, text: str) -> None:
    with pytest.raises(trtnet.TrtnetError, match=text):
        prepare(Image.new("RGB", (9, 9)), {**PREPROCESSING, **changes})
