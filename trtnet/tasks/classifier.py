"""Classifier: what images show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trtnet.detection.reading import format_of
from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.pipeline.progress import Observer
from trtnet.tasks.opening import ClassNames, Model, Opened, Options, Preprocess
from trtnet.tasks.pictures import in_line
from trtnet.tasks.task import ImageTask, Seen

if TYPE_CHECKING:
    from trtnet.building.sidecar import StatedTensor
    from trtnet.engines.protocol import Binding

_SUM_ERROR = 1e-3  # of probabilities in FP16


@dataclass(frozen=True)
class ScoredClass:
    """A class that an image may show.

    Attributes:
        index: its number.
        name: what the sidecar or the weights call it; ``class 7`` where nothing names it.
        probability: 0 to 1.
    """

    index: int
    name: str
    probability: float

    def __str__(self) -> str:
        return f"{printable(self.name)} {self.probability:.2%}"


@dataclass(frozen=True, eq=False)
class Classification:
    """What an image shows.

    Attributes:
        path: of the file; ``None`` for an image in memory.
        width, height: of the image, in pixels.
        classes: the most probable ones, best first.
        probabilities: of all classes, float64 of shape (classes,).
        seconds: how long the network took; of a batch, the image's part.
    """

    path: Path | None
    width: int
    height: int
    classes: tuple[ScoredClass, ...]
    probabilities: np.ndarray
    seconds: float

    @property
    def index(self) -> int:
        """The number of the most probable class."""
        return self.classes[0].index

    @property
    def name(self) -> str:
        """The name of the most probable class."""
        return self.classes[0].name

    @property
    def probability(self) -> float:
        """The probability of the most probable class, 0 to 1."""
        return self.classes[0].probability

    def __str__(self) -> str:
        return in_line(self.path, self.classes)


class Classifier(ImageTask[Classification]):
    """Names what images show.

    Args:
        model: the file of an engine, a :class:`trtnet.Plan`, a :class:`trtnet.Session`; or a model,
            which is built here: a name of the zoo, the address ``net.py:Net``, either with a
            precision such as ``"resnet50:fp16"``, or a :class:`trtnet.pipeline.Recipe`.
        weights: of a model: as ``--weights`` of ``trtnet classify``.
        weights_key: which part of a file of weights to take, see :func:`trtnet.weights.load`.
        num_classes, in_channels: of a model: how many classes, and channels of the images.
        preprocess: of images, in place of what the sidecar or the weights say: a preset such as
            ``"imagenet"``, a ``.toml`` file, entries as in
            :class:`trtnet.imaging.preprocessing.Preprocessing`, or what
            :func:`trtnet.pipeline.state_preprocessing` gives, for single entries.
        class_names: in order, or a file of them, in place of those in the sidecar or the weights.
        top_k: how many classes a result lists.
        backend: ``"auto"``, ``"tensorrt"``, ``"rtx"`` or ``"torch"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        runtime, engine_host_code_allowed, optimization_level, timing_cache: see
            :class:`trtnet.Session`.
        observer: receives the progress of building a model, see :mod:`trtnet.pipeline`.

    A call takes one image or several, and gives a :class:`trtnet.tasks.Classification` or a list of
    them; :meth:`stream` goes on after an image that fails. Images are prepared as the sidecar or
    the weights say, and executed in batches where the engine is for batches. Scores become
    probabilities by softmax; rows that are none below 0 and have the sum 1 are probabilities.

    Raises:
        UsageError: no such model, or one for something else; nothing says how images are prepared.
        PlanError, BackendError: an engine that is damaged, or cannot run here.

    >>> import numpy, trtnet
    >>> net = trtnet.Network(backend="torch")
    >>> _ = net.output("scores", trtnet.mean(net.input("input", (1, 3, 8, 8)), (2, 3)) * 4.0)
    >>> about = {"class_names": ["red", "green", "blue"], "preprocessing": {"resize_size": [8, 8]}}
    >>> plan = trtnet.build(net, sidecar=about)
    >>> with trtnet.Classifier(plan, device="cpu", top_k=2) as classify:
    ...     result = classify(numpy.full((30, 40, 3), (0, 255, 51), "uint8"))
    >>> print(result)
    green 94.42%, blue 3.85%
    >>> result.index, result.name, round(result.probability, 3)
    (1, 'green', 0.944)
    """

    task: ClassVar[str] = "classification"

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
        top_k: int = 5,
        backend: str = "auto",
        device: str = "auto",
        runtime: str = "torch",
        engine_host_code_allowed: bool = False,
        optimization_level: int | None = None,
        timing_cache: str | os.PathLike[str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if top_k < 1:
            raise UsageError("top_k is not positive", expected="1 or more", got=top_k)
        self._top_k = top_k
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

    def _check(self, session: Session) -> None:
        scores_of(session.outputs)

    def _result(self, seen: Seen, opened: Opened) -> Classification:
        probabilities = as_probabilities(seen.outputs[scores_of(opened.session.outputs)])
        best = best_classes(probabilities, self._top_k).tolist()
        classes = (ScoredClass(i, opened.name_of(i), float(probabilities[i])) for i in best)
        image = seen.loaded.image
        path = seen.loaded.picture.path
        return Classification(
            path, image.width, image.height, tuple(classes), probabilities, seen.seconds
        )


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Probabilities in float64, of the scores of all classes: their softmax, unless they are
    probabilities already.

    >>> as_probabilities(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    >>> as_probabilities(np.array([0.25, 0.75])).tolist()
    [0.25, 0.75]
    """
    values: np.ndarray = scores.astype(np.float64)
    if values.min() >= 0 and abs(values.sum() - 1) <= _SUM_ERROR:
        return values
    grown: np.ndarray = np.exp(values - values.max())
    probabilities: np.ndarray = grown / grown.sum()
    return probabilities


def best_classes(probabilities: np.ndarray, count: int) -> np.ndarray:
    """The `count` most probable classes, the best first; of equals the first."""
    order: np.ndarray = np.argsort(-probabilities, kind="stable")[:count]
    return order


def scores_of(outputs: Sequence[Binding | StatedTensor]) -> str:
    """The output with the scores of the classes.

    Args:
        outputs: of an engine.

    Raises:
        UsageError: there is none, or it has one score.
    """
    is_detector = format_of({b.name: b.shape for b in outputs}) is not None
    for binding in outputs:  # a detector's det_scores look like scores of classes
        if not is_detector and len(binding.shape) == 2 and binding.shape[1] != 1:
            return binding.name
    raise UsageError(
        "the engine gives no scores of classes",
        expected="an output (N, classes) of two or more classes",
        got=", ".join(f"{b.name} {b.shape}" for b in outputs),
        fix="trtnet segment is for classes of pixels, trtnet detect for boxes",
    )
