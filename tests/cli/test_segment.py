"""``trtnet segment``."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet import weights
from trtnet.cli.main import main
from trtnet.imaging import palette

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs" / "images" / "shapes.png"
TRUTH = ROOT / "tests" / "data" / "segmentation" / "shapes_classes.png"
NAMES = ["red", "green", "blue"]
PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def brightest(output: str, size: Sequence[int | str] = ("H", "W"), **about: Any) -> trtnet.Plan:
    """An engine whose class of a pixel is its brightest channel."""
    net = trtnet.Network(backend="torch")
    x = net.input("input", (1, 3, *size))
    net.output(output, x.argmax(1).int() if output == "classes" else x * 1.0)
    sizes = trtnet.Shapes(min=(1, 3, 4, 4), opt=(1, 3, 64, 64), max=(1, 3, 200, 200))
    shapes = {"input": sizes} if "H" in size else None
    sidecar = {"preprocessing": PLAIN, "class_names": NAMES, **about}
    return trtnet.build(net, shapes, sidecar=sidecar)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> str:
    brightest("classes").save("brightest.engine")
    return "brightest.engine"


def picture(path: str, height: int = 30, width: int = 40, seed: int = 0) -> np.ndarray:
    """Noise in which no two channels of a pixel are equal; (height, width, 3)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 84, (height, width, 3)) * 3 + rng.permuted(
        np.broadcast_to(np.arange(3), (height, width, 3)), axis=2
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return pixels


def segment(target: str, *arguments: str) -> int:
    return main(["segment", target, *arguments, "--device", "cpu"])


def drawn(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("output", ["classes", "out"])
def test_an_engine(output: str, capsys: pytest.CaptureFixture) -> None:
    """Of class maps or of logits."""
    brightest(output).save("a.engine")
    wanted = picture("a.png").argmax(2)
    assert segment("a.engine", "--image", "a.png", "-o", "out.png") == 0
    np.testing.assert_array_equal(drawn("out.png"), wanted)
    text = capsys.readouterr().out
    assert "backend   torch on cpu" in text
    assert re.search(r"^a\.png +40 x 30 +\d+\.\d ms ", text, re.MULTILINE)
    assert "written   out.png" in text
    for index, name in enumerate(NAMES):
        assert f"{np.mean(wanted == index):8.2%}  {index:>5}  {name}\n" in text


@pytest.mark.parametrize("name", ["tutorial", "voc"])
def test_palettes(engine: str, name: str) -> None:
    wanted = picture("a.png").argmax(2)
    assert segment(engine, "--image", "a.png", "-o", "out.png", "--palette", name) == 0
    with Image.open("out.png") as image:
        colors = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colors, palette(name, 3)[wanted])


def test_overlay(engine: str) -> None:
    pixels = picture("a.png", 60, 90)
    assert segment(engine, "--image", "a.png", "-o", "out.png", "--overlay") == 0
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    half = (grey[..., None] + palette("tutorial", 3)[pixels.argmax(2)]) / 2
    picture_ = drawn("out.png")
    assert np.abs(picture_[:60, :90] - half).max() <= 1
    assert picture_.shape[0] > 60  # the legend


def test_a_preprocessing_is_followed_and_undone() -> None:
    """Resized for the network, and its classes back to the image's size."""
    preprocessing = {**PLAIN, "resize_size": [10], "interpolation": "nearest", "crop_size": [4]}
    brightest("classes", preprocessing=preprocessing).save("a.engine")
    pixels = picture("a.png", 20, 30)
    assert segment("a.engine", "--image", "a.png", "-o", "out.png") == 0
    small = Image.fromarray(pixels.astype(np.uint8)).resize((15, 10), Image.Resampling.NEAREST)
    wanted = np.asarray(small).argmax(2).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(drawn("out.png"), wanted)


@pytest.mark.parametrize(
    ("flags", "seen"),
    [([], (10, 15)), (["--no-resize"], (20, 30)), (["--size", "5x10"], (5, 10))],
)
def test_the_size_that_the_network_sees(flags: list[str], seen: tuple[int, int]) -> None:
    """Told by the classes, where only the nearest pixels are seen."""
    preprocessing = {**PLAIN, "resize_size": [10], "interpolation": "nearest"}
    brightest("classes", preprocessing=preprocessing).save("a.engine")
    pixels = picture("a.png", 20, 30)
    image = Image.fromarray(pixels.astype(np.uint8)).resize(seen[::-1], Image.Resampling.NEAREST)
    small = Image.fromarray(np.asarray(image).argmax(2).astype(np.uint8))
    assert segment("a.engine", "--image", "a.png", "-o", "out.png", *flags) == 0
    wanted = np.asarray(small.resize((30, 20), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(drawn("out.png"), wanted)


def test_an_engine_of_one_size_gets_images_of_that_size() -> None:
    brightest("classes", size=(12, 24)).save("a.engine")
    Image.fromarray(np.full((50, 50, 3), (9, 99, 9), np.uint8)).save("a.png")
    assert segment("a.engine", "--image", "a.png", "-o", "out.png") == 0
    np.testing.assert_array_equal(drawn("out.png"), np.ones((50, 50)))


def test_images_of_different_sizes_keep_their_order(
    engine: str, capsys: pytest.CaptureFixture
) -> None:
    sizes = [(30, 40), (5, 9), (100, 17), (30, 40), (64, 64)]
    names = [f"{letter}.png" for letter in "ebdac"]
    wanted = {
        name: picture(name, *size, seed=i).argmax(2)
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    }
    flags = [word for name in names for word in ("--image", name)]
    assert segment(engine, *flags, "-o", "out", "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert [image["file"] for image in report["images"]] == names
    assert [(i["height"], i["width"]) for i in report["images"]] == sizes
    for name, classes in wanted.items():
        np.testing.assert_array_equal(drawn(f"out/{name}"), classes)
    found = {c["class"]: c["share"] for c in report["images"][2]["classes"]}
    assert found == {i: np.mean(wanted["d.png"] == i) for i in range(3)}
    assert report["failed"] == []


def test_session_map_gives_maps_of_different_sizes_in_order(engine: str) -> None:
    rng = np.random.default_rng(4)
    arrays = [rng.random((1, 3, h, w), np.float32) for h, w in [(9, 30), (31, 8), (9, 30), (4, 4)]]
    with trtnet.Session(engine, device="cpu") as session:
        found = [result["classes"] for result in session.map(arrays)]
    for classes, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(classes, array.argmax(1))


def truncated() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    return file.getvalue()[:60]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"only words", "begins with b'only words'"),
        (truncated(), "cannot be read as an image"),
        (b"P6 20000 20000 255\n", "at most 100 megapixels"),
    ],
)
def test_a_folder_with_a_bad_file(
    engine: str, content: bytes, message: str, capsys: pytest.CaptureFixture
) -> None:
    wanted = {name: picture(f"in/{name}.png", seed=i).argmax(2) for i, name in enumerate("ac")}
    Path("in/b.jpg").write_bytes(content)
    Path("in/notes.txt").write_text("no image, and not called one")
    assert segment(engine, "--folder", "in", "-o", "out", "--json", "r.json") == 1
    captured = capsys.readouterr()
    assert "error: in/b.jpg" in captured.err
    assert message in captured.err
    assert "1 of 3 images failed" in captured.err
    assert "written   2 pictures in out\n" in captured.out
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png"]
    for name, classes in wanted.items():
        np.testing.assert_array_equal(drawn(f"out/{name}.png"), classes)
    report = json.loads(Path("r.json").read_text())
    assert [failed["file"] for failed in report["failed"]] == ["in/b.jpg"]


def test_one_bad_image(engine: str, capsys: pytest.CaptureFixture) -> None:
    Path("words.jpg").write_text("only words")
    assert segment(engine, "--image", "words.jpg") == 1
    assert "words.jpg cannot be read as an image" in capsys.readouterr().err
    assert not Path("segmented").exists()


def test_an_image_outside_every_profile(engine: str, capsys: pytest.CaptureFixture) -> None:
    """Is resized into it, and the map has the image's own size."""
    picture("large.png", 30, 402)
    picture("small.png")
    assert segment(engine, "--image", "large.png", "--image", "small.png") == 0
    assert "what comes out of 3x4..200x4..200 is resized into it" in capsys.readouterr().out
    assert drawn("segmented/large.png").shape == (30, 402)


def test_a_letterbox_is_undone(engine: str) -> None:
    """The border of a letterbox gets classes too, which no image has."""
    for height, width in ((40, 60), (60, 40)):
        red_above_blue = np.repeat(np.uint8([[255, 0, 0], [0, 0, 255]]), height // 2, 0)
        Image.fromarray(red_above_blue[:, None].repeat(width, 1)).save("a.png")
        flags = ("--letterbox-size", "120x120", "--pad-color", "0,255,0", "-o", "m.png")
        assert segment(engine, "--image", "a.png", *flags) == 0
        wanted = np.repeat([0, 2], height // 2)[:, None].repeat(width, 1)
        np.testing.assert_array_equal(drawn("m.png"), wanted)


def test_folders_keep_their_layout_and_names_stay_apart(engine: str) -> None:
    for name in ("x.png", "x.bmp", "sub/x.png", "sub/deep/y.ppm"):
        picture(f"in/{name}")
    for _ in range(2):  # the second time past the pictures of the first
        assert segment(engine, "--folder", "in", "-o", "in/drawn") == 0
        found = sorted(path.relative_to("in/drawn") for path in Path("in/drawn").rglob("*.png"))
        assert list(map(str, found)) == ["sub/deep/y.png", "sub/x.png", "x.bmp.png", "x.png.png"]


def test_a_turned_photo_comes_out_upright(engine: str) -> None:
    """The stored pixels lie on their side: left half red, which is the top of the photo."""
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:, :20, 0], stored[:, 20:, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(stored).save("photo.png", exif=exif)
    assert segment(engine, "--image", "photo.png", "-o", "out.png") == 0
    np.testing.assert_array_equal(drawn("out.png"), np.repeat([0, 2], 20)[:, None].repeat(20, 1))


def test_the_tutorials_ppm_of_1282_by_1026(engine: str) -> None:
    sizes = {"preprocessing": {**PLAIN, "resize_size": [100], "interpolation": "nearest"}}
    brightest("classes", **sizes).save("a.engine")
    pixels = np.zeros((1026, 1282, 3), np.uint8)
    pixels[:, 641:, 1] = 255
    Path("street.ppm").write_bytes(b"P6\n1282 1026\n255\n" + pixels.tobytes())
    assert segment("a.engine", "--image", "street.ppm", "-o", "out.png") == 0
    classes = drawn("out.png")
    assert classes.shape == (1026, 1282)
    assert not classes[:, :630].any()
    assert (classes[:, 652:] == 1).all()


@pytest.fixture
def unet(folder: Path) -> str:
    """A file with random weights of the U-Net, which say how images are prepared."""
    import torch

    from trtnet.zoo.segmentation.torch_unet import UNet

    torch.manual_seed(0)
    about = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    metadata = {"architecture": "unet", "weights": "random", "preprocessing": json.dumps(about)}
    state = {name: value.numpy() for name, value in UNet().state_dict().items()}
    weights.save("unet.safetensors", state, metadata)
    return "unet.safetensors"


def unets_classes(path: str, pixels: np.ndarray) -> np.ndarray:
    """What PyTorch and torchvision make of it."""
    import torch
    from torchvision.transforms.functional import normalize, to_tensor

    from trtnet.zoo.segmentation.torch_unet import UNet

    model = UNet().eval()
    model.load_state_dict({name: torch.tensor(a) for name, a in weights.load(path).items()})
    image = normalize(to_tensor(pixels.astype(np.uint8)), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    with torch.no_grad():
        return model(image[None])["out"][0].argmax(0).numpy()


def test_a_model_on_images_of_different_sizes(unet: str, capsys: pytest.CaptureFixture) -> None:
    images = {"a.png": picture("a.png", 33, 50), "b.png": picture("b.png", 47, 31)}
    flags = ["--image", "a.png", "--image", "b.png", "-o", "out", "--weights", unet]
    assert segment("unet", *flags) == 0
    for name, pixels in images.items():
        assert np.mean(drawn(f"out/{name}") == unets_classes(unet, pixels)) > 0.999
    text = capsys.readouterr().out
    assert f"weights   {unet}\n" in text
    assert "these are random: the network has learned nothing" in text


def test_on_a_terminal_there_is_a_bar(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())
    picture("a very long [b]name[/b].png")
    picture("b.png")
    assert segment(engine, "--image", "a very long [b]name[/b].png", "--image", "b.png") == 0
    text = sys.stdout.getvalue()
    assert "a very long [b]name[/b].png        40 x 30 " in text
    assert "b.png                              40 x 30 " in text
    assert "written   2 pictures in segmented\n" in text
    assert "2/2" in text


def test_the_shipped_unet_draws_the_sample(folder: Path) -> None:
    """In a process of its own, as from a shell; in at most 10 s of the processor's time."""
    arguments = ["segment", "unet", "--image", str(SAMPLE), "-o", "out.png", "--device", "cpu"]
    before = os.times()
    subprocess.run([sys.executable, "-m", "trtnet.cli.main", *arguments], cwd=folder, check=True)
    assert sum(os.times()[2:4]) - sum(before[2:4]) <= 10  # of children, user and system
    assert mean_iou(drawn("out.png"), drawn(TRUTH)) >= 0.90


def mean_iou(classes: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union, mean over the classes of `truth`."""
    assert classes.shape == truth.shape
    found = [
        np.logical_and(classes == i, truth == i).sum()
        / np.logical_or(classes == i, truth == i).sum()
        for i in np.unique(truth)
    ]
    return float(np.mean(found))


def test_a_model_of_the_torch_backend_when_asked_for(unet: str) -> None:
    pixels = picture("a.png", 33, 50)
    flags = ["--image", "a.png", "-o", "out.png", "--weights", unet, "--backend", "torch"]
    assert segment("unet", *flags) == 0
    assert np.mean(drawn("out.png") == unets_classes(unet, pixels)) > 0.999


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["brightest.engine"], 2, "--image FILE, or --folder DIR"),
        (["brightest.engine", "--image", "a.png", "--folder", "."], 2, "name images"),
        (["brightest.engine", "--image", "none.png"], 2, "there is no file none.png"),
        (["brightest.engine", "--folder", "none"], 2, "there is no folder none"),
        (["brightest.engine", "--folder", "empty"], 2, "there are no images in empty"),
        (["brightest.engine", "--image", "a.png", "-o", "out.jpg"], 2, "out.jpg is no .png file"),
        (["brightest.engine", "--folder", ".", "-o", "o.png"], 2, "o.png is one file"),
        (["brightest.engine", "--image", "a.png", "-o", "a.png"], 2, "replace an image"),
        (["brightest.engine", "--folder", ".", "-o", "."], 2, "replace an image"),
        (["brightest.engine", "--image", "a.png", "--image", "sub/a.png"], 2, "written twice"),
        (["brightest.engine", "--image", "a.png", "-o", "a.png/x.png"], 2, "cannot be written"),
        (["brightest.engine", "--image", "a.png", "--size", "0x9"], 2, "not a size"),
        (["brightest.engine", "--image", "a.png", "--size", "9x9", "--no-resize"], 2, "exclude"),
        (["brightest.engine", "--image", "a.png", "--palette", "odd"], 2, "--palette"),
        (["brightest.engine", "--image", "a.png", "--backend", "rtx"], 2, "not built for"),
        (["bare.engine", "--image", "a.png"], 2, "nothing says how images are to be prepared"),
        (["flat.engine", "--image", "a.png"], 2, "does not take images"),
        (["scores.engine", "--image", "a.png"], 2, "gives no classes of pixels"),
        (["lenet5", "--image", "a.png"], 2, "for classification, not for segmentation"),
        (["unte", "--image", "a.png"], 2, "did you mean unet"),
        (["unet", "--weights", "random", "--image", "a.png"], 2, "nothing says how"),
    ],
)
def test_bad_usage(
    engine: str, arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    picture("a.png", 8, 8)
    picture("sub/a.png", 8, 8)
    Path("empty").mkdir()
    Path("bare.engine").write_bytes(Path(engine).read_bytes())
    flat = trtnet.Network(backend="torch")
    flat.output("y", flat.input("x", (2, 3)) * 2.0)
    trtnet.build(flat, sidecar={"preprocessing": PLAIN}).save("flat.engine")
    brightest("scores").save("scores.engine")
    before = {path: path.read_bytes() for path in Path().rglob("*.png")}
    assert segment(*arguments) == status
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in Path().rglob("*.png")}


def test_a_backend_that_cannot_run_here(unet: str, capsys: pytest.CaptureFixture) -> None:
    from trtnet.hardware import missing_gpu

    if missing_gpu() is None:
        pytest.skip("here is a GPU")
    picture("a.png")
    arguments = ["segment", "unet", "--weights", unet, "--image", "a.png", "--backend", "rtx"]
    assert main(arguments) == 1
    assert "NVIDIA" in capsys.readouterr().err


def test_a_crop_is_refused_where_it_is_asked_for_and_told_where_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save("a.png")
    line = ["segment", "unet", "--image", "a.png", "-o", "out", "--device", "cpu"]
    assert main([*line, "--crop-size", "32"]) == 2
    assert capsys.readouterr().err == (
        "error: crop_size has no effect: every pixel of an image that is segmented gets a class\n"
        "  fix: leave --crop-size (crop_size=) out, or crop the images yourself\n"
    )
    assert main([*line, "--preprocess", "imagenet", "--resize-size", "64"]) == 0
    text = capsys.readouterr().out
    assert "; not cropped: every pixel gets a class" in text
    assert "crop 224" not in text
