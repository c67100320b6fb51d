"""torchvision's detectors: old keys, outputs of every format, image sizes, preparation, errors.

``tools/verify_detectors.py`` compares boxes with torchvision's own models; here one small case of
each does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

import trtnet
from trtnet import reference, zoo
from trtnet.errors import UsageError
from trtnet.imaging import placement, prepare
from trtnet.weights.random_init import build

NAMES = sorted(
    name for name in models.list_models(models.detection) if name in zoo.list_models(shipped=True)
)
ONE_STAGE = ("fcos_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2",
             "ssd300_vgg16", "ssdlite320_mobilenet_v3_large")  # fmt: skip
SMALL = {"num_classes": 7, "topk_candidates": 60, "detections_per_img": 25, "score_thresh": 0.02}


def defined(name: str, state: Any, shape: tuple[Any, ...], **arguments: Any) -> trtnet.Network:
    model = zoo.get_model(name, **SMALL, **arguments)
    model.load_state_dict(state)
    net = trtnet.Network("rtx")
    inputs = [net.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(net.input("image_sizes", (shape[0], 2), dtype="int32"))
    for output, tensor in model(*inputs).items():
        net.output(output, tensor)
    return net


@pytest.fixture(params=["fcos_resnet50_fpn", "retinanet_resnet50_fpn", "ssd300_vgg16"])
def seeded(request: pytest.FixtureRequest, detector_cases: ModuleType) -> tuple[str, Any]:
    """A detector whose heads find something, and its weights."""
    entry, case = zoo.get_entry(request.param), detector_cases.CASES[request.param]
    model = trtnet.weights.random_init.random_module(
        entry.torch_model, 0, input_shape=(3, 96, 96), output_format="raw", **SMALL
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        case.seed_heads(model, torch.randn(2, 3, *SIZES[request.param]))
    return request.param, model.state_dict()


SIZES = {"fcos_resnet50_fpn": (96, 128), "retinanet_resnet50_fpn": (96, 128),
         "ssd300_vgg16": (300, 300)}  # fmt: skip


def test_all_formats_and_sizes_of_images(seeded: tuple[str, Any]) -> None:
    name, state = seeded
    size = SIZES[name]
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 3, *size)).astype(np.float32)
    sizes = np.array([size, (size[0] - 20, size[1] - 30)], np.int32)
    counts = []
    for output_format in ("raw", "efficientnms", "rows6"):
        twin = zoo.get_entry(name).torch_model(output_format=output_format, **SMALL)
        twin.load_state_dict(state)
        with torch.no_grad():
            wanted = twin(torch.from_numpy(x), torch.from_numpy(sizes))
        dynamic = ("N", 3, *size) if name.startswith("ssd") else ("N", 3, "H", "W")
        for shape in ((2, 3, *size), dynamic):
            net = defined(name, state, shape, output_format=output_format, image_sizes=True)
            got = reference.run(net, {"input": x, "image_sizes": sizes})
            assert list(got) == list(wanted)
            for output, value in wanted.items():
                found = np.asarray(got[output])
                assert found.dtype == value.numpy().dtype
                np.testing.assert_allclose(found, value.numpy(), rtol=1e-3, atol=2e-3)
        if output_format == "efficientnms":
            counts = wanted["num_dets"].flatten().tolist()
    assert min(counts) >= 5


@pytest.mark.parametrize("name", ONE_STAGE)
def test_number_of_parameters_is_torchvisions(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert sum(p.numel() for p in zoo.get_model(name).parameters()) + unlearnt(name) == published


def unlearnt(name: str) -> int:
    """torchvision freezes the BatchNorm of trained backbones, and counts none of it."""
    with torch.device("meta"):
        trained = build(name)
    norms = [m for m in trained.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = name in ("fcos_resnet50_fpn", "retinanet_resnet50_fpn")
    return -sum(p.numel() for m in norms for p in m.parameters()) if frozen else 0


def test_files_from_before_torchvision_0_13() -> None:
    """Convolutions of heads and pyramids were not in blocks; torchvision renames them."""
    name = "retinanet_resnet50_fpn"
    theirs = build(name, num_classes=3)
    old = {}
    for key, value in theirs.state_dict().items():
        parts = key.split(".")
        if parts[0] == "head" and parts[2] == "conv":
            parts = [*parts[:3], str(2 * int(parts[3])), parts[5]]
        elif "inner_blocks" in parts or "layer_blocks" in parts:
            del parts[4]
        old[".".join(parts)] = value
    again = build(name, num_classes=3)
    again.load_state_dict(dict(old))  # torchvision takes it: it is what old files look like
    ours = zoo.get_model(name, num_classes=3)
    assert ours.load_state_dict(old) == ([], [])
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], value.numpy())


def test_the_first_published_weights_have_no_eps() -> None:
    entry = zoo.get_entry("retinanet_resnet50_fpn")
    ours, theirs = entry.build(norm_eps=0.0), entry.torch_model(norm_eps=0.0)
    assert ours.backbone.body["bn1"].eps == theirs.backbone.body["bn1"].eps == 0.0


@pytest.mark.parametrize("name", ONE_STAGE)
def test_images_are_prepared_as_in_torchvisions_model(name: str) -> None:
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    about = zoo.get_entry(name).preprocessing
    assert about is not None
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    image = Image.fromarray(pixels)
    theirs = build(name, num_classes=3).eval().transform([pil_to_tensor(image).float() / 255])[0]
    got = prepare(image, about)
    assert placement(image.size, about).resized == theirs.image_sizes[0]
    scale = float(theirs.tensors.abs().max())
    np.testing.assert_allclose(got, theirs.tensors.numpy(), rtol=0, atol=1e-4 * max(1, scale))


def test_another_number_of_inputs() -> None:
    net = trtnet.Network("rtx")
    x = net.input("x", (1, 3, 300, 300))
    sizes = net.input("sizes", (1, 2), dtype="int32")
    with pytest.raises(UsageError, match="make it with image_sizes=True"):
        zoo.get_model("ssd300_vgg16")(x, sizes)
    with pytest.raises(UsageError, match="two inputs, images and image_sizes"):
        zoo.get_model("ssd300_vgg16", image_sizes=True)(x)


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="no such output format"):
        zoo.get_model("ssd300_vgg16", output_format="boxes")
    net = trtnet.Network("rtx")
    model = zoo.get_model("fcos_resnet50_fpn", topk_candidates=4000)
    model.load_state_dict(build("fcos_resnet50_fpn").state_dict())
    with pytest.raises(UsageError, match="topk_candidates is a number of boxes"):
        model(net.input("x", (1, 3, 64, 64)))
