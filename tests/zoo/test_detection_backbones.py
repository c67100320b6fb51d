"""Feature pyramids and detectors' backbones, module by module against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import _utils as torch_utils
from torchvision.models.detection import backbone_utils
from torchvision.ops import feature_pyramid_network as torch_fpn
from torchvision.ops.misc import FrozenBatchNorm2d

import trtnet
from trtnet import nn
from trtnet.zoo.detection import backbones, feature_pyramid

SIZES = ((2, 8, 24, 31), (2, 12, 12, 16), (2, 16, 6, 8))
DYNAMIC = [(2, 8, "H", "W"), (2, 12, "h", "w"), (2, 16, 6, "v")]
CHANNELS = (8, 12, 16)
FOLDED = 1e-6  # scales and shifts of BatchNorm are rounded to float32


@pytest.mark.parametrize("extra", [None, "pool", "p6 of p5", "p6 of c5"])
@pytest.mark.parametrize("norm", [False, True])
def test_feature_pyramid(extra, norm, check_module):
    def make(package, norm_layer):
        blocks = {
            "pool": package.LastLevelMaxPool,
            "p6 of p5": lambda: package.LastLevelP6P7(10, 10),
            "p6 of c5": lambda: package.LastLevelP6P7(16, 10),
        }
        block = blocks[extra]() if extra else None
        return package.FeaturePyramidNetwork(CHANNELS, 10, block, norm_layer if norm else None)

    ours = make(feature_pyramid, nn.BatchNorm2d)
    theirs = make(torch_fpn, torch.nn.BatchNorm2d).eval()
    names = []

    def call(module, *inputs):
        found = module({f"feature{i}": x for i, x in enumerate(inputs)})
        names.append(list(found))
        return tuple(found.values())

    check_module(ours, theirs, *SIZES, dynamic=DYNAMIC, call=call,
                 rtol64=FOLDED if norm else 1e-9)  # fmt: skip
    assert all(each == names[0] for each in names)


BACKBONES = {
    "resnet50": (
        lambda: backbones.resnet_fpn(),
        lambda norm: backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=norm
        ),
    ),
    "retinanet": (
        lambda: backbones.resnet_fpn(
            returned_layers=(2, 3, 4), extra_blocks=feature_pyramid.LastLevelP6P7(256, 256)
        ),
        lambda norm: backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=norm, returned_layers=[2, 3, 4],
            extra_blocks=torch_fpn.LastLevelP6P7(256, 256),
        ),
    ),
    "mobilenet_v3_large": (
        lambda: backbones.mobilenet_v3_large_fpn(),
        lambda norm: backbone_utils.mobilenet_backbone(
            backbone_name="mobilenet_v3_large", weights=None, norm_layer=norm, fpn=True
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name, frozen, check_module):
    make, twin = BACKBONES[name]
    ours = make()
    eps = 1e-3 if name.startswith("mobilenet") else 1e-5
    if frozen:
        backbones.set_norm_eps(ours, eps := 0.0)
        theirs = twin(FrozenBatchNorm2d).eval()
        torch_utils.overwrite_eps(theirs, eps)
    else:
        theirs = twin(lambda channels: torch.nn.BatchNorm2d(channels, eps=eps)).eval()

    def call(module, x):
        return tuple(module(x).values())

    check_module(ours, theirs, (1, 3, 65, 96), dynamic=[(1, 3, "H", "W")], call=call,
                 rtol=1e-4, rtol64=10 * FOLDED, build=name != "resnet50")  # fmt: skip


def test_levels_have_torchvisions_names():
    for make, twin in BACKBONES.values():
        net = trtnet.Network("rtx")
        theirs = twin(torch.nn.BatchNorm2d).eval()
        with torch.no_grad():
            wanted = theirs(torch.zeros(1, 3, 64, 64))
        ours = make()
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        found = ours(net.input("x", (1, 3, 64, 64)))
        assert {name: x.shape for name, x in found.items()} == {
            name: tuple(x.shape) for name, x in wanted.items()
        }
        assert ours.out_channels == theirs.out_channels
