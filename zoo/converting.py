"""Converting weights between file formats, and from timm's names to torchvision's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError, WeightsError
from trtnet.imaging.preprocessing import checked_preprocessing
from trtnet.module import Module
from trtnet.weights import checkpoint, wts
from trtnet.weights.container import Weights, image_metadata
from trtnet.weights.loading import CHECKPOINT_SUFFIXES, WTS_SUFFIX, check_suffix, load
from trtnet.weights.safetensors_writer import save
from trtnet.zoo.entry import Entry
from trtnet.zoo.registry import get_entry
from trtnet.zoo.settling import settle
from trtnet.zoo.timm_weights import PREFIX, from_timm
from trtnet.zoo.trained_arguments import stated_arguments, trained_with


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | None = None,
    *,
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    key: str | None = None,
    cfg: str | os.PathLike[str] | None = None,
    **model_args: Any,
) -> Weights:
    """Writes the weights of one file as another, in the format of its extension.

    Args:
        source: any file that :func:`trtnet.weights.load` reads.
        target: ``*.safetensors``, ``*.pt``, ``*.pth``, ``*.bin`` or ``*.wts``.
        model: a model of the zoo (a name or an address) that the weights must fit, and that gives
            a ``.wts`` file its shapes; or timm's name of one, such as
            ``timm/vit_base_patch16_224``, whose keys :func:`from_timm` renames. Entries that the
            model does not take, such as heads for training, are left out. By default everything
            is written as it is.
        preprocessing: of images, to store in the metadata: the entries of
            :class:`trtnet.imaging.preprocessing.Preprocessing`.
        class_names: to store in the metadata: a name for each class.
        key, cfg: see :func:`trtnet.weights.load`.
        **model_args: for the model's builder, such as ``num_classes``; what is not given is taken
            from the shapes of the weights.

    Returns:
        what was written. Only a safetensors file keeps the metadata; a hash of the tensors is
        added to them.

    Raises:
        UsageError: an unknown format or model; shapes are needed and no model is named; metadata
            are given, and the target is no safetensors file; more or fewer names than classes.
        PlanError: a preprocessing that is impossible.
        WeightsError: a file cannot be read or written; the weights do not fit the model.
    """
    path = Path(target)
    check_suffix(path)
    metadata = _metadata(preprocessing, class_names, path)
    if model is None:
        weights = load(source, key=key, cfg=cfg)
    elif model.startswith(PREFIX):
        weights = from_timm(load(source, key=key), model, **model_args)
    else:
        weights = _for_model(source, key, cfg, model, model_args, class_names)
    if weights.flat and path.suffix != WTS_SUFFIX:
        raise UsageError(
            f"{source} is a .wts file, which has no shapes",
            expected="a model that has them",
            fix="name the model of the zoo that it belongs to: --model resnet50, or "
            'model="resnet50"',
        )
    weights = weights.restated(**metadata)
    if path.suffix in CHECKPOINT_SUFFIXES:
        checkpoint.write(path, weights)
    elif path.suffix == WTS_SUFFIX:
        wts.write(path, weights)
    else:
        save(path, weights, weights.metadata, checksum=True)
    return weights


def _metadata(
    preprocessing: Mapping[str, Any] | None, class_names: Sequence[str] | None, path: Path
) -> dict[str, str]:
    """What the user says about images and classes, as metadata: texts, in JSON."""
    rules = None if preprocessing is None else checked_preprocessing(preprocessing).as_dict()
    found = image_metadata(rules, class_names)
    if found and (path.suffix in CHECKPOINT_SUFFIXES or path.suffix == WTS_SUFFIX):
        raise UsageError(
            f"{path.suffix} files have no metadata to store {' and '.join(found)} in",
            expected="*.safetensors",
            got=path,
            fix=f"name it {path.with_suffix('.safetensors').name}, or state it when the engine is "
            "built: --preprocess, --class-names (Recipe.preprocessing, Recipe.class_names)",
        )
    return found


def _check_names(class_names: Sequence[str] | None, entry: Entry, module: Module) -> None:
    """Where the number of classes is known: the length of the last bias of a classifier that comes
    with trtnet."""
    if class_names is None or entry.task != "classification" or not entry.shipped:
        return
    *_, (_, last) = module.named_parameters()
    if last.shape[0] != len(class_names):
        raise UsageError(
            f"{len(class_names)} class names for {last.shape[0]} classes",
            module=entry.name,
            expected="one name for each class, in the order of the outputs",
            fix="correct the file of --class-names (class_names=)",
        )


def _for_model(
    source: str | os.PathLike[str],
    key: str | None,
    cfg: str | os.PathLike[str] | None,
    model: str,
    model_args: dict[str, Any],
    class_names: Sequence[str] | None,
) -> Weights:
    entry = get_entry(model)
    module = entry.build(**model_args)
    weights = load(source, key=key, model=module, cfg=cfg)
    learnt, notes = trained_with(entry, weights, model_args)
    weights, chosen = weights.noted(notes), {**model_args, **learnt}
    settled = settle(entry, module, weights, chosen, set(model_args))
    module, weights = settled.module, settled.weights
    try:
        module.load_state_dict(weights)
    except WeightsError as error:
        raise WeightsError(
            f"{weights.source}: {error.problem}",
            module=model,
            fix="name the model they belong to, and its number of classes or image size; timm's "
            f"weights need timm's name: {PREFIX}vit_base_patch16_224",
        ) from error
    _check_names(class_names, entry, module)
    held = module.state_dict()
    names = {name: name for name in weights if name in held}
    return weights.renamed(names, settled.notes).replaced(
        {name: held[name] for name in names},
        architecture=entry.name,
        **stated_arguments(entry, settled.arguments),
    )
