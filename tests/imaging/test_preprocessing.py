"""Every entry of a preprocessing against an oracle: torchvision's transforms, or PyTorch itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

import trtnet
from trtnet.imaging import image_mode, placement, prepare, prepared_size
from trtnet.imaging.preprocessing import KEYS, Preprocessing, checked_preprocessing
from trtnet.imaging.presets import PRESETS, load_preprocessing

SIZES = [(37, 50), (50, 37), (16, 16), (1, 9), (64, 200)]


def picture(height: int, width: int) -> Image.Image:
    random = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))


def levels(image: Image.Image) -> torch.Tensor:
    """(1, channels, height, width), from 0 to 255."""
    return v2.functional.pil_to_tensor(image)[None].float()


def letterboxed(
    image: Image.Image, box: tuple[int, int], color: Any, *, corner: bool, enlarges: bool
) -> np.ndarray:
    """Of PyTorch alone: resized with rounding to 8 bits, then put on a canvas."""
    pixels = levels(image)
    height, width = pixels.shape[2:]
    ratio = min(box[0] / height, box[1] / width)
    if not enlarges and ratio > 1:
        ratio = 1.0
    size = max(round(height * ratio), 1), max(round(width * ratio), 1)
    small = torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
    canvas = torch.tensor(color, dtype=torch.float32).reshape(1, -1, 1, 1).repeat(1, 1, *box)
    top, left = ((box[i] - size[i]) // 2 for i in (0, 1)) if not corner else (0, 0)
    canvas[:, :, top : top + size[0], left : left + size[1]] = small.round().clamp(0, 255)
    return canvas.numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("box", [(32, 32), (24, 40), (80, 80)])
@pytest.mark.parametrize("corner", [False, True])
@pytest.mark.parametrize("enlarges", [False, True])
def test_a_letterbox(
    size: tuple[int, int], box: tuple[int, int], corner: bool, enlarges: bool
) -> None:
    image = picture(*size)
    rules = {
        "letterbox_size": list(box),
        "pad_color": [10, 20, 30],
        "pad_position": "top-left" if corner else "center",
        "upscale": enlarges,
        "antialias": False,
        "scale": 1,
    }
    got = prepare(image, rules)
    wanted = letterboxed(image, box, (10, 20, 30), corner=corner, enlarges=enlarges)
    assert got.shape == wanted.shape == (1, 3, *prepared_size(image.size, rules))
    assert np.abs(got - wanted).max() <= 1  # rounding of a half
    assert (got != wanted).mean() < 0.03


def test_points_there_and_back() -> None:
    """A mark in the image is where the record says, in every kind of preprocessing."""
    for rules in (
        {"letterbox_size": [64, 96]},
        {"letterbox_size": 64, "pad_position": "top-left"},
        {"resize_size": 40, "crop_size": [32, 36]},
        {"resize_size": [48, 30]},
        {"resize_size": [48, 30], "resize_mode": "cover", "crop_size": [48, 30]},
        {"crop_size": 200},
        {},
    ):
        for width, height in ((120, 90), (50, 77)):
            image = Image.new("RGB", (width, height))
            x, y = width // 2 + 2, height // 2 - 3
            image.paste((255, 255, 255), (x - 2, y - 2, x + 2, y + 2))  # centred at (x, y)
            placed = placement(image.size, rules)
            black = {"pad_color": 0} if "letterbox_size" in rules else {}
            got = prepare(image, {**rules, **black})[0, 0]
            assert got.shape == placed.size
            rows, columns = np.indices(got.shape) + 0.5
            centre = [(axis * got).sum() / got.sum() for axis in (columns, rows)]
            assert np.abs(placed.to_input([x, y]) - centre).max() < 0.05
            assert np.abs(placed.to_image(centre) - [x, y]).max() < 0.1
            boxes = np.random.default_rng(1).uniform(0, 50, (5, 2, 4))
            np.testing.assert_allclose(placed.to_image(placed.to_input(boxes)), boxes, atol=1e-9)


def test_points_have_two_or_four_numbers(raises: Any) -> None:
    with raises(trtnet.UsageError, "no points", "(x, y)", "(3,)"):
        placement((9, 9), {}).to_image([1, 2, 3])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(37, 50), (9, 70), (64, 64)])
def test_without_antialiasing(mode: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    got = prepare(image, {"resize_size": [31, 44], "interpolation": mode, "antialias": False,
                          "scale": 1})  # fmt: skip
    wanted = v2.functional.resize(
        levels(image), [31, 44], interpolation=InterpolationMode(mode), antialias=False
    )
    assert np.abs(got - wanted.round().clamp(0, 255).numpy()).max() <= 1


def test_antialiasing_is_pillows() -> None:
    image = picture(90, 70)
    wanted = levels(v2.functional.resize(image, [20, 20])).numpy()
    np.testing.assert_array_equal(prepare(image, {"resize_size": [20, 20], "scale": 1}), wanted)
    plain = prepare(image, {"resize_size": [20, 20], "scale": 1, "antialias": False})
    assert np.abs(plain - wanted).mean() > 5
    for old in ("warn", True):  # torchvision's former default means the same on images
        rules = {"resize_size": [20, 20], "scale": 1, "antialias": old}
        np.testing.assert_array_equal(prepare(image, rules), wanted)


@pytest.mark.parametrize("size", [(37, 50), (50, 37), (20, 90)])
def test_cover(size: tuple[int, int]) -> None:
    """A square is torchvision's shorter edge; a rectangle is covered, and in proportion."""
    image = picture(*size)
    square = prepare(image, {"resize_size": [24, 24], "resize_mode": "cover"})
    np.testing.assert_array_equal(square, prepare(image, {"resize_size": 24}))
    for want in ((48, 30), (30, 48)):
        got = prepared_size(image.size, {"resize_size": want, "resize_mode": "cover"})
        ratio = max(want[0] / size[0], want[1] / size[1])
        assert got >= want
        assert got[1] >= want[1]
        assert np.abs(np.array(got) - ratio * np.array(size)).max() < 1


