"""Sensitivities that ``trtnet sensitivity`` has kept, for a search of the same network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable

import msgspec

from trtnet.errors import UsageError
from trtnet.graph import Graph
from trtnet.search.data import Data
from trtnet.search.journal import MeasuredOn, SearchJournal, StoredSensitivity
from trtnet.search.mixable_network import MixableNetwork
from trtnet.search.sensitivities import Sensitivity, most_sensitive_first

_RECORD = "measured on"  # a result beside those of the modules
_DIFFERENCES = {
    "weights": "its weights are others",
    "graph": "its graph is another: another model, shape or batch",
    "to": "its modules were changed to another precision (--to)",
    "base": "the other modules had another precision (--base)",
    "gpu": "its times are of another GPU (--gpu)",
    "method": "its ranges are of another method (--calibrator)",
    "data": "its data is another",
}


def measured_on(subject: MixableNetwork, data: Data) -> MeasuredOn:
    """What sensitivities of `subject` on `data` follow from."""
    return MeasuredOn(
        weights=subject.weights_sha256,
        graph=_structure_sha256(subject.in_fp32),
        to=subject.to,
        base=subject.base,
        gpu=subject.ceilings.key,
        method=subject.calibration.method if subject.calibration else None,
        data=data.sha256,
        items=data.items,
    )


def record(journal: SearchJournal, subject: MixableNetwork, data: Data) -> None:
    """Writes into `journal` what its results follow from, for :func:`stored_sensitivities`."""
    if journal.get(_RECORD, MeasuredOn) is None:
        journal.put(_RECORD, msgspec.to_builtins(measured_on(subject, data)))


def holds_sensitivities(path: str | os.PathLike[str]) -> bool:
    """Whether the file `path` is a journal with a :func:`record`."""
    try:
        return SearchJournal(path, None).get(_RECORD, MeasuredOn) is not None
    except UsageError:
        return False


def stored_sensitivities(
    path: str | os.PathLike[str], subject: MixableNetwork, load: Callable[[int], Data]
) -> list[Sensitivity]:
    """The sensitivities in a journal of ``trtnet sensitivity``, the most sensitive first.

    Args:
        path: of the journal, which is only read.
        subject: with ranges, where it needs any; they may be of more of the data.
        load: so many items of the data that is searched on.

    Raises:
        UsageError: they are of other weights, data or another graph, precision, GPU or method, not
            of all modules, or the file is no such journal.
    """
    journal = SearchJournal(path, None)
    stated = journal.get(_RECORD, MeasuredOn)
    if stated is None:
        raise _refusal(path, "it does not say what they were measured on")
    ours = measured_on(subject, load(stated.items))
    for name, problem in _DIFFERENCES.items():
        theirs, wanted = getattr(stated, name), getattr(ours, name)
        if theirs != wanted:
            raise _refusal(path, problem, expected=wanted, got=theirs)
    rows: list[Sensitivity] = []
    for row in subject.candidates:
        stored = journal.get(f"module {row.module}", StoredSensitivity)
        if stored is None:
            raise UsageError(
                f"{path} does not have all sensitivities",
                expected=f"{len(subject.candidates)} modules",
                got=f"{len(rows)}, without {row.module}",
                fix="give trtnet sensitivity the same flags and this journal again: it goes on "
                "where it ended",
            )
        rows.append(Sensitivity(row.module, row.kind, stored.plain, stored.seconds_saved))
    return most_sensitive_first(rows)


def _refusal(
    path: str | os.PathLike[str], problem: str, expected: object = None, got: object = None
) -> UsageError:
    return UsageError(
        f"{path} cannot be used as the sensitivities of this network: {problem}",
        expected=expected,
        got=got,
        fix="measure them again, with trtnet sensitivity and the flags of this search, or leave "
        "--sensitivity (sensitivities=) out",
    )


def _structure_sha256(read: Graph) -> str:
    """A checksum of all of a network but the values of its weights."""
    told = [
        read.inputs,
        read.outputs,
        [[name, info.dtype, info.shape] for name, info in sorted(read.tensors.items())],
        [
            [layer.name, layer.type, layer.inputs, layer.outputs, dict(layer.attributes),
             {name: [str(array.dtype), array.shape] for name, array in layer.weights.items()}]
            for layer in read.layers
        ],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
