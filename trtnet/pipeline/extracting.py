"""extract(): the weights of a model as a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trtnet.errors import UsageError
from trtnet.finite import check_finite
from trtnet.pipeline.model import builder_arguments, fill
from trtnet.pipeline.recipe import Recipe
from trtnet.weights.container import Weights
from trtnet.weights.loading import READABLE, load
from trtnet.weights.safetensors_writer import save
from trtnet.weights.torchvision_source import FORMAT_VERSION
from trtnet.zoo import get_entry
from trtnet.zoo.converting import convert
from trtnet.zoo.measuring import parameter_count
from trtnet.zoo.trained_arguments import stated_arguments


def extract(
    model: str,
    path: str | os.PathLike[str],
    weights: str | None = None,
    seed: int = 0,
    *,
    key: str | None = None,
    **model_args: Any,
) -> Weights:
    """Writes the weights of a model as a safetensors file, and loads that file.

    The metadata says: ``architecture, weights, parameters, format_version``, of random weights
    ``seed``, of torchvision's and shipped ones ``preprocessing`` and ``class_names`` (JSON), where
    weights differ in them ``arguments`` of the builder (JSON), such as ``norm_eps``, and
    ``sha256`` (:func:`trtnet.weights.data_sha256` of the tensors).

    Args:
        model: a model of the zoo or of torchvision, ``timm:NAME``, or an address; or a file of
            weights, such as ``best.pt``, that is written as it is, with what it says of itself.
        path: of the file.
        weights: ``random``, ``DEFAULT``, a name of published or shipped weights, or the path of a
            file, which must fit the model; ``None`` for the model's default.
        seed: of random weights.
        key: which part of such a file to take, see :func:`trtnet.weights.load`.
        **model_args: for the model's builder, such as ``num_classes``.

    Raises:
        UsageError: there is no such model, or it has no weights of this name.
        WeightsError: a file or a download that cannot be used; a tensor that is not finite; keys
            or shapes that do not fit the model; the file cannot be written. No half file is left.
    """
    if model.endswith(READABLE):
        _check_file_alone(model, {"weights": weights, **model_args})
        notes = convert(model, path, key=key).notes
    else:
        notes = _extract_model(model, path, weights, seed, key, model_args)
    written = load(path)
    return Weights(written, written.metadata, written.path, file_sha256=written.sha256,
                   notes=notes)  # fmt: skip


def _check_file_alone(file: str, arguments: Mapping[str, Any]) -> None:
    """Raises for `arguments` that are those of a model, beside a file of weights."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise UsageError(
            f"{' and '.join(given)} cannot be chosen for a file of weights",
            got=file,
            fix=f"name the model that the weights are of, and the file with --weights {file} "
            f"(weights={file!r})",
        )


def _extract_model(
    model: str,
    path: str | os.PathLike[str],
    weights: str | None,
    seed: int,
    key: str | None,
    model_args: dict[str, Any],
) -> tuple[str, ...]:
    """Writes the file of a model; the notes say what was taken."""
    entry = get_entry(model)
    recipe = Recipe(entry, weights=weights, weights_key=key, seed=seed, arguments=model_args)
    filled = fill(recipe, builder_arguments(recipe), recipe.input_shape)
    found = filled.weights
    if found.flat:
        held = filled.module.state_dict()
        found = found.shaped({name: array.shape for name, array in held.items()})
    for name, array in found.items():
        check_finite(name, array)
    about = {
        "architecture": entry.name,
        "weights": found.path.name if found.path else "random",
        "parameters": str(parameter_count(filled.module)),
        "format_version": FORMAT_VERSION,
    }
    stated = stated_arguments(entry, filled.arguments)
    save(path, found, {**about, **found.metadata, **stated}, checksum=True)
    return filled.weights.notes
