"""ImageRunner: what a network gives for images, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from trtnet.engines.session import Session
from trtnet.errors import UsageError
from trtnet.tasks.opening import Opened
from trtnet.tasks.task import ImageTask, Seen


@dataclass(frozen=True, eq=False)
class ImageOutputs:
    """What a network gives for an image.

    Attributes:
        path: of the file; ``None`` for an image in memory.
        width, height: of the image, in pixels.
        outputs: by name, without the batch axis.
        seconds: how long the network took; of a batch, the image's part.
    """

    path: Path | None
    width: int
    height: int
    outputs: Mapping[str, np.ndarray]
    seconds: float


class ImageRunner(ImageTask[ImageOutputs]):
    """Runs an engine on images.

    Raises:
        UsageError: an output that has no row for each image.
    """

    task: ClassVar[str] = "any"  # engines alone are opened

    def _check(self, session: Session) -> None:
        images = session.inputs[0]
        batch = images.shape[0]
        for binding in session.outputs:
            if binding.shape[:1] != (batch,):
                raise UsageError(
                    f"the output {binding.name!r} has no row for each image",
                    expected=f"a first axis of {batch}, as the input {images.name!r} has",
                    got=str(binding.shape),
                    fix="run the images one by one",
                )

    def _result(self, seen: Seen, opened: Opened) -> ImageOutputs:
        image, path = seen.loaded.image, seen.loaded.picture.path
        outputs = {name: array.copy() for name, array in seen.outputs.items()}
        return ImageOutputs(path, image.width, image.height, outputs, seen.seconds)
