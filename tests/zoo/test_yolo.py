"""The YOLO lines: published numbers and names, and the networks against their PyTorch twins, whose
suppression is torchvision's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

import trtnet
from trtnet import reference, zoo
from trtnet.imaging import prepare
from trtnet.weights.torch_import import without_memory

PARAMETERS = {  # of the published tables; the 16 weights of the DFL count
    "yolov8n": 3157200, "yolov8s": 11166560, "yolov8m": 25902640, "yolov8l": 43691520,
    "yolov8x": 68229648, "yolo11n": 2624080, "yolo11s": 9458752, "yolo11m": 20114688,
    "yolo11l": 25372160, "yolo11x": 56966176,
}  # fmt: skip
MILLIONS_26 = {"yolo26n": 2.4, "yolo26x": 55.7}  # https://arxiv.org/abs/2606.03748, without a head
NAMES = [*PARAMETERS, *(f"yolo26{size}" for size in "nsmlx")]
SMALLEST = ("yolov8n", "yolo11n", "yolo26n")
ARGUMENTS: dict[str, Any] = {"num_classes": 6}
COUNT = 20  # boxes of an image
KEPT = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": COUNT}
SIZES = [(96, 128), (160, 96)]
GAP = 1e-3  # between the scores of the boxes of an image
FORMS = [*((name, {}) for name in SMALLEST), ("yolo26n", {"end2end": False})]
Seeded = tuple[str, dict[str, Any], tuple[int, int], dict[str, torch.Tensor]]


# Names, as https://github.com/wang-xinyu/tensorrtx (MIT) reads them from public checkpoints


def _conv(path: str) -> Iterator[str]:
    yield f"{path}.conv.weight"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{path}.bn.{name}"


def _convs(path: str, *names: str) -> Iterator[str]:
    for name in names:
        yield from _conv(f"{path}.{name}")


def _c2f(path: str, count: int, nested: bool = False) -> Iterator[str]:
    yield from _convs(path, "cv1", "cv2")
    for block in range(count):
        yield from _convs(f"{path}.m.{block}", "cv1", "cv2", *(["cv3"] if nested else []))
        for inner in range(2 if nested else 0):
            yield from _convs(f"{path}.m.{block}.m.{inner}", "cv1", "cv2")


def _psa(path: str) -> Iterator[str]:
    yield from _convs(path, "attn.qkv", "attn.proj", "attn.pe", "ffn.0", "ffn.1")


def _head(path: str, classes: tuple[str, ...], prefix: str = "") -> Iterator[str]:
    for level in range(3):
        yield from _convs(f"{path}.{prefix}cv2.{level}", "0", "1")
        yield from _convs(f"{path}.{prefix}cv3.{level}", *classes)
        for branch in ("cv2", "cv3"):
            for name in ("weight", "bias"):
                yield f"{path}.{prefix}{branch}.{level}.2.{name}"


LIGHT = ("0.0", "0.1", "1.0", "1.1")


def names_of_v8() -> Iterator[str]:
    for layer in (0, 1, 3, 5, 7, 16, 19):
        yield from _conv(f"model.{layer}")
    for layer, count in ((2, 1), (4, 2), (6, 2), (8, 1), (12, 1), (15, 1), (18, 1), (21, 1)):
        yield from _c2f(f"model.{layer}", count)
    yield from _convs("model.9", "cv1", "cv2")
    yield from _head("model.22", ("0", "1"))
    yield "model.22.dfl.conv.weight"


def _names_of_11(nested: tuple[int, ...], others: tuple[int, ...]) -> Iterator[str]:
    for layer in (0, 1, 3, 5, 7, 17, 20):
        yield from _conv(f"model.{layer}")
    for layer in nested + others:
        yield from _c2f(f"model.{layer}", 1, layer in nested)
    yield from _convs("model.9", "cv1", "cv2")
    yield from _convs("model.10", "cv1", "cv2")
    yield from _psa("model.10.m.0")


def names_of_11() -> Iterator[str]:
    yield from _names_of_11((6, 8, 22), (2, 4, 13, 16, 19))
    yield from _head("model.23", LIGHT)
    yield "model.23.dfl.conv.weight"


def names_of_26() -> Iterator[str]:
    yield from _names_of_11((6, 8, 13, 16, 19), (2, 4))
    yield from _convs("model.22", "cv1", "cv2", "m.0.0.cv1", "m.0.0.cv2")  # unconfirmed: m.0.…
    yield from _psa("model.22.m.0.1")
    yield from _head("model.23", LIGHT)
    yield from _head("model.23", LIGHT, "one2one_")


PUBLISHED = {"yolov8n": names_of_v8, "yolo11n": names_of_11, "yolo26n": names_of_26}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_published_names(name: str) -> None:
    model, names = zoo.get_model(name), [*PUBLISHED[name]()]
    entries = {key for key, _ in (*model.named_parameters(), *model.named_buffers())}
    assert entries == set(names)
    assert len(names) == len(entries)


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_parameters_are_those_of_the_twin(name: str) -> None:
    model = zoo.get_model(name)
    with without_memory():
        twin = zoo.get_entry(name).torch_model()
    paths = {path for path, _ in model.named_modules()}
    assert paths == {path for path, _ in twin.named_modules()}
    entries = [*model.named_parameters(), *model.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in twin.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_numbers_of_parameters(name: str) -> None:
    parameters = zoo.get_model(name).parameters()
    assert sum(parameter.numel() for parameter in parameters) == PARAMETERS[name]


@pytest.mark.parametrize("name", MILLIONS_26)
def test_the_published_millions_of_parameters(name: str) -> None:
    """Of one head, BatchNorms folded."""
    heads = ("model.23.cv2", "model.23.cv3")
    parameters = zoo.get_model(name, fused=True).named_parameters()
    count = sum(value.numel() for key, value in parameters if not key.startswith(heads))
    assert round(count / 1e6, 1) == MILLIONS_26[name]


# Boxes


def images(count: int, height: int, width: int) -> np.ndarray:
    """Noise, and for every second image coarse squares."""
    rng = np.random.default_rng(height)
    values = rng.standard_normal((count, 3, height, width))
    squares = rng.uniform(-2, 2, (count, 3, height // 16, width // 16))
    values[1::2] = squares.repeat(16, 2).repeat(16, 3)[1::2]
    return values.astype(np.float32)


def twin_of(name: str, **arguments: Any) -> torch.nn.Module:
    return zoo.get_entry(name).torch_model(**{**ARGUMENTS, **KEPT, **arguments})


def seeded_model(name: str, **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    twin = twin_of(name, **arguments)
    for layer in twin.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.weight.requires_grad:
            torch.nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                torch.nn.init.uniform_(layer.bias, -0.2, 0.2)
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, limits in ((layer.weight, (0.7, 1.3)), (layer.bias, (-0.2, 0.2)),
                                   (layer.running_mean, (-0.1, 0.1)),
                                   (layer.running_var, (0.5, 1.5))):  # fmt: skip
                torch.nn.init.uniform_(tensor, *limits)
    return twin


@pytest.fixture(scope="module", params=[(*form, size) for form in FORMS for size in SIZES], ids=str)
def seeded(request: pytest.FixtureRequest) -> Seeded:
    """A model, a size, and weights that find more than COUNT boxes in its images, the scores GAP
    apart."""
    name, form, size = request.param
    twin = seeded_model(name, **form, detections_per_img=COUNT + 1)
    x = torch.from_numpy(images(2, *size))
    with torch.no_grad():
        _calibrate(twin, x)
        features, sizes = twin.features(x), torch.tensor([size, size])
        insides = _insides(twin.model[-1], features)
        for seed in range(1000):
            _seed_heads(insides, seed)
            if _are_clear(twin.found(features, sizes)):
                return name, form, size, twin.state_dict()
    raise AssertionError("no seed gives scores that are far enough apart")


def _are_clear(found: Mapping[str, torch.Tensor]) -> bool:
    """Whether there is one box more than are kept, all have an area, and their scores differ."""
    has_area = found["det_boxes"][..., 2:] > found["det_boxes"][..., :2] + 1
    gaps = -found["det_scores"].diff(dim=1)
    every = (found["num_dets"] == COUNT + 1).all() and has_area.all() and (gaps >= GAP).all()
    return bool(every)


def _calibrate(twin: torch.nn.Module, x: torch.Tensor) -> None:
    """Keeps the signal of a deep network in range, as a trained network does."""
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
            module.reset_running_stats()
    twin.model(x)
    twin.eval()


def _insides(
    head: torch.nn.Module, features: list[torch.Tensor]
) -> list[tuple[torch.nn.Conv2d, torch.Tensor]]:
    """The last convolution of every branch of a head, and its input."""
    return [
        (branch[-1], branch[:-1](x))
        for name, branches in head.named_children() if name != "dfl"
        for branch, x in zip(branches, features, strict=True)
    ]  # fmt: skip


def _seed_heads(insides: list[tuple[torch.nn.Conv2d, torch.Tensor]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer, x in insides:
        outputs = layer.out_channels
        spread, bias = 1.5, torch.full((outputs,), -3.0)  # logits of classes
        if outputs == 4:
            spread, bias = 0.2, torch.full((outputs,), 0.8)
        elif outputs > ARGUMENTS["num_classes"]:  # short distances are the likely ones
            spread, bias = 0.5, -0.8 * torch.arange(outputs // 4).repeat(4)
        weight = torch.randn(layer.weight.shape, generator=generator)
        given = torch.nn.functional.conv2d(x, weight)
        layer.weight.copy_(weight * spread / given.std())
        layer.bias.copy_(bias - given.mean((0, 2, 3)) * spread / given.std())


def define(
    name: str, state: Mapping[str, torch.Tensor], shape: tuple[Any, ...], precision: str = "fp32",
    **arguments: Any,
) -> trtnet.Network:  # fmt: skip
    model = zoo.get_model(name, **{**ARGUMENTS, **KEPT, **arguments})
    model.load_state_dict({key: tensor.numpy() for key, tensor in state.items()})
    network = trtnet.Network("rtx", precision)
    inputs = [network.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(network.input("image_sizes", (shape[0], 2), "int32"))
    for key, tensor in model(*inputs).items():
        network.output(key, tensor)
    return network


def run_twin(
    name: str, state: Mapping[str, torch.Tensor], *inputs: np.ndarray, **arguments: Any
) -> dict[str, np.ndarray]:
    twin = twin_of(name, **arguments)
    twin.load_state_dict(state)
    with torch.no_grad():
        found = twin(*(torch.from_numpy(array) for array in inputs))
    return {key: tensor.numpy() for key, tensor in found.items()}


def test_detections_are_those_of_the_twin(seeded: Seeded) -> None:
    name, form, size, state = seeded
    x = images(2, *size)
    found = reference.run(define(name, state, ("N", 3, "H", "W"), **form).definition, {"input": x})
    expected = run_twin(name, state, x, **form)
    assert (expected["num_dets"] == COUNT).all()
    np.testing.assert_array_equal(found["num_dets"], expected["num_dets"])
    np.testing.assert_array_equal(found["det_classes"], expected["det_classes"])
    np.testing.assert_allclose(found["det_scores"], expected["det_scores"], atol=1e-4)
    for ours, theirs in zip(found["det_boxes"], expected["det_boxes"], strict=True):
        overlap = box_iou(torch.from_numpy(ours), torch.from_numpy(theirs))
        assert overlap.diagonal().min() >= 0.999


@pytest.mark.parametrize("name", SMALLEST)
def test_boxes_end_where_their_image_ends(name: str) -> None:
    state = seeded_model(name).state_dict()
    x, sizes = images(2, 96, 128), np.array([[96, 128], [56, 78]], np.int32)
    arguments = {"image_sizes": True, "output_format": "raw"}
    network = define(name, state, (2, 3, 96, 128), **arguments)
    found = reference.run(network.definition, {"input": x, "image_sizes": sizes})
    expected = run_twin(name, state, x, sizes, **arguments)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    assert (found["boxes"] <= sizes[:, None, [1, 0, 1, 0]]).all()
    assert (found["boxes"][..., 3] == sizes[:, None, 0]).any()


def test_rows_of_six(seeded: Seeded) -> None:
    """A threshold between the twelfth score and the thirteenth: more places than boxes."""
    name, form, size, state = seeded
    x = images(1, *size)
    scores = run_twin(name, state, x, **form)["det_scores"][0]
    threshold = float(scores[11:13].mean())
    arguments = {**form, "output_format": "rows6", "score_thresh": threshold}
    network = define(name, state, x.shape, **arguments)
    (found,) = reference.run(network.definition, {"input": x}).values()
    (expected,) = run_twin(name, state, x, **arguments).values()
    assert found.shape == expected.shape == (1, COUNT, 6)
    assert ((expected[..., 5] >= 0).sum(1) == 12).all()
    np.testing.assert_allclose(found, expected, atol=1e-2)


# Modules


@pytest.mark.parametrize(("name", "form"), [*FORMS, ("yolo11m", {}), ("yolo26m", {})], ids=str)
def test_every_module_verifies(name: str, form: dict[str, Any]) -> None:
    """Sizes from m on have nested blocks everywhere."""
    twin = seeded_model(name, **form, output_format="raw")
    network = define(name, twin.state_dict(), ("N", 3, "H", "W"), output_format="raw", **form)
    inputs = {"input": images(2, 64, 96)}
    found = trtnet.verify(network, twin, inputs, float64=True)
    assert found.passed, found
    assert max(row.rel_l2 for row in found.rows) <= 1e-5
    seen = {row.module for row in found.rows}
    called = {path for path, module in twin.named_modules() if hasattr(module, "conv")}
    unused = "model.23.cv" if twin.model[-1].prefix else "model.23.one2one"
    missing = {
        path
        for path in called - seen
        if not path.startswith((unused, "model.22.dfl", "model.23.dfl"))
    }
    assert not missing  # the DFL is called once for each level: dfl#0


@pytest.mark.parametrize("name", SMALLEST)
def test_fp16_verifies(name: str) -> None:
    twin = seeded_model(name, output_format="raw")
    network = define(name, twin.state_dict(), (2, 3, 64, 96), "fp16", output_format="raw")
    assert trtnet.verify(network, twin, {"input": images(2, 64, 96)}).passed


def test_the_weights_of_the_dfl_count() -> None:
    """They are a constant of the checkpoint; with others the boxes are others."""
    twin = seeded_model("yolov8n", output_format="raw")
    state = {**twin.state_dict()}
    state["model.22.dfl.conv.weight"] = torch.linspace(3, 7, 16).reshape(1, 16, 1, 1)
    x = images(1, 64, 64)
    network = define("yolov8n", state, x.shape, output_format="raw")
    found = reference.run(network.definition, {"input": x})
    expected = run_twin("yolov8n", state, x, output_format="raw")
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


# Checkpoints


def folded(twin: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict of `twin` with PyTorch's own folding of BatchNorms."""
    state = {key: value for key, value in twin.state_dict().items() if ".bn." not in key}
    for path, module in twin.named_modules():
        if isinstance(getattr(module, "bn", None), torch.nn.BatchNorm2d):
            fused = torch.nn.utils.fuse_conv_bn_eval(module.conv, module.bn)
            state[f"{path}.conv.weight"] = fused.weight
            state[f"{path}.conv.bias"] = fused.bias
    return {key: value.detach() for key, value in state.items()}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_folded_checkpoint_of_other_classes_loads_by_itself(name: str, tmp_path: Any) -> None:
    from trtnet.zoo.settling import settle

    twin = seeded_model(name, output_format="raw", num_classes=3)
    state = folded(twin)
    torch.save(state, tmp_path / "best.pt")
    entry = zoo.get_entry(name)
    weights = trtnet.weights.load(tmp_path / "best.pt")
    arguments = {"output_format": "raw"}
    settled = settle(entry, entry.build(**arguments), weights, arguments, set())
    assert settled.arguments == {"output_format": "raw", "num_classes": 3, "fused": True}
    assert len(settled.notes) == 2
    settled.module.load_state_dict(settled.weights)
    network = trtnet.Network("rtx")
    x = images(2, 64, 64)
    for key, tensor in settled.module(network.input("input", x.shape)).items():
        network.output(key, tensor)
    found = reference.run(network.definition, {"input": x})
    with torch.no_grad():
        expected = {key: value.numpy() for key, value in twin(torch.from_numpy(x)).items()}
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)


