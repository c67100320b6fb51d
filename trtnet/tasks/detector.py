"""Detector: where things are in images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trtnet.detection.overlap import fraction
from trtnet.detection.reading import EXPECTED, SUPPRESSED, format_of, read_detections
from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.imaging import Drawn, Placement, draw_found, palette
from trtnet.imaging.preprocessing import Preprocessing, uncropped
from trtnet.pipeline.progress import Observer
from trtnet.tasks.opening import ClassNames, Model, Opened, Options, Preprocess
from trtnet.tasks.pictures import in_line
from trtnet.tasks.task import ImageTask, Seen

if TYPE_CHECKING:
    from PIL.Image import Image

_COLORS = 256
_DIGITS = 3  # of pixels, in files


@dataclass(frozen=True)
class DetectedObject:
    """Something that an image shows in a box.

    Attributes:
        index: the number of its class.
        name: what the sidecar or the weights call the class; ``class 7`` where nothing names it.
        score: 0 to 1: the shortest decimal number of the network's float32.
        box: corners (x1, y1, x2, y2) in pixels of the image; (0, 0) is the upper left corner of its
            first pixel, (width, height) the lower right one of its last.
    """

    index: int
    name: str
    score: float
    box: tuple[float, float, float, float]

    def __str__(self) -> str:
        corners = ", ".join(f"{corner:.0f}" for corner in self.box)
        return f"{printable(self.name)} {self.score:.2f} ({corners})"


@dataclass(frozen=True, eq=False)
class Detection:
    """Where things are in an image, the best score first.

    Attributes:
        path: of the file; ``None`` for an image in memory.
        image: upright, RGB, or grey for a network of one channel.
        boxes: float64 of shape (n, 4), corners (x1, y1, x2, y2) in pixels of the image, inside it.
        scores: float32 of shape (n,).
        classes: int64 of shape (n,).
        names: of the classes of the n boxes.
        seconds: how long the network took; of a batch, the image's part.
    """

    path: Path | None
    image: Image
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    seconds: float

    @property
    def width(self) -> int:
        """Of the image, in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Of the image, in pixels."""
        return self.image.height

    @property
    def objects(self) -> tuple[DetectedObject, ...]:
        """One for each box."""
        return tuple(
            DetectedObject(int(index), name, float(str(score)), (x1, y1, x2, y2))
            for index, name, score, (x1, y1, x2, y2) in zip(
                self.classes, self.names, self.scores, self.boxes.tolist(), strict=True
            )
        )

    def as_dicts(self) -> list[dict[str, Any]]:
        """JSON values of the :attr:`objects`: ``class``, ``name``, ``score`` and ``box``, whose
        corners are rounded to a thousandth of a pixel."""
        return [
            {"class": one.index, "name": one.name, "score": one.score,
             "box": [round(corner, _DIGITS) for corner in one.box]}
            for one in self.objects
        ]  # fmt: skip

    def coco_results(self, image_id: int | str) -> list[dict[str, Any]]:
        """The :attr:`objects` in the format of COCO's results, as ``COCO.loadRes`` of pycocotools
        reads them: ``image_id``, ``category_id``, which is the number of the class, ``bbox`` (x, y,
        width, height), rounded to a thousandth of a pixel, and ``score``.

        Args:
            image_id: of the image in the data set.
        """
        results = []
        for one in self.objects:
            x1, y1, x2, y2 = one.box
            box = [round(value, _DIGITS) for value in (x1, y1, x2 - x1, y2 - y1)]
            about = {"image_id": image_id, "category_id": one.index}
            results.append({**about, "bbox": box, "score": one.score})
        return results

    def picture(self, palette: str = "voc") -> Image:
        """The image with all boxes, names and scores; see :func:`trtnet.imaging.draw_found`.

        Args:
            palette: ``"tutorial"`` or ``"voc"``, see :func:`trtnet.imaging.palette`. Class i has
                its colour i + 1: the first one is black, of a background, which has no boxes.
        """
        return draw_found(self.image, self._drawn(palette))

    def _drawn(self, name: str) -> Iterator[Drawn]:
        colors = palette(name, 2 + max(_COLORS, int(self.classes.max(initial=0))))
        for one in self.objects:
            red, green, blue = colors[one.index + 1].tolist()
            yield Drawn(one.box, f"{printable(one.name)} {one.score:.2f}", (red, green, blue))

    def __str__(self) -> str:
        return in_line(self.path, self.objects or ["nothing found"])


class Detector(ImageTask[Detection]):
    """Finds things in images: their boxes, classes and scores.

    Args:
        model: as for :class:`trtnet.Classifier`. An engine has the outputs of the format
            ``efficientnms`` or ``rows6``, see :mod:`trtnet.detection.formats`.
        weights: of a model: as ``--weights`` of ``trtnet detect``.
        num_classes: of a model.
        score_threshold: 0 to 1: detections of a lower score are left out; by default none that the
            network gives, which has a threshold of its own.
        preprocess, class_names, backend, device, observer: as for :class:`trtnet.Classifier`.

    A call takes one image or several, and gives a :class:`trtnet.tasks.Detection` or a list of
    them; :meth:`stream` gives one after another. Nothing is cropped. Boxes are those of the network
    with the letterbox or the resize undone in float64, clipped to the image and not rounded. What
    has no area in the image is left out, and so is a score that is NaN. An image may show nothing:
    its boxes then have the shape (0, 4).

    Raises:
        UsageError: no such model, or one for something else, such as an engine of the format
            ``raw``; nothing says how images are prepared; a threshold outside of 0..1.
        PlanError, BackendError: an engine that is damaged, or cannot run here.

    An image fails with an :class:`trtnet.ExecutionError` where the suppression of its boxes has not
    converged, or a box is not finite.

    >>> import numpy, trtnet
    >>> net = trtnet.Network(backend="torch")
    >>> brightness = net.input("input", (1, 3, 8, 8)).mean((1, 2, 3)).reshape(1, 1, 1)
    >>> corners = net.constant(numpy.float32([[[2, 2, 6, 4]]]))
    >>> label = net.constant(numpy.float32([[[1]]]))
    >>> _ = net.output("detections", trtnet.cat([corners, brightness, label], 2))
    >>> about = {"class_names": ["cat", "dog"], "preprocessing": {"letterbox_size": 8}}
    >>> plan = trtnet.build(net, sidecar=about)
    >>> with trtnet.Detector(plan, device="cpu") as detect:
    ...     result = detect(numpy.full((40, 80, 3), 204, "uint8"))
    >>> print(result)
    dog 0.62 (20, 0, 60, 20)
    >>> result.boxes.tolist(), result.names
    ([[20.0, 0.0, 60.0, 20.0]], ('dog',))
    """

    task: ClassVar[str] = "detection"

    def __init__(
        self,
        model: Model,
        *,
        weights: str | os.PathLike[str] | None = None,
        num_classes: int | None = None,
        score_threshold: float = 0.0,
        preprocess: Preprocess | None = None,
        class_names: ClassNames | None = None,
        backend: str = "auto",
        device: str = "auto",
        observer: Observer | None = None,
    ) -> None:
        self._threshold = fraction("score_threshold", score_threshold)
        super().__init__(
            model,
            Options(weights, num_classes, preprocess, class_names, backend, device, observer),
        )

    def _settle(self, stated: Preprocessing) -> Preprocessing:
        return uncropped(stated)  # things are found in the whole image

    def _check(self, session: Session) -> None:
        layout = format_of({binding.name: binding.shape for binding in session.outputs})
        if layout in SUPPRESSED:
            return
        got = ", ".join(f"{b.name} {b.shape}" for b in session.outputs)
        if layout == "raw":
            raise UsageError(
                "the engine gives boxes before suppression",
                expected=EXPECTED,
                got=got,
                fix="build it with output_format='efficientnms' (--output-format efficientnms)",
            )
        raise UsageError("the engine gives no detections", expected=EXPECTED, got=got)

    def _result(self, seen: Seen, opened: Opened) -> Detection:
        found = read_detections(seen.outputs)
        boxes = boxes_in_image(found.boxes, seen.loaded.placement)
        has_area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        kept = np.flatnonzero(has_area & (found.scores >= np.float32(self._threshold)))
        kept = kept[np.argsort(-found.scores[kept], kind="stable")]
        classes = found.classes[kept]
        return Detection(
            seen.loaded.picture.path,
            seen.loaded.image,
            boxes[kept],
            found.scores[kept],
            classes,
            tuple(opened.name_of(int(index)) for index in classes),
            seen.seconds,
        )


def boxes_in_image(boxes: np.ndarray, placed: Placement) -> np.ndarray:
    """Boxes of an input in the image that is in it: float64, clipped to the image, not rounded.

    Args:
        boxes: (n, 4) corners in pixels of the input.
        placed: where in the input the image is.

    >>> letterbox = Placement((360, 640), (180, 320), (70, 0), (320, 320))
    >>> boxes_in_image(np.array([[10, 60, 330, 170]]), letterbox).tolist()
    [[20.0, 0.0, 640.0, 200.0]]
    """
    height, width = placed.original
    return np.asarray(np.clip(placed.to_image(boxes), 0, [width, height, width, height]))
