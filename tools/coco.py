"""Average precision of detectors on COCO val2017 in every precision, beside torchvision's figures.

    python tools/coco.py --coco PATH [--models NAME ...] [--precisions fp16 int8 ...] [--images N]

PATH has ``annotations/instances_val2017.json`` (``person_keypoints_val2017.json`` for networks
with keypoints) and the images in ``val2017``. Weights are torchvision's, from the folder to which
PyTorch downloads them; nothing is downloaded here. What is missing is listed, and the rest is
measured: engines for the backend that runs on this machine, with the images prepared as the weights
say.

The figures are mean average precisions (0.50:0.95, in percent) as pycocotools computes them, of
boxes, masks and keypoints. INT8 and FP8 are calibrated with images of ``train2017`` where that is
in PATH, and else with images of ``val2017`` without their annotations. The exit status is 1 where
FP32 misses a published figure by more than 0.3 on all images, and 2 where data are missing. Needs
``pip install -e ".[rtx,torch,dev]"``; a GPU for more than a few images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import trtnet
from trtnet import zoo
from trtnet.files import atomic_write
from trtnet.imaging.preprocessing import checked_preprocessing
from trtnet.pipeline import CalibrationSettings, Recipe, load_weights, run
from trtnet.pipeline.image_session import shapes_for_images
from trtnet.tasks import Detection, Failure

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
KINDS = {"box_map": "bbox", "mask_map": "segm", "kp_map": "keypoints"}
"""torchvision's names of the figures → pycocotools' names of what is compared."""
INSTANCES, PERSONS = "instances_val2017.json", "person_keypoints_val2017.json"
TOLERANCE = 0.3  # of a published figure
CALIBRATION = 128  # images


@dataclass(frozen=True)
class Subject:
    """A detector and what is known about it.

    Attributes:
        model: its name in the zoo, or its address.
        weights: what ``--weights`` calls them.
        published: torchvision's figures in percent, by their names.
        file: where the weights must be; ``None`` where no file is needed.
    """

    model: str
    weights: str
    published: Mapping[str, float]
    file: Path | None = None

    @property
    def annotations(self) -> str:
        """The name of the file with the truth."""
        return PERSONS if "kp_map" in self.published else INSTANCES


@dataclass(frozen=True)
class Truth:
    """Annotated images.

    Attributes:
        coco: the annotations.
        paths: of the images, by their numbers.
    """

    coco: COCO
    paths: Mapping[int, Path]

    @classmethod
    def read(cls, folder: Path, annotations: str, count: int | None = None) -> Truth:
        """The first `count` images of a data set in `folder`, or all.

        Raises:
            UsageError: images that are missing.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(folder / "annotations" / annotations)
        images = coco.loadImgs(sorted(coco.getImgIds())[:count])
        paths = {image["id"]: folder / "val2017" / image["file_name"] for image in images}
        absent = [path for path in paths.values() if not path.is_file()]
        if absent:
            raise trtnet.UsageError(f"{len(absent)} of {len(paths)} images are missing",
                                    got=f"no {absent[0]}")  # fmt: skip
        return cls(coco, paths)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of the images."""
        images = self.coco.loadImgs(list(self.paths))
        return sorted({(image["width"], image["height"]) for image in images})

    def category_ids(self, names: Sequence[str]) -> dict[int, int] | None:
        """The data set's number of each class of a network, where it calls the classes as the data
        set does; ``None`` where class numbers are the data set's own."""
        ids = {category["name"]: category["id"] for category in self.coco.cats.values()}
        if not ids.keys() <= set(names):
            return None
        return {index: ids[name] for index, name in enumerate(names) if name in ids}

    def average_precision(self, results: Sequence[Mapping[str, Any]], kind: str) -> float:
        """Mean average precision of `results` in percent; 0 where nothing was found.

        Args:
            results: in COCO's format.
            kind: ``"bbox"``, ``"segm"`` or ``"keypoints"``.
        """
        if not results:
            return 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            found = self.coco.loadRes([dict(result) for result in results])
            evaluation = COCOeval(self.coco, found, kind)
            evaluation.params.imgIds = list(self.paths)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return 100 * float(evaluation.stats[0])


def subjects() -> list[Subject]:
    """All registered detectors for which torchvision has figures."""
    import torch
    from torchvision.models import get_model_weights

    found = []
    for name in zoo.list_models():
        entry = zoo.get_entry(name)
        if entry.task != "detection" or not entry.torchvision:
            continue
        weights = get_model_weights(name).DEFAULT
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        figures = weights.meta["_metrics"]["COCO-val2017"]
        found.append(Subject(name, "DEFAULT", figures, file))
    return found


