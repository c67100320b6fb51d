"""``--preprocess``, its flags and ``--class-names``: over sidecars and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

import trtnet
from trtnet.cli import preprocess_flags, zoo
from trtnet.cli.main import main
from trtnet.imaging.preprocessing import FILTERS, KEYS

NAMES = ["red", "green", "blue"]
NOTHING_SAYS = "nothing says how images are to be prepared for this network"
FIX = (
    "fix: --preprocess imagenet (or yolo, symmetric, unit, raw, or a .toml file), in Python "
    'preprocess="imagenet"'
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((50, 40)).save("a.png")
    return tmp_path


def engine(shape: tuple[int, int, int] = (3, 32, 20), **about: Any) -> str:
    """Gives its input back, and the means of its channels."""
    net = trtnet.Network(backend="torch")
    x = net.input("input", (1, *shape))
    net.output("x", x * 1.0)
    net.output("logits", trtnet.mean(x, (2, 3)))
    trtnet.build(net, sidecar=about).save("e.engine")
    return "e.engine"


def levels(mode: str = "RGB") -> np.ndarray:
    """(channels, 40, 50), from 0 to 255."""
    return v2.functional.pil_to_tensor(Image.open("a.png").convert(mode)).double().numpy()


def run(*flags: str) -> np.ndarray:
    """What the engine got."""
    assert main(["run", "e.engine", "--input", "a.png", "-o", "o.npz", "--device=cpu", *flags]) == 0
    array: np.ndarray = np.load("o.npz")["x"][0]
    return array


def test_an_engine_without_a_sidecar_takes_images(capsys: pytest.CaptureFixture) -> None:
    engine((3, 40, 50))
    got = run("--preprocess", "raw", "--channels", "bgr")
    np.testing.assert_allclose(got, levels()[::-1], atol=1e-4)
    assert (
        "images    stretched to 40x50 (bilinear), bgr, scale 1\n"
        "          stated by --preprocess raw, --channels\n"
        "          fitted to the input 3x40x50: resize_size none -> 40x50\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(3, 32, 20), (3, 20, 32), (3, 64, 64), (1, 24, 24)])
def test_an_engine_of_any_size_takes_images(
    shape: tuple[int, int, int], capsys: pytest.CaptureFixture
) -> None:
    engine(shape)
    for preset in ("imagenet", "yolo", "unit"):
        assert run("--preprocess", preset).shape == shape
        assert f"fitted to the input {'x'.join(map(str, shape))}: " in capsys.readouterr().out


def test_flags_go_over_the_sidecar(capsys: pytest.CaptureFixture) -> None:
    engine((3, 40, 50), preprocessing={"resize_size": [40, 50], "mean": [0.1, 0.2, 0.3]})
    mean = np.reshape([0.1, 0.2, 0.3], (3, 1, 1))
    np.testing.assert_allclose(run(), levels() / 255 - mean, atol=1e-5)
    assert "stated by the sidecar" in capsys.readouterr().out
    np.testing.assert_allclose(run("--std", "0.5"), (levels() / 255 - mean) / 0.5, atol=1e-5)
    assert "stated by --std over the sidecar" in capsys.readouterr().out
    got = run("--scale=1/127.5", "--mean=1,1,1", "--channels=bgr")
    np.testing.assert_allclose(got, levels()[::-1] / 127.5 - 1, atol=1e-5)
    np.testing.assert_allclose(run("--preprocess=raw"), levels(), atol=1e-4)


def test_a_toml_file(capsys: pytest.CaptureFixture) -> None:
    engine((3, 60, 60))
    Path("mine.toml").write_text(
        "[preprocess]\nletterbox_size = 60\npad_color = [255, 0, 0]\npad_position = 'top-left'\n"
        "upscale = false\nscale = 1\n"
    )
    got = run("--preprocess", "mine.toml")
    np.testing.assert_allclose(got[:, :40, :50], levels(), atol=1e-4)
    assert (got[0, 40:] == 255).all()
    assert (got[1:, 40:] == 0).all()
    assert "stated by --preprocess mine.toml" in capsys.readouterr().out


def test_gray_images_for_one_channel(capsys: pytest.CaptureFixture) -> None:
    engine((1, 40, 50))
    np.testing.assert_allclose(run("--preprocess=unit"), levels("L") / 255, atol=1e-5)
    assert "channels rgb -> gray" in capsys.readouterr().out


def test_flags_have_the_names_of_the_schema() -> None:
    assert preprocess_flags._KEYS == KEYS
    assert tuple(FILTERS) == preprocess_flags._INTERPOLATIONS


def test_class_names_and_the_report() -> None:
    engine((3, 40, 50), class_names=["x", "y", "z"])
    Path("names.txt").write_text("red\ngreen\nblue\n\n")
    flags = ["--image", "a.png", "--device=cpu", "--json=r.json", "--preprocess=unit"]
    assert main(["classify", "e.engine", *flags, "--class-names", "names.txt"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["preprocessing_source"] == "--preprocess unit"
    assert report["preprocessing"] == {
        "resize_size": [40, 50],
        "channels": "rgb",
        "scale": 1 / 255,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "interpolation": "bilinear",
        "antialias": True,
    }
    means = levels().mean((1, 2)) / 255
    (image,) = report["images"]
    assert [found["name"] for found in image["classes"]] == [NAMES[i] for i in np.argsort(-means)]


def test_dynamic_engines_get_a_size_within_the_profile(capsys: pytest.CaptureFixture) -> None:
    net = trtnet.Network(backend="torch")
    x = net.input("input", (1, 3, trtnet.Axis("H", 16, 64, multiple_of=16), "W"))
    net.output("x", x * 1.0)
    shapes = trtnet.Shapes((1, 3, 16, 20), (1, 3, 32, 32), (1, 3, 64, 48))
    trtnet.build(net, {"input": shapes}).save("e.engine")
    assert run("--preprocess=unit").shape == (3, 32, 48)  # 40x50, as large as fits, in multiples
    assert "what comes out of 3x16..64x20..48 is resized into it" in capsys.readouterr().out
    assert run("--preprocess=yolo").shape == (3, 48, 48)
    assert run("--preprocess=unit", "--crop-size=32x25").shape == (3, 32, 25)


def test_a_build_keeps_what_is_stated() -> None:
    Path("names.json").write_text(json.dumps([f"digit {i}" for i in range(10)]))
    flags = ["--backend=torch", "--saveEngine=e.engine", "--json=r.json", "--skip-verify"]
    stated = ["--preprocess=imagenet", "--channels=bgr", "--class-names=names.json"]
    assert zoo.main(["resnet20_digits", *flags, *stated]) == 0
    report, sidecar = (json.loads(Path(p).read_text()) for p in ("r.json", "e.engine.json"))
    assert sidecar["preprocessing"] == report["preprocessing"]
    assert sidecar["preprocessing_source"] == report["preprocessing_source"]
    assert report["preprocessing_source"] == "--preprocess imagenet, --channels"
    assert sidecar["class_names"][3] == "digit 3"
    assert sidecar["preprocessing"]["crop_size"] == sidecar["inputs"][0]["shape"][2:]
    assert zoo.main(["resnet20_digits", *flags]) == 0
    assert json.loads(Path("e.engine.json").read_text())["class_names"] == [*"0123456789"]
    assert json.loads(Path("r.json").read_text())["preprocessing_source"] == (
        "weights DISTORTED_DIGITS_V1"
    )


def test_calibration_of_another_size() -> None:
    """Images of a folder for an input of 1x48x40; the weights say 32x32."""
    flags = ["--backend=torch", "--saveEngine=e.engine", "--skip-verify", "--json=r.json"]
    data = ["--int8", "--calib-data=.", "--input=input:1x1x48x40"]
    assert zoo.main(["resnet20_digits", *flags, *data]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["preprocessing"]["crop_size"] == [48, 40]
    plain = ["--fp16", "--calib-data=.", "--preprocess=imagenet"]
    assert zoo.main(["mobilenet_v2", *flags, *plain, "--image-size=64"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["calibration"]["items"] == 1
    assert report["preprocessing"]["crop_size"] == [64, 64]
    assert report["preprocessing"]["resize_size"] == [73]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["run", "--input=a.png"], [NOTHING_SAYS, FIX]),
        (["classify", "--image=a.png"], [NOTHING_SAYS, FIX]),
        (["run", "--input=a.png", "--preprocess=imagnet"], ["did you mean imagenet?"]),
        (["run", "--input=a.png", "--preprocess=no.toml"], ["there is no file no.toml"]),
        (["run", "--input=a.png", "--preprocess=bad.toml"], ["unknown key 'channel_order'",
                                                            'write channels: "rgb"']),
        (["run", "--input=a.png", "--std=0"], ["(--std)", "wrong value at std", "got: 0"]),
        (["run", "--input=a.png", "--crop-size=big"], ["'big' is no size such as 224, 320x192"]),
        (["run", "--input=a.png", "--mean=a"], ["'a' is no number"]),
        (["run", "--input=a.png", "--pad-color=1,2"], ["'1,2' is no level such as 114"]),
        (["run", "--input=a.png", "--letterbox-size=9", "--crop-size=9"],
         ["letterbox_size and crop_size exclude each other"]),
        (["run", "--input=a.png", "--preprocess=unit", "--class-names=none.txt"],
         ["there is no file none.txt"]),
        (["classify", "--image=a.png", "--preprocess=unit", "--class-names=two.txt"],
         ["2 class names for 3 classes", "--class-names"]),
        (["classify", "--image=a.png", "--preprocess=unit", "--class-names=gap.txt"],
         ["class 1 has no name"]),
    ],
)  # fmt: skip
def test_bad_usage(arguments: list[str], texts: list[str], capsys: pytest.CaptureFixture) -> None:
    engine()
    Path("bad.toml").write_text("[preprocess]\nchannel_order = 'bgr'\n")
    Path("two.txt").write_text("a\nb")
    Path("gap.txt").write_text("a\n\nb")
    command, *flags = arguments
    assert main([command, "e.engine", *flags, "--device=cpu"]) == 2
    error = capsys.readouterr().err
    for text in texts:
        assert text in error


@pytest.mark.parametrize("about", [{"channel_order": "bgr"}, {"std": 0}, {"rescale": True}])
def test_a_sidecar_is_not_followed_in_part(about: dict[str, Any], raises: Any) -> None:
    with raises(trtnet.UsageError, "preprocessing"):
        engine(preprocessing={"mean": [0.5] * 3, **about})


def test_models_take_it_too(capsys: pytest.CaptureFixture) -> None:
    """lenet5's random weights say nothing; it takes gray images of 32x32."""
    target = ["classify", "lenet5", "--weights=random", "--image=a.png", "--device=cpu"]
    assert main(target) == 2
    assert FIX in capsys.readouterr().err
    for preset in ("imagenet", "unit", "yolo"):
        assert main([*target, "--preprocess", preset]) == 0
    shipped = ["classify", "lenet5", "--image=a.png", "--device=cpu"]
    capsys.readouterr()
    assert main([*shipped, "--scale=1/127.5"]) == 0
    assert "          stated by --scale over weights DIGITS_V1\n" in capsys.readouterr().out
    assert main(["classify", "mobilenet_v2", "--weights=random", "--image=a.png", "--device=cpu",
                 "--preprocess=imagenet", "--input=input:1x3x64x96"]) == 0  # fmt: skip
    assert "fitted to the input 3x64x96" in capsys.readouterr().out


