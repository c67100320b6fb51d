"""Folders of safetensors files: one model in one file, or in several with an index.

Source: Hugging Face's ``model.safetensors.index.json``, which maps each tensor to its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trtnet.errors import WeightsError
from trtnet.reading.documents import Source, from_json
from trtnet.reading.files import read_bytes
from trtnet.reading.schema import checked
from trtnet.weights import safetensors_reader
from trtnet.weights.container import Weights

INDEX = ".safetensors.index.json"
"""What the name of an index ends with."""

_SUFFIX = ".safetensors"
_WHAT = "an index of safetensors files"
_FIX = "copy or download the whole folder again"
_SHOWN = 3  # tensors that a message names


def index_of(path: Path) -> Path | None:
    """The index that `path` is, or the one in the folder `path`; ``None`` where there is none.

    Raises:
        WeightsError: several.
    """
    if not path.is_dir():
        return path if path.name.endswith(INDEX) else None
    return _only(path, INDEX, "indices")


def only_file(folder: Path) -> Path | None:
    """The safetensors file in `folder`; ``None`` where there is none.

    Raises:
        WeightsError: several, and no index.
    """
    return _only(folder, _SUFFIX, "safetensors files and no index")


def holds_weights(folder: Path) -> bool:
    """Whether `folder` is one with safetensors files."""
    return bool(_named(folder, _SUFFIX)) if folder.is_dir() else False


def size_of(path: Path) -> int:
    """Bytes of the file `path`; of an index those of its files too."""
    size = path.stat().st_size
    if path.name.endswith(INDEX):
        names = {*_parsed(read_bytes(path, _WHAT, error=WeightsError), path).values()}
        size += sum((path.parent / name).stat().st_size for name in names)
    return size


def read(index: Path) -> Weights:
    """The tensors of all files that `index` names, in its order.

    Raises:
        WeightsError: the index is damaged, names a file outside of its folder or one that is
            missing; a tensor that is not where the index says, in two files, or in none of its
            entries.
    """
    content = read_bytes(index, _WHAT, error=WeightsError)
    places = _parsed(content, index)
    digests = [f"{hashlib.sha256(content).hexdigest()} {index.name}"]
    arrays: dict[str, np.ndarray] = {}
    about: list[dict[str, str]] = []
    for name in dict.fromkeys(places.values()):
        found, metadata, digest = _shard(index, name, places)
        arrays.update(found)
        about.append(metadata)
        digests.append(f"{digest} {name}")
    same = {key: text for key, text in (about[0] if about else {}).items()
            if all(other.get(key) == text for other in about)}  # fmt: skip
    whole = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    note = f"put together from {len(about)} files"
    ordered = {key: arrays[key] for key in places}
    return Weights(ordered, same, index, file_sha256=whole, notes=(note,))


def _shard(
    index: Path, name: str, places: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], dict[str, str], str]:
    """The tensors, metadata and hash of the file `name`, which are those that the index says."""
    path = index.parent / name
    wanted = [key for key, place in places.items() if place == name]
    if not path.exists():
        raise WeightsError(
            f"{index} names a file that is not there",
            expected=f"{name}, with {len(wanted)} tensors",
            got=f"{', '.join(_named(index.parent, _SUFFIX)) or 'no safetensors file'}",
            fix=_FIX,
        )
    content = read_bytes(path, "a file of weights", error=WeightsError)
    arrays, metadata = safetensors_reader.read(content, path)
    if missing := [key for key in wanted if key not in arrays]:
        raise WeightsError(f"{path} lacks tensors that {index.name} says are in it",
                           got=_some(missing), fix=_FIX)  # fmt: skip
    for key in arrays.keys() - set(wanted):
        where = f"in {places[key]} too" if key in places else "nowhere"
        raise WeightsError(
            f"{path} holds a tensor that {index.name} has {where}",
            module=f"tensor {key!a}",
            expected="each tensor in the one file that the index says",
            fix="save the model again, into an empty folder",
        )
    return arrays, metadata, hashlib.sha256(content).hexdigest()


def _parsed(content: bytes, index: Path) -> dict[str, str]:
    """The file of each tensor."""
    source = Source(str(index), _WHAT, WeightsError, _FIX)
    document = from_json(content, source)
    entry = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(entry, dict):
        raise source.refuse("it has no weight_map", expected='{"weight_map": {tensor: file}}')
    places = checked(entry, dict[str, str], source)
    if not places:
        raise source.refuse("it names no tensor")
    for key, name in places.items():
        if "/" in name or "\\" in name or ":" in name or not name.endswith(_SUFFIX):
            raise source.refuse(
                f"it places the tensor {key!a} elsewhere than in a safetensors file of its folder",
                expected=f"the name of a file, *{_SUFFIX}, without a path",
                got=f"{name!a:.100}",
            )
    return places


def _only(folder: Path, suffix: str, what: str) -> Path | None:
    names = _named(folder, suffix)
    if len(names) > 1:
        raise WeightsError(
            f"{folder} holds several {what}",
            got=f"{', '.join(names[:8])}",
            fix="name the file",
        )
    return folder / names[0] if names else None


def _named(folder: Path, suffix: str) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(suffix))
    except OSError:
        return []


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(f'{key!a}' for key in keys[:_SHOWN])}{more}"
