"""COCO's mAP of a detector that ships in every precision, through the networks read back.

    python tools/detector_accuracy.py [--model NAME] [--pictures 200] [--markdown docs/accuracy.md]

The network is defined in TensorRT, read back, and executed by the reference, casts and Q/DQ pairs
included. Boxes, scores and the suppression are computed in FP32 in every precision. INT8 is
calibrated with 32 pictures that are not among the held-out ones, without their boxes.

mAP@0.5:0.95 is measured by pycocotools. The *drop* is that against FP32. *Matched* is the share of
the boxes of FP32 with a score of at least 0.3 that have a box of the same class with an IoU of at
least 0.9, and in the row of FP32 how many these are. The exit status is 1 if a limit is missed.
Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import detector_data
import numpy as np
from accuracy_page import write_sections
from detector_data import HELD_OUT_SIZES, Labelled, coco_map, labelled
from installed import versions
from PIL import Image

import trtnet
from trtnet import reference, weights, zoo
from trtnet.graph import Graph, read
from trtnet.imaging import placement, prepare
from trtnet.network.quantizer import Ranges
from trtnet.quantization import calibrate
from trtnet.reference.runner import execute, to_numpy
from trtnet.reference.runner import prepare as placed
from trtnet.tasks.detector import boxes_in_image

METHOD = "mse"
CALIBRATION = 32
SCORE, IOU = 0.3, 0.9  # of boxes that are matched
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]  # (K, 4), scores (K,), classes (K,)


@dataclass(frozen=True)
class Row:
    """A precision: its policy, and what is accepted of it.

    Attributes:
        largest_drop: of mAP.
        least_matched: of the boxes of FP32.
    """

    label: str
    policy: trtnet.Policy
    largest_drop: float | None = None
    least_matched: float | None = None

    @property
    def quantized(self) -> bool:
        """Whether it needs a calibration."""
        return self.policy.uses("int8")


@dataclass(frozen=True)
class Score:
    """What was measured of a row, as shares of 1, and how many boxes of FP32 are to be matched."""

    row: Row
    figures: np.ndarray
    drop: float
    matched: float
    boxes: int

    @property
    def passed(self) -> bool:
        """Whether both limits are kept, where there are any."""
        drop, matched = self.row.largest_drop, self.row.least_matched
        return (drop is None or self.drop <= drop) and (matched is None or self.matched >= matched)


def models() -> dict[str, list[Row]]:
    """The precisions of each detector that ships. What stays wider beside INT8 is what
    ``trtnet sensitivity`` puts first."""
    neck = {"model.encoder.fpn_blocks.*": "fp16", "model.encoder.pan_blocks.0.*": "fp16"}
    return {
        "yolox_shapes": _rows({"backbone.backbone.stem": "fp16", "head.*_preds": "fp16"}),
        "rtdetr_shapes": _rows(neck),
    }


def _rows(keep: dict[str, str]) -> list[Row]:
    """Every precision, FP32 first; the last is INT8 but for `keep`."""
    preset = trtnet.Policy.preset
    return [
        Row("FP32", preset("fp32")),
        Row("FP16", preset("fp16"), largest_drop=0.003, least_matched=0.99),
        Row("BF16", preset("bf16")),
        Row("INT8", preset("int8")),
        Row(f"INT8, but {_named(keep)}", trtnet.Policy("int8", keep=keep), largest_drop=0.01),
    ]


def _named(keep: dict[str, str]) -> str:
    return ", ".join(f"`{pattern}` in {precision.upper()}" for pattern, precision in keep.items())


@dataclass
class Detector:
    """The shipped model `name`, as a network of each policy."""

    name: str
    state: weights.Weights = field(init=False)

    def __post_init__(self) -> None:
        entry = zoo.get_entry(self.name)
        self.state = weights.load(entry.weights_file(entry.default_weights))

    def define(self, policy: trtnet.Policy, ranges: Ranges | None = None) -> trtnet.Network:
        """The network; an observing one where it lacks the `ranges` it needs."""
        entry = zoo.get_entry(self.name)
        model = entry.build()
        model.load_state_dict(self.state)
        network = trtnet.Network("rtx", precision=policy, calibration=ranges)
        image = network.input("input", (1, *entry.require_input_shape()))
        for name, tensor in model(image).items():
            network.output(name, tensor)
        return network

    def graph(self, row: Row) -> Graph:
        """The network of a row, read back."""
        network = self.define(row.policy)
        if row.quantized:
            pictures = calibration_pictures()
            found = calibrate(read(network.definition), network.observed,
                              ({"input": self.input(picture)} for picture in pictures))  # fmt: skip
            table = found.table(METHOD, weights_sha256=network.weights_sha256, precision="int8")
            network = self.define(row.policy, table)
        return read(network.definition)

    def input(self, picture: Labelled) -> np.ndarray:
        """A picture as the weights say."""
        return prepare(Image.fromarray(picture.image), self.state.preprocessing or {})

    def found(self, graph: Graph, pictures: Iterable[Labelled]) -> list[Boxes]:
        """The detections of each picture, in its pixels."""
        module = reference.compile(graph)
        results = []
        for picture in pictures:
            outputs = execute(module, placed(graph, {"input": self.input(picture)}))
            count = int(to_numpy(outputs["num_dets"])[0, 0])
            boxes, scores, classes = (to_numpy(outputs[f"det_{name}"])[0, :count]
                                      for name in ("boxes", "scores", "classes"))  # fmt: skip
            place = placement(picture.image.shape[1::-1], self.state.preprocessing or {})
            results.append((boxes_in_image(boxes, place), scores, classes))
        return results


def calibration_pictures() -> Iterator[Labelled]:
    """Pictures of the held-out ones' sizes, and with other seeds."""
    for index in range(CALIBRATION):
        size = HELD_OUT_SIZES[index % len(HELD_OUT_SIZES)]
        yield labelled((detector_data.TRAINING, index), *size)


