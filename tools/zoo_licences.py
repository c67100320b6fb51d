"""Whose weights fit the zoo's detectors, and under which licences: a section of ``docs/zoo.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TITLE = """
## Licences of detectors and YOLO models

trtnet's definitions are under trtnet's own licence, Apache-2.0. The weights of drawn shapes ship
with it; others are yours to obtain, under the licence that their publishers state. No source under
AGPL or GPL was used. Where a line has no release under a permissive licence, its definition is made
of published facts: lists of layers, numbers of channels, names of parameters.
"""

UNCONFIRMED = """
Names unconfirmed by a published checkpoint: those inside of layer 22 of YOLO26, and those of the
branch that only training runs of `yolov9m` and `yolov9c`. RefineDet's names are trtnet's own.
"""

COLUMNS = (
    "models",
    "original, or source of facts",
    "its licence",
    "weights that fit",
    "their licence",
)

TORCHVISION = r"(ssd|ssdlite|retinanet|fcos|fasterrcnn|maskrcnn|keypointrcnn)\d*_.*"
FACTS = "published facts"
UNUSED = "the publisher's code is AGPL-3.0, and not used"
STATED = "AGPL-3.0, as it states"
TENSORRTX = "[tensorrtx](https://github.com/wang-xinyu/tensorrtx)"
RELEASE = "[MultimediaTechLab/YOLO](https://github.com/MultimediaTechLab/YOLO), by the authors"
PUBLISHER = "`.pt` of its publisher, and of one's own training with its software"


@dataclass(frozen=True)
class Licence:
    """One line of models.

    Attributes:
        models: a regular expression of their whole names.
        label: how the page calls them.
        source: what the definition follows.
        source_licence: that of `source`.
        weights: published files that fit.
        weights_licence: as their publishers state.
    """

    models: str
    label: str
    source: str
    source_licence: str
    weights: str
    weights_licence: str


LICENCES = (
    Licence(r"(yolox|rtdetr)_shapes", "`yolox_shapes`, `rtdetr_shapes`", "YOLOX, RT-DETR as below",
            "Apache-2.0", "`SHAPES_V1`, which ship", "Apache-2.0, trtnet's"),
    Licence(r"yolox_(nano|tiny|[smlx])", "`yolox_nano` to `yolox_x`",
            "[YOLOX](https://github.com/Megvii-BaseDetection/YOLOX)", "Apache-2.0",
            "`.pth` of its releases", "Apache-2.0"),
    Licence(r"yolov7", "`yolov7`", RELEASE, "MIT", "of that release", "MIT"),
    Licence(r"yolov9[tsmc]", "`yolov9t` to `yolov9c`", RELEASE, "MIT", "of that release", "MIT"),
    Licence(r"yolov8[nsmlx]", "`yolov8n` to `yolov8x`", FACTS, UNUSED, PUBLISHER, STATED),
    Licence(r"yolov8[nsmlx]_(seg|pose|cls)", "`yolov8n_seg`, `_pose`, `_cls` to `yolov8x_…`",
            f"{FACTS}; {TENSORRTX}", f"MIT; {UNUSED}", PUBLISHER, STATED),
    Licence(r"yolo11[nsmlx]", "`yolo11n` to `yolo11x`", FACTS, UNUSED, PUBLISHER, STATED),
    Licence(r"yolo26[nsmlx]", "`yolo26n` to `yolo26x`",
            f"{FACTS}; [lucid-YOLO](https://github.com/Borda/lucid-YOLO)", f"Apache-2.0; {UNUSED}",
            PUBLISHER, STATED),
    Licence(r"yolov[34](_tiny)?", "`yolov3`, `yolov3_tiny`, `yolov4`, `yolov4_tiny`",
            "`.cfg` of [pjreddie](https://github.com/pjreddie/darknet)'s and "
            "[AlexeyAB](https://github.com/AlexeyAB/darknet)'s darknet", "public domain",
            "`.weights` that these publish", "public domain, as that code"),
    Licence(r"detr_resnet50", "`detr_resnet50`",
            "[DETR](https://github.com/facebookresearch/detr), as in transformers", "Apache-2.0",
            "`facebook/detr-resnet-50`, and the authors' `.pth`", "Apache-2.0"),
    Licence(r"rtdetr_(r|v2_r).*", "`rtdetr_r18` to `rtdetr_v2_r101`",
            "[RT-DETR](https://github.com/lyuwenyu/RT-DETR), as in transformers", "Apache-2.0",
            "`PekingU/rtdetr_*`, and the authors' `.pth`", "Apache-2.0"),
    Licence(r"dfine_[nsmlx]", "`dfine_n` to `dfine_x`",
            "[D-FINE](https://github.com/Peterande/D-FINE), as in transformers", "Apache-2.0",
            "`ustc-community/dfine-*`, and the authors' `.pth`", "Apache-2.0"),
    Licence(r"rfdetr_([nsml]|base)", "`rfdetr_n` to `rfdetr_l`, `rfdetr_base`",
            "[RF-DETR](https://github.com/roboflow/rf-detr), as in transformers", "Apache-2.0",
            "transformers' files, and the authors' `.pth`", "Apache-2.0"),
    Licence(TORCHVISION, "SSD, SSDlite, RetinaNet, FCOS, R-CNNs",
            "[torchvision](https://github.com/pytorch/vision)", "BSD-3-Clause", "torchvision's",
            "torchvision's; terms of the data they were trained with may apply"),
    Licence(r"refinedet320_vgg16", "`refinedet320_vgg16`",
            "its [paper](https://arxiv.org/abs/1711.06897)", "-",
            "torchvision's VGG-16, for the backbone", "torchvision's"),
)  # fmt: skip


def licence_of(name: str) -> Licence | None:
    """What the model `name` is under; ``None`` for others than detectors and YOLO models."""
    found = [licence for licence in LICENCES if re.fullmatch(licence.models, name)]
    if len(found) > 1:
        raise ValueError(f"{name}: {len(found)} rows of LICENCES are of it, one is expected")
    return found[0] if found else None


def rows() -> Iterator[Iterable[str]]:
    """The cells of :data:`COLUMNS`."""
    for one in LICENCES:
        yield one.label, one.source, one.source_licence, one.weights, one.weights_licence
