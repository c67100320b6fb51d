"""``trtnet.Classifier`` and ``trtnet.Segmenter``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet.tasks import Classification, Failure, Segmentation

NAMES = ["red", "green", "blue"]
PLAIN = {"resize_size": [8, 8], "interpolation": "nearest"}
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in/below").mkdir(parents=True)
    for name, place in (("blue", "in/a.png"), ("red", "in/b.jpg"), ("green", "in/below/c.PNG")):
        Image.new("RGB", (20, 16), COLORS[name]).save(place)
    Path("in/notes.txt").write_text("no image")
    return tmp_path


def means(batch: int | str = 1, shapes: Any = None, **about: Any) -> trtnet.Plan:
    """Scores are ten times the means of the channels."""
    net = trtnet.Network(backend="torch")
    x = net.input("input", (batch, 3, 8, 8))
    net.output("scores", trtnet.mean(x, (2, 3)) * 10.0)
    return trtnet.build(
        net, shapes, sidecar={"preprocessing": PLAIN, "class_names": NAMES, **about}
    )


def brightest(**about: Any) -> trtnet.Plan:
    """The class of a pixel is its brightest channel."""
    net = trtnet.Network(backend="torch")
    net.output("out", net.input("input", (1, 3, 8, 8)) * 1.0)
    return trtnet.build(net, sidecar={"preprocessing": PLAIN, "class_names": NAMES, **about})


def classifier(model: Any = None, **options: Any) -> trtnet.Classifier:
    return trtnet.Classifier(means() if model is None else model, device="cpu", **options)


def test_three_lines() -> None:
    """Out of a file, a folder by name, with names and scores."""
    means().save("flowers.engine")
    results = trtnet.Classifier("flowers.engine", device="cpu")("in")
    assert [str(r.path) for r in results] == ["in/a.png", "in/b.jpg", "in/below/c.PNG"]
    assert [r.name for r in results] == ["blue", "red", "green"]
    odds = np.exp([10.0, 0.0, 0.0])
    assert results[0].probability == pytest.approx(odds[0] / odds.sum())
    assert [(c.index, c.name) for c in results[0].classes] == [
        (2, "blue"),
        (0, "red"),
        (1, "green"),
    ]
    assert str(results[0]) == "in/a.png: blue 99.99%, red 0.00%, green 0.00%"
    assert (results[0].width, results[0].height) == (20, 16)


@pytest.mark.parametrize("form", ["path", "text", "pillow", "array", "grey"])
def test_one_image_gives_one_result(form: str) -> None:
    pixels = np.full((16, 20, 3), COLORS["green"], np.uint8)
    images: dict[str, Any] = {
        "path": Path("in/below/c.PNG"),
        "text": "in/below/c.PNG",
        "pillow": Image.fromarray(pixels).convert("P"),
        "array": pixels,
        "grey": np.full((16, 20), 9, np.uint8),
    }
    with classifier(top_k=1) as classify:
        result = classify(images[form])
        listed = classify([images[form]])
    assert isinstance(result, Classification)
    assert [found.index for found in listed] == [result.index]
    assert result.name == ("red" if form == "grey" else "green")
    assert len(result.classes) == 1
    assert result.probabilities.shape == (3,)
    assert result.path == (Path("in/below/c.PNG") if form in ("path", "text") else None)


def test_a_turned_photo_is_upright_in_memory_too() -> None:
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:, :20, 0], stored[:, 20:, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save("photo.png", exif=exif)
    with trtnet.Segmenter(brightest(), device="cpu") as segment, Image.open("photo.png") as photo:
        for given in ("photo.png", photo):
            result = segment(given)
            assert (result.width, result.height) == (20, 40)
            assert (result.class_map == np.repeat([0, 2], 20)[:, None]).all()


def test_a_list_of_all_kinds_keeps_its_order() -> None:
    red = np.full((9, 9, 3), COLORS["red"], np.uint8)
    with classifier() as classify:
        found = classify(["in/below", red, Image.fromarray(red[:, :, ::-1]), "in/b.jpg"])
    assert [result.name for result in found] == ["green", "red", "blue", "red"]


def test_a_failure_is_raised_by_name_and_streamed_in_its_place() -> None:
    Path("in/b.jpg").write_text("only words")
    with classifier() as classify:
        with pytest.raises(trtnet.UsageError, match=r"in/b\.jpg cannot be read as an image"):
            classify("in")
        with pytest.raises(trtnet.UsageError, match=r"none\.png"):
            classify("none.png")
        first, second, third = classify.stream("in")
    assert isinstance(first, Classification)
    assert isinstance(second, Failure)
    assert isinstance(third, Classification)
    assert second.path == Path("in/b.jpg")
    assert "begins with b'only words'" in str(second)
    assert (first.name, third.name) == ("blue", "green")


def test_a_failure_of_the_network_names_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other images of its batch are done."""
    call = trtnet.Session.__call__

    def failing(self: trtnet.Session, arrays: dict[str, np.ndarray]) -> Any:
        if arrays["input"][:, 1].max() > 0.5:  # green
            raise trtnet.ShapeError("it does not fit", module="input")
        return call(self, arrays)

    monkeypatch.setattr(trtnet.Session, "__call__", failing)
    with classifier(means(4)) as classify:
        blue, red, green = classify.stream("in")
        with pytest.raises(trtnet.ShapeError, match=r"^in/below/c\.PNG: input: it does not fit$"):
            classify("in")
    assert isinstance(blue, Classification)
    assert isinstance(red, Classification)
    assert isinstance(green, Failure)


