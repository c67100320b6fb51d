"""write(): the page, and the document that it shows."""

from __future__ import annotations

import os
from typing import Any

from trtnet.errors import UsageError
from trtnet.explorer.assembling import DEFAULT_GPU, Extras, document
from trtnet.explorer.inspector import read_layers, read_profile
from trtnet.explorer.page import page, to_json
from trtnet.explorer.subject import Subject, subject_of
from trtnet.explorer.trials import measured_in
from trtnet.files import atomic_write

Path = str | os.PathLike[str]


def write(
    subject: Any,
    path: Path | None = None,
    *,
    other: Any = None,
    json: Path | None = None,
    gpu: str = DEFAULT_GPU,
    search: Any = None,
    layer_info: Path | None = None,
    profile: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Writes the page of a network: one HTML file that needs no network and no server.

    Args:
        subject: the name of a model (``"resnet50:fp16"``), the path of a saved graph, a
            :class:`trtnet.pipeline.Recipe`, a :class:`trtnet.Network`, an ``INetworkDefinition``,
            a :class:`trtnet.graph.Graph`, or a :class:`trtnet.explorer.Subject`.
        path: the file of the page; ``None`` for none.
        other: another network, which is shown beside the first.
        json: a file for the document, which holds all that the page shows; ``None`` for none.
        gpu: the GPU that is shown first; one of :func:`trtnet.graph.gpus`.
        search: measurements of the first network: a :class:`trtnet.search.SearchResult`, or the
            journal of ``trtnet search`` or ``trtnet sensitivity``.
        layer_info: the layers of its engine, as ``trtexec --exportLayerInfo`` writes them.
        profile: their times, as ``trtexec --exportProfile`` and ``trtnet bench`` write them.
        command: what makes the page again, which it tells.

    Returns:
        The document.

    Raises:
        UsageError: nothing to show, or a file that cannot be written; an old file is as it was.
    """
    first, second = (
        given
        if given is None or isinstance(given, Subject)
        else subject_of(given, values=search is not None)
        for given in (subject, other)
    )
    if first is None:
        raise UsageError("there is no network to show", got=None)
    extras = Extras(
        None if search is None else measured_in(search, first),
        None if layer_info is None else read_layers(layer_info),
        {} if profile is None else read_profile(profile),
    )
    found = document(first, second, gpu=gpu, command=command, extras=extras)
    text = to_json(found)
    if json is not None:
        _write(json, f"{text}\n", "--json (json=)")
    if path is not None:
        _write(path, page(text), "-o (path=)")
    return found


def _write(path: Path, text: str, flag: str) -> None:
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{flag}: {os.fspath(path)} cannot be written", got=error) from error
