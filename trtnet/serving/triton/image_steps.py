"""The steps of an ensemble before and after its engine: encoded images in, answers out."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtnet.building.plan import Plan
from trtnet.detection.reading import FoundBoxes, read_detections
from trtnet.errors import ExecutionError, PlanError, UsageError
from trtnet.imaging import Placement, decode_image, shares
from trtnet.pipeline.image_session import SIZES
from trtnet.pipeline.preprocessing import Preparation, preparation_of
from trtnet.reading.documents import MOST_BYTES, Source, from_json
from trtnet.reading.files import read_bytes
from trtnet.serving.triton.ensemble import IMAGE, PLACEMENT, SIDECAR
from trtnet.serving.triton.requests import Arrays, ModelPlace, answer_each, backend_module
from trtnet.serving.triton.served import profiles_of
from trtnet.tasks.classifier import as_probabilities, best_classes
from trtnet.tasks.detector import found_in_image
from trtnet.tasks.further_outputs import (
    keypoints_in_image,
    mask_in_image,
    prototypes_in_image,
    squares_of,
)
from trtnet.tasks.segmenter import class_map_of
from trtnet.tasks.task import extent

_IN_OBJECT = 0.5  # the probability above which a pixel belongs to an object
_WHITE = 255  # such a pixel in a picture of the object


@dataclass(frozen=True)
class StepPlan:
    """What the sidecar of an ensemble's engine says.

    Attributes:
        plan: without the engine itself.
        preparation: of its images.
        names: of the classes; empty where nothing names them.
    """

    plan: Plan
    preparation: Preparation
    names: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> StepPlan:
        """Reads it from the folder of a model's version.

        Raises:
            PlanError: it cannot be read.
        """
        source = Source(str(folder / SIDECAR), "a sidecar", PlanError, "export the model again")
        plan = Plan(b"", from_json(read_bytes(folder / SIDECAR, source.what, MOST_BYTES), source))
        told = plan.described
        if not told.inputs:
            raise source.refuse("it names no inputs")
        preparation = preparation_of(plan, told.inputs[0], profiles_of(told))
        return cls(plan, preparation, tuple(told.class_names or ()))

    def name_of(self, index: int) -> str:
        """The name of a class, or its number where it has none."""
        return self.names[index] if index < len(self.names) else f"class {index}"


class _Step:
    """What the steps have in common: the ``TritonPythonModel``."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Reads what is known of the engine.

        Args:
            args: of Triton.
        """
        self._utils, self._place = backend_module(), ModelPlace.of(args)
        self._about = StepPlan.load(self._place.folder)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The responses to `requests`, in order."""
        return answer_each(self._utils, requests, self._place.inputs, self._answer)

    def _answer(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        raise NotImplementedError


class PrepareImages(_Step):
    """Encoded images become the input of the engine, as its sidecar says."""

    def _answer(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        preparation, outputs = self._about.preparation, self._about.plan.described.inputs or []
        prepared, places = [], []
        for index, content in enumerate(inputs[IMAGE].reshape(-1)):
            image = decode_image(content, preparation.mode, f"image {index}")
            places.append(preparation.placement(image.size))
            prepared.append(preparation(image))
        sizes = {values.shape for values in prepared}
        if len(sizes) > 1:
            raise UsageError(
                "the images of one request become inputs of different sizes",
                got=", ".join("x".join(map(str, size[2:])) for size in sorted(sizes)),
                fix="ask for each by itself",
            )
        found = {outputs[0].name: np.concatenate(prepared), PLACEMENT: packed(places)}
        if len(outputs) > 1:
            found[SIZES] = np.array([extent(placed) for placed in places], np.int32)
        return found


class _Answer(_Step):
    """Makes the answer to each image of the engine's outputs."""

    def _answer(self, inputs: Arrays) -> Mapping[str, np.ndarray]:
        places = unpacked(inputs.pop(PLACEMENT))
        found = [
            self._of_image({name: array[index] for name, array in inputs.items()}, placed)
            for index, placed in enumerate(places)
        ]
        return {name: np.stack([each[name] for each in found]) for name in found[0]}

    def _of_image(self, outputs: Arrays, placed: Placement) -> Mapping[str, np.ndarray]:
        raise NotImplementedError


class NameClasses(_Answer):
    """A classifier's most probable classes."""

    def _of_image(self, outputs: Arrays, placed: Placement) -> Mapping[str, np.ndarray]:
        shown = {each["name"]: each["dims"] for each in self._place.config["output"]}
        (scores,) = outputs.values()
        probabilities = as_probabilities(scores)
        best = best_classes(probabilities, int(shown["classes"][0]))
        return {
            "class_names": _texts(self._about.name_of, best),
            "probabilities": probabilities[best].astype(np.float32),
            "classes": best.astype(np.int32),
        }


class PaintClasses(_Answer):
    """The classes of an image's pixels, as a PNG file of the image's size."""

    def _of_image(self, outputs: Arrays, placed: Placement) -> Mapping[str, np.ndarray]:
        classes = class_map_of(outputs, placed)
        (dims,) = (
            each["dims"] for each in self._place.config["output"] if each["name"] == "shares"
        )
        found = np.zeros(int(dims[0]), np.float32)
        if classes.min() < 0 or classes.max() >= len(found):
            raise ExecutionError("a pixel has no class", expected=f"0 to {len(found) - 1}",
                                 got=f"{classes.min()} to {classes.max()}")  # fmt: skip
        for index, share in shares(classes).items():
            found[index] = share
        return {"mask": np.array([_png(classes)], object), "shares": found}


class PlaceBoxes(_Answer):
    """A detector's boxes, masks and keypoints in pixels of the images, the best score first."""

    def _of_image(self, outputs: Arrays, placed: Placement) -> Mapping[str, np.ndarray]:
        shown = {each["name"]: each["dims"] for each in self._place.config["output"]}
        most = int(shown["scores"][0])
        found, boxes = found_in_image(read_detections(outputs), placed)
        count = len(found.scores)
        names = np.full(most, b"", object)
        names[:count] = _texts(self._about.name_of, found.classes)
        return {
            "num_dets": np.array([count], np.int32),
            "boxes": _filled(boxes.astype(np.float32), most),
            "scores": _filled(found.scores, most),
            "classes": _filled(found.classes.astype(np.int32), most),
            "class_names": names,
            **_masks(outputs, found, placed, most),
            **_keypoints(outputs, found, placed, most),
        }


def _masks(outputs: Arrays, found: FoundBoxes, placed: Placement, most: int) -> Arrays:
    """A picture of each object in the image's size, of an engine with masks."""
    squares = squares_of(outputs, found)
    prototypes = prototypes_in_image(outputs, found, placed)
    if squares is None and prototypes is None:
        return {}
    frames, pictures = placed.to_image(found.boxes), np.full(most, b"", object)
    for place in range(len(frames)):
        mask = mask_in_image(place, frames, squares, prototypes, placed.original)
        pictures[place] = _png(np.where(mask > _IN_OBJECT, _WHITE, 0))
    return {"masks": pictures}


def _keypoints(outputs: Arrays, found: FoundBoxes, placed: Placement, most: int) -> Arrays:
    """Those of each object in the image, of an engine with keypoints."""
    points = keypoints_in_image(outputs, found, placed)
    return {} if points is None else {"keypoints": _filled(points.astype(np.float32), most)}


def packed(places: Sequence[Placement]) -> np.ndarray:
    """Placements as int32 (n, 8)."""
    return np.array([[*p.original, *p.resized, *p.offset, *p.size] for p in places], np.int32)


def unpacked(rows: np.ndarray) -> list[Placement]:
    """The placements that :func:`packed` has made rows of.

    >>> placed = Placement((720, 1280), (360, 640), (140, 0), (640, 640))
    >>> unpacked(packed([placed])) == [placed]
    True
    """
    return [Placement((a, b), (c, d), (e, f), (g, h)) for a, b, c, d, e, f, g, h in rows.tolist()]


def _texts(name_of: Callable[[int], str], indices: np.ndarray) -> np.ndarray:
    names = [name_of(int(index)).encode("utf-8", "replace") for index in indices]
    texts = np.empty(len(names), object)
    texts[:] = names
    return texts


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """`values` with zeros up to `count` rows."""
    rows = np.zeros((count, *values.shape[1:]), values.dtype)
    rows[: len(values)] = values
    return rows


def _png(classes: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(classes.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
