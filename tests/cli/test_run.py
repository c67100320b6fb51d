"""``trtnet run``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet import nn
from trtnet.cli.main import main
from trtnet.cli.run import class_lines

NAMES = [f"class {i}" for i in range(6)]
PREPROCESSING = {
    "resize_size": [9],
    "crop_size": [8],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Means over each channel of an image, and their double: [N, 3, 8, 8] → [N, 3] twice."""
    net = trtnet.Network(backend="torch")
    x = net.input("input", ("N", 3, 8, 8))
    means = trtnet.mean(x, (2, 3))
    net.output("scores", trtnet.cat([means, means * 2], 1))
    net.output("image", nn.ReLU()(x))
    sizes = trtnet.Shapes(min=(1, 3, 8, 8), opt=(1, 3, 8, 8), max=(4, 3, 8, 8))
    about = {"preprocessing": PREPROCESSING, "class_names": NAMES}
    path = tmp_path_factory.mktemp("engine") / "means.engine"
    trtnet.build(net, {"input": sizes}, sidecar=about).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(x: np.ndarray) -> np.ndarray:
    means = x.mean((2, 3), dtype=np.float64)
    return np.concatenate([means, 2 * means], 1)


def run(engine: Path, *arguments: str) -> int:
    return main(["run", str(engine), *arguments, "--device", "cpu"])


def test_a_layer_that_fails_is_named(folder: Path, capfd: pytest.CaptureFixture) -> None:
    """PyTorch's fx prints a traceback to stderr when a module of its own fails."""
    net = trtnet.Network(backend="torch")
    net.output("sum", net.input("x", (-1, 4)) + net.input("y", (-1, 4)))
    sizes = trtnet.Shapes(min=(2, 4), opt=(2, 4), max=(5, 4))
    trtnet.build(net, {"x": sizes, "y": sizes}).save(folder / "sum.engine")
    np.savez("inputs.npz", x=np.ones((2, 4), np.float32), y=np.ones((5, 4), np.float32))
    assert run(folder / "sum.engine", "--input=inputs.npz") == 1
    error = capfd.readouterr().err
    assert "the layer fails on these inputs" in error
    assert "Traceback" not in error
    assert "<eval_with_key" not in error


