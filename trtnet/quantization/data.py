"""Calibration data: a folder of images, a file of arrays, or anything that gives batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.detection.average_precision import Truth
from trtnet.errors import ShapeError, UsageError
from trtnet.graph.types import Graph
from trtnet.imaging import SUFFIXES, images_in, load_image
from trtnet.quantization.box_labels import boxes_in_arrays, boxes_in_folder
from trtnet.quantization.table import DEFAULT_BATCH
from trtnet.reading.arrays import NpyFile, read_npz
from trtnet.values import array_from

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing

_WHAT = "calibration data: numbers in a .npy or .npz file"
LABELS = "labels"
"""Name of the array of class numbers in a ``.npz`` file."""
_KEY = "input"  # of the array in a .npz, where it is not called like the network's input


def unknown_objects() -> None:
    """The objects of data without boxes."""


@dataclass(frozen=True)
class Batches:
    """Calibration data that can be read again and again, always in the same order.

    Attributes:
        items: how many there are; whole batches of them are used.
        size: how many items a batch has; the last one has the remaining ones.
        read: takes the numbers of items and gives a dict from input name to array, with one
            row for each of them.
        labels: the class numbers of the items, of shape [N, ...]; ``None`` if unknown.
        objects: reads the objects of each item; gives ``None`` where they are unknown.
    """

    items: int
    size: int
    read: Callable[[range], dict[str, np.ndarray]]
    labels: np.ndarray | None = None
    objects: Callable[[], Sequence[Truth] | None] = unknown_objects

    @cached_property
    def truth(self) -> Sequence[Truth] | None:
        """The objects of each item, read now; see :mod:`trtnet.quantization.box_labels`."""
        return self.objects()

    def __len__(self) -> int:
        return -(-self.items // self.size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, self.items, self.size):
            yield self.read(range(start, min(start + self.size, self.items)))


def dataset(
    source: str | os.PathLike[str] | np.ndarray | Iterable[Any],
    graph: Graph,
    *,
    batch: int = DEFAULT_BATCH,
    limit: int | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
) -> Iterable[Any]:
    """`source` as batches for the inputs of `graph`.

    Args:
        source: a folder of images (with those in folders below it, in the order of their paths),
            a ``.npy`` file or array of shape [N, ...], a ``.npz`` file with such an array for
            each input or one called ``input``, and perhaps class numbers called ``labels``, or an
            iterable of batches, which is returned. Boxes as labels: see
            :mod:`trtnet.quantization.box_labels`.
        batch: items per batch, where the network's batch is dynamic. A network with a fixed batch
            gets whole batches; the remaining items are not used.
        limit: how many items to use at most, spread evenly over all.
        preprocessing: of images, see :class:`trtnet.imaging.preprocessing.Preprocessing`; where the
            input has one size and number of channels, fitted to them.

    Raises:
        UsageError: a source that cannot be read, or holds nothing.
        ShapeError: arrays, or labels, of different numbers of items.
    """
    if batch < 1 or (limit is not None and limit < 1):
        raise UsageError("impossible amount of calibration data", got=f"batch {batch}, "
                         f"limit {limit}", expected="1 or more")  # fmt: skip
    if isinstance(source, np.ndarray):
        return _of_arrays({_only_input(graph, "the array"): array_from(source)}, {},
                          _Wanted(graph, batch, limit, "the array"))  # fmt: skip
    if not isinstance(source, (str, os.PathLike)):
        return source
    wanted = _Wanted(graph, batch, limit, str(source))
    if Path(source).is_dir():
        return _images(Path(source), wanted, preprocessing)
    return _of_arrays(*_arrays(Path(source), graph), wanted)


@dataclass(frozen=True)
class _Wanted:
    """How much of a source is used.

    Attributes:
        graph: whose inputs the batches are for.
        batch: items per batch, unless the graph is fixed to another number.
        limit: of the items.
        source: in words.
    """

    graph: Graph
    batch: int
    limit: int | None
    source: str

    @property
    def fixed(self) -> int | None:
        """The batch that the graph is fixed to."""
        shape = self.graph.tensors[self.graph.inputs[0]].shape
        return shape[0] if shape and shape[0] != -1 else None

    def chosen(self, items: int) -> np.ndarray:
        """The numbers of those of `items` that are used, evenly spread: whole batches of them where
        the batch is fixed."""
        if not items:
            raise UsageError(
                f"there is no calibration data in {self.source}",
                expected=f"images ({', '.join(SUFFIXES)}), or arrays of shape [N, ...]",
            )
        count = items if self.limit is None else min(items, self.limit)
        if self.fixed is not None:
            if items < self.fixed:
                raise UsageError(
                    f"there is less than one batch of calibration data in {self.source}",
                    expected=f"at least {self.fixed} items, the network's fixed batch",
                    got=items,
                    fix=f"give more, or a network for a batch of {items} at most: --batch {items} "
                    f"(batch={items})",
                )
            count = max(count // self.fixed, 1) * self.fixed
        return np.arange(count) * items // count

    def batches(
        self,
        count: int,
        read: Callable[[range], dict[str, np.ndarray]],
        labels: np.ndarray | None = None,
        objects: Callable[[], Sequence[Truth] | None] = unknown_objects,
    ) -> Batches:
        """`count` items as batches."""
        return Batches(count, self.fixed or self.batch, read, labels, objects)


def _of_arrays(
    arrays: Mapping[str, np.ndarray | NpyFile], others: Mapping[str, np.ndarray], wanted: _Wanted
) -> Batches:
    """`arrays` of the inputs as batches; `others` may hold labels."""
    labels = _labels(others)
    counts = {name: array.shape[0] if array.shape else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ShapeError("arrays with different numbers of items", got=counts)
    items = min(counts.values())
    if labels is not None and len(labels) != items:
        raise ShapeError(
            "there is not one label for each item",
            module=LABELS,
            expected=f"{items} labels",
            got=f"{len(labels)}",
        )
    chosen = wanted.chosen(items)
    return wanted.batches(
        len(chosen),
        lambda part: {name: array[chosen[part]] for name, array in arrays.items()},
        None if labels is None else labels[chosen],
        lambda: boxes_in_arrays(others, items, chosen),
    )


def _images(
    folder: Path, wanted: _Wanted, preprocessing: Mapping[str, Any] | Preprocessing | None
) -> Batches:
    name = _only_input(wanted.graph, f"a folder of images ({folder})")
    found = images_in(folder)
    if found and preprocessing is None:
        raise UsageError(
            f"nothing says how the images in {folder} are to be prepared",
            expected="preprocessing in the weights, or stated",
            fix="--preprocess imagenet, or unit, or a .toml file (in Python preprocessing=...); or "
            "give prepared data as .npy",
        )
    paths = [found[i] for i in wanted.chosen(len(found))]
    rules = _fitted(preprocessing or {}, wanted.graph.tensors[name].shape)

    def read(part: range) -> dict[str, np.ndarray]:
        return {name: _stack([paths[i] for i in part], rules)}

    return wanted.batches(len(paths), read, None, lambda: boxes_in_folder(folder, paths, rules))


def _fitted(
    preprocessing: Mapping[str, Any] | Preprocessing, shape: tuple[int, ...]
) -> Mapping[str, Any] | Preprocessing:
    """For an input of `shape`, where that is of images and of one size."""
    from trtnet.imaging.fitting import ImageInput, fitted  # needs msgspec

    taken = ImageInput.of_shape(shape)
    return preprocessing if taken is None else fitted(preprocessing, taken)


def _stack(paths: list[Path], preprocessing: Mapping[str, Any] | Preprocessing) -> np.ndarray:
    images = [load_image(path, preprocessing) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise ShapeError(
                f"{path} has another size than {paths[0]}",
                expected=images[0].shape[1:],
                got=image.shape[1:],
                fix="give a preprocessing with a crop_size",
            )
    return np.concatenate(images)


def _arrays(
    path: Path, graph: Graph
) -> tuple[Mapping[str, np.ndarray | NpyFile], Mapping[str, np.ndarray]]:
    """The array of each input, and the other arrays."""
    loaded = _load(path)
    if isinstance(loaded, NpyFile):
        return {_only_input(graph, str(path)): loaded}, {}
    others = {name: array for name, array in loaded.items() if name not in graph.inputs}
    if set(graph.inputs) <= loaded.keys():
        return {name: loaded[name] for name in graph.inputs}, others
    if len(graph.inputs) == 1 and _KEY in loaded:
        return {graph.inputs[0]: loaded[_KEY]}, others
    raise UsageError(
        f"{path} does not hold the network's inputs",
        expected=", ".join(graph.inputs),
        got=", ".join(loaded) or "no arrays",
        fix="name the arrays like the inputs: numpy.savez(path, input=...)",
    )


def _load(path: Path) -> NpyFile | dict[str, np.ndarray]:
    """The arrays; the rows of a ``.npy`` file are read when they are needed."""
    if path.suffix == ".npy":
        return NpyFile(path, _WHAT)
    if path.suffix == ".npz":
        return read_npz(path, _WHAT)
    raise UsageError(
        f"{path} is no calibration data",
        expected="a folder of images, a .npy or a .npz file",
        fix="check the path" if not path.exists() else None,
    )


def _labels(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    labels = arrays.get(LABELS)
    if labels is not None and (labels.ndim == 0 or labels.dtype.kind not in "iu"):
        raise ShapeError(
            "labels are class numbers, one for each item",
            module=LABELS,
            expected="integers of shape [N]",
            got=f"{labels.dtype} of shape {labels.shape}",
        )
    return labels


def _only_input(graph: Graph, source: str) -> str:
    if len(graph.inputs) == 1:
        return graph.inputs[0]
    raise UsageError(
        f"{source} is for networks with one input",
        expected=f"arrays for {', '.join(graph.inputs)}",
        fix="give a .npz file, or an iterable of dicts",
    )
