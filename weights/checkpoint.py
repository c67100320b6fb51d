"""PyTorch checkpoints (.pt, .pth, .bin): read without running code, written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from trtnet.errors import TrtnetError, WeightsError
from trtnet.files import atomic_write
from trtnet.reading.arrays import MOST_INFLATED, check_inflated
from trtnet.reading.documents import shortened
from trtnet.values import require_readable
from trtnet.weights.checkpoint_entries import choose
from trtnet.weights.checkpoint_names import classes_in, names_beside
from trtnet.weights.container import image_metadata
from trtnet.weights.pickle_stubs import standing_in
from trtnet.weights.pickled_modules import ModuleState, described, unfolded
from trtnet.weights.places import Place
from trtnet.weights.torch_import import require

_REASON = re.compile("unsupported|can only|trying to", re.IGNORECASE)
_CHUNK = 1 << 20
_TIMES = 16  # how often a model may hold the same tensor, as those that share layers do
_CONVERT = (
    "in the program that made it: torch.save(model.state_dict(), 'weights.pth'), "
    "then give that file"
)


def kind_of(content: bytes) -> str | None:
    """``"zip archive"`` or ``"pickle"`` by the first bytes; None for anything else."""
    if content[:4] == b"PK\x03\x04":
        return "zip archive"
    if content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    return None


class Checkpoint(NamedTuple):
    """What was read of a checkpoint.

    Attributes:
        arrays: the weights; BF16 becomes float32, as numpy lacks it.
        metadata: which of the file's entries they are, where there was a choice; what it says about
            classes.
        notes: the same in words.
        sha256: of the file.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    notes: tuple[str, ...]
    sha256: str


def read(
    file: BinaryIO,
    path: Path,
    kind: str,
    key: str | None = None,
    places: Mapping[str, Place] | None = None,
) -> Checkpoint:
    """Reads the weights of a checkpoint. Models that it pickles as a whole are read as their
    state_dict, in float32 (:mod:`trtnet.weights.pickled_modules`).

    Args:
        file: the checkpoint, open.
        path: its path, for messages.
        kind: what :func:`kind_of` said.
        key, places: see :func:`trtnet.weights.checkpoint_entries.choose`.

    Raises:
        WeightsError: loading would run code, there is no state_dict in the file, nothing says
            which of several to take, or its tensors are larger than it is.
    """
    torch = require("torch", f"reading the PyTorch checkpoint {path}")
    try:
        sha256 = _sha256(file)
        size = file.tell()
        if kind == "zip archive":
            _check_archive(file, size, path)
        loaded = _unpickled(file, torch)
    except TrtnetError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _refused(path, error) from error
    taken = choose(loaded, key, places, str(path)) if isinstance(loaded, Mapping) else None
    if taken is None:
        raise _no_state_dict(loaded, path)
    _check_claims(taken.state, size, path, torch)
    arrays = {name: _array(name, value, path, torch) for name, value in taken.state.items()}
    metadata = {"checkpoint_entry": taken.record} if taken.record else {}
    found = Checkpoint(arrays, metadata, taken.notes, sha256)
    if isinstance(taken.state, ModuleState):
        return _of_module(found, taken.state, loaded)
    names = names_beside(loaded)
    if names is None:
        return found
    notes = (*found.notes, _named(names))
    return found._replace(metadata={**metadata, **image_metadata(None, names)}, notes=notes)


def _check_archive(file: BinaryIO, size: int, path: Path) -> None:
    """Refuses an archive that unpacks to far more than it is, or has two entries of one name, of
    which programs take different ones."""
    with zipfile.ZipFile(file) as archive:
        check_inflated(archive, size, path, "a PyTorch checkpoint", error=WeightsError)
        name, count = Counter(archive.namelist()).most_common(1)[0]
    if count > 1:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint",
            expected="entries with names of their own",
            got=f"{count} called {name!a:.100}",
            fix="the file is damaged or made by hand: copy or save it again",
        )


def _unpickled(file: BinaryIO, torch: Any) -> Any:
    """What the checkpoint holds, with a state_dict in the place of each model. Nothing of it is
    imported or run."""
    with standing_in(torch, file), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failures are reported by our own error
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    return unfolded(loaded, torch)


