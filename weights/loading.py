"""Loading a weights file of any format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from trtnet.errors import UsageError, WeightsError
from trtnet.names import did_you_mean
from trtnet.reading.files import open_regular, read_bytes
from trtnet.values import array_from
from trtnet.weights import (
    checkpoint,
    checkpoint_entries,
    darknet,
    folders,
    prefixes,
    safetensors_reader,
    wts,
)
from trtnet.weights.container import Weights, require_state
from trtnet.weights.places import Place, wanted

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin")
WTS_SUFFIX = ".wts"
SUFFIXES = (".safetensors", *CHECKPOINT_SUFFIXES, WTS_SUFFIX)
READABLE = (*SUFFIXES, darknet.SUFFIX)
"""Of files that are read; those of :data:`SUFFIXES` are written too."""
_WHAT = "a file of weights"
_START = 32  # bytes that tell the formats apart


def load(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    model: Any | None = None,
    cfg: str | os.PathLike[str] | None = None,
) -> Weights:
    """The weights in a safetensors file, a PyTorch checkpoint or a tensorrtx ``.wts`` file, told
    apart by their content; in darknet's ``.weights``, told by that name; or in a folder with one
    safetensors file or several with their index.

    The file is read, not mapped into memory: it may be changed, cut short or removed afterwards.
    The arrays of a safetensors file are views of what was read (BF16, which numpy lacks, becomes
    float32, and tensors at unaligned offsets are copied). A checkpoint is read with
    ``torch.load(weights_only=True)``, which runs no code; its tensors may sit under any name, such
    as ``state_dict`` or ``model_ema``, at any depth, and class names beside them under ``names`` or
    ``class_names``, or there in ``args``. Of a model that was pickled as a whole the state_dict is
    read, in float32, and its class names, without its package. A ``.wts`` file has no shapes: its
    weights are `flat` until they are loaded into a module.

    With `model`, prefixes that its keys lack are dropped: ``model.``, ``_orig_mod.``,
    ``module.backbone.`` and whatever else makes the keys those of the model. Without it only the
    names of PyTorch's wrappers are, in front of every key: ``module.``, ``_orig_mod.``.
    :attr:`Weights.notes` says what was taken and dropped.

    Args:
        path: of the file, of the folder, or of the index ``*.safetensors.index.json`` in it.
        key: which of several entries of a checkpoint to take, such as ``"state_dict_ema"``, or
            what the keys to take begin with, such as ``"teacher.backbone"``.
        model: the module, of trtnet or PyTorch, that the weights are for; or a state_dict of it.
        cfg: of darknet's ``.weights``: the description of the network, where it is not beside the
            file under the same name; without one the layers are those of `model`.

    Raises:
        WeightsError: the file is missing, unreadable, damaged, not a weights file, or would run
            code; nothing says which of several weights in it to take.
    """
    places = None if model is None else wanted(model)
    weights = read(Path(path), key, places, None if cfg is None else Path(cfg))
    return _fitted(weights, places)


def fitted(weights: Mapping[str, Any], model: Any) -> Weights:
    """Weights under the keys of `model`, whose prefixes are found as :func:`load` finds them.
    What does not fit is kept as it is: loading it reports it.

    Args:
        weights: what :func:`load` gave without `model`, or a state_dict.
        model: a module of trtnet or PyTorch, or a state_dict of it.

    Raises:
        WeightsError: several prefixes fit.
    """
    require_state(weights)
    if not isinstance(weights, Weights):
        weights = Weights({key: array_from(value, key) for key, value in weights.items()})
    return _fitted(weights, wanted(model))


def _fitted(weights: Weights, places: Mapping[str, Place] | None) -> Weights:
    if places is None:
        found = prefixes.without_wrappers(weights)
    else:
        shapes = {key: array.shape for key, array in weights.items()}
        found = prefixes.find(shapes, places, weights.flat, weights.source)
    return weights.renamed(found.names, found.notes) if found.changes else weights


def read(
    file: Path,
    key: str | None = None,
    places: Mapping[str, Place] | None = None,
    cfg: Path | None = None,
) -> Weights:
    """:func:`load` under the file's own keys: no prefix is dropped."""
    if (index := folders.index_of(file)) is not None:
        return _selected(folders.read(index), key)
    file = folders.only_file(file) or file
    with _open(file) as opened:
        size, start = os.fstat(opened.fileno()).st_size, opened.read(_START)
        if not size:
            raise WeightsError(f"{file} is empty", fix="copy or extract it again")
        kind = None
        if not safetensors_reader.looks_like(start, size):
            kind = checkpoint.kind_of(start)
        if kind is not None:
            return _checkpoint(opened, file, kind, key, places)
    content = read_bytes(file, _WHAT, error=WeightsError)
    if safetensors_reader.looks_like(content[:_START], len(content)):
        arrays, metadata = safetensors_reader.read(content, file)
        return _selected(Weights(arrays, metadata, file, content), key)
    if file.suffix == WTS_SUFFIX or wts.looks_like(content):
        arrays = wts.read(content, file)
        sha256 = hashlib.sha256(content).hexdigest()
        return _selected(Weights(arrays, None, file, flat=True, file_sha256=sha256), key)
    if file.suffix == darknet.SUFFIX:
        arrays, metadata = darknet.read(content, file, cfg, places)
        return _selected(Weights(arrays, metadata, file, content), key)
    if file.suffix == ".safetensors":
        safetensors_reader.read(content, file)  # raises, naming the fault of the header
    others = [name for name in weights_files(file.parent) if name != file.name]
    raise WeightsError(
        f"{file} is not a weights file",
        expected=f"a safetensors file, a PyTorch checkpoint or a .wts file ({', '.join(SUFFIXES)})",
        got=f"a file that begins with {content[:16]!r}",
        fix=f"name the file that holds the weights{', such as ' if others else ''}"
        f"{', '.join(others[:5])}",
    )