@pytest.mark.parametrize("text", ["x.npy", "input:x.npy", "x.npz"])
def test_arrays(engine: Path, folder: Path, text: str, capsys: pytest.CaptureFixture) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32")
    np.save("x.npy", x)
    np.savez("x.npz", input=x)
    assert run(engine, "--input", text, "-o", "out.npz") == 0
    written = np.load("out.npz", allow_pickle=False)
    assert sorted(written) == ["image", "scores"]
    np.testing.assert_allclose(written["scores"], expected(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(written["image"], np.maximum(x, 0))
    text = capsys.readouterr().out
    assert "backend   torch on cpu" in text
    assert "scores    float32 2x6" in text
    assert "image     float32 2x3x8x8" in text
    assert "item 1" in text
    best = int(expected(x)[1].argmax())
    assert f"{best}  class {best}" in text.partition("item 1")[2].splitlines()[1]


def test_without_output_file_nothing_is_written(engine: Path, folder: Path) -> None:
    np.save("x.npy", np.zeros((1, 3, 8, 8), "float32"))
    assert run(engine, "--input", "x.npy") == 0
    assert [path.name for path in folder.iterdir()] == ["x.npy"]


def test_images_make_a_batch(engine: Path, folder: Path) -> None:
    """Of one colour each, which no resizing changes."""
    colors = np.array([[0, 128, 255], [255, 0, 9], [77, 78, 79]])
    for i, color in enumerate(colors):
        Image.new("RGB", (30, 20), tuple(color)).save(f"{i}.png")
    flags = [word for i in range(3) for word in ("--input", f"{i}.png")]
    assert run(engine, *flags, "-o", "out.npz") == 0
    wanted = (colors / 255 - PREPROCESSING["mean"]) / PREPROCESSING["std"]
    scores = np.load("out.npz")["scores"]
    np.testing.assert_allclose(scores, np.hstack([wanted, 2 * wanted]), rtol=1e-5, atol=1e-6)


def test_the_five_best_classes() -> None:
    scores = np.array([[0.5, 3.0, -1.0, 2.0, 9.0, 2.0]], "float32")
    lines = class_lines(scores, NAMES)
    assert [int(line.split()[1]) for line in lines] == [4, 1, 3, 5, 0]
    assert lines[0].split() == ["9.0000", "4", "class", "4"]
    assert class_lines(scores, None) == []
    assert class_lines(scores, NAMES[:3]) == []
    assert class_lines(scores[None], NAMES) == []


def test_an_output_may_have_any_name(tmp_path: Path) -> None:
    from trtnet.cli.arrays import write_results

    results = {"file": np.arange(3), "a/b": np.float32([[1.5]]), "scalar": np.array(2.0)}
    write_results(tmp_path / "out.npz", results)
    written = np.load(tmp_path / "out.npz", allow_pickle=False)
    assert sorted(written) == sorted(results)
    for name, array in results.items():
        np.testing.assert_array_equal(written[name], array)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--input", "x.npy", "-o", "out.json"], 2, "not a .npz file"),
        (["--input", "x.npy", "-o", "nowhere/out.npz"], 2, "cannot be written"),
        (["--input", "missing.npy"], 2, "there is no file missing.npy"),
        (["--input", "missing.png"], 2, "there is no file missing.png"),
        (["--input", "text.npy"], 2, "text.npy cannot be read"),
        (["--input", "text.npz"], 2, "text.npz cannot be read"),
        (["--input", "text.png"], 2, "cannot be read as an image"),
        (["--input", "inptu:x.npy"], 2, "no input 'inptu'"),
        (["--input", "x.npy", "--input", "x.npy"], 2, "two arrays for the input 'input'"),
        (["--input", "wide.npy"], 2, "wrong type"),
        (["--input", "many.npy"], 2, "outside every profile"),
        (["--input", "other.npz"], 2, "no input of this name"),
        (["--input", "objects.npy"], 2, "objects.npy cannot be read"),
        (["--input", "x.npy", "--backend", "rtx"], 2, "not built for the backend 'rtx'"),
        ([], 2, "--input"),
    ],
)
def test_bad_usage(
    engine: Path,
    folder: Path,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    np.save("x.npy", np.zeros((1, 3, 8, 8), "float32"))
    np.save("wide.npy", np.zeros((1, 3, 8, 8)))
    np.save("many.npy", np.zeros((5, 3, 8, 8), "float32"))
    np.savez("other.npz", other=np.zeros((1, 3, 8, 8), "float32"))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("text.npy", "text.npz", "text.png"):
        Path(name).write_text("nothing")
    assert run(engine, *arguments) == status
    assert message in capsys.readouterr().err
    assert not Path("out.npz").exists()


def test_an_image_needs_to_know_how(
    engine: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    bare = Path("bare.engine")
    bare.write_bytes(engine.read_bytes())
    Image.new("RGB", (9, 9)).save("a.png")
    assert run(bare, "--input", "a.png") == 2
    assert capsys.readouterr().err == (
        "error: --input a.png: nothing says how images are to be prepared for this network\n"
        "  expected: preprocessing in the sidecar beside the engine\n"
        "  fix: --preprocess imagenet (or yolo, symmetric, unit, raw, or a .toml file), in Python "
        'preprocess="imagenet"\n'
    )


def test_a_missing_engine(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "none.engine", "--input", "x.npy"]) == 1
    assert "there is no file none.engine" in capsys.readouterr().err


def test_a_folder(engine: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Each image of one colour, which no resizing changes, in batches; one that is damaged does not
    stop the others."""
    colors = {"a.png": (0, 128, 255), "below/b.png": (255, 0, 9), "c.png": (77, 78, 79)}
    for name, color in colors.items():
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), color).save(Path("in", name))
    Path("in/d.jpg").write_text("only words")
    flags = ["--json", "r.json", "--csv", "r.csv", "-o", "outs/of"]
    assert run(engine, "--folder", "in", *flags) == 1
    captured = capsys.readouterr()
    assert "error: in/d.jpg cannot be read as an image" in captured.err
    assert "1 of 4 images failed" in captured.err
    assert "written   3 files of outputs" in captured.out
    report = json.loads(Path("r.json").read_text())
    assert [image["file"] for image in report["images"]] == [f"in/{n}" for n in sorted(colors)]
    for image in report["images"]:
        name = image["file"].removeprefix("in/")
        values = (np.array(colors[name]) / 255 - PREPROCESSING["mean"]) / PREPROCESSING["std"]
        wanted = np.hstack([values, 2 * values])
        written = np.load(f"outs/of/{name}.npz")
        np.testing.assert_allclose(written["scores"], wanted, rtol=1e-5, atol=1e-6)
        assert image["written"] == f"outs/of/{name}.npz"
        told = image["outputs"]["scores"]
        assert (told["dtype"], told["shape"]) == ("float32", [6])
        numbers = (wanted.min(), wanted.max(), wanted.mean())
        assert [told[n] for n in ("min", "max", "mean")] == pytest.approx(numbers, rel=1e-5)
        assert image["outputs"]["image"]["shape"] == [3, 8, 8]
    rows = list(csv.reader(Path("r.csv").read_text().splitlines()))
    assert rows[0][:4] == ["file", "output", "dtype", "shape"]
    assert len(rows) == 1 + 2 * len(colors) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to run it on\n  expected: --input FILE, or --folder DIR\n"),
        (["--input", "a.npy", "--folder", "in"], "name what to run it on"),
        (["--folder", "in", "-o", "out.npz"], "-o: out.npz is one file\n  expected: a folder"),
        (["--folder", "in", "--csv", "-", "--json", "-"], "exclude each other"),
        (["--folder", "none"], "--folder: there is no folder none"),
        (["--input", "a.npy", "--csv", "x.csv"], "--csv is for --folder"),
        (["--folder", "in", "--class-names", "n.txt"], "trtnet classify --folder DIR names what"),
    ],
)
def test_bad_usage_of_a_folder(
    engine: Path, folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    Path("in").mkdir()
    Path("n.txt").write_text("x\n")
    Image.new("RGB", (9, 9)).save("in/a.png")
    assert run(engine, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_output_without_a_row_for_each_image(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    net = trtnet.Network(backend="torch")
    x = net.input("input", (2, 3, 8, 8))
    net.output("all", trtnet.mean(x, (0, 2, 3)))
    trtnet.build(net, sidecar={"preprocessing": PREPROCESSING}).save("m.engine")
    Path("in").mkdir()
    Image.new("RGB", (9, 9)).save("in/a.png")
    assert run(Path("m.engine"), "--folder", "in") == 2
    error = capsys.readouterr().err
    assert "the output 'all' has no row for each image" in error
    assert "fix: run the images one by one" in error
