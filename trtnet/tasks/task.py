"""What all tasks share: images are read, prepared, put into batches, executed."""

from __future__ import annotations

import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import numpy as np

from trtnet.engines.session import Session
from trtnet.errors import OutOfMemoryError, TrtnetError, UsageError
from trtnet.imaging import Placement
from trtnet.imaging.preprocessing import Preprocessing
from trtnet.pipeline.image_session import SIZES, ImageSize
from trtnet.pipeline.preprocessing import Preparation
from trtnet.tasks.opening import Model, Opened, Opener, Options
from trtnet.tasks.pictures import Failure, Images, Picture, Pixels, is_single, pictures_of
from trtnet.workers import ordered_map

if TYPE_CHECKING:
    from PIL.Image import Image

R = TypeVar("R")
Me = TypeVar("Me", bound="ImageTask[Any]")

_AHEAD = 3  # images that are read, and batches that are copied, while a GPU computes another


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image that is ready for the network.

    Attributes:
        picture: which one.
        image: upright, in its own size.
        placement: where in the network's input it is.
        values: prepared, of shape (1, channels, height, width).
    """

    picture: Picture
    image: Image
    placement: Placement
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network gave for an image.

    Attributes:
        loaded: the image.
        outputs: by name, of the one image, without the batch axis.
        seconds: how long the network took; of a batch, the image's part.
    """

    loaded: Loaded
    outputs: Mapping[str, np.ndarray]
    seconds: float


class ImageTask(ABC, Generic[R]):
    """A network that is called with images, and gives results of the type `R`.

    Args:
        model: see :class:`trtnet.Classifier`.
        options: how it is opened.
    """

    task: ClassVar[str]
    """What a model must be for, see :class:`trtnet.zoo.Entry`."""

    def __init__(self, model: Model, options: Options) -> None:
        self._opener = Opener(model, self.task, options, self._settle, self._check)

    @overload  # arrays are iterable, but are one image
    def __call__(self, images: Pixels) -> R: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: str | os.PathLike[str]) -> Any: ...  # a folder gives a list

    @overload
    def __call__(self, images: Iterable[Any]) -> list[R]: ...

    def __call__(self, images: Images) -> Any:
        """The result of one image, or the list of those of several.

        Args:
            images: a file, a Pillow image, or a uint8 array (height, width, 3) of RGB values, which
                give one result; a folder, whose images and those in folders below are taken in
                the order of their paths, or an iterable of all these, which give a list.

        Raises:
            TrtnetError: the first image that fails, by name; :meth:`stream` goes on.
        """
        results = []
        for result in self.stream(images):
            if isinstance(result, Failure):
                raise result.error
            results.append(result)
        return results[0] if is_single(images) else results

    def stream(self, images: Images) -> Iterator[R | Failure]:
        """The results of images one after another, in order. An image that fails does not stop the
        others: in its place comes a :class:`trtnet.tasks.Failure`.

        Args:
            images: as for a call. An iterator is read some images ahead; as a whole, where a model
                must be built for the sizes of all.

        Raises:
            TrtnetError: something that is no image, a folder without any; a model that cannot be
                built.
        """
        given = pictures_of(images)
        if isinstance(images, Iterator):
            first = list(itertools.islice(given, 1))
            opened = self._open_for(first)
            if opened.is_fixed:
                return self._run(itertools.chain(first, given), opened)
            given = itertools.chain(first, given)
        pictures = list(given)
        return self._run(pictures, self._open_for(pictures))

    def open_for(self, images: Images = ()) -> Session:
        """The session on the engine; a model is built for `images` now, rather than by the first
        call with them.

        Args:
            images: as for a call, but no iterator; none for the size that the model states.

        Raises:
            TrtnetError: as :meth:`stream`.
        """
        return self._open_for(list(pictures_of(images))).session

    @property
    def preparation(self) -> Preparation:
        """How images become the input; a model is built for it, if it is not yet."""
        return (self._opener.current or self._open_for(())).preparation

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in order, empty where nothing names them; a model is built for
        it, if it is not yet."""
        return (self._opener.current or self._open_for(())).names

    def close(self) -> None:
        """Releases the engine, but not a session that was given; a second call does nothing."""
        self._opener.close()

    def __enter__(self: Me) -> Me:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _result(self, seen: Seen, opened: Opened) -> R:
        """The result for an image."""

    @abstractmethod
    def _check(self, session: Session) -> None:
        """Raises UsageError where the engine's outputs are not those of the task."""

    def _settle(self, stated: Preprocessing) -> Preprocessing:
        """The preprocessing, of what the user, a sidecar or weights state."""
        return stated

    def _open_for(self, pictures: Sequence[Picture]) -> Opened:
        opener = self._opener
        if opener.current is not None and opener.current.is_fixed:
            return opener.current
        return opener.open_for(_sizes(pictures))

    def _run(self, pictures: Iterable[Picture], opened: Opened) -> Iterator[R | Failure]:
        """The result or failure of each of `pictures`."""
        preparation = opened.preparation
        ahead = _AHEAD if opened.session.device == "cuda" else 1

        def load(picture: Picture) -> Loaded | Failure:
            try:
                image = picture.read(preparation.mode)
                placed = preparation.placement(image.size)
                return Loaded(picture, image, placed, preparation(image))
            except TrtnetError as error:
                return picture.failure(error)
            except MemoryError:
                return picture.failure(_no_memory())

        def execute(batch: list[Loaded | Failure]) -> list[R | Failure]:
            return self._execute(batch, opened)

        loaded = ordered_map(load, pictures, ahead)
        batches = _batches(loaded, _batch_size(opened.session))
        for results in ordered_map(execute, batches, ahead):
            yield from results

    def _execute(self, batch: Sequence[Loaded | Failure], opened: Opened) -> list[R | Failure]:
        """The result or failure of each image of `batch`, whose inputs have one size."""
        good = [item for item in batch if isinstance(item, Loaded)]
        results: Iterator[R | Failure] = iter(self._execute_good(good, opened))
        return [item if isinstance(item, Failure) else next(results) for item in batch]

    def _execute_good(self, batch: Sequence[Loaded], opened: Opened) -> list[R | Failure]:
        if not batch:
            return []
        try:
            session = opened.session
            arrays = {k: _padded(v, session) for k, v in arrays_of(batch, session).items()}
            started = time.perf_counter()
            outputs = session(arrays)
            seconds = (time.perf_counter() - started) / len(batch)
            found: list[R | Failure] = []
            for index, item in enumerate(batch):
                of_one = {name: array[index] for name, array in outputs.items() if array.ndim}
                found.append(self._result(Seen(item, of_one, seconds), opened))
            return found
        except (TrtnetError, MemoryError) as error:
            if len(batch) > 1:  # each gets its own verdict
                return [one for item in batch for one in self._execute_good([item], opened)]
            known = error if isinstance(error, TrtnetError) else _no_memory()
            return [batch[0].picture.failure(known)]


