"""Opening a weights file, whatever it turns out to be."""

from __future__ import annotations

import difflib
import mmap
import os
from pathlib import Path

import numpy as np

from trtnet.errors import WeightsError
from trtnet.weights import checkpoint, safetensors_reader, wts
from trtnet.weights.container import Weights

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin")
WTS_SUFFIX = ".wts"
SUFFIXES = (".safetensors", *CHECKPOINT_SUFFIXES, WTS_SUFFIX)
_PARALLEL = "module."
_AVERAGES = "n_averaged"  # a counter that AveragedModel adds


def load(path: str | os.PathLike[str]) -> Weights:
    """The weights in a safetensors file, a PyTorch checkpoint or a tensorrtx ``.wts`` file, told
    apart by their content.

    A safetensors file is mapped into memory: its arrays are views of the file, nothing is copied
    (BF16, which numpy lacks, becomes float32, and tensors at unaligned offsets are copied). A
    checkpoint is read with ``torch.load(weights_only=True)``, which runs no code; its tensors may
    sit under ``state_dict`` or ``model``. A ``.wts`` file has no shapes: its weights are `flat`
    until they are loaded into a module. From the latter two a ``module.`` in front of every key
    is dropped, as ``DataParallel`` and ``AveragedModel`` leave it.

    Raises:
        WeightsError: the file is missing, unreadable, damaged, not a weights file, or would run
            code.
    """
    file = Path(path)
    content = _map(file)
    if safetensors_reader.looks_like(content):
        arrays, metadata = safetensors_reader.read(content, file)
        return Weights(arrays, metadata, file, content)
    kind = checkpoint.kind_of(content)
    if kind is None and (file.suffix == WTS_SUFFIX or wts.looks_like(content)):
        arrays = _strip_parallel(wts.read(content, file))
        return Weights(arrays, None, file, content, flat=True)
    if file.suffix == ".safetensors":
        if kind is not None:
            raise WeightsError(
                f"{file} is not a safetensors file",
                expected="safetensors",
                got=f"a PyTorch checkpoint or another {kind}, under the wrong name",
                fix=f"rename it to {file.with_suffix('.pth').name}; it is loaded if that is safe",
            )
        safetensors_reader.read(content, file)  # raises: it says what is wrong with the header
    if kind is None:
        raise WeightsError(
            f"{file} is not a weights file",
            expected="a safetensors file, a PyTorch checkpoint or a .wts file "
            f"({', '.join(SUFFIXES)})",
            got=f"a file that begins with {content[:16]!r}",
            fix="name the file that holds the weights",
        )
    arrays, metadata = checkpoint.read(file, kind)
    return Weights(_strip_parallel(arrays), metadata, file, content)


def loads(content: bytes, name: str) -> Weights:
    """The weights in the bytes of a safetensors file; the arrays are views of `content`.

    Args:
        content: what :func:`trtnet.weights.dumps` gave.
        name: of `content`, for messages.

    Raises:
        WeightsError: no safetensors file, or a damaged one.
    """
    arrays, metadata = safetensors_reader.read(content, name)
    return Weights(arrays, metadata)


def _strip_parallel(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes the wrapped model's keys out of those of ``DataParallel`` and ``AveragedModel``."""
    inner = {name: array for name, array in arrays.items() if name != _AVERAGES}
    if not inner or not all(name.startswith(_PARALLEL) for name in inner):
        return arrays
    return {name.removeprefix(_PARALLEL): array for name, array in inner.items()}


def _map(file: Path) -> mmap.mmap:
    if file.is_dir():
        raise WeightsError(
            f"{file} is a directory", expected="a file", fix=_name_another(file, list_all=True)
        )
    if not file.exists():
        raise WeightsError(f"{file} does not exist", fix=_name_another(file.parent, file.name))
    if not file.is_file():
        raise WeightsError(f"{file} is not a regular file", fix="name a file on disk")
    try:
        with open(file, "rb") as opened:
            if not os.fstat(opened.fileno()).st_size:
                raise WeightsError(f"{file} is empty", fix="copy or extract it again")
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read", got=error, fix="check the file") from error


def _name_another(directory: Path, name: str = "", *, list_all: bool = False) -> str:
    """Advice that names files in `directory`: those called nearly `name`, or all weights files."""
    try:
        present = sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return f"there is no directory {directory}: check the path"
    weights = [entry for entry in present if entry.endswith(SUFFIXES)]
    near = weights if list_all else difflib.get_close_matches(name, present, n=3) or weights
    if not near:
        return "no weights file is there: check the path"
    more = f" and {len(near) - 5} more" if len(near) > 5 else ""
    return f"did you mean {', '.join(near[:5])}{more}?"
