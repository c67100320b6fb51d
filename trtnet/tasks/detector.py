"""Detector: where things are in images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trtnet.detection.masks import PrototypeMasks, run_lengths
from trtnet.detection.overlap import fraction
from trtnet.detection.reading import (
    COEFFICIENTS,
    EXPECTED,
    MASKS,
    POINTS,
    SUPPRESSED,
    FoundBoxes,
    format_of,
    places_of,
    read_detections,
    require_further_fit,
)
from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.imaging import Drawn, Placement, draw_found
from trtnet.imaging.palettes import colors_of
from trtnet.imaging.preprocessing import Preprocessing, uncropped
from trtnet.pipeline.progress import Observer
from trtnet.tasks.further_outputs import (
    keypoints_in_image,
    mask_in_image,
    prototypes_in_image,
    squares_of,
)
from trtnet.tasks.opening import ClassNames, Model, Opened, Options, Preprocess
from trtnet.tasks.pictures import in_line
from trtnet.tasks.task import ImageTask, Seen

if TYPE_CHECKING:
    from PIL.Image import Image

PIXEL_DIGITS = 3
"""Of pixels, in files."""
_SEEN = 0.5  # the probability from which on a keypoint is drawn


@dataclass(frozen=True)
class DetectedObject:
    """Something that an image shows in a box.

    Attributes:
        index: the number of its class.
        name: what the sidecar or the weights call the class; ``class 7`` where nothing names it.
        score: 0 to 1: the shortest decimal number of the network's float32.
        box: corners (x1, y1, x2, y2) in pixels of the image; (0, 0) is the upper left corner of its
            first pixel, (width, height) the lower right one of its last.
        keypoints: x and y in pixels of the image, and a score, see :attr:`Detection.keypoints`;
            ``None`` of a network without keypoints.
    """

    index: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float, float], ...] | None = None

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
        squares: float32 of shape (n, M, M): probabilities of the masks in the boxes, of which
            :meth:`mask` makes those of the image; ``None`` of a network without such masks.
        frames: float64 of shape (n, 4): the boxes before they were clipped to the image, in which
            the squares lie.
        keypoints: float64 of shape (n, N, 3): x and y in pixels of the image, and a score: the
            logit in the network's heatmap, or the probability that a network without heatmaps
            gives; ``None`` of a network without keypoints.
        limit: how many detections the network gives at most, where it gave so many, all with
            scores that count: there may be more in the image. ``None`` where it gave fewer.
        prototypes: what :meth:`mask` sums; ``None`` of a network without prototypes of masks.
        seen_from: keypoints of a lower score are not drawn; ``None`` where all are.
    """

    path: Path | None
    image: Image
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    seconds: float
    squares: np.ndarray | None = None
    frames: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    limit: int | None = None
    prototypes: PrototypeMasks | None = None
    seen_from: float | None = None

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
        return tuple(self._object(place) for place in range(len(self.boxes)))

    def _object(self, place: int) -> DetectedObject:
        score = float(str(self.scores[place]))
        x1, y1, x2, y2 = self.boxes[place].tolist()
        points = None if self.keypoints is None else self.keypoints[place].tolist()
        named = None if points is None else tuple((x, y, value) for x, y, value in points)
        index = int(self.classes[place])
        return DetectedObject(index, self.names[place], score, (x1, y1, x2, y2), named)

    @property
    def has_masks(self) -> bool:
        """Whether the network gives masks."""
        return self.squares is not None or self.prototypes is not None

    def mask(self, place: int, threshold: float = 0.5) -> np.ndarray:
        """The pixels of the image that show the object, bool of shape (height, width).

        Args:
            place: which of the n objects.
            threshold: the probability above which a pixel belongs to it, as torchvision's users
                choose it.

        Raises:
            UsageError: the network gives no masks; a threshold outside of 0..1.
        """
        if self.frames is None or not self.has_masks:
            raise UsageError("the network gives no masks",
                             expected=f"an output {MASKS}, or {COEFFICIENTS}")  # fmt: skip
        size = self.height, self.width
        pasted = mask_in_image(place, self.frames, self.squares, self.prototypes, size)
        return np.asarray(pasted > fraction("threshold", threshold))

    def as_dicts(self) -> list[dict[str, Any]]:
        """JSON values of the :attr:`objects`: ``class``, ``name``, ``score``, ``box``, of a network
        with masks ``mask``, see :func:`trtnet.detection.masks.run_lengths`, and of one with
        keypoints ``keypoints``, a list [x, y, score] for each. Places are rounded to a thousandth
        of a pixel."""
        values: list[dict[str, Any]] = []
        for place, one in enumerate(self.objects):
            value = {"class": one.index, "name": one.name, "score": one.score}
            values.append({**value, "box": _rounded(one.box)})
            if self.has_masks:
                values[-1]["mask"] = run_lengths(self.mask(place))
            if one.keypoints is not None:
                values[-1]["keypoints"] = [_rounded(point) for point in one.keypoints]
        return values

    def coco_results(self, image_id: int | str) -> list[dict[str, Any]]:
        """The :attr:`objects` in the format of COCO's results, as ``COCO.loadRes`` of pycocotools
        reads them: ``image_id``, ``category_id``, which is the number of the class, ``bbox`` (x, y,
        width, height), rounded to a thousandth of a pixel, ``score``, of a network with masks
        ``segmentation``, see :func:`trtnet.detection.masks.run_lengths`, and of one with keypoints
        ``keypoints``: x, y and 1 of each.

        Args:
            image_id: of the image in the data set.
        """
        results: list[dict[str, Any]] = []
        for place, one in enumerate(self.objects):
            x1, y1, x2, y2 = one.box
            box = _rounded((x1, y1, x2 - x1, y2 - y1))
            about = {"image_id": image_id, "category_id": one.index}
            results.append({**about, "bbox": box, "score": one.score})
            if self.has_masks:
                results[-1]["segmentation"] = run_lengths(self.mask(place))
            if one.keypoints is not None:
                flat = [(*_rounded((x, y)), 1) for x, y, _ in one.keypoints]
                results[-1]["keypoints"] = [value for point in flat for value in point]
        return results

    def picture(self, palette: str = "voc") -> Image:
        """The image with all boxes, names, scores, masks and keypoints; see
        :func:`trtnet.imaging.draw_found`.

        Args:
            palette: ``"tutorial"`` or ``"voc"``, see :func:`trtnet.imaging.palette`. Class i has
                its colour i + 1: the first one is black, of a background, which has no boxes.
        """
        return draw_found(self.image, self._drawn(palette))

    def _drawn(self, name: str) -> Iterator[Drawn]:
        colors = colors_of(name, self.classes + 1).tolist()
        for place, one in enumerate(self.objects):
            red, green, blue = colors[place]
            yield Drawn(
                one.box,
                f"{printable(one.name)} {one.score:.2f}",
                (red, green, blue),
                self.mask(place) if self.has_masks else None,
                None if self.keypoints is None else self._seen(self.keypoints[place]),
            )

    def _seen(self, keypoints: np.ndarray) -> np.ndarray:
        """x and y, NaN of those that are not drawn."""
        least = -np.inf if self.seen_from is None else self.seen_from
        return np.where(keypoints[:, 2:] >= least, keypoints[:, :2], np.nan)

    def __str__(self) -> str:
        return in_line(self.path, self.objects or ["nothing found"])


