"""write(): the page, and the document that it shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trtnet.errors import UsageError
from trtnet.explorer.assembling import DEFAULT_GPU, Extras, document
from trtnet.explorer.built import built_engine
from trtnet.explorer.engines import Engine, engine_of
from trtnet.explorer.inspector import EngineFile, read_layers, read_profile
from trtnet.explorer.page import page, to_json
from trtnet.explorer.subject import Subject, subject_of
from trtnet.explorer.trials import measured_in
from trtnet.files import atomic_write
from trtnet.graph import Gpu, find_gpu
from trtnet.pipeline.files import is_built_engine
from trtnet.pipeline.progress import Observer
from trtnet.studies.errors import ModuleError
from trtnet.studies.making import study

Path = str | os.PathLike[str]


def write(
    subject: Any,
    path: Path | None = None,
    *,
    other: Any = None,
    json: Path | None = None,
    gpu: Gpu | str = DEFAULT_GPU,
    search: Any = None,
    data: Any = None,
    items: int = 8,
    layer_info: Path | None = None,
    profile: Path | None = None,
    command: str = "",
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Writes the page of a network: one HTML file that needs no network and no server.

    Args:
        subject: the name of a model (``"resnet50:fp16"``), the path of a saved graph or of an
            engine (one that TensorRT built is the network that its sidecar describes), a
            :class:`trtnet.pipeline.Recipe`, a :class:`trtnet.Network`, an ``INetworkDefinition``,
            a :class:`trtnet.graph.Graph`, or a :class:`trtnet.explorer.Subject`.
        path: the file of the page; ``None`` for none.
        other: another network, which is shown beside the first.
        json: a file for the document, which holds all that the page shows; ``None`` for none.
        gpu: the GPU that is shown first: a name of :func:`trtnet.graph.gpus`, or a ``Gpu``, such as
            one of :func:`trtnet.graph.load_ceilings`.
        search: measurements of the first network: a :class:`trtnet.search.SearchResult`, or the
            journal of ``trtnet search`` or ``trtnet sensitivity``.
        data: a folder of images, a ``.npy`` or ``.npz`` file, or ``"random"``: the error of each
            lowered module of the first network, which is a model, is measured on it; see
            :func:`trtnet.study`.
        items: how many items of the data to use at most, spread evenly.
        layer_info: the layers of its engine, as ``trtexec --exportLayerInfo`` writes them.
        profile: their times, as ``trtexec --exportProfile`` and ``trtnet bench`` write them.
        command: what makes the page again, which it tells.
        observer: receives the progress.

    Returns:
        The document.

    Raises:
        UsageError: nothing to show, or a file that cannot be written; an old file is as it was.
    """
    gpu = find_gpu(gpu)  # raises before the work begins
    values = search is not None or data is not None
    first = _subject(subject, values, observer)
    second = None if other is None else _subject(other, values, observer)
    extras = Extras(
        None if search is None else measured_in(search, first),
        _engine(layer_info, profile, first),
        *(({}, {}) if data is None else _errors(first, data, items, gpu, observer)),
    )
    found = document(first, second, gpu=gpu, command=command, extras=extras)
    text = to_json(found)
    if json is not None:
        _write(json, f"{text}\n", "--json (json=)")
    if path is not None:
        _write(path, page(text), "-o (path=)")
    return found


def _subject(given: Any, values: bool, observer: Observer | None) -> Subject:
    if isinstance(given, str) and is_built_engine(given):
        return built_engine(given, observer)
    return subject_of(given, values=values, observer=observer)


def _errors(
    subject: Subject, data: Any, items: int, gpu: Gpu, observer: Observer | None
) -> tuple[Mapping[str, ModuleError], dict[str, Any]]:
    """The errors of the modules of `subject` on `data`, and what they were measured on."""
    if subject.recipe is None:
        raise UsageError(
            "errors are measured of a model, which is defined again and again",
            expected="the name of a model, or a Recipe",
            got=subject.name,
            fix="name the model, or leave --data (data=) out",
        )
    table = study(subject.recipe, data=data, items=items, gpu=gpu, observer=observer)
    told = ("gpu", "items", "data_sha256", "error2", "sqnr_db", "weights", "random_weights")
    return table.errors, {name: table.about.get(name) for name in told}


def _engine(layers: Path | None, profile: Path | None, subject: Subject) -> Engine | None:
    """The engine of `subject` that the files tell of; ``None`` where there are none."""
    if layers is None and profile is None:
        return None
    file = EngineFile("profile", ()) if layers is None else read_layers(layers)
    times = {} if profile is None else read_profile(profile)
    return engine_of(file, times, [layer.name for layer in subject.graph.layers])


def _write(path: Path, text: str, flag: str) -> None:
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{flag}: {os.fspath(path)} cannot be written", got=error) from error
