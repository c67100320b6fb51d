"""The images of a run: in a folder, of a pattern, or at an address such as ``s3://bucket/photos``."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trtnet.errors import TrtnetError, UsageError
from trtnet.extras import install
from trtnet.files.temporary_folder import temporary_folder
from trtnet.imaging import SUFFIXES, images_in
from trtnet.workers import ordered_map

_LARGEST = 1 << 30  # bytes of an image that is fetched
_FETCHED_AT_ONCE = 16
_SCHEME = "://"
_KEYS = re.compile(r"(?<=://)[^/]*@")


class FoundImage(NamedTuple):
    """An image that was found, not read yet.

    Attributes:
        name: its path as the user would write it, or its address.
        size: bytes of the file.
        changed: when, in nanoseconds; 0 where that is not known.
    """

    name: str
    size: int
    changed: int


def find_images(place: str) -> tuple[str, list[FoundImage]]:
    """The base of the names, see :class:`trtnet.serving.batch.job.BatchJob`, and the images in the
    order of their names.

    Args:
        place: a folder, with the folders below it; a pattern of :mod:`glob`, with ``**`` for
            folders below; a file; or an address of pyarrow, such as ``s3://bucket/photos``, of one
            or of all that is below it. Of folders, patterns and addresses the files count that end
            as images do.

    Raises:
        UsageError: there is no such place, no image in it, or pyarrow is not installed.
    """
    if is_address(place):
        found = sorted(_at_address(place))
        base = place
    else:
        found, base = [_found(path) for path in _local(place)], os.getcwd()
    if not found:
        shown = without_secret(place)
        raise UsageError(f"there are no images in {shown}", expected=", ".join(SUFFIXES))
    return base, found


def without_secret(place: str) -> str:
    """`place` as it may be shown and written: an address without the keys in it.

    >>> without_secret("s3://KEY:SECRET@bucket/photos")
    's3://bucket/photos'
    """
    return _KEYS.sub("", place, count=1) if is_address(place) else place


def is_address(place: str) -> bool:
    """Whether `place` is an address rather than a path."""
    return _SCHEME in place


@contextlib.contextmanager
def fetched(base: str, names: Sequence[str]) -> Iterator[list[Path | TrtnetError]]:
    """The file of each image while the block runs, or why it cannot be had. Images at an address
    are copied to a temporary folder, several at a time."""
    if not is_address(base):
        yield [_file(os.path.join(base, name)) for name in names]
        return
    files = file_system(base)[0]
    with temporary_folder("trtnet-batch-") as folder:

        def fetch(item: tuple[int, str]) -> Path | TrtnetError:
            place, name = item
            target = folder / f"{place}{Path(name).suffix.lower()}"
            return _fetch(files, name, target)

        yield list(ordered_map(fetch, enumerate(names), _FETCHED_AT_ONCE))


def file_system(address: str) -> tuple[Any, str]:
    """pyarrow's file system of an address, and the path in it.

    Raises:
        UsageError: pyarrow is not installed, or knows no such address.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise UsageError(
            "images at an address need pyarrow", got=error, fix=install("ray")
        ) from error
    try:
        files, path = FileSystem.from_uri(address)
    except (ArrowException, OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"{without_secret(address)} is no address that can be opened",
            expected="a folder, a pattern, or s3://BUCKET/FOLDER, gs://..., file:///...",
            got=str(error).replace(address, without_secret(address)),
        ) from error
    return files, str(path)


def _local(place: str) -> list[Path]:
    if os.path.isdir(place):
        return images_in(place)
    if os.path.isfile(place):
        return [Path(place)]
    if not glob.has_magic(place):
        raise UsageError(
            f"--images: there is no {place}",
            expected="a folder, a pattern such as 'photos/**/*.jpg', or s3://BUCKET/FOLDER",
        )
    matches = (Path(text) for text in glob.glob(place, recursive=True))
    return sorted(path for path in matches if path.suffix.lower() in SUFFIXES and path.is_file())


def _found(path: Path) -> FoundImage:
    try:
        about = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read", got=error) from error
    return FoundImage(str(path), about.st_size, about.st_mtime_ns)


def _at_address(address: str) -> Iterator[FoundImage]:
    from pyarrow.fs import FileSelector, FileType

    files, path = file_system(address)
    start = address.partition(_SCHEME)[0] + _SCHEME
    try:
        about = files.get_file_info(path)
        if about.type == FileType.File:
            below = [about]
        else:
            below = files.get_file_info(FileSelector(path, recursive=True))
    except OSError as error:
        shown = without_secret(address)
        raise UsageError(f"--images: {shown} cannot be read", got=error) from error
    for each in below:
        is_image = Path(each.path).suffix.lower() in SUFFIXES
        if each.type == FileType.File and (is_image or each.path == path):
            yield FoundImage(start + each.path, each.size or 0, each.mtime_ns or 0)


def _file(path: str) -> Path | TrtnetError:
    if os.path.isdir(path):  # since the list was made
        return UsageError(f"{path} is a folder", expected="an image")
    return Path(path)


def _fetch(files: Any, name: str, target: Path) -> Path | TrtnetError:
    path = name.partition(_SCHEME)[2]
    try:
        with files.open_input_stream(path) as source:
            content = source.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            return UsageError(f"{name} is too large", expected=f"at most {_LARGEST >> 30} GiB")
        target.write_bytes(content)
    except OSError as error:
        return UsageError(f"{name} cannot be read", got=error)
    return target
