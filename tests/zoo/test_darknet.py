"""YOLOv3, YOLOv4 and darknet's descriptions: against a PyTorch twin, whose suppression is
torchvision's, and against the sizes of the published files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import trtnet
from trtnet import reference, weights, zoo
from trtnet.cli.main import main as program
from trtnet.errors import ShapeError, UsageError, WeightsError
from trtnet.reading.darknet import parsed
from trtnet.weights.__main__ import main as weights_program
from trtnet.weights.darknet import keys_and_shapes
from trtnet.weights.darknet_layers import planned
from trtnet.zoo.detection.darknet import MaxPool
from trtnet.zoo.detection.darknet_models import DESCRIPTIONS

FILES = {  # bytes of the published .weights, and the parameters without running statistics
    "yolov3": (248_007_048, 61_949_149),
    "yolov3_tiny": (35_434_956, 8_852_366),
    "yolov4": (257_717_640, 64_363_101),
    "yolov4_tiny": (24_251_276, 6_056_606),
}
HEADER = 20
SMALL = """
[net]
width=64
height=64
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=mish
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
# half of the channels
[route]
layers=-1
groups=2
group_id=1
[convolutional]
batch_normalize=1
filters=8
size=1
stride=1
pad=1
activation=swish
[shortcut]
from=1
activation=relu
[maxpool]
size=2
stride=1
[maxpool]
size=5
stride=1
[route]
layers=-1,-2,-3
[convolutional]
filters=16
size=3
stride=2
padding=1
groups=2
activation=logistic
[convolutional]
filters=16
size=1
activation=linear
[yolo]
mask=1,2
anchors=8,8, 12,20, 30,16
classes=3
num=3
scale_x_y=1.1
[route]
layers=-3
[upsample]
stride=2
[route]
layers=-1,4
[convolutional]
filters=8
activation=linear
[yolo]
mask=0
anchors=8,8, 12,20, 30,16
classes=3
"""
COUNT = 20
KEPT = {"score_thresh": 0.02, "nms_thresh": 0.45, "detections_per_img": COUNT}
GAP = 1e-3


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cfg") / "small.cfg"
    path.write_text(SMALL)
    return str(path)


def images(count: int, height: int, width: int) -> np.ndarray:
    """Noise, and for every second image coarse squares below it."""
    rng = np.random.default_rng(height)
    values = rng.standard_normal((count, 3, height, width))
    squares = rng.uniform(-2, 2, (count, 3, height // 16, width // 16))
    values[1::2] += squares.repeat(16, 2).repeat(16, 3)[1::2]
    return values.astype(np.float32)


def seeded(name: str, seed: int, **arguments: Any) -> torch.nn.Module:
    """The twin with weights that keep the size of values, and heads of wide spread."""
    torch.manual_seed(seed)
    twin = zoo.get_entry(name).torch_model(**arguments)
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0, 0.5)
                module.register_forward_hook(_spread)
    with torch.no_grad():
        twin(torch.from_numpy(images(2, 64, 96)))
    for module in twin.modules():
        module._forward_hooks.clear()
    return twin


def _spread(module: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Scales a head so that its values spread by 1.5: boxes and scores of every size."""
    factor = 1.5 / output.std()
    module.weight *= factor
    return output * factor