def test_crops_that_are_not_square() -> None:
    image = picture(70, 60)
    wanted = v2.functional.center_crop(image, [20, 50])
    got = prepare(image, {"crop_size": [20, 50], "scale": 1})
    np.testing.assert_array_equal(got, levels(wanted).numpy())


def test_channels() -> None:
    image = picture(12, 10)
    rgb = levels(image).numpy()
    gray = levels(v2.functional.rgb_to_grayscale(image)).numpy()
    np.testing.assert_array_equal(prepare(image, {"scale": 1, "channels": "rgb"}), rgb)
    np.testing.assert_array_equal(prepare(image, {"scale": 1, "channels": "bgr"}), rgb[:, ::-1])
    np.testing.assert_array_equal(prepare(image, {"scale": 1, "channels": "gray"}), gray)
    mean, std = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    got = prepare(image, {"scale": 1, "channels": "bgr", "mean": [1, 2, 3], "std": [4, 5, 6]})
    wanted = (rgb[:, ::-1] - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)  # of b, g and r
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("stated", "mode", "count"),
    [
        ({"mean": [0.5], "std": [0.5]}, "L", 1),  # as lenet5's weights have it
        ({"mean": [0.5]}, "L", 1),
        ({"mean": 0.5, "std": 0.5}, "RGB", 3),
        ({"mean": [0.5], "channels": "bgr"}, "RGB", 3),
        ({"mean": 0.5, "channels": "gray"}, "L", 1),
        ({}, "RGB", 3),
    ],
)
def test_one_channel_or_three(stated: dict[str, Any], mode: str, count: int) -> None:
    assert image_mode(stated) == mode
    assert prepare(picture(4, 5), stated).shape == (1, count, 4, 5)
    assert len(checked_preprocessing(stated).as_dict()["mean"]) == count


@pytest.mark.parametrize("scale", [1 / 255, "1/255", 1, 2, 1 / 127.5, "1/127.5", 0.5])
def test_scale(scale: Any) -> None:
    image = picture(12, 10)
    number = 1 / float(scale[2:]) if isinstance(scale, str) else scale
    wanted = (levels(image).double().numpy() * number - 0.25) / 0.5
    got = prepare(image, {"scale": scale, "mean": 0.25, "std": 0.5})
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "texts"),
    [
        ({"channel_order": "bgr"}, ["unknown key 'channel_order'", 'write channels: "rgb", "bgr"']),
        ({"rescale": True}, ["unknown key 'rescale'", "write scale; 1 for values from 0 to 255"]),
        ({"do_rescale": True}, ["write scale"]),
        ({"rescale_factor": 0.1}, ["write scale"]),
        ({"image_mean": [0.5]}, ["write mean"]),
        ({"image_std": [0.5]}, ["write std"]),
        ({"size": {"shortest_edge": 256}}, ["write resize_size: the shorter edge"]),
        ({"letterbox": 640}, ["write letterbox_size"]),
        ({"Resize": 256}, ["write resize_size"]),
        ({"resize_sise": 256}, ["did you mean resize_size"]),
        ({"means": [0.5]}, ["did you mean mean"]),
        ({"zzz": 1}, ["unknown key 'zzz'", "expected: resize_size, resize_mode, letterbox_size"]),
        ({"std": 0}, ["wrong value at std", "got: 0"]),
        ({"std": [1, 0, 1]}, ["wrong value at std[1]", "got: 0"]),
        ({"scale": 0}, ["scale is a number from 1e-9 to 1e6"]),
        ({"scale": "1/0"}, ["scale is a number from 1e-9 to 1e6"]),
        ({"scale": "a lot"}, ["wrong value at scale", "got: 'a lot'"]),
        ({"scale": True}, ["wrong value at scale"]),
        ({"channels": "rgba"}, ["channels", "rgba"]),
        ({"channels": "gray", "mean": [1, 2, 3]}, ["mean has 3 values, channels gray has 1"]),
        ({"mean": [1, 2, 3], "std": [1, 2]}, ["std has 2 values, channels rgb has 3"]),
        ({"pad_color": 300}, ["wrong value at pad_color", "got: 300"]),
        ({"pad_color": [1, 2]}, ["pad_color is one level, or red, green and blue"]),
        ({"pad_position": "left"}, ["pad_position", "left"]),
        ({"upscale": "no"}, ["wrong value at upscale", "true or false"]),
        ({"letterbox_size": 64, "resize_size": 64}, ["letterbox_size and resize_size exclude"]),
        ({"letterbox_size": 64, "crop_size": 64}, ["letterbox_size and crop_size exclude"]),
        ({"letterbox_size": [100_000]}, ["the letterbox has more than 100 megapixels"]),
        ({"resize_size": 9, "resize_mode": "cover"}, ["cover needs resize_size = [height, width]"]),
        ({"antialias": False, "interpolation": "lanczos"}, ["antialias = false is for nearest"]),
        (
            {"pad_color": 0, "resize_size": 64},
            [
                "pad_color has no effect: it is of a letterbox\n",
                "expected: letterbox_size beside it\n",
                "fix: add letterbox_size (--letterbox-size), or leave pad_color out",
            ],
        ),
        ({"pad_position": "top-left"}, ["pad_position has no effect: it is of a letterbox"]),
        ({"upscale": True, "crop_size": 9}, ["upscale has no effect: it is of a letterbox"]),
        (
            {"resize_mode": "stretch", "resize_size": 64},
            [
                "resize_mode has no effect: it is of a resize to a height and a width\n",
                "fix: add resize_size = [height, width] (--resize-size), or leave resize_mode out",
            ],
        ),
    ],
)
def test_what_is_refused(stated: dict[str, Any], texts: list[str], raises: Any) -> None:
    with raises(trtnet.PlanError, "the preprocessing cannot be used: ", *texts):
        checked_preprocessing(stated)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_canonical_form_means_the_same(preset: str) -> None:
    rules = PRESETS[preset]
    again = checked_preprocessing(rules.as_dict())
    assert again.as_dict() == rules.as_dict()
    assert str(again) == str(rules)
    assert set(rules.as_dict()) <= set(KEYS)
    np.testing.assert_array_equal(prepare(picture(30, 40), again), prepare(picture(30, 40), rules))


