"""timm's checkpoints: each family's network computes what timm's model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.swin_transformer import checkpoint_filter_fn

import trtnet
from trtnet import reference, weights, zoo
from trtnet.errors import TrtnetError, UnsupportedError, UsageError, WeightsError
from trtnet.weights import from_timm, wts
from trtnet.zoo.timm_weights import ARCHITECTURES

CLASSES = 7
TOLERANCE = 1e-6  # relative L2 in float64: what float32 weights leave after BatchNorm is folded

# The smallest of each family, and the size of an image.
FAMILIES = {
    "resnet18": 32,
    "vgg11_bn": 32,
    "densenet121": 32,
    "mobilenetv3_small_100": 64,
    "efficientnet_b0": 64,
    "efficientnetv2_s": 64,
    "convnext_tiny": 32,
    "vit_base_patch16_224": 32,
    "swin_tiny_patch4_window7_224": 224,
    "swinv2_tiny_window8_256": 256,
}


def made(name: str, size: int) -> torch.nn.Module:
    """timm's model with seeded weights, none of them constant, in evaluation mode.

    Residual branches of EfficientNets end in small scales: with branches as strong as their
    shortcuts an untrained network amplifies every rounding.
    """
    args = {"img_size": size} if name.startswith("vit") else {}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES, **args).eval()
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for key in model.state_dict():
            tensor = buffers.get(key, model.state_dict()[key])
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.min() == tensor.max():
                branch = key.startswith("blocks.") and key.endswith(("bn2.weight", "bn3.weight"))
                tensor.mul_(0.2 if branch else 1).add_(torch.randn_like(tensor), alpha=0.1)
    return model


def in_double(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.double()(torch.from_numpy(images).double()).numpy()


@pytest.mark.parametrize(("name", "size"), FAMILIES.items(), ids=FAMILIES)
def test_the_network_computes_what_timms_does(name: str, size: int) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    theirs = made(name, size)
    state = theirs.state_dict()
    expected = in_double(theirs, images)
    del theirs  # VGG has a gigabyte

    model_args: dict[str, Any] = {"num_classes": CLASSES}
    if name.startswith("vit"):
        model_args["image_size"] = size
    loaded = from_timm(state, name, **model_args)
    ours = zoo.get_model(loaded.metadata["architecture"], **model_args)
    ours.load_state_dict(loaded)
    network = trtnet.Network("rtx")
    network.output("logits", ours(network.input("input", images.shape)))
    found = reference.run(network.definition, {"input": images}, float64=True)["logits"]

    assert np.ptp(expected) > 0.01
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


def hollow(name: str) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    """timm's model without memory, and ones in the shapes of its weights that take none either."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=1000)
    one = np.ones((), np.float32)
    state = {key: np.broadcast_to(one, value.shape) for key, value in model.state_dict().items()}
    return model, state


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_fits(name: str) -> None:
    """Loading is strict: every key of timm's has its place, and none is missing."""
    theirs, state = hollow(name)
    loaded = from_timm(state, name)
    assert loaded.metadata["architecture"] == ARCHITECTURES[name].model
    norms = (module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert {norm.eps for norm in norms} <= {1e-5}


def test_another_eps_goes_into_the_scales() -> None:
    """torchvision's MobileNetV3 adds 1e-3 to the variance, timm's 1e-5."""
    name, size = "mobilenetv3_small_100", 16
    _, state = hollow(name)
    variance = np.logspace(-9, 3, size, dtype=np.float32)
    scale = np.linspace(-2, 2, size, dtype=np.float32)
    loaded = from_timm({**state, "bn1.running_var": variance, "bn1.weight": scale}, name)
    np.testing.assert_array_equal(loaded["features.0.1.running_var"], variance)
    exact = variance.astype(np.float64)
    np.testing.assert_allclose(
        loaded["features.0.1.weight"] / np.sqrt(exact + 1e-3), scale / np.sqrt(exact + 1e-5), 1e-7
    )


def test_names_may_have_the_hubs_prefix_and_a_tag() -> None:
    _, state = hollow("resnet18")
    given = weights.Weights(state, {"format": "pt", "sha256": "of other tensors"})
    assert from_timm(given, "timm/resnet18.a1_in1k").metadata == {
        "format": "pt",
        "architecture": "resnet18",
        "weights": "timm/resnet18.a1_in1k",
    }


def test_swin_checkpoints_from_before_timm_0_9() -> None:
    """timm's own filter says what the old keys mean."""
    theirs, new = hollow("swin_tiny_patch4_window7_224")
    old = {}
    for key, array in new.items():
        if key.startswith("layers.") and ".downsample." in key:
            key = f"layers.{int(key[7]) - 1}{key[8:]}"
        old[key.replace("head.fc.", "head.")] = array * np.float32(len(old))
    old["layers.0.blocks.1.attn_mask"] = np.zeros((64, 49, 49), np.float32)
    filtered = checkpoint_filter_fn({k: torch.tensor(v) for k, v in old.items()}, theirs)
    expected = from_timm(filtered, "swin_tiny_patch4_window7_224")
    found = from_timm(old, "swin_tiny_patch4_window7_224")
    assert found.keys() == expected.keys()
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key])


def test_a_wts_file_of_timms_keys(tmp_path: Path) -> None:
    theirs = made("mobilenetv3_small_100", 32)
    state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    wts.write(tmp_path / "w.wts", state)
    found = from_timm(weights.load(tmp_path / "w.wts"), "mobilenetv3_small_100", num_classes=7)
    expected = from_timm(state, "mobilenetv3_small_100", num_classes=CLASSES)
    assert found.keys() == expected.keys()
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key], strict=True)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("tf_efficientnet_b0", UnsupportedError, "(?s)as TensorFlow does.*efficientnet_b0"),
        ("tf_mobilenetv3_small_100.in1k", UnsupportedError, "mobilenetv3_small_100"),
        ("vit_base_patch16_225", UsageError, "did you mean vit_base_patch16_224"),
        ("resnet50d", UsageError, "did you mean resnet50"),
        ("beit", UsageError, "choose resnet18, .*swinv2_base_window8_256"),
    ],
)
def test_architectures_that_the_zoo_lacks(name: str, kind: type[TrtnetError], message: str) -> None:
    with pytest.raises(kind, match=message):
        from_timm({}, name)


def test_weights_of_another_architecture_are_refused() -> None:
    _, state = hollow("mobilenetv3_small_100")
    with pytest.raises(WeightsError, match="do not fit vit_b_16") as caught:
        from_timm(state, "vit_base_patch16_224")
    assert "missing: class_token" in str(caught.value)
    assert "unexpected: conv_stem.weight" in str(caught.value)
    with pytest.raises(WeightsError, match=r"of the shape \(7, 1024\)\s+got: \(1000, 1024\)"):
        from_timm(state, "mobilenetv3_small_100", num_classes=7)
    with pytest.raises(WeightsError, match="unexpected: extra"):
        from_timm({**state, "extra": np.ones(1)}, "mobilenetv3_small_100")
