"""A preprocessing for the input of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

import trtnet
from trtnet.imaging import prepare
from trtnet.imaging.fitting import EdgeRange, ImageInput, differences, fitted
from trtnet.imaging.preprocessing import checked_preprocessing
from trtnet.imaging.presets import PRESETS

IMAGENET = PRESETS["imagenet"]


def picture(width: int, height: int) -> Image.Image:
    """Smooth, so that a shift by less than a pixel changes little."""
    pixels = np.random.default_rng(width).integers(0, 256, (5, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def prepared(image: Image.Image, stated: Any, taken: ImageInput) -> np.ndarray:
    return prepare(image, fitted(stated, taken, image.size))


@pytest.mark.parametrize("edge", [32, 112, 224, 320, 299])
def test_a_square_input_keeps_torchvisions_ratio(edge: int) -> None:
    """256 / 224 of the input, as torchvision's presets of other sizes are called."""
    from torchvision.transforms._presets import ImageClassification

    image = picture(500, 400)
    got = prepared(image, IMAGENET, ImageInput.exactly(3, edge, edge))
    wanted = ImageClassification(crop_size=edge, resize_size=round(edge * 256 / 224))(image)
    np.testing.assert_allclose(got, wanted[None].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(640, 384), (384, 640), (500, 500), (2000, 300), (30, 20)])
@pytest.mark.parametrize("wanted", [(320, 192), (192, 320)])
def test_an_input_that_is_not_square(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """The image covers the input with the margin of the square, in its own proportions."""
    image = picture(*size)
    rules = fitted(IMAGENET, ImageInput.exactly(3, *wanted), image.size)
    got = prepare(image, rules)
    assert got.shape == (1, 3, *wanted)
    margin = 256 / 224
    ratio = max(margin * wanted[0] / size[1], margin * wanted[1] / size[0])
    resized = v2.functional.resize(image, [round(ratio * size[1]), round(ratio * size[0])])
    cropped = v2.functional.center_crop(resized, list(wanted))
    values = v2.functional.pil_to_tensor(cropped).double().numpy() / 255
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (IMAGENET.means, IMAGENET.divisors))
    assert np.corrcoef(got.ravel(), ((values - mean) / std).ravel())[0, 1] > 0.98
    assert differences(IMAGENET, rules) == (
        f"resize_size 256 -> {round(margin * wanted[0])}x{round(margin * wanted[1])}, "
        f"resize_mode none -> cover, crop_size 224x224 -> {wanted[0]}x{wanted[1]}"
    )


@pytest.mark.parametrize(
    ("stated", "changed"),
    [
        ({"letterbox_size": 640}, {"letterbox_size": [320, 192]}),
        ({"resize_size": [8, 9]}, {"resize_size": [320, 192]}),
        ({"resize_size": 520}, {"resize_size": [320, 192]}),  # no pixel is lost
        ({}, {"resize_size": [320, 192]}),
        ({"crop_size": 100}, {"crop_size": [320, 192]}),
        (
            {"resize_size": [110, 120], "crop_size": [100, 100]},
            {"resize_size": [352, 230], "crop_size": [320, 192]},
        ),
        (
            {"resize_size": 440, "crop_size": [400, 240]},  # 11/6 of the shorter edge
            {"resize_size": [587, 352], "resize_mode": "cover", "crop_size": [320, 192]},
        ),
    ],
)
def test_every_way_gives_the_size_of_the_input(
    stated: dict[str, Any], changed: dict[str, Any]
) -> None:
    taken = ImageInput.exactly(3, 320, 192)
    got = fitted(stated, taken)
    wanted = checked_preprocessing({**stated, **changed})
    assert got.as_dict() == wanted.as_dict()
    assert fitted(got, taken) == got
    assert prepare(picture(90, 70), got).shape == (1, 3, 320, 192)