def test_an_iterator_is_read_little_by_little() -> None:
    """As of a camera that never ends."""
    red = np.full((9, 9, 3), COLORS["red"], np.uint8)
    taken: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for i in itertools.count():
            taken.append(i)
            yield np.roll(red, i, axis=2)

    with classifier() as classify:
        stream = classify.stream(frames())
        names = [result.name for result in itertools.islice(stream, 4)]  # type: ignore[union-attr]
        stream.close()  # type: ignore[attr-defined]
    assert names == ["red", "green", "blue", "red"]
    assert len(taken) < 15


@pytest.mark.parametrize("batch", [4, "N"])
def test_batches(batch: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many images as the engine is for; a bad file takes no other with it."""
    sizes = {"input": trtnet.Shapes(min=(2, 3, 8, 8), opt=(4, 3, 8, 8), max=(4, 3, 8, 8))}
    plan = means(batch, None if batch == 4 else sizes)
    calls: list[int] = []
    call = trtnet.Session.__call__

    def counted(self: trtnet.Session, arrays: dict[str, np.ndarray]) -> Any:
        calls.append(len(arrays["input"]))
        return call(self, arrays)

    monkeypatch.setattr(trtnet.Session, "__call__", counted)
    Path("in/words.png").write_text("only words")
    colors = [list(COLORS)[i % 3] for i in range(9)]
    images: list[Any] = [np.full((9, 9, 3), COLORS[name], np.uint8) for name in colors]
    images.insert(2, "in/words.png")
    with classifier(plan) as classify:
        found = list(classify.stream(images))
    assert isinstance(found.pop(2), Failure)
    assert [result.name for result in found] == colors  # type: ignore[union-attr]
    assert max(calls) == 4
    assert len(calls) == 3


def test_a_session_stays_open_and_a_plan_is_closed() -> None:
    with trtnet.Session(means(), device="cpu") as session:
        with trtnet.Classifier(session) as classify:
            assert classify.open_for() is session
            assert classify("in/a.png").name == "blue"
        assert session(np.zeros((1, 3, 8, 8), np.float32))["scores"].shape == (1, 3)
    classify = classifier()
    opened = classify.open_for()
    classify.close()
    classify.close()
    with pytest.raises(trtnet.ExecutionError, match="closed"):
        opened(np.zeros((1, 3, 8, 8), np.float32))


def test_a_model_with_weights() -> None:
    """Digits of scikit-learn, with shipped weights by name and out of a file."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = [(image * 255 / 16).astype(np.uint8) for image in data.images[:10]]
    file = Path(trtnet.zoo.get_entry("lenet5").weights_file("DIGITS_V1"))
    for weights in (None, file):
        with trtnet.Classifier("lenet5:fp32", weights=weights, device="cpu") as classify:
            assert [int(r.name) for r in classify(images)] == data.target[:10].tolist()


def test_a_model_is_built_again_for_other_sizes() -> None:
    """The shipped U-Net, whose input has the size of the image; told by PyTorch elsewhere."""
    with trtnet.Segmenter("unet", device="cpu") as segment:
        for height, width in ((32, 48), (64, 32), (48, 48)):
            pixels = np.zeros((height, width, 3), np.uint8)
            result = segment(pixels)
            assert result.class_map.shape == (height, width)
        assert len(segment(iter([pixels, pixels[:32, :32]]))) == 2


def test_no_image_is_squeezed_into_an_engine_for_others() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with trtnet.Segmenter("unet", device="cpu") as alone:
        wanted = alone(noise).class_map
    with trtnet.Segmenter("unet", device="cpu") as segment:
        segment(noise[:32, :32])
        assert np.array_equal(segment(noise).class_map, wanted)
        height, width = segment.open_for([noise]).profiles[0]["input"].max[2:]
    assert (height, width) == (64, 96)


def test_segmentation() -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:4, :, 1], pixels[4:, :, 2] = 255, 255
    with trtnet.Segmenter(brightest(), device="cpu") as segment:
        result = segment(pixels)
    assert isinstance(result, Segmentation)
    np.testing.assert_array_equal(result.class_map, pixels.argmax(2))
    assert result.class_map.dtype == np.int32
    assert [(c.index, c.name, c.share) for c in result.classes] == [(2, "blue", 0.75),
                                                                    (1, "green", 0.25)]  # fmt: skip
    assert str(result) == "blue 75.00%, green 25.00%"
    picture = result.color_map("voc")
    assert np.asarray(picture.convert("RGB"))[0, 0].tolist() == [128, 0, 0]
    drawn = np.asarray(result.overlay("voc"))[0, 0]  # half of grey 150 and of (128, 0, 0)
    assert np.abs(drawn.astype(int) - [139, 75, 75]).max() <= 1


