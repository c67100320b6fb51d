"""Weights in memory: read-only arrays by name, with the metadata of their file."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trtnet.errors import UsageError, WeightsError
from trtnet.reading.documents import Source, from_json
from trtnet.reading.schema import checked
from trtnet.workers import ordered_map

T = TypeVar("T")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
CHECKSUM = "sha256"  # the metadata entry with the hash of the tensors
_DIGITS = 9  # of a number of classes
_LARGE = 1 << 16  # bytes; to hand a smaller tensor to a thread takes longer than to hash it
_INTEGERS = ("num_batches_tracked", "relative_position_index")  # the integers PyTorch's models have


def require_state(state: object) -> None:
    """Checks that `state` is a state_dict: a mapping from keys to values.

    Raises:
        UsageError: it is not, but a path, perhaps, or a whole module.
    """
    if not isinstance(state, Mapping):
        raise UsageError(
            "this is no state_dict",
            expected="a mapping from keys to values",
            got=type(state).__name__,
            fix="trtnet.weights.load(path) for a file, module.state_dict() for a module",
        )


class Weights(Mapping[str, np.ndarray]):
    """A read-only mapping from state_dict key to a read-only array.

    Attributes:
        metadata: text about the weights, such as ``architecture`` and ``weights``.
        path: the file they were loaded from; None for weights made in memory.
        flat: whether they come from a file that knows no shapes, so that every array is flat.
        notes: what of the file was taken, left out, renamed and concluded, in words.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        metadata: Mapping[str, str] | None = None,
        path: Path | None = None,
        file_bytes: bytes | None = None,
        flat: bool = False,
        file_sha256: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._arrays = {name: _read_only(array) for name, array in arrays.items()}
        self.metadata = dict(metadata or {})
        self.path = path
        self.flat, self.notes = flat, notes
        self._file_bytes, self._file_sha256 = file_bytes, file_sha256

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<Weights {self.source}: {len(self)} tensors>"

    @property
    def source(self) -> str:
        """Where the weights come from, in words: a path, an enum's name, or ``random (seed 0)``."""
        if self.path is not None:
            return str(self.path)
        name, seed = self.metadata.get("weights", "memory"), self.metadata.get("seed")
        return name if seed is None else f"{name} (seed {seed})"

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes, or :func:`data_sha256` of tensors made in memory."""
        if self._file_sha256 is not None:
            return self._file_sha256
        if self._file_bytes is None:
            return data_sha256(self)
        return hashlib.sha256(self._file_bytes).hexdigest()

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How images are prepared, if the file says so: the entries of
        :class:`trtnet.imaging.preprocessing.Preprocessing`. Metadata of safetensors files are
        texts; this one is JSON."""
        return self._json("preprocessing", dict[str, Any])

    @property
    def class_names(self) -> list[str] | None:
        """The name of each output class, in order, if the file says so."""
        return self._json("class_names", list[str])

    @property
    def arguments(self) -> dict[str, Any] | None:
        """Arguments of the model's builder that the weights were trained with and that no shape
        tells, if the file says so."""
        return self._json("arguments", dict[str, Any])

    @property
    def num_classes(self) -> int | None:
        """How many classes there are, if the file says so."""
        names, number = self.class_names, self.metadata.get("num_classes", "")
        if names is not None:
            return len(names)
        return int(number) if number.isdecimal() and len(number) < _DIGITS else None

    def replaced(self, arrays: Mapping[str, np.ndarray], **metadata: str) -> Weights:
        """New weights: `arrays`, this metadata and the entries given. The hash of the old tensors
        is left out."""
        kept = {key: text for key, text in self.metadata.items() if key != CHECKSUM}
        return Weights(arrays, {**kept, **metadata}, notes=self.notes)

    def restated(self, **metadata: str) -> Weights:
        """These weights, which their file still holds, with entries of the metadata changed."""
        return self._with(self._arrays, self.flat, metadata=metadata)

    def noted(self, notes: tuple[str, ...]) -> Weights:
        """These weights with further `notes`."""
        return self._with(self._arrays, self.flat, notes)

    def shaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
        """These weights with the shapes of a model, for those that are `flat`.

        Counters and indices, which such a file stores as floats, become integers again. An array
        that does not have the size of its shape stays flat: loading it reports all such arrays.

        Args:
            shapes: key → shape; keys that are not among the weights are ignored.
        """
        arrays = {name: _shaped(name, array, shapes.get(name)) for name, array in self.items()}
        return self._with(arrays, flat=False)

    def renamed(self, names: Mapping[str, str], notes: tuple[str, ...]) -> Weights:
        """These weights under other keys.

        Args:
            names: key → new key; those that are not in it are left out.
            notes: what is done, in words.
        """
        arrays = {names[key]: array for key, array in self.items() if key in names}
        return self._with(arrays, flat=self.flat, notes=notes)

    def _with(
        self,
        arrays: Mapping[str, np.ndarray],
        flat: bool,
        notes: tuple[str, ...] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Weights:
        """`arrays`, which come from the same file, with further `notes` and `metadata`."""
        return Weights(arrays, {**self.metadata, **(metadata or {})}, self.path, self._file_bytes,
                       flat, self._file_sha256, (*self.notes, *notes))  # fmt: skip

    def _json(self, key: str, kind: type[T]) -> T | None:
        text = self.metadata.get(key)
        if text is None:
            return None
        what = f"the metadata entry {key!r} of {self.source}"
        source = Source("", what, WeightsError, "extract the weights again")
        return checked(from_json(text, source), kind, source)


def image_metadata(
    preprocessing: Mapping[str, Any] | None, class_names: Sequence[str] | None
) -> dict[str, str]:
    """The metadata that :attr:`Weights.preprocessing` and :attr:`Weights.class_names` are read
    from; what is ``None`` is left out."""
    found = {}
    if preprocessing is not None:
        found["preprocessing"] = json.dumps(preprocessing)
    if class_names is not None:
        found["class_names"] = json.dumps([*class_names], ensure_ascii=False)
    return found


def _read_only(array: np.ndarray) -> np.ndarray:
    view: np.ndarray = array.view()
    view.flags.writeable = False
    return view


def _shaped(name: str, array: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if shape is None or array.size != math.prod(shape):
        return array
    if name.endswith(_INTEGERS):
        with np.errstate(invalid="ignore"):
            integers = array.astype(np.int64)
        array = integers if np.array_equal(integers, array) else array
    return array.reshape(shape)


def raw_bytes(array: np.ndarray) -> memoryview:
    """The elements, little-endian in C order; copied only if they are not laid out like that."""
    plain = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return plain.reshape(-1).view(np.uint8).data


def data_sha256(state: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the lines ``<SHA-256 of the tensor's bytes> <key>`` in the order of sorted
    keys; bytes are little-endian in C order. Large tensors are hashed in parallel."""

    def digest(name: str) -> str:
        return hashlib.sha256(raw_bytes(state[name])).hexdigest()

    large = [name for name in state if state[name].nbytes >= _LARGE]
    threads = os.cpu_count() or 1  # hashlib releases the interpreter lock
    digests = dict(zip(large, ordered_map(digest, large, threads), strict=True))
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(f"{digests.get(name) or digest(name)} {name}\n".encode())
    return whole.hexdigest()


def combined_sha256(digests: Sequence[str]) -> str:
    """One hash for the weights of several models: that of the only one, or one over all."""
    return digests[0] if len(digests) == 1 else hashlib.sha256(str([*digests]).encode()).hexdigest()


def parameter_count(state: Mapping[str, np.ndarray]) -> int:
    """The number of learned values: every element but those of BatchNorm's running statistics."""
    learned = (array for name, array in state.items() if name.split(".")[-1] not in _BUFFERS)
    return sum(array.size for array in learned)
