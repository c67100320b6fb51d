"""What ``tools/accuracy.py`` measures: trained networks, images, and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import train_lenet
import train_resnet

from trtnet import zoo
from trtnet.errors import UsageError
from trtnet.graph import Graph
from trtnet.imaging import SUFFIXES, load_image
from trtnet.pipeline import load_weights
from trtnet.search import Data, load_data
from trtnet.weights import Weights

BATCH = 64
TRAINING = 1024  # digits to calibrate and search with
CALIBRATION = 512  # images of ImageNet, likewise
CLASSES = 1000  # of ImageNet
LIMITS = {"fp16": 0.2, "bf16": 0.2, "int8": 1.0, "searched": 0.3}
# torchvision's top-1 is 76.13 and 80.858; the aims are 75.95 and 80.5.
IMAGENET_LIMITS = {
    "IMAGENET1K_V1": {"fp16": 0.05, "int8": 0.18},
    "IMAGENET1K_V2": {"fp16": 0.05, "int8": 0.358},
}

Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A trained network and what it is measured on.

    Attributes:
        model: its name in the zoo.
        weights: what ``--weights`` calls them.
        about: what the images are, in words.
        calibration: the images to calibrate and search with.
        held_out: gives batches of images (N, C, H, W) float32 and labels (N,).
        limits: precision to the largest drop of top-1 against FP32 that is accepted, in points.
    """

    model: str
    weights: str
    about: str
    calibration: Callable[[Graph], Data]
    held_out: Callable[[], Iterator[Labelled]]
    limits: Mapping[str, float]

    def load(self) -> Weights:
        """The weights."""
        return load_weights(zoo.get_entry(self.model), self.weights, 0, {})


def digits_tasks() -> list[Task]:
    """The two networks that trtnet ships trained."""
    return [
        Task(
            "lenet5",
            "DIGITS_V1",
            "450 held-out digits of scikit-learn, as `tools/train_lenet.py` splits them",
            partial(_training, train_lenet.digits),
            partial(_held_out, train_lenet.digits),
            LIMITS,
        ),
        Task(
            "resnet20_digits",
            "DISTORTED_DIGITS_V1",
            "the same 450 digits in 8 distortions each: 3,600 images, rotated, moved, scaled, "
            "dimmed and noisy, as in `tools/train_resnet.py`",
            partial(_training, train_resnet.distorted_digits),
            partial(_held_out, train_resnet.distorted_digits),
            LIMITS,
        ),
    ]


def imagenet_tasks(folder: Path, limit: int | None) -> list[Task]:
    """ResNet-50 with both of torchvision's weights, on ImageNet's validation images.

    Args:
        folder: with one folder of images for each class, called by its WordNet number.
        limit: how many images to use at most, spread evenly over all; all if None.

    Raises:
        UsageError: a folder of another kind.
    """
    labelled = labelled_images(folder, CLASSES, limit)
    return [_imagenet_task(name, folder, labelled) for name in IMAGENET_LIMITS]


def labelled_images(folder: Path, classes: int, limit: int | None = None) -> list[tuple[Path, int]]:
    """The images in the folders of `classes` classes, and the number of each one's class: that of
    its folder, in the order of their names.

    Raises:
        UsageError: there are more or fewer folders, or no images in them.
    """
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}", expected="ImageNet's validation images, a folder for "
            "each class", fix="check the path")  # fmt: skip
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) != classes:
        raise UsageError(
            f"{folder} has folders for {len(names)} classes",
            expected=f"{classes} folders, such as n01440764",
            got=", ".join(names[:3]) or "no folders",
            fix="sort the validation images into folders, as torchvision.datasets.ImageFolder "
            "wants them",
        )
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise UsageError(f"there are no images in the folders of {folder}",
                         expected=", ".join(SUFFIXES))  # fmt: skip
    count = min(len(found), limit or len(found))
    return [found[index * len(found) // count] for index in range(count)]


def read_images(
    labelled: Sequence[tuple[Path, int]], preprocessing: Mapping[str, Any], batch: int = BATCH
) -> Iterator[Labelled]:
    """Batches of prepared images; the next ones are read meanwhile."""
    with ThreadPoolExecutor() as pool:

        def start(first: int) -> list[Any]:
            paths = (path for path, _ in labelled[first : first + batch])
            return [pool.submit(load_image, path, preprocessing) for path in paths]

        waiting = start(0)
        for first in range(0, len(labelled), batch):
            images = waiting
            waiting = start(first + batch)
            labels = [label for _, label in labelled[first : first + batch]]
            yield np.concatenate([image.result() for image in images]), np.array(labels)


def _imagenet_task(weights: str, folder: Path, labelled: Sequence[tuple[Path, int]]) -> Task:
    def preprocessing() -> dict[str, Any]:
        return task.load().preprocessing or {}

    def calibration(graph: Graph) -> Data:
        prepared = preprocessing()
        return load_data(folder, graph, batch=BATCH, limit=CALIBRATION, preprocessing=prepared)

    task = Task(
        "resnet50",
        weights,
        f"{len(labelled):,} images of ImageNet's validation set",
        calibration,
        lambda: read_images(labelled, preprocessing()),
        IMAGENET_LIMITS[weights],
    )
    return task


def _training(digits: Callable[[str], Labelled], graph: Graph) -> Data:
    images, labels = digits("train")
    chosen = np.arange(TRAINING) * len(images) // TRAINING
    (name,) = graph.inputs
    parts = list(_split(images[chosen], labels[chosen]))
    return Data(tuple({name: part} for part, _ in parts), tuple(answers for _, answers in parts))


def _held_out(digits: Callable[[str], Labelled]) -> Iterator[Labelled]:
    return _split(*digits("held-out"))


def _split(images: np.ndarray, labels: np.ndarray) -> Iterator[Labelled]:
    for first in range(0, len(images), BATCH):
        yield images[first : first + BATCH], labels[first : first + BATCH]
