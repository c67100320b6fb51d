"""Image files as Pillow images: upright, 8 bits a channel, of a size that fits into memory."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtnet.errors import TrtnetError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
"""By Pillow's names. It knows more, such as EPS, for which it starts other programs."""

SUFFIXES = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
"""By which the images in a folder are found."""

MAX_PIXELS = 100_000_000
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap the axes
_SIXTEEN_BITS = 0xFFFF


def read_image(path: str | os.PathLike[str], mode: str = "RGB") -> Image:
    """The image at `path`, upright: turned as its EXIF orientation says.

    Every kind of pixel becomes `mode` as Pillow's ``convert``, and so torchvision, does it:
    transparency is dropped and what it hid shows, palettes are looked up, CMYK is converted
    without a colour profile. Of 16-bit samples the upper 8 bits are taken. An animation gives its
    first frame.

    Args:
        mode: ``"RGB"`` or ``"L"``, grey.

    Raises:
        UsageError: no image of the :data:`FORMATS` can be read there, it has more than
            :data:`MAX_PIXELS` (which its header tells: nothing is decoded), or Pillow is not
            installed.
    """
    with _opened(path) as image:
        from PIL import ImageOps

        return _in_8_bits(ImageOps.exif_transpose(image), path).convert(mode)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of what :func:`read_image` gives, mostly from the file's header alone.

    Raises:
        UsageError: as :func:`read_image`, as far as the header shows it.
    """
    with _opened(path) as image:
        width, height = image.size
        is_turned = image.format == "TIFF"  # Pillow's reader does it
        if not is_turned and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
            return height, width
        return width, height


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image]:
    """The image, which is decoded on first use; whatever Pillow raises becomes a UsageError."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise UsageError(
            "reading images needs Pillow", got=error, fix="pip install pillow, or give .npy files"
        ) from error
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path, f"{image.width} x {image.height}")
            yield image
    except TrtnetError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, beyond ours
        raise _too_large(path, f"{re.findall('[0-9]+', str(error))[0]} pixels") from error
    except UnidentifiedImageError as error:
        raise _unreadable(path, _beginning(path)) from error
    except Exception as error:  # a broken file makes Pillow's readers fail with anything
        raise _unreadable(path, error) from error


def _in_8_bits(image: Image, path: str | os.PathLike[str]) -> Image:
    """Pillow cuts grey of 16 bits off at 255 instead of scaling it."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    import PIL.Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise UsageError(
            f"nothing says what black and white are in {path}",
            expected="8 or 16 bits a channel",
            got=f"{values.dtype} from {values.min()} to {values.max()}",
            fix="convert it, or give the prepared input as .npy",
        )
    return PIL.Image.fromarray((values >> 8).astype(np.uint8))


def _beginning(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
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
        f"{Path(path)} is too large an image",
        expected=f"at most {MAX_PIXELS // 1_000_000} megapixels",
        got=got,
        fix="scale it down, or cut it into tiles",
    )