def define(
    name: str, twin: torch.nn.Module, shape: tuple[Any, ...], precision: str = "fp32",
    **arguments: Any,
) -> trtnet.Network:  # fmt: skip
    model = zoo.get_model(name, **arguments)
    model.load_state_dict({key: value.numpy() for key, value in twin.state_dict().items()})
    network = trtnet.Network("rtx", precision)
    inputs = [network.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(network.input("image_sizes", (shape[0], 2), "int32"))
    for key, tensor in model(*inputs).items():
        network.output(key, tensor)
    return network


def run_twin(twin: torch.nn.Module, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = twin(*(torch.from_numpy(array) for array in inputs))
    return {key: tensor.numpy() for key, tensor in found.items()}


@pytest.mark.parametrize("name", FILES)
def test_published_files_have_these_numbers(name: str) -> None:
    """Every convolution is there, with its channels: the bytes of the file are those of all."""
    shapes = keys_and_shapes(planned(DESCRIPTIONS[name](80)))
    size, learned = FILES[name]
    assert sum(map(math.prod, shapes.values())) * 4 + HEADER == size
    model = zoo.get_model(name)
    assert sum(math.prod(slot.shape) for _, slot in model.named_parameters()) == learned
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    counters = {key for key in held if key.endswith("num_batches_tracked")}
    assert {key: tuple(held[key].shape) for key in held.keys() - counters} == shapes
    twin = zoo.get_entry(name).torch_model().state_dict()
    assert twin.keys() == held.keys()


@pytest.mark.parametrize("name", FILES)
def test_boxes_and_scores_before_suppression(name: str) -> None:
    """In float64 both are the same network."""
    twin = seeded(name, 0, num_classes=3, output_format="raw").double()
    x = images(2, 64, 96)
    network = define(name, twin.float(), (2, 3, 64, 96), num_classes=3, output_format="raw")
    found = reference.run(network.definition, {"input": x}, float64=True)
    expected = run_twin(twin.double(), x.astype(np.float64))
    for key, array in expected.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(found[key], array, rtol=0, atol=1e-5 * scale, err_msg=key)


@pytest.fixture(scope="module")
def small(cfg: str) -> torch.nn.Module:
    """Weights that find at least 20 boxes in every image, whose scores are GAP apart."""
    x = images(2, 32, 64)
    for seed in range(300):
        kept = {**KEPT, "detections_per_img": COUNT + 1}
        twin = seeded("yolov3_tiny", seed, cfg=cfg, **kept)
        found = run_twin(twin, x)
        gaps = -np.diff(found["det_scores"])
        if (found["num_dets"] == COUNT + 1).all() and (gaps >= GAP).all():
            return twin
    raise AssertionError("no seed gives scores that are far enough apart")


@pytest.mark.parametrize("shape", [(2, 3, 32, 64), ("N", 3, "H", "W")], ids=["static", "dynamic"])
def test_detections_of_ones_own_description(
    shape: tuple[Any, ...], cfg: str, small: torch.nn.Module
) -> None:
    x = images(2, 32, 64)
    twin = zoo.get_entry("yolov3_tiny").torch_model(cfg=cfg, **KEPT)
    twin.load_state_dict(small.state_dict())
    network = define("yolov3_tiny", twin, shape, cfg=cfg, **KEPT)
    assert_same_boxes(reference.run(network.definition, {"input": x}), run_twin(twin, x))


def assert_same_boxes(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found["num_dets"], wanted["num_dets"])
    np.testing.assert_array_equal(found["num_dets"], COUNT)
    np.testing.assert_array_equal(found["det_classes"], wanted["det_classes"])
    np.testing.assert_allclose(found["det_scores"], wanted["det_scores"], atol=1e-4)
    for ours, theirs in zip(found["det_boxes"], wanted["det_boxes"], strict=True):
        overlap = box_iou(torch.from_numpy(ours), torch.from_numpy(theirs))
        assert overlap.diagonal().min() >= 0.999


@pytest.mark.parametrize("output_format", ["rows6", "raw"])
def test_other_formats_and_sizes_of_images(
    output_format: str, cfg: str, small: torch.nn.Module
) -> None:
    arguments = {"cfg": cfg, **KEPT, "output_format": output_format}
    twin = zoo.get_entry("yolov3_tiny").torch_model(**arguments)
    twin.load_state_dict(small.state_dict())
    x, sizes = images(2, 32, 64), np.array([[32, 64], [24, 40]], np.int32)
    network = define("yolov3_tiny", twin, (2, 3, 32, 64), image_sizes=True, **arguments)
    found = reference.run(network.definition, {"input": x, "image_sizes": sizes})
    for key, array in run_twin(twin, x, sizes).items():
        np.testing.assert_allclose(found[key], array, atol=2e-4 * np.abs(array).max(), err_msg=key)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_pooling_reaches_beyond_the_map(size: int) -> None:
    """Against loops over windows that leave out what is outside."""
    text = f"[net]\nchannels=2\n[maxpool]\nsize={size}\nstride=1\n"
    x = np.random.default_rng(size).standard_normal((1, 2, 6, 7)).astype(np.float32) - 3
    network = trtnet.Network("rtx")
    (layer,) = planned(parsed(text, "x.cfg"))
    network.output("y", MaxPool(layer)(network.input("x", x.shape)))
    found = reference.run(network.definition, {"x": x})["y"]
    near = (size - 1) // 2
    for row in range(6):
        for column in range(7):
            rows = slice(max(row - near, 0), row - near + size)
            columns = slice(max(column - near, 0), column - near + size)
            window = x[0, :, rows, columns].max((1, 2))
            np.testing.assert_array_equal(found[0, :, row, column], window)


def test_a_description_is_made_in_place_of_the_model(cfg: str) -> None:
    model = zoo.get_model("yolov4", cfg=cfg)
    assert len(model.layers) == len(planned(parsed(SMALL, "x")))
    with pytest.raises(UsageError, match="another number of classes") as caught:
        zoo.get_model("yolov4", cfg=cfg, num_classes=5)
    assert "expected: 3" in str(caught.value)


def test_sizes_that_do_not_halve(cfg: str) -> None:
    network = trtnet.Network("rtx")
    with pytest.raises(ShapeError, match="multiples of 8"):
        zoo.get_model("yolov3", cfg=cfg)(network.input("input", (1, 3, 60, 64)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[upsample]", "[deconvolutional]", "a layer that is unknown here"),
        ("scale_x_y=1.1", "new_coords=1", "new_coords=1"),
        ("activation=mish", "activation=elu", "unknown activation"),
        ("layers=-1,4", "layers=-1,40", "names no layer before it"),
        ("layers=-1,4", "layers=-1,0", "layers of other sizes"),
        ("from=1", "from=0", "layers of other sizes"),
        ("mask=0", "mask=3", "mask and anchors do not fit"),
        ("filters=16\nsize=1", "filters=27\nsize=1", "another number of channels"),
        ("classes=3\nnum", "classes=2\nnum", "another number of channels"),
        ("padding=1\n", "dilation=2\n", "a key that is unknown here"),
        ("filters=8", "filters=x", "filters is not a list of numbers"),
        ("filters=8", "filters=1.5", "filters is not one integer"),
        ("group_id=1", "group_id=2", "impossible groups"),
        ("groups=2\nactivation", "groups=3\nactivation", "impossible numbers of channels"),
        ("size=5", "size=5\nsize=3", "says the same key again"),
        ("size=5", "five", "is no section or value"),
        ("[net]", "[convolutional]", "does not begin with"),
    ],
)
def test_descriptions_that_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.cfg"
    assert old in SMALL
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        zoo.get_model("yolov3", cfg=str(path))
    assert "bad.cfg" in str(caught.value)


def dumped(twin: torch.nn.Module, cfg: str, seen: bytes = bytes(8), version: int = 2) -> bytes:
    """What darknet writes, after its description of the format."""
    content = np.array([0, version, 0], "<i4").tobytes() + seen
    state = twin.state_dict()
    for number, section in enumerate(parsed(Path(cfg).read_text(), cfg)[1:]):
        if section.kind == "convolutional":
            names = ["conv.bias"]
            if section.values.get("batch_normalize") == "1":
                names = ["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"]
            for name in [*names, "conv.weight"]:
                content += state[f"layers.{number}.{name}"].numpy().astype("<f4").tobytes()
    return content


@pytest.mark.parametrize("how", ["model", "beside", "cfg", "version 1"])
def test_darknets_weights(how: str, cfg: str, small: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "small.weights"
    old = how == "version 1"
    content = dumped(small, cfg, bytes(4), 1) if old else dumped(small, cfg)
    path.write_bytes(content)
    if how == "beside":
        (tmp_path / "small.cfg").write_text(SMALL)
    model = zoo.get_model("yolov3", cfg=cfg)
    given: dict[str, Any] = {"model": model} if how == "model" else {"cfg": cfg}
    loaded = weights.load(path, **({} if how == "beside" else given))
    model.load_state_dict(loaded)
    expected = small.state_dict()
    assert len(loaded) == len([key for key in expected if "num_batches" not in key])
    for key, array in loaded.items():
        np.testing.assert_array_equal(array, expected[key].numpy(), strict=True)


def test_files_of_the_wrong_size(cfg: str, small: torch.nn.Module, tmp_path: Path) -> None:
    path, content = tmp_path / "small.weights", dumped(small, cfg)
    path.write_bytes(content[:-4])
    with pytest.raises(WeightsError, match=r"layers\.14\.conv\.weight: "):
        weights.load(path, cfg=cfg)
    path.write_bytes(content[: HEADER + 4 * (8 * 4 + 100)])
    with pytest.raises(WeightsError, match=r"layers\.0\.conv\.weight: "):
        weights.load(path, cfg=cfg)
    path.write_bytes(content + bytes(4))
    with pytest.raises(WeightsError, match=r"layers\.14\.conv\.weight: ") as caught:
        weights.load(path, cfg=cfg)
    assert "to its end" in str(caught.value)
    path.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="is not a file of darknet's weights"):
        weights.load(path, cfg=cfg)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"small\.cfg, beside it"):
        weights.load(path)


def test_from_darknets_files_to_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A description beside the weights tells the number of classes, which no shape tells alone."""
    from trtnet.zoo.detection import torch_darknet

    sections = DESCRIPTIONS["yolov4_tiny"](5)
    cfg, path = tmp_path / "mine.cfg", tmp_path / "mine.weights"
    cfg.write_text("\n".join(
        "\n".join([f"[{section.kind}]", *(f"{k}={v}" for k, v in section.values.items())])
        for section in sections
    ))  # fmt: skip
    torch.manual_seed(0)
    path.write_bytes(dumped(torch_darknet.Darknet(sections), str(cfg)))
    picture = Path(__file__).parents[2] / "docs" / "images" / "shapes_few.png"
    report = tmp_path / "boxes.json"
    line = ["detect", "yolov4_tiny", "--weights", str(path), "--image", str(picture)]
    more = ["-o", str(tmp_path / "out.png"), "--json", str(report), "--device", "cpu"]
    assert program([*line, *more, "--score-threshold", "0.01"]) == 0
    told = capsys.readouterr()
    assert "num_classes=5, as layers." in told.out + told.err
    assert json.loads(report.read_text())["images"][0]["detections"]
    assert (tmp_path / "out.png").exists()
    assert weights_program(["convert", str(path), str(tmp_path / "mine.safetensors")]) == 0
    assert weights.load(tmp_path / "mine.safetensors").num_classes == 5
