"""Networks of the YOLO lines whose seeded weights find boxes, and their PyTorch twins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

import trtnet
from trtnet import zoo

ARGUMENTS: dict[str, Any] = {"num_classes": 6}
COUNT = 20  # boxes of an image
KEPT = {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": COUNT}
GAP = 1e-3  # between the scores of the boxes of an image
_BRANCH = 0.4
_ADDED = ("conv1.bn", "conv2.bn", "cv2.bn", "proj.bn", "ffn.1.bn")
_OF_ANCHORS = 3 * (5 + ARGUMENTS["num_classes"])  # channels of a head with three anchors
State = dict[str, torch.Tensor]


def images(count: int, height: int, width: int) -> np.ndarray:
    """Coarse squares and noise."""
    rng = np.random.default_rng(height)
    noise = rng.standard_normal((count, 3, height, width))
    squares = rng.uniform(-2, 2, (count, 3, height // 16, width // 16))
    return (squares.repeat(16, 2).repeat(16, 3) + noise / 2).astype(np.float32)


def picture(edge: int) -> np.ndarray:
    """(edge, edge, 3) uint8: it fills a letterbox of this size, so that nothing is resized."""
    (noise,) = images(1, edge, edge)
    levels: np.ndarray = (noise * 40 + 128).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return levels


def prepared(levels: np.ndarray) -> np.ndarray:
    """The input that a picture which is not resized becomes."""
    scaled: np.ndarray = np.float32(levels / 255).transpose(2, 0, 1)[None].copy()
    return scaled


def run_with_package(modules: Iterable[ModuleType], program: str, folder: Path, *line: str) -> None:
    """Runs a program in `folder`, in which there is a package ``gone_yolo`` of these modules of the
    twins; it is deleted then."""
    package = folder / "gone_yolo"
    package.mkdir()
    for module in modules:
        source = Path(str(module.__file__))
        text = source.read_text().replace("trtnet.zoo.detection.yolo", package.name)
        (package / source.name).write_text(text)
    subprocess.run([sys.executable, "-c", program, *line], cwd=folder, check=True)
    shutil.rmtree(package)


def require_same_boxes(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Of outputs of the format efficientnms: equal numbers and classes, an IoU of 0.999, scores
    within 1e-4; as many as fit in every image."""
    assert (expected["num_dets"] == COUNT).all()
    np.testing.assert_array_equal(found["num_dets"], expected["num_dets"])
    np.testing.assert_array_equal(found["det_classes"], expected["det_classes"])
    np.testing.assert_allclose(found["det_scores"], expected["det_scores"], atol=1e-4)
    for ours, theirs in zip(found["det_boxes"], expected["det_boxes"], strict=True):
        overlap = box_iou(torch.from_numpy(ours), torch.from_numpy(theirs))
        assert overlap.diagonal().min() >= 0.999


def twin_of(name: str, **arguments: Any) -> torch.nn.Module:
    return zoo.get_entry(name).torch_model(**{**ARGUMENTS, **KEPT, **arguments})


def seeded_model(name: str, **arguments: Any) -> torch.nn.Module:
    """No parameter is constant, and the signal keeps its strength."""
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
    for path, module in twin.named_modules():
        inside = ".m." in path or ".bottleneck." in path
        if inside and path.endswith(_ADDED):  # weak beside what it is added to
            module.weight.data *= _BRANCH
    return twin


def seeded_classifier(name: str, num_classes: int) -> torch.nn.Module:
    """Logits that differ."""
    torch.manual_seed(0)
    twin = zoo.get_entry(name).torch_model(num_classes=num_classes)
    for layer in twin.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 1.5, 2.5)
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    return twin


def seeded_state(name: str, form: Mapping[str, Any], size: tuple[int, int]) -> State:
    """Weights that find more than COUNT boxes in each of two images of a size, the scores GAP
    apart."""
    return state_for(images(2, *size), name, form)


def state_for(found_in: np.ndarray, name: str, form: Mapping[str, Any]) -> State:
    """The same for images (B, 3, H, W)."""
    twin = seeded_model(name, **form, detections_per_img=COUNT + 1)
    x = torch.from_numpy(found_in)
    with torch.no_grad():
        features, sizes = twin.features(x), torch.tensor([x.shape[2:]] * len(x))
        insides = _insides(twin, features)
        for seed in range(3000):
            _seed_heads(insides, seed)
            if _are_clear(twin.found(features, sizes)):
                return twin.state_dict()
    raise AssertionError("no seed gives scores that are far enough apart")


def _are_clear(found: Mapping[str, torch.Tensor]) -> bool:
    """Whether there is one box more than are kept, all have an area, and their scores differ."""
    has_area = found["det_boxes"][..., 2:] > found["det_boxes"][..., :2] + 1
    gaps = -found["det_scores"].diff(dim=1)
    every = (found["num_dets"] == COUNT + 1).all() and has_area.all() and (gaps >= GAP).all()
    return bool(every)


def _insides(
    twin: torch.nn.Module, features: list[torch.Tensor]
) -> list[tuple[torch.nn.Conv2d, torch.Tensor]]:
    """The last convolutions of a head, those with a bias, and what they are given."""
    found: list[tuple[torch.nn.Conv2d, torch.Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda layer, given: found.append((layer, given[0])))
        for module in twin.modules()
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None
    ]
    twin.head(features)
    for hook in hooks:
        hook.remove()
    return found


def _seed_heads(insides: list[tuple[torch.nn.Conv2d, torch.Tensor]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer, x in insides:
        outputs = layer.out_channels
        spread, bias = 1.5, torch.full((outputs,), -3.0)  # logits of classes
        if outputs == 4:
            spread, bias = 0.2, torch.full((outputs,), 0.8)
        elif outputs == _OF_ANCHORS:  # as large as the anchors; an object
            spread = torch.tensor([*[0.2] * 4, 0.6, *[2.0] * 6]).repeat(3)
            bias = torch.tensor([*[0.0] * 4, 2.0, *[-3.0] * 6]).repeat(3)
        elif outputs > ARGUMENTS["num_classes"]:  # short distances are the likely ones
            spread, bias = 0.5, -0.8 * torch.arange(outputs // 4).repeat(4)
        weight = torch.randn(layer.weight.shape, generator=generator)
        given = torch.nn.functional.conv2d(x, weight, groups=layer.groups)
        scale = torch.as_tensor(spread / given.std()).expand(outputs)
        layer.weight.copy_(weight * scale[:, None, None, None])
        layer.bias.copy_(bias - given.mean((0, 2, 3)) * scale)


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
