"""Images as users give them: files, folders, Pillow images, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from trtnet.errors import TrtnetError, UsageError
from trtnet.escaping import printable
from trtnet.imaging import SUFFIXES, images_in, read_image, upright, upright_size

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = Union["Image", np.ndarray]
"""An image in memory: of Pillow, or uint8 of shape (height, width, 3), RGB, or (height, width)."""
Images: TypeAlias = Union[str, "os.PathLike[str]", Pixels, Iterable[Any]]
"""A file, a folder, an image in memory, or an iterable of these."""

_EXPECTED = (
    "a file, a folder, a Pillow image, a uint8 array (height, width, 3) of RGB values, or an "
    "iterable of these"
)
_GREY, _COLOR = 2, 3  # axes of an array


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, not read yet.

    Attributes:
        name: what messages call it: the path, or its place among the images that were given.
        path: of the file; ``None`` for an image in memory.
        pixels: in memory; ``None`` for a file.
    """

    name: str
    path: Path | None = None
    pixels: Pixels | None = None

    def size(self) -> tuple[int, int]:
        """(width, height) of the upright image.

        Raises:
            UsageError: the file cannot be read.
        """
        if self.path is not None:
            return upright_size(self.path)
        image = self.read("RGB")
        return image.width, image.height

    def read(self, mode: str) -> Image:
        """The upright image of `mode`, ``"RGB"`` or ``"L"``.

        Raises:
            UsageError: it cannot be read.
        """
        if self.path is not None:
            return read_image(self.path, mode)
        try:
            import PIL.Image
        except ImportError as error:
            raise UsageError("images need Pillow", got=error, fix="pip install pillow") from error
        pixels = self.pixels
        if isinstance(pixels, np.ndarray):
            pixels = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        assert pixels is not None
        try:
            return upright(pixels, mode, self.name)
        except OSError as error:  # Pillow reads the file of an image when its pixels are needed
            raise UsageError(f"{self.name} cannot be read", got=error) from error

    def failure(self, error: TrtnetError) -> Failure:
        """`error`, which from now on names this image."""
        if self.name not in str(error):
            error.module = f"{self.name}: {error.module}" if error.module else self.name
        return Failure(self.path, error)


@dataclass(frozen=True)
class Failure:
    """An image that could not be read or processed, in the place of its result.

    Attributes:
        path: of the file; ``None`` for an image in memory.
        error: what is wrong; its text names the image.
    """

    path: Path | None
    error: TrtnetError

    def __str__(self) -> str:
        return str(self.error)


def in_line(path: Path | None, classes: Iterable[object]) -> str:
    """A result in one line: the file, if there is one, and what was found in the image."""
    file = "" if path is None else f"{printable(path)}: "
    return file + ", ".join(map(str, classes))


def is_single(images: Images) -> bool:
    """Whether `images` is one image rather than several: a folder is several."""
    if isinstance(images, str | os.PathLike):
        return not os.path.isdir(images)
    return isinstance(images, np.ndarray) or _is_pillow(images)


def pictures_of(images: Images) -> Iterator[Picture]:
    """The images that `images` stands for, in order.

    Raises:
        UsageError: something that is no image, or a folder without images.
    """
    if is_single(images):
        yield _picture(images, "the image")
    elif isinstance(images, str | os.PathLike):
        yield from _folder(Path(images))
    elif isinstance(images, Iterable) and not isinstance(images, bytes):
        for index, image in enumerate(images):
            if isinstance(image, str | os.PathLike) and os.path.isdir(image):
                yield from _folder(Path(image))
            else:
                yield _picture(image, f"image {index}")
    else:
        raise _no_image(images, "the image")


def _folder(folder: Path) -> Iterator[Picture]:
    found = images_in(folder)
    if not found:
        raise UsageError(f"there are no images in {folder}", expected=", ".join(SUFFIXES))
    for path in found:
        yield Picture(str(path), path)


def _picture(image: object, name: str) -> Picture:
    if isinstance(image, str | os.PathLike):
        return Picture(os.fspath(image), Path(image))
    if isinstance(image, np.ndarray):
        has_colors = image.ndim == _COLOR and image.shape[-1] == 3
        if image.dtype != np.uint8 or not image.size or not (has_colors or image.ndim == _GREY):
            raise _no_image(image, name)
        return Picture(name, pixels=image)
    if _is_pillow(image):
        return Picture(name, pixels=image)  # type: ignore[arg-type]
    raise _no_image(image, name)


def _is_pillow(image: object) -> bool:
    try:
        import PIL.Image
    except ImportError:
        return False
    return isinstance(image, PIL.Image.Image)


def _no_image(image: object, name: str) -> UsageError:
    array = isinstance(image, np.ndarray)
    return UsageError(
        f"{name} is no image",
        expected=_EXPECTED,
        got=f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else repr(image)[:200],
        fix="trtnet.Session takes arrays that are prepared already" if array else None,
    )