def test_preprocessing_and_names_of_ones_own() -> None:
    Path("names.txt").write_text("rot\ngrün\nblau\n", encoding="utf-8")
    bare = means(preprocessing=None, class_names=None)
    with pytest.raises(trtnet.UsageError, match="nothing says how images are to be prepared"):
        classifier(bare)
    with classifier(bare, preprocess={"resize_size": [8, 8]}, class_names="names.txt") as classify:
        assert classify("in/below/c.PNG").name == "grün"
        assert classify.class_names == ("rot", "grün", "blau")
        assert classify.preparation.stated.size == (8, 8)
    with classifier(preprocess={"channels": "bgr"}) as classify:
        assert classify("in/a.png").name == "red"


def test_probabilities_stay_what_they_are() -> None:
    net = trtnet.Network(backend="torch")
    x = net.input("input", (1, 3, 8, 8))
    net.output("p", trtnet.softmax(trtnet.mean(x, (2, 3)) * 10.0, 1))
    plan = trtnet.build(net, sidecar={"preprocessing": PLAIN})
    with classifier(plan) as classify:
        result = classify("in/a.png")
    assert result.probability == pytest.approx(np.exp(10) / (np.exp(10) + 2), rel=1e-5)
    assert result.name == "class 2"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), r"the image is no image(.|\n)*got: float32 \(1, 3, 8"),
        ([np.zeros((8, 8, 4), np.uint8)], r"image 0 is no image(.|\n)*trtnet.Session takes arrays"),
        (["in/a.png", 3], "image 1 is no image"),
        (7, "the image is no image(.|\n)*a file, a folder, a Pillow image"),
        ("empty", "there are no images in empty"),
    ],
)
def test_what_is_no_image(images: Any, message: str) -> None:
    Path("empty").mkdir()
    with classifier() as classify, pytest.raises(trtnet.UsageError, match=message):
        classify(images)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("means.engine", {"weights": "x.pth"}, "weights cannot be chosen for the engine file"),
        ("means.engine", {"num_classes": 3}, "num_classes cannot be chosen for the engine file"),
        ("means.engine", {"in_channels": 3}, "in_channels cannot be chosen for the engine file"),
        (
            "means.engine",
            {"weights_key": "ema"},
            "weights_key cannot be chosen for the engine file",
        ),
        ("means.engine", {"class_names": ["one"]}, "1 class names for 3 classes"),
        ("means.engine", {"top_k": 0}, "top_k is not positive"),
        ("unet", {}, "unet is a model for segmentation, not for classification"),
        ("unte", {}, "did you mean unet"),
    ],
)
def test_bad_usage(model: str, options: dict[str, Any], message: str) -> None:
    means().save("means.engine")
    with pytest.raises(trtnet.UsageError, match=message):
        classifier(model, **options)