def test_imagenet_is_torchvisions() -> None:
    from torchvision.transforms._presets import ImageClassification

    image = picture(300, 401)
    wanted = ImageClassification(crop_size=224)(image)[None].numpy()
    np.testing.assert_allclose(prepare(image, PRESETS["imagenet"]), wanted, rtol=0, atol=1e-6)


def test_yolo_is_a_gray_letterbox() -> None:
    image = picture(120, 300)
    wanted = letterboxed(image, (640, 640), (114,) * 3, corner=False, enlarges=True) / 255
    assert np.abs(prepare(image, PRESETS["yolo"]) - wanted).max() < 1.01 / 255


@pytest.mark.parametrize(("preset", "ends"), [("unit", (0, 1)), ("symmetric", (-1, 1)),
                                              ("raw", (0, 255))])  # fmt: skip
def test_presets_without_a_size(preset: str, ends: tuple[float, float]) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1] = 255
    got = prepare(Image.fromarray(pixels), PRESETS[preset])
    assert (got.shape, got.min(), got.max()) == ((1, 3, 2, 3), *ends)


def test_a_table_of_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[preprocess]\nletterbox_size = [320, 192]\npad_color = [0, 0, 0]\nchannels = 'bgr'\n"
        "scale = '1/255'\nmean = 0.5\nstd = [0.1, 0.2, 0.3]\n[other]\nkey = 1\n"
    )
    assert load_preprocessing(path) == Preprocessing(
        letterbox_size=(320, 192), pad_color=(0, 0, 0), channels="bgr", scale="1/255", mean=0.5,
        std=(0.1, 0.2, 0.3),
    )  # fmt: skip
    assert str(load_preprocessing(path)) == (
        "letterbox 320x192, center, colour 0 (bilinear), bgr, scale 1/255, mean 0.5, "
        "std 0.1 0.2 0.3"
    )


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("[preprocess]\nmena = 1\n", ["mine.toml", "unknown key 'mena'", "did you mean mean?"]),
        ("[preprocess]\nstd = 0\n", ["mine.toml", "wrong value at std"]),
        ("[preproces]\nstd = 1\n", ["has no table [preprocess]", "got: 'preproces'"]),
        ("preprocess = 3\n", ["preprocess is no table"]),
        ("", ["has no table [preprocess]", "got: nothing"]),
        ("[preprocess\n", ["it is not TOML"]),
    ],
)
def test_a_bad_file(content: str, texts: list[str], tmp_path: Path, raises: Any) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with raises(trtnet.UsageError, *texts):
        load_preprocessing(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("imagnet", ["no preprocessing called 'imagnet'", "did you mean imagenet?"]),
        ("none", ["expected: imagenet, yolo, symmetric, unit, raw, or a .toml file"]),
        ("missing.toml", ["no file missing.toml", "write a table [preprocess]"]),
    ],
)
def test_no_such_preprocessing(text: str, texts: list[str], raises: Any) -> None:
    with raises(trtnet.UsageError, *texts):
        load_preprocessing(text)