def missing(folder: Path, every: Sequence[Subject]) -> list[str]:
    """What is needed and not there, in words."""
    names = sorted({subject.annotations for subject in every})
    needed = [folder / "annotations" / name for name in names] + [folder / "val2017"]
    lines = [f"{path}: https://cocodataset.org/#download" for path in needed if not path.exists()]
    return lines + [
        f"{subject.file}: trtnet weights extract {subject.model} --weights DEFAULT -o FILE "
        "downloads it"
        for subject in every
        if subject.file is not None and not subject.file.is_file()
    ]


def build(subject: Subject, precision: str, truth: Truth, data: Path, backend: str,
          engine: Path) -> None:  # fmt: skip
    """Writes the engine of a detector for the images of `truth`.

    Args:
        data: a folder of images to calibrate with.
        engine: the file.
    """
    entry = zoo.get_entry(subject.model)
    shape = entry.require_input_shape()
    weights = load_weights(entry, subject.weights, 0, {}, shape)
    stated = weights.preprocessing or entry.preprocessing
    if stated is None:
        raise trtnet.UsageError("nothing says how images are prepared", module=subject.model)
    rules = checked_preprocessing(stated)
    shapes = shapes_for_images(shape, truth.sizes, rules)
    quantizes = precision in ("int8", "fp8")
    calibration = CalibrationSettings(str(data) if quantizes else None, CALIBRATION)
    run(Recipe(entry, precision, weights=subject.weights, profiles=shapes.profiles, force=True,
               calibration=calibration, backend=backend, engine=engine, verify=False))  # fmt: skip


def found_in(engine: Path, truth: Truth, device: str) -> Iterator[dict[str, Any]]:
    """The results of an engine on the images of `truth`, in COCO's format, masks included.

    Raises:
        TrtnetError: an image fails.
    """
    with trtnet.Detector(engine, device=device) as detect:
        ids = truth.category_ids(detect.class_names)
        results = detect.stream(iter(truth.paths.values()))
        for number, result in zip(truth.paths, results, strict=True):
            if isinstance(result, Failure):
                raise result.error
            for place, values in enumerate(result.coco_results(number)):
                label = values["category_id"]
                values["category_id"] = label if ids is None else ids.get(label, -1)
                yield values | _mask(result, place)


def _mask(result: Detection, place: int) -> dict[str, Any]:
    if result.squares is None:
        return {}
    encoded = masks.encode(np.asfortranarray(result.mask(place).astype(np.uint8)))
    return {"segmentation": encoded}


def measure(subject: Subject, precision: str, truth: Truth, data: Path, backend: str = "auto",
            device: str = "auto") -> dict[str, float]:  # fmt: skip
    """The figures of a detector in a precision, in percent, by torchvision's names of them."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Path(folder) / "detector.engine"
        build(subject, precision, truth, data, backend, engine)
        results = list(found_in(engine, truth, device))
    kinds = subject.published or {"box_map": 0.0}
    return {name: truth.average_precision(results, KINDS[name]) for name in kinds}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    every = subjects()
    if arguments.models:
        known = {subject.model: subject for subject in every}
        every = [known.get(name, Subject(name, arguments.weights, {}))
                 for name in arguments.models]  # fmt: skip
    absent = missing(arguments.coco, every)
    if not every or absent:
        print("missing:", *(absent or ["a detector that torchvision has figures for"]), sep="\n  ")
    there = [s for s in every if s.file is None or s.file.is_file()]
    there = [s for s in there if (arguments.coco / "annotations" / s.annotations).is_file()]
    if not there or not (arguments.coco / "val2017").is_dir():
        return 2
    rows, status = [], 0
    for subject in there:
        truth = Truth.read(arguments.coco, subject.annotations, arguments.images)
        training = arguments.coco / "train2017"
        data = training if training.is_dir() else arguments.coco / "val2017"
        for precision in arguments.precisions:
            found = measure(subject, precision, truth, data, arguments.backend, arguments.device)
            about = {"model": subject.model, "precision": precision, "images": len(truth.paths)}
            for name, figure in found.items():
                published = subject.published.get(name)
                row = {**about, "figure": name, "map": round(figure, 2), "published": published}
                rows.append(row)
                print(*row.values(), flush=True)
                is_low = published is not None and figure < published - TOLERANCE
                if precision == "fp32" and arguments.images is None and is_low:
                    status = 1
    if arguments.json is not None:
        with atomic_write(arguments.json) as file:
            file.write(f"{json.dumps(rows, indent=1)}\n".encode())
    return 2 if absent else status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--coco", type=Path, required=True, metavar="PATH")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all of torchvision's")
    parser.add_argument("--weights", default="DEFAULT", help="of a model that is not torchvision's")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--images", type=int, metavar="N", help="only the first N")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="PATH")
    return parser


if __name__ == "__main__":
    sys.exit(main())