@pytest.mark.parametrize("classes", [1, 4, 120])
def test_the_number_of_classes_is_that_of_the_checkpoint(classes: int) -> None:
    """The branch of the classes is wider inside where there are more of them."""
    from trtnet.zoo.settling import settle

    entry = zoo.get_entry("yolov8n")
    with without_memory():
        shapes = entry.torch_model(num_classes=classes).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in shapes.items()}
    settled = settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, set())
    assert settled.arguments == {"num_classes": classes}
    settled.module.load_state_dict(settled.weights)
    with pytest.raises(trtnet.WeightsError, match=f"num_classes={classes}"):
        settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, {"num_classes"})


# Images and engines


def test_images_are_prepared_as_published() -> None:
    """RGB of 0 to 1 in the middle of a letterbox of grey 114."""
    image = Image.fromarray(np.full((160, 320, 3), [200, 20, 7], np.uint8))
    preprocessing = zoo.get_entry("yolov8n").preprocessing
    assert preprocessing is not None
    expected = np.full((1, 3, 640, 640), 114, np.float32)
    expected[0, :, 160:480] = np.array([200, 20, 7])[:, None, None]
    np.testing.assert_allclose(prepare(image, preprocessing), expected / 255, rtol=1e-6)


@pytest.mark.parametrize("name", SMALLEST)
def test_sizes_that_are_no_multiples_of_32_are_refused(name: str) -> None:
    network = trtnet.Network("rtx")
    with pytest.raises(trtnet.ShapeError, match="multiples of 32"):
        zoo.get_model(name)(network.input("input", (1, 3, 100, 128)))


@pytest.mark.parametrize("shape", [(1, 3, 96, 128), ("N", 3, "H", "W")])
@pytest.mark.parametrize(("name", "precision"), [
    ("yolov8n", "fp32"), ("yolov8n", "fp16"), ("yolo11n", "fp16"), ("yolo26n", "fp16"),
    ("yolo11m", "fp16"),
])  # fmt: skip
def test_an_engine_builds(name: str, precision: str, shape: tuple[Any, ...]) -> None:
    state = seeded_model(name).state_dict()
    network = define(name, state, shape, precision, image_sizes=True)
    sizes = None
    if shape[0] == "N":
        sizes = {
            "input": trtnet.Shapes(min=(1, 3, 32, 32), opt=(1, 3, 96, 128), max=(2, 3, 192, 192)),
            "image_sizes": trtnet.Shapes(min=(1, 2), opt=(1, 2), max=(2, 2)),
        }
    plan = trtnet.build(network, shapes=sizes) if sizes else trtnet.build(network)
    assert len(plan.engine) > 1_000_000