def _selected(weights: Weights, key: str | None) -> Weights:
    """The part of a file without entries that `key` names."""
    if key is None:
        return weights
    names = prefixes.selected(weights, key)
    if not names:
        raise checkpoint_entries.unknown(key, [], {"": weights}, weights.source)
    return weights.renamed(names, (f"{prefixes.plural(len(names))} behind `{key}.` taken",))


def _checkpoint(
    opened: BinaryIO, file: Path, kind: str, key: str | None, places: Mapping[str, Place] | None
) -> Weights:
    if file.suffix == ".safetensors":
        raise WeightsError(
            f"{file} is not a safetensors file",
            expected="safetensors",
            got=f"a PyTorch checkpoint or another {kind}, under the wrong name",
            fix=f"rename it to {file.with_suffix('.pth').name}; it is loaded if that is safe",
        )
    read = checkpoint.read(opened, file, kind, key, places)
    return Weights(read.arrays, read.metadata, file, file_sha256=read.sha256, notes=read.notes)


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


def is_path(weights: str) -> bool:
    """Whether `weights` is the path of a file or folder rather than a name.

    >>> is_path("model.safetensors"), is_path("IMAGENET1K_V2")
    (True, False)
    """
    if weights.endswith((*READABLE, folders.INDEX)) or os.sep in weights:
        return True
    return Path(weights).is_file() or folders.holds_weights(Path(weights))


def weights_files(directory: Path) -> list[str]:
    """Sorted names of the files in `directory` that are called like weights files."""
    try:
        return sorted(entry.name for entry in directory.iterdir() if entry.name.endswith(READABLE))
    except OSError:
        return []


def check_suffix(path: Path) -> None:
    """Raises :class:`UsageError` if no weights file can be written under this name."""
    if path.suffix in SUFFIXES:
        return
    examples = ", ".join(f"{path.stem}{suffix}" for suffix in SUFFIXES)
    raise UsageError(
        "unknown file format",
        expected=", ".join(SUFFIXES),
        got=path,
        fix=did_you_mean(path.suffix, SUFFIXES) or f"name it as one of {examples}",
    )


def _open(file: Path) -> BinaryIO:
    """`file`, open for reading; errors name files that are there."""
    if file.is_dir():
        raise WeightsError(f"{file} is a directory", expected="a file", fix=_files_in(file))
    try:
        return open_regular(file, _WHAT, error=WeightsError)
    except WeightsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise WeightsError(f"{file} does not exist", fix=_near(file)) from error
        raise


def _near(file: Path) -> str:
    """Advice for a `file` that does not exist: files with similar names, or what is there."""
    try:
        present = sorted(entry.name for entry in file.parent.iterdir())
    except OSError:
        return f"there is no directory {file.parent}: check the path"
    return did_you_mean(file.name, present) or _files_in(file.parent)


def _files_in(directory: Path) -> str:
    """Advice that names the weights files in `directory`."""
    found = weights_files(directory)
    if not found:
        return (
            f"check the path: {directory.absolute()} holds no file named *"
            f"{', *'.join(SUFFIXES)}; `python -m trtnet.weights extract MODEL -o FILE` writes one"
        )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"name one of the weights files in {directory.absolute()}: {', '.join(found[:5])}{more}"
