"""Inputs from files, and results to a file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.imaging import read_image
from trtnet.reading.arrays import entry_name, read_npy, read_npz

if TYPE_CHECKING:
    from trtnet.engines.protocol import Binding
    from trtnet.pipeline.preprocessing import Preparation

_INPUT = "numbers for --input, in a .npy or .npz file"


def read_inputs(
    texts: Sequence[str],
    inputs: Sequence[Binding],
    preparation_of: Callable[[Binding], Preparation],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays by input name, out of ``[name:]FILE`` for each of `texts`, and how images were
    prepared, in lines for people.

    A ``.npy`` is one input, a ``.npz`` as many as it holds, anything else an image; several
    images for one input become one batch. An array or image without a name is for the first input.

    Raises:
        UsageError: a file that cannot be read, or two arrays for one input.
    """
    images: dict[str, list[np.ndarray]] = {}
    preparations: dict[str, Preparation] = {}
    found: dict[str, np.ndarray] = {}
    bindings = {binding.name: binding for binding in inputs}
    for text in texts:
        name, path = _split(text, bindings)
        if path.suffix == ".npz":
            arrays = read_npz(path, _INPUT)
            for key, array in arrays.items():
                own = name if name and len(arrays) == 1 else key
                _add(found, own, array)
        elif path.suffix == ".npy":
            _add(found, name or inputs[0].name, read_npy(path, _INPUT))
        else:
            name = name or inputs[0].name
            if not path.is_file():
                raise UsageError(f"--input: there is no file {path}")
            if name not in preparations:
                preparations[name] = _preparation(path, bindings[name], preparation_of)
            preparation = preparations[name]
            image = preparation(read_image(path, preparation.mode))
            images.setdefault(name, []).append(image)
    for name, batch in images.items():
        _add(found, name, _batch(name, batch))
    notes = [line for preparation in preparations.values() for line in preparation.lines()]
    return found, notes


def write_results(path: Path, results: Mapping[str, np.ndarray]) -> None:
    """Writes a ``.npz`` that :func:`numpy.load` reads, with an entry per output, called as
    :func:`trtnet.reading.arrays.entry_name` says.

    Raises:
        UsageError: it cannot be written; an old file is as it was.
    """
    try:
        with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in results.items():
                entry_path = f"{entry_name(name)}.npy"
                with archive.open(entry_path, "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    except OSError as error:
        raise UsageError(f"-o: {path} cannot be written", got=error) from error


def _split(text: str, bindings: Mapping[str, Any]) -> tuple[str | None, Path]:
    name, colon, path = text.partition(":")
    if colon and name in bindings:
        return name, Path(path)
    if colon and not Path(text).exists() and Path(path).exists():
        raise UsageError(f"--input: the engine has no input {name!r}", expected=", ".join(bindings))
    return None, Path(text)


def _add(found: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in found:
        raise UsageError(
            f"--input: two arrays for the input {name!r}", fix="name each: --input NAME:FILE"
        )
    found[name] = array


def _preparation(
    path: Path, binding: Binding, preparation_of: Callable[[Binding], Preparation]
) -> Preparation:
    try:
        return preparation_of(binding)
    except UsageError as error:
        error.locate(f"--input {path}")
        raise


def _batch(name: str, images: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UsageError(
            f"--input: images of different sizes are no batch for {name!r}",
            got=", ".join("x".join(map(str, shape)) for shape in sorted(shapes)),
            fix="run them one by one",
        )
    return np.concatenate(images)
