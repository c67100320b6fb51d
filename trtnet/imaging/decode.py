"""Reads image files as Pillow images: upright, 8 bits per channel, of limited size."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from trtnet.errors import TrtnetError, UsageError
from trtnet.extras import install
from trtnet.reading.files import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
"""Accepted formats, by Pillow's names. Others, such as EPS, make Pillow start other programs."""

SUFFIXES = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
"""File name endings by which the images in a folder are found."""

MAX_PIXELS = 100_000_000
"""Largest number of pixels of an image that is read or resized."""

_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap the axes
_SIXTEEN_BITS = 0xFFFF


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The files in `folder` and in folders below it whose names end as :data:`SUFFIXES` say, in any
    case, in the order of their paths."""
    files = (path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if path.is_file())


def read_image(path: str | os.PathLike[str], mode: str = "RGB") -> Image:
    """Reads the image at `path` and turns it upright by its EXIF orientation.

    Pixels are converted to `mode` by Pillow's ``convert``, as in torchvision: transparency is
    dropped, so that hidden colours show; palettes are looked up; CMYK is converted without a
    colour profile. Of 16-bit samples the upper 8 bits are used, of an animation the first frame.

    Args:
        path: the image file.
        mode: ``"RGB"`` or ``"L"`` (grey).

    Raises:
        UsageError: the file is not a readable image of the :data:`FORMATS`, its header gives more
            than :data:`MAX_PIXELS` (checked before decoding), or Pillow is not installed.
    """
    with _opened(path, lambda: _regular(path)) as image:
        return upright(image, mode, path)


def decode_image(
    content: bytes, mode: str = "RGB", name: str | os.PathLike[str] = "the image"
) -> Image:
    """The image of a file whose bytes are `content`, as :func:`read_image` reads it.

    Args:
        content: all of the file.
        mode: ``"RGB"`` or ``"L"`` (grey).
        name: what errors call it.

    Raises:
        UsageError: as :func:`read_image`.
    """
    with _opened(name, lambda: io.BytesIO(content)) as image:
        return upright(image, mode, name)


def upright(image: Image, mode: str = "RGB", name: str | os.PathLike[str] = "the image") -> Image:
    """A copy of `image` as :func:`read_image` returns it: turned by its EXIF orientation, converted
    to 8 bits per channel of `mode`.

    Args:
        image: of any mode.
        mode: ``"RGB"`` or ``"L"`` (grey).
        name: what errors call it.

    Raises:
        UsageError: its values do not say what black and white are.
    """
    from PIL import ImageOps

    return _in_8_bits(ImageOps.exif_transpose(image), name).convert(mode)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) in pixels of the image that :func:`read_image` returns, from the header.

    Raises:
        UsageError: as :func:`read_image`, as far as the header shows it.
    """
    with _opened(path, lambda: _regular(path)) as image:
        width, height = image.size
        is_turned = image.format == "TIFF"  # by Pillow's TIFF reader itself
        if not is_turned and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
            return height, width
        return width, height


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], opened: Callable[[], BinaryIO]) -> Iterator[Image]:
    """Opens the image, which is decoded on first use; any error of Pillow becomes a UsageError.

    Args:
        path: what errors call it.
        opened: opens the file.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise UsageError(
            "reading images needs Pillow", got=error, fix=f"{install('images')}, or give .npy files"
        ) from error
    try:
        with opened() as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path, f"{image.width} x {image.height}")
            yield image
    except (TrtnetError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is larger
        raise _too_large(path, f"{re.findall('[0-9]+', str(error))[0]} pixels") from error
    except UnidentifiedImageError as error:
        raise _unreadable(path, _beginning(opened)) from error
    except Exception as error:  # on broken files Pillow's readers raise errors of any type
        raise _unreadable(path, error) from error


def _in_8_bits(image: Image, path: str | os.PathLike[str]) -> Image:
    """`image` with 8 bits per channel; Pillow would clip 16-bit grey at 255 instead of scaling."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    import PIL.Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise UsageError(
            f"{path} does not define the values of black and white",
            expected="8 or 16 bits per channel",
            got=f"{values.dtype} from {values.min()} to {values.max()}",
            fix="convert the image to 8 bits, or give the prepared input as .npy",
        )
    return PIL.Image.fromarray((values >> 8).astype(np.uint8))


def _regular(path: str | os.PathLike[str]) -> BinaryIO:
    return open_regular(path, "an image", fix="name an image file")


def _beginning(opened: Callable[[], BinaryIO]) -> str:
    with opened() as file:
        start = file.read(16)
    return f"a file that begins with {start!r}" if start else "an empty file"


def _unreadable(path: str | os.PathLike[str], got: object) -> UsageError:
    return UsageError(
        f"{Path(path)} cannot be read as an image",
        expected=", ".join(FORMATS),
        got=got,
        fix="convert it to PNG or JPEG",
    )


def _too_large(path: str | os.PathLike[str], got: str) -> UsageError:
    return UsageError(
        f"{Path(path)} is too large",
        expected=f"at most {MAX_PIXELS // 1_000_000} megapixels",
        got=got,
        fix="scale it down, or cut it into tiles",
    )