class Detector(ImageTask[Detection]):
    """Finds things in images: their boxes, classes and scores.

    Args:
        model: as for :class:`trtnet.Classifier`. An engine has the outputs of the format
            ``efficientnms`` or ``rows6``, see :mod:`trtnet.detection.formats`, and may have what
            masks and keypoints are made of, see :mod:`trtnet.detection.reading`.
        weights: of a model: as ``--weights`` of ``trtnet detect``.
        weights_key, num_classes, in_channels: of a model, as for :class:`trtnet.Classifier`.
        score_threshold: 0 to 1: detections of a lower score are left out; by default none that the
            network gives, which has a threshold of its own.
        preprocess, class_names, backend, device, runtime, engine_host_code_allowed,
        optimization_level, timing_cache, observer: as for :class:`trtnet.Classifier`.

    A call takes one image or several, and gives a :class:`trtnet.tasks.Detection` or a list of
    them; :meth:`stream` gives one after another. Nothing is cropped. Boxes are those of the network
    with the letterbox or the resize undone in float64, clipped to the image and not rounded. What
    has no area in the image is left out, and so is a score that is NaN. An image may show nothing:
    its boxes then have the shape (0, 4).

    Raises:
        UsageError: no such model, or one for something else, such as an engine of the format
            ``raw``; nothing says how images are prepared; a threshold outside of 0..1.
        ShapeError: masks or keypoints that do not fit the detections.
        PlanError, BackendError: an engine that is damaged, or cannot run here.

    An image fails with an :class:`trtnet.ExecutionError` where the suppression of its boxes has not
    converged, a box, a mask or a heatmap is not finite, or a score is outside of 0..1.

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
        weights_key: str | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
        score_threshold: float = 0.0,
        preprocess: Preprocess | None = None,
        class_names: ClassNames | None = None,
        backend: str = "auto",
        device: str = "auto",
        runtime: str = "torch",
        engine_host_code_allowed: bool = False,
        optimization_level: int | None = None,
        timing_cache: str | os.PathLike[str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._threshold = fraction("score_threshold", score_threshold)
        super().__init__(
            model,
            Options(
                weights=weights,
                weights_key=weights_key,
                num_classes=num_classes,
                in_channels=in_channels,
                preprocess=preprocess,
                class_names=class_names,
                backend=backend,
                device=device,
                runtime=runtime,
                engine_host_code_allowed=engine_host_code_allowed,
                optimization_level=optimization_level,
                timing_cache=timing_cache,
                observer=observer,
            ),
        )

    def _settle(self, stated: Preprocessing) -> Preprocessing:
        return uncropped(stated)  # things are found in the whole image

    def _check(self, session: Session) -> None:
        shapes = {binding.name: binding.shape for binding in session.outputs}
        layout = format_of(shapes)
        if layout in SUPPRESSED:
            require_further_fit(shapes)
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
        found, placed = read_detections(seen.outputs), seen.loaded.placement
        limit = _reached_limit(found, seen.outputs, self._threshold)
        found, boxes = found_in_image(found, placed, self._threshold)
        return Detection(
            seen.loaded.picture.path,
            seen.loaded.image,
            boxes,
            found.scores,
            found.classes,
            tuple(opened.name_of(int(index)) for index in found.classes),
            seen.seconds,
            squares_of(seen.outputs, found),
            placed.to_image(found.boxes),
            keypoints_in_image(seen.outputs, found, placed),
            limit,
            prototypes_in_image(seen.outputs, found, placed),
            _SEEN if POINTS in seen.outputs else None,
        )


def _reached_limit(
    found: FoundBoxes, outputs: Mapping[str, np.ndarray], threshold: float
) -> int | None:
    """The number of places, where all are taken by scores from `threshold` on."""
    places = places_of({name: array.shape for name, array in outputs.items()})
    is_full = len(found.scores) == places > 0 and found.scores.min() >= np.float32(threshold)
    return places if is_full else None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, PIXEL_DIGITS) for value in values]


def found_in_image(
    found: FoundBoxes, placed: Placement, threshold: float = 0.0
) -> tuple[FoundBoxes, np.ndarray]:
    """Those detections that have an area in the image, the best score first, and their boxes there,
    see :func:`boxes_in_image`.

    Args:
        found: in the network's input.
        placed: where in the input the image is.
        threshold: lower scores are left out.
    """
    boxes = boxes_in_image(found.boxes, placed)
    has_area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    kept = np.flatnonzero(has_area & (found.scores >= np.float32(threshold)))
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    return FoundBoxes(*(values[kept] for values in found)), boxes[kept]


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