def test_a_key_without_effect_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    target = engine(preprocessing={"resize_size": [32, 20]})
    assert main(["classify", target, "--image", "a.png", "--pad-color", "0"]) == 2
    assert capsys.readouterr().err == (
        "error: the preprocessing (--pad-color) cannot be used: pad_color has no effect: it is of "
        "a letterbox\n  expected: letterbox_size beside it\n"
        "  fix: add letterbox_size (--letterbox-size), or leave pad_color out\n"
    )
    boxed = ["--preprocess", "yolo", "--letterbox-size", "none"]  # what was said of it goes too
    assert main(["classify", target, "--image", "a.png", *boxed, "--device", "cpu"]) == 0
    Path("p.toml").write_text('[preprocess]\nresize_size = 32\nresize_mode = "stretch"\n')
    assert main(["classify", target, "--image", "a.png", "--preprocess", "p.toml"]) == 2
    error = capsys.readouterr().err
    assert "p.toml" in error
    assert "resize_mode has no effect: it is of a resize to a height and a width" in error


def test_an_interpolation_without_a_size_is_of_the_stretch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Images without a stated size are stretched to the input: the engine keeps how."""
    flags = ["--weights=random", "--backend=torch", "--skip-verify", "--saveEngine=d.engine"]
    how = ["--preprocess=unit", "--interpolation=nearest"]
    assert zoo.main(["lenet5", *flags, *how]) == 0
    assert "stretched to 32x32 (nearest)" in capsys.readouterr().out
    assert main(["run", "d.engine", "--input", "a.png", "--device", "cpu"]) == 0
    assert "stretched to 32x32 (nearest)" in capsys.readouterr().out