def test_nothing_changes_where_it_fits() -> None:
    assert fitted(IMAGENET, ImageInput.exactly(3, 224, 224)) is IMAGENET
    assert differences(IMAGENET, IMAGENET) == ""
    dynamic = ImageInput(3, EdgeRange(64, 512), EdgeRange(64, 512))
    assert fitted(IMAGENET, dynamic, (900, 30)) is IMAGENET


@pytest.mark.parametrize(
    ("stated", "size", "wanted"),
    [
        ({}, (100, 90), (90, 100)),
        ({}, (1024, 512), (128, 256)),  # halved, then halved
        ({}, (20, 30), (60, 40)),
        ({}, (2560, 20), (40, 256)),  # out of proportion: no other size is allowed
        ({"resize_size": 100}, (200, 300), (150, 100)),
        ({"resize_size": 200}, (200, 400), (256, 128)),
        ({"letterbox_size": 640}, (30, 30), (256, 256)),
        ({"letterbox_size": [20, 64]}, (30, 30), (40, 128)),
        ({"resize_size": 256, "crop_size": 224}, (30, 30), (224, 224)),
    ],
)
def test_a_range_of_sizes(
    stated: dict[str, Any], size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    taken = ImageInput(3, EdgeRange(40, 256), EdgeRange(40, 256))
    assert prepared(picture(*size), stated, taken).shape[2:] == wanted
    assert str(taken) == "3x40..256x40..256"


def test_multiples() -> None:
    taken = ImageInput(3, EdgeRange(30, 250, 32), EdgeRange(64, 64))
    assert [taken.height.nearest(edge) for edge in (1, 33, 100, 112, 999)] == [32, 32, 96, 128, 224]
    assert prepared(picture(60, 100), {}, taken).shape[2:] == (96, 64)


def test_one_channel_gets_gray() -> None:
    image = picture(60, 40)
    taken = ImageInput.exactly(1, 32, 32)
    gray = v2.functional.pil_to_tensor(v2.functional.rgb_to_grayscale(image)).numpy()[None] / 255
    rules = {"crop_size": 32, "mean": [0.1, 0.2, 0.6], "std": [0.5, 0.25, 0.75]}
    got = prepared(image, rules, taken)
    np.testing.assert_allclose(got, (gray[:, :, 4:36, 14:46] - 0.3) / 0.5, rtol=0, atol=1e-6)
    changes = differences(checked_preprocessing(rules), fitted(rules, taken))
    assert changes == "channels rgb -> gray, mean 0.1 0.2 0.6 -> 0.3, std 0.5 0.25 0.75 -> 0.5"


@pytest.mark.parametrize(
    ("channels", "stated", "texts"),
    [
        (4, {}, ["takes 4 channels, which no image has", ".npy"]),
        (3, {"mean": [0.5]}, ["makes gray images, and the network takes 3", "--channels rgb"]),
    ],
)
def test_channels_that_do_not_fit(
    channels: int, stated: dict[str, Any], texts: list[str], raises: Any
) -> None:
    with raises(trtnet.UsageError, *texts):
        fitted(stated, ImageInput.exactly(channels, 8, 8))


def test_a_detectors_image_keeps_its_proportions() -> None:
    """What is padded to a multiple is padded to an input of one size, and placed where it was."""
    stated = {"resize_size": [64], "max_size": 100, "size_divisor": 32, "antialias": False,
              "rounding": False, "mean": 0.5}  # fmt: skip
    image, taken = picture(90, 60), ImageInput.exactly(3, 64, 128)
    rules = fitted(stated, taken, image.size)
    assert rules.as_dict()["letterbox_size"] == [64, 128]
    got, free = prepare(image, rules), prepare(image, stated)
    assert free.shape == (1, 3, 64, 96)
    np.testing.assert_array_equal(got[..., :96], free)
    assert not got[..., 96:].any()
    several = ImageInput(3, EdgeRange(32, 128, 32), EdgeRange(32, 128, 32))
    assert fitted(stated, several, image.size) == checked_preprocessing(stated)
