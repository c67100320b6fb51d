"""Registers the YOLO lines; how they prepare images, and what their checkpoints tell."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trtnet.detection import Suppression
from trtnet.zoo.detection.yolo.heads import BINS, Branch, Detect, DualDetect, plain
from trtnet.zoo.detection.yolo.model import YOLO, Choice
from trtnet.zoo.detection.yolo.rows import Row, Scale
from trtnet.zoo.registry import Builder, register

if TYPE_CHECKING:
    import torch

COCO = 80
"""Classes of the published checkpoints."""
EDGE = 640
PREPROCESSING = {"letterbox_size": [EDGE, EDGE], "pad_color": 114, "pad_position": "center",
                 "channels": "rgb", "scale": "1/255", "antialias": False}  # fmt: skip
"""How images become inputs of the published checkpoints."""

LISTED_PREPROCESSING = {**PREPROCESSING, "interpolation": "lanczos", "antialias": True}
"""How MultimediaTechLab's release makes inputs of images."""

_CLASSES = re.compile(r"model\.\d+\.(?:one2one_)?cv3\.0\.2\.weight")
ARGUMENTS = """

    Args:
        num_classes: without a background.
        score_thresh: boxes with no higher score are dropped.
        nms_thresh: of two boxes of a class that overlap by more, the worse is dropped.
        detections_per_img: how many an image has at most.
        topk_candidates: how many boxes of an image take part in suppression.
        {more}fused: whether the weights are those of a checkpoint whose BatchNorms were folded into
            convolutions: ``conv.bias`` and no ``bn``. A file of weights says it by itself.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
"""Of a builder, for its docstring."""
_END2END = """end2end: whether the boxes are those of the head that gives one for each object: they
            are not suppressed, and the two arguments of suppression mean nothing.
        """


class Design(NamedTuple):
    """What a model is made of.

    Attributes:
        home: the module that describes it, whose text names its papers.
        line, size: what its PyTorch twin is called.
        rows: the layers before the head.
        levels: which of them the head takes.
        scale: of the rows.
        bins, of_classes: of the head, see :class:`Detect`.
    """

    home: str
    line: str
    size: str
    rows: Sequence[Row]
    levels: Sequence[int]
    scale: Scale
    bins: int = BINS
    of_classes: Branch = plain


Twin = Callable[..., "torch.nn.Module"]
"""Makes the PyTorch counterpart of a line, of a size, with the arguments of the builder."""


def detecting(line: str, size: str, **arguments: Any) -> torch.nn.Module:
    """The :data:`Twin` of a model that finds boxes alone."""
    from trtnet.zoo.detection.yolo.torch_yolo import Yolo  # imports torch

    return Yolo(line, size, **arguments)


def register_suppressed(
    name: str, about: str, design: Design, head: type[Detect] = Detect, twin: Twin = detecting
) -> Callable[..., YOLO]:
    """Registers a model with one head, whose boxes suppress each other.

    Args:
        about: what the model is, in a sentence.
        head: its class.
    """

    def builder(
        num_classes: int = COCO,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        fused: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> YOLO:
        def made(channels: Sequence[int]) -> Detect:
            return head(num_classes, channels, design.bins, design.of_classes)

        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        choice = Choice(how, output_format, image_sizes)
        return YOLO(design.rows, design.levels, design.scale, made, choice, fused)

    return registered(builder, name, about + ARGUMENTS.format(more=""), design, twin)


def register_end_to_end(name: str, about: str, design: Design) -> Callable[..., YOLO]:
    """Registers a model with two heads; arguments as of :func:`register_suppressed`."""

    def builder(
        num_classes: int = COCO,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        end2end: bool = True,
        fused: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> YOLO:
        def head(channels: Sequence[int]) -> DualDetect:
            return DualDetect(num_classes, channels, design.bins, design.of_classes, end2end)

        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        choice = Choice(how, output_format, image_sizes, not end2end)
        return YOLO(design.rows, design.levels, design.scale, head, choice, fused)

    return registered(builder, name, about + ARGUMENTS.format(more=_END2END), design)


Telling = Callable[[Mapping[str, tuple[int, ...]]], dict[str, Any]]
"""Arguments of a builder, of the names and shapes of a checkpoint."""


def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of a builder that the names and shapes of a checkpoint tell: the number of classes,
    and whether BatchNorms were folded.

    >>> told({"model.0.conv.bias": (16,), "model.22.cv3.0.2.weight": (4, 64, 1, 1)})
    {'num_classes': 4, 'fused': True}
    """
    counts = {shape[0] for key, shape in shapes.items() if _CLASSES.fullmatch(key) and shape}
    found: dict[str, Any] = {"num_classes": counts.pop()} if len(counts) == 1 else {}
    return {**found, "fused": True} if "model.0.conv.bias" in shapes else found


def registered(
    builder: Builder, name: str, doc: str, design: Design, twin: Twin = detecting,
    telling: Telling = told,
) -> Builder:  # fmt: skip
    """`builder`, which makes a model of `design`, under its name in the zoo."""
    builder.__name__ = builder.__qualname__ = name
    builder.__doc__, builder.__module__ = doc, design.home
    made = functools.partial(twin, design.line, design.size)
    return register(input_shape=(3, EDGE, EDGE), twin=made, task="detection",
                    preprocessing=PREPROCESSING, telling=telling)(builder)  # fmt: skip
