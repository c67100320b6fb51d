"""Segmenter: what the pixels of images show."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.imaging import Placement, color_map, map_of_image, overlay, palette, shares
from trtnet.imaging.preprocessing import Preprocessing, uncropped
from trtnet.pipeline.preprocessing import StatedPreprocessing
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe
from trtnet.tasks.opening import ClassNames, Model, Opened, Options, Preprocess
from trtnet.tasks.pictures import in_line
from trtnet.tasks.task import ImageTask, Seen

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.building.sidecar import StatedTensor
    from trtnet.engines.protocol import Binding

_CLASSES, _LOGITS = "classes", "out"  # outputs: INT32 (N, H, W), or (N, classes, H, W)
_COLORS = 256


@dataclass(frozen=True)
class SharedClass:
    """A class that pixels of an image show.

    Attributes:
        index: its number.
        name: what the sidecar or the weights call it; ``class 7`` where nothing names it.
        share: of the image's pixels, 0 to 1.
    """

    index: int
    name: str
    share: float

    def __str__(self) -> str:
        return f"{printable(self.name)} {self.share:.2%}"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the pixels of an image show.

    Attributes:
        path: of the file; ``None`` for an image in memory.
        image: upright, RGB, or grey for a network of one channel.
        class_map: the class of each pixel, int32 of shape (image.height, image.width).
        classes: those that pixels show, the largest first.
        seconds: how long the network took; of a batch, the image's part.
    """

    path: Path | None
    image: Image
    class_map: np.ndarray
    classes: tuple[SharedClass, ...]
    seconds: float

    @property
    def width(self) -> int:
        """Of the image, in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Of the image, in pixels."""
        return self.image.height

    def color_map(self, palette: str = "tutorial") -> Image:
        """The class map as a coloured picture of mode P, whose pixel values are the class numbers;
        of mode RGB for more than 256 classes.

        Args:
            palette: ``"tutorial"`` or ``"voc"``, see :func:`trtnet.imaging.palette`.
        """
        return color_map(self.class_map, self._colors(palette))

    def overlay(self, palette: str = "tutorial") -> Image:
        """The class map drawn half transparent over the grey image, above a legend with the names.

        Args:
            palette: as for :meth:`color_map`.
        """
        names = {found.index: found.name for found in self.classes}
        return overlay(self.image, self.class_map, self._colors(palette), names)

    def _colors(self, name: str) -> np.ndarray:
        return palette(name, max(_COLORS, int(self.class_map.max()) + 1))

    def __str__(self) -> str:
        return in_line(self.path, self.classes)


class Segmenter(ImageTask[Segmentation]):
    """Gives every pixel of images its class.

    Args:
        model: as for :class:`trtnet.Classifier`.
        weights: of a model: as ``--weights`` of ``trtnet segment``.
        weights_key: which part of a file of weights to take, see :func:`trtnet.weights.load`.
        num_classes, in_channels: of a model: how many classes, and channels of the images.
        preprocess, class_names, backend, device, runtime, engine_host_code_allowed,
        optimization_level, timing_cache, observer: as for :class:`trtnet.Classifier`.

    A call takes one image or several, and gives a :class:`trtnet.tasks.Segmentation` or a list of
    them, which hold the images; :meth:`stream` gives one after another. Nothing is cropped, and
    class maps are resized to their images.

    Raises:
        UsageError: no such model, or one for something else; nothing says how images are prepared;
            a crop that is stated by itself. One of a preset or of weights is left out.
        PlanError, BackendError: an engine that is damaged, or cannot run here.

    >>> import numpy, trtnet
    >>> net = trtnet.Network(backend="torch")
    >>> _ = net.output("classes", net.input("input", (1, 3, 8, 8)).argmax(1).int())
    >>> about = {"class_names": ["red", "green", "blue"]}
    >>> about["preprocessing"] = {"interpolation": "nearest"}
    >>> plan = trtnet.build(net, sidecar=about)
    >>> image = numpy.zeros((16, 32, 3), "uint8")
    >>> image[:, 8:, 2] = 255
    >>> with trtnet.Segmenter(plan, device="cpu") as segment:
    ...     result = segment(image)
    >>> print(result)
    blue 75.00%, red 25.00%
    >>> result.class_map.shape, int(result.class_map[0, 20]), result.classes[1].share
    ((16, 32), 2, 0.25)
    >>> result.overlay("voc").mode
    'RGB'
    """

    task: ClassVar[str] = "segmentation"

    def __init__(
        self,
        model: Model,
        *,
        weights: str | os.PathLike[str] | None = None,
        weights_key: str | None = None,
        num_classes: int | None = None,
        in_channels: int | None = None,
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
        _refuse_crop(model.preprocessing if isinstance(model, Recipe) else preprocess)
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
        return uncropped(stated)  # every pixel gets a class

    def _check(self, session: Session) -> None:
        map_output(session.outputs)

    def _result(self, seen: Seen, opened: Opened) -> Segmentation:
        outputs, image = seen.outputs, seen.loaded.image
        classes = class_map_of(outputs, seen.loaded.placement)
        found = tuple(SharedClass(i, opened.name_of(i), s) for i, s in shares(classes).items())
        path = seen.loaded.picture.path
        return Segmentation(path, image, classes, found, seen.seconds)


def map_output(outputs: Sequence[Binding | StatedTensor]) -> str:
    """The output with the classes of pixels, or with their logits.

    Args:
        outputs: of an engine.

    Raises:
        UsageError: there is none.
    """
    shapes = {each.name: each.shape for each in outputs}
    for name, axes in ((_CLASSES, 3), (_LOGITS, 4)):
        if len(shapes.get(name, ())) == axes:
            return name
    raise UsageError(
        "the engine gives no classes of pixels",
        expected=f"an output {_CLASSES} (N, H, W), or {_LOGITS} (N, classes, H, W)",
        got=", ".join(f"{each.name} {each.shape}" for each in outputs),
    )


def class_map_of(outputs: Mapping[str, np.ndarray], placed: Placement) -> np.ndarray:
    """The class of each pixel of an image, int32 (height, width).

    Args:
        outputs: of the image, without the batch axis; one that :func:`map_output` names.
        placed: where in the network's input the image is.
    """
    found = outputs.get(_CLASSES)
    small = found if found is not None and found.ndim == 2 else outputs[_LOGITS].argmax(0)
    return map_of_image(small.astype(np.int32), placed)


def _refuse_crop(stated: Preprocess | None) -> None:
    if isinstance(stated, StatedPreprocessing) and stated.changes.get("crop_size"):
        raise UsageError(
            "crop_size has no effect: every pixel of an image that is segmented gets a class",
            fix="leave --crop-size (crop_size=) out, or crop the images yourself",
        )