def test_an_engine_for_something_else() -> None:
    with pytest.raises(trtnet.UsageError, match="gives no scores of classes"):
        classifier(brightest())
    with pytest.raises(trtnet.UsageError, match="gives no classes of pixels"):
        trtnet.Segmenter(means(), device="cpu")
    net = trtnet.Network(backend="torch")
    net.output("y", net.input("x", (2, 3)) * 2.0)
    with pytest.raises(trtnet.UsageError, match="does not take images"):
        classifier(trtnet.build(net))


def test_a_part_of_a_file_for_gray_images() -> None:
    """The probabilities are those of PyTorch's model with these weights."""
    torch = pytest.importorskip("torch")
    from trtnet import zoo

    make = zoo.get_entry("resnet20_digits").torch_model
    torch.manual_seed(1)
    student, teacher = (make(num_classes=4, in_channels=3) for _ in range(2))
    entries = {"student": student.state_dict(), "teacher": teacher.state_dict()}
    torch.save(entries, "both.pth")
    options = {"weights": "both.pth", "weights_key": "teacher", "in_channels": 3}
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with trtnet.Classifier("resnet20_digits", device="cpu", preprocess="unit", **options) as found:
        result = found(pixels)
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / np.float32(255))
    x = (
        torch.nn.functional.interpolate(x, found.preparation.fitted().size)
        if x.shape[2] != 32
        else x
    )
    with torch.no_grad():
        wanted = teacher(x).softmax(1)[0].numpy()
    np.testing.assert_allclose(result.probabilities, wanted, atol=1e-5)


def test_a_segmenter_for_gray_images() -> None:
    torch = pytest.importorskip("torch")
    from trtnet import zoo

    torch.manual_seed(0)
    model = zoo.get_entry("unet").torch_model(in_channels=1, num_classes=3)
    torch.save({"net": {f"module.{k}": v for k, v in model.state_dict().items()}}, "gray.pth")
    options = {"weights": "gray.pth", "weights_key": "net", "in_channels": 1, "num_classes": 3}
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    with trtnet.Segmenter("unet", device="cpu", preprocess="unit", **options) as segment:
        result = segment(pixels)
    with torch.no_grad():
        scores = model(torch.from_numpy(pixels[None, None] / np.float32(255)))
    scores = scores["out"] if isinstance(scores, dict) else scores
    np.testing.assert_array_equal(result.class_map, scores.argmax(1)[0].numpy())


BUILDER = [
    ({"optimization_level": 5}, "optimization_level"),
    ({"timing_cache": "t.cache"}, "timing_cache"),
]


@pytest.mark.parametrize(("options", "name"), BUILDER)
@pytest.mark.parametrize(
    ("kind", "model"),
    [(trtnet.Classifier, "lenet5"), (trtnet.Segmenter, "unet"), (trtnet.Detector, "yolox_shapes"),
     (trtnet.Classifier, "means.engine"), (trtnet.Classifier, None)],
)  # fmt: skip
def test_what_the_builder_gets_has_an_effect_or_is_refused(
    kind: Any, model: str | None, options: Any, name: str
) -> None:
    """For a model before it is built, for an engine file, and for a plan."""
    means().save("means.engine")
    with pytest.raises(trtnet.UsageError, match=rf"{name} \(--\w+\) has no effect: tactics are"):
        kind(means() if model is None else model, device="cpu", **options)("in/a.png")
    assert not Path("t.cache").exists()


@pytest.mark.parametrize(("options", "name"), BUILDER)
def test_an_open_session_has_its_builder(options: Any, name: str) -> None:
    with (
        trtnet.Session(means(), device="cpu") as session,
        pytest.raises(trtnet.UsageError, match=f"{name} cannot be chosen for a session that is op"),
    ):
        trtnet.Classifier(session, **options)
