"""The boxes that candidates of ``tools/bench_detectors.py`` find, and torchvision's detectors among
its peers: called as they are, or with a network that is one CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from paired_timing import recorded
from torchvision.ops import box_iou

THIN = 1.0  # pixels


@dataclass(frozen=True)
class Found:
    """Boxes (K, 4) in float64, scores (K,) and classes (K,), on the CPU."""

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor

    @staticmethod
    def of_outputs(outputs: Sequence[torch.Tensor]) -> list[Found]:
        """Those of each image of the four tensors of ``efficientnms``."""
        return [Found(boxes[:count].double(), scores[:count].double(), classes[:count])
                for (count,), boxes, scores, classes in zip(outputs[0].int().tolist(), *outputs[1:],
                                                            strict=True)]  # fmt: skip

    @staticmethod
    def of_rows(rows: torch.Tensor) -> Found:
        """Those of the rows of an image, see :mod:`bench_detector_nms`."""
        values = rows.double().cpu()
        return Found(values[:, :4], values[:, 4], values[:, 5].long())

    def above(self, score: float) -> Found:
        """Those with at least this score that are not thinner than a pixel: clipping to the image
        leaves boxes without an area, whose overlaps say nothing."""
        kept = (self.scores >= score) & (self.boxes[:, 2:] - self.boxes[:, :2] >= THIN).all(1)
        return Found(self.boxes[kept], self.scores[kept], self.classes[kept])

    def count_in(self, others: Found, iou: float) -> int:
        """How many of these have one among the `others`: the same class, and this IoU."""
        if not len(self.scores) or not len(others.scores):
            return 0
        fits = box_iou(self.boxes, others.boxes) >= iou
        fits &= self.classes[:, None].long() == others.classes.long()
        return int(fits.any(1).sum())


def share(expected: Sequence[Found], found: Sequence[Found], iou: float) -> float:
    """The share of the boxes of all images that are found; of more images than are expected, the
    first count."""
    whole = sum(len(one.scores) for one in expected)
    pairs = zip(expected, found, strict=False)
    return sum(one.count_in(other, iou) for one, other in pairs) / whole if whole else 1.0


def found_by(result: Any) -> Found:
    """What one of torchvision's detectors returned for one image."""
    one = result[0]
    boxes, scores, labels = (one[name].cpu() for name in ("boxes", "scores", "labels"))
    return Found(boxes.double(), scores.double(), labels)


@dataclass
class Peer:
    """A detector that is called with one image, as torchvision's are."""

    model: Callable[..., Any]
    image: torch.Tensor
    autocast: bool = False

    def __call__(self) -> Any:
        with torch.autocast("cuda", torch.float16) if self.autocast else nullcontext():
            return self.model([self.image])


Peers = dict[str, Callable[[], Peer]]


class Dense(torch.nn.Module):
    """Backbone, pyramid, and the head that sees the pyramid's feature maps, of one of torchvision's
    detectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.rpn.head if hasattr(model, "rpn") else model.head

    def forward(self, x: torch.Tensor) -> Any:
        """The features by name, and what the head makes of them."""
        features = self.backbone(x)
        return features, self.head(list(features.values()))


class Replayed(torch.nn.Module):
    """A CUDA graph in the place of a module; `keep` owns the weights that the graph reads."""

    def __init__(
        self, launch: Callable[[], object], given: torch.Tensor, results: Any, keep: Any
    ) -> None:
        super().__init__()
        self._launch, self._given, self._results = launch, given, results
        self._keep = (keep,)  # in a tuple it is no child

    def forward(self, x: torch.Tensor) -> Any:
        """What the graph writes, for `x` in any type."""
        self._given.copy_(x)
        self._launch()
        return self._results


class Constant(torch.nn.Module):
    """What another module has computed already."""

    def __init__(self, results: Any) -> None:
        super().__init__()
        self._results = results

    def forward(self, *_: Any) -> Any:
        """The results."""
        return self._results


def dense_replayed(model: Any, prepared: torch.Tensor) -> torch.nn.Module:
    """`model` on the GPU with its network in FP16, compiled, as one CUDA graph for the size of
    `prepared`, a batch; the rest stays as it is."""
    half = copy.deepcopy(Dense(model)).half().to(memory_format=torch.channels_last)
    given = prepared.half().contiguous(memory_format=torch.channels_last)
    run = torch.compile(half, dynamic=False)
    launch, (features, heads) = recorded(lambda: run(given))
    result: torch.nn.Module = model
    model.backbone = Replayed(launch, given, features, run)
    if hasattr(model, "rpn"):
        model.rpn.head = Constant(heads)
    else:
        model.head = Constant(heads)
    return result


def peers(model: Any, image: torch.Tensor, prepared: torch.Tensor, device: str) -> Peers:
    """The ways to call one of torchvision's detectors, by name.

    Args:
        image: (3, H, W) of 0 to 1.
        prepared: what its network makes of it, (1, 3, H, W).
    """
    if device == "cpu":
        return {"eager": lambda: Peer(model, image)}

    def moved(dtype: torch.dtype) -> tuple[torch.nn.Module, torch.Tensor]:
        copied = copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
        return copied.to(device), image.to(device).to(dtype)

    def compiled() -> Peer:
        copied, given = moved(torch.float32)
        return Peer(dense_replayed(copied, prepared.to(device)), given, autocast=True)

    return {
        "eager, .half()": lambda: Peer(*moved(torch.float16)),
        "eager, autocast": lambda: Peer(*moved(torch.float32), autocast=True),
        "torch.compile of the network, the rest eager": compiled,
    }