def _sizes(pictures: Iterable[Picture]) -> Iterator[ImageSize]:
    """(width, height) of each; images that cannot be read are left out: the run reports them."""
    for picture in pictures:
        try:
            yield picture.size()
        except (UsageError, MemoryError):
            continue


def _batch_size(session: Session) -> int:
    """How many images the engine takes at once: as many as it was made for."""
    binding = session.inputs[0]
    if binding.shape[0] > 0:
        return binding.shape[0]
    return max(1, session.profiles[0][binding.name].opt[0])


def _batches(items: Iterable[Loaded | Failure], most: int) -> Iterator[list[Loaded | Failure]]:
    """`items` in order, in parts of at most `most` images, whose inputs have one size."""
    batch: list[Loaded | Failure] = []
    shapes: set[tuple[int, ...]] = set()
    count = 0
    for item in items:
        shape = {item.values.shape} if isinstance(item, Loaded) else set()
        if count == most or len(shapes | shape) > 1:
            yield batch
            batch, shapes, count = [], set(), 0
        batch.append(item)
        shapes |= shape
        count += 1
    if batch:
        yield batch


def arrays_of(batch: Sequence[Loaded], session: Session) -> dict[str, np.ndarray]:
    """The inputs of `session`, by name: the images, and their sizes where it takes them."""
    images, *sizes = (binding.name for binding in session.inputs)
    found = {images: np.concatenate([item.values for item in batch])}
    if sizes:
        found[SIZES] = np.array([extent(item.placement) for item in batch], np.int32)
    return found


def extent(placed: Placement) -> tuple[int, int]:
    """How far (down, across) the image lies in its input. In a letterbox that has a border above
    the image too, the border counts: boxes are clipped to the image afterwards."""
    down, across = (
        min(offset + edge, limit)
        for offset, edge, limit in zip(placed.offset, placed.resized, placed.size, strict=True)
    )
    return down, across


def _padded(values: np.ndarray, session: Session) -> np.ndarray:
    """`values`, the last image repeated where an engine takes no batch as small."""
    least = session.profiles[0][session.inputs[0].name].min[0]
    missing = least - len(values) if session.inputs[0].shape[0] < 0 else 0
    return values if missing <= 0 else np.concatenate([values, *[values[-1:]] * missing])


def _no_memory() -> OutOfMemoryError:
    return OutOfMemoryError(
        "there is too little memory for this image",
        fix="use a smaller image, or resize_size (--resize-size)",
    )