def matched(first: Sequence[Boxes], second: Sequence[Boxes]) -> float:
    """The share of boxes of `first` with :data:`SCORE` that `second` has, by :data:`IOU`."""
    total = hits = 0
    for (boxes, scores, classes), (others, _, kinds) in zip(first, second, strict=True):
        for box, kind in zip(boxes[scores >= SCORE], classes[scores >= SCORE], strict=True):
            total += 1
            hits += bool((_iou(box, others[kinds == kind]) >= IOU).any())
    return hits / total if total else 1.0


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    box, others = box.astype(np.float64), others.astype(np.float64)
    edges = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = edges.clip(0).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    iou: np.ndarray = shared / areas
    return iou


def measure(detector: Detector, pictures: Sequence[Labelled]) -> Iterator[Score]:
    """Every precision on the same pictures."""
    first: list[Boxes] = []
    best = 0.0
    for row in models()[detector.name]:
        found = detector.found(detector.graph(row), pictures)
        figures = coco_map(pictures, found)
        if not first:
            first, best = found, figures[0]
        sure = sum(int((scores >= SCORE).sum()) for _, scores, _ in first)
        yield Score(row, figures, best - figures[0], matched(first, found), sure)


def line(score: Score) -> str:
    """A row of the table."""
    row = score.row
    is_first = row.label == "FP32"
    limits = []
    if row.largest_drop is not None:
        limits.append(f"drop {row.largest_drop:g}")
    if row.least_matched is not None:
        limits.append(f"matched {row.least_matched:.0%}")
    limit = ", ".join(limits) or "-"
    cells = (row.label, METHOD if row.quantized else "-", f"{score.figures[0]:.4f}",
             f"{score.figures[1]:.4f}", f"{score.figures[2]:.4f}",
             "-" if is_first else f"{score.drop:.4f}",
             f"{score.boxes} boxes" if is_first else f"{score.matched:.2%}",
             limit + ("" if score.passed else " MISSED"))  # fmt: skip
    return f"| {' | '.join(cells)} |"


def heading(detector: Detector, count: int) -> list[str]:
    """What is said before the table."""
    package = trtnet.backend.description("rtx").package or "rtx"
    columns = ("precision", "calibration", "mAP@0.5:0.95", "@0.5", "@0.75", "drop", "matched",
               "limit")  # fmt: skip
    description = (__doc__ or "").split("\n\n")[2:4]
    command = shlex.join(["python", "tools/detector_accuracy.py", *sys.argv[1:]])
    shipped = zoo.get_entry(detector.name).default_weights
    return [
        f"## {detector.name}, `{shipped}`", "", f"`{command}`", "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; "
        f"{versions(package, 'torch', 'pycocotools', 'numpy')}.", "",
        f"On {count} held-out pictures of drawn shapes (`tools/detector_data.py`).",
        *"\n\n".join(description).splitlines(), "",
        f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=models(), default="yolox_shapes")
    parser.add_argument("--pictures", type=int, default=detector_data.HELD_OUT_COUNT)
    parser.add_argument("--markdown", type=Path, help="also write the table into this page")
    args = parser.parse_args(argv)
    pictures = list(detector_data.held_out(args.pictures))
    detector = Detector(args.model)
    text = heading(detector, len(pictures))
    print("\n".join(text), flush=True)
    passed = True
    for score in measure(detector, pictures):
        text.append(line(score))
        print(text[-1], flush=True)
        passed = passed and score.passed
    if args.markdown:
        write_sections(args.markdown, "\n".join(text))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