def _of_module(found: Checkpoint, state: ModuleState, loaded: Any) -> Checkpoint:
    """`found` in float32, with what the pickled model says about itself."""
    notes = [*found.notes, *described(state)]
    half = [name for name, array in found.arrays.items() if array.dtype == np.float16]
    arrays = {**found.arrays, **{name: found.arrays[name].astype(np.float32) for name in half}}
    if half:
        notes.append(f"{len(half)} tensors are widened from float16 to float32")
    classes = classes_in(state.attributes, loaded if isinstance(loaded, dict) else {})
    metadata = {**found.metadata, **image_metadata(None, classes.names)}
    if classes.number is not None:
        metadata["num_classes"] = str(classes.number)
    if classes.names is not None:
        notes.append(_named(classes.names))
    if classes.note is not None:
        notes.append(classes.note)
    return found._replace(arrays=arrays, metadata=metadata, notes=tuple(notes))


def _named(names: Sequence[str]) -> str:
    return f"it names its {len(names)} classes"


def _sha256(file: BinaryIO) -> str:
    """Of all bytes; `file` is then at its end."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _check_claims(state: Mapping[str, Any], size: int, path: Path, torch: Any) -> None:
    """Refuses tensors that take far more memory than the file, when they are written out: strides
    of 0 repeat one value any number of times, and many tensors may be views of one storage."""
    claimed, most = 0, _TIMES * size + MOST_INFLATED
    for name, value in state.items():
        with contextlib.suppress(RuntimeError, ValueError):  # of a tensor without a size
            if isinstance(value, torch.Tensor):
                claimed += value.numel() * value.element_size()
        if claimed > most:
            raise WeightsError(
                f"{path} holds tensors that are far larger than the file",
                module=name,
                expected=f"at most {most / 1e9:.2f} GB in a file of {size / 1e6:.2f} MB",
                got=f"{claimed / 1e9:.2f} GB up to this tensor, of shape {tuple(value.shape)}",
                fix="save the tensors with .contiguous(), and each only once",
            )


def write(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """Writes a state_dict of torch tensors, which ``torch.load(weights_only=True)`` reads.

    Raises:
        WeightsError: the file cannot be written; an old one is intact.
    """
    torch = require("torch", f"writing the PyTorch checkpoint {path}")
    try:
        with atomic_write(path) as file:
            torch.save({name: torch.tensor(array) for name, array in state.items()}, file)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{path} cannot be written", got=error, fix="choose another place for the file"
        ) from error


def _refused(path: Path, error: Exception) -> WeightsError:
    """PyTorch's own advice is to turn the protection off; ours is to convert the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if isinstance(error, pickle.UnpicklingError) or "TorchScript" in lines[0]:
        reason = next((line for line in lines if _REASON.search(line)), lines[0])
        return WeightsError(
            f"{path} is refused: it holds more than tensors, and loading it could execute code",
            expected="a checkpoint that torch.load(weights_only=True) accepts",
            got=reason[:200],
            fix=_CONVERT,
        )
    return WeightsError(
        f"{path} cannot be read as a PyTorch checkpoint",
        got=f"{type(error).__name__}: {lines[0]}"[:200],
        fix="the file is damaged or incomplete: copy or download it again",
    )


def _no_state_dict(loaded: Any, path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds no state_dict",
        expected="a dict from name to tensor, alone or under a name such as state_dict or model",
        got=type(loaded).__name__ if not isinstance(loaded, Mapping) else _outline(loaded),
        fix=_CONVERT,
    )


def _outline(mapping: Mapping[Any, Any]) -> str:
    if not mapping:
        return "an empty dict"
    return f"a dict with the keys {', '.join(shortened(key) for key in list(mapping)[:8])}"


def _array(name: str, value: Any, path: Path, torch: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        raise WeightsError(
            f"{path} holds something other than weights under this name",
            module=name,
            expected="a tensor",
            got=type(value).__name__,
            fix=_CONVERT,
        )
    try:
        tensor = value.detach()
        require_readable(torch, tensor, name)
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        array: np.ndarray = tensor.numpy()
    except (TypeError, ValueError, RuntimeError, TrtnetError) as error:  # FP8, or no plain tensor
        raise WeightsError(
            f"{path} holds a tensor that numpy cannot represent",
            module=name,
            expected="a dense tensor of floats, integers or booleans",
            got=f"{value.dtype}, {value.layout}",
            fix="convert it before saving: tensor.float(), tensor.dequantize() or to_dense()",
        ) from error
    return array
