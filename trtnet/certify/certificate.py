"""Certificates as files: JSON with a SHA-256 of its content, written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any

from trtnet.certify.cases import SET_VERSION
from trtnet.certify.schema import FORMAT, STATES, CaseResult, Certificate
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.reading.documents import Source, read_json, shortened
from trtnet.reading.schema import checked

_SHA256 = "sha256"
_LONGEST = 240  # characters of a reason in the summary; the page has all of it


def digest(content: dict[str, Any]) -> str:
    """The SHA-256 of a certificate's `content`, in hexadecimal.

    It is taken over the JSON text of everything but the field ``sha256``: keys sorted, no spaces,
    ASCII. It shows accidental change. It proves no author: whoever changes a certificate can
    compute it again.
    """
    rest = {key: value for key, value in content.items() if key != _SHA256}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def as_json(certificate: Certificate) -> dict[str, Any]:
    """`certificate` as JSON values."""
    return dataclasses.asdict(certificate)


def signed(certificate: Certificate) -> Certificate:
    """`certificate` with its SHA-256."""
    return dataclasses.replace(certificate, sha256=digest(as_json(certificate)))


def save(certificate: Certificate, path: str | os.PathLike[str]) -> None:
    """Writes `certificate` to `path`.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(as_json(certificate), separators=(",", ":"), allow_nan=False)
    write(path, f"{text}\n")


def write(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path`, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{os.fspath(path)} cannot be written", got=error) from error


def load(path: str | os.PathLike[str]) -> Certificate:
    """The certificate in the file `path`, checked.

    Nothing of it is executed or believed beyond what it says: names and messages are text.

    Raises:
        UsageError: it is no certificate, one of another format, its content was changed, or a case
            passed that cannot have.
    """
    source = Source(
        os.fspath(path), "a certificate", fix="make one: trtnet certify -o certificate.json"
    )
    document = checked(read_json(path, source), dict[str, Any], source)
    if document.get("format") != FORMAT:
        raise source.refuse(
            "it has another format", expected=FORMAT, got=shortened(document.get("format"))
        )
    found = checked(document, Certificate, source)
    if document != as_json(found):
        raise source.refuse("it has fields that certificates do not have")
    if found.sha256 != digest(document):
        raise source.refuse(
            "its content was changed after it was made",
            expected=f"content with the SHA-256 {shortened(found.sha256)}",
            got=digest(document),
        )
    for case in found.cases:
        problem = _contradiction(case)
        if problem is not None:
            raise source.refuse(f"it says that {shortened(case.key)} passed, but {problem}")
    return found


def _contradiction(case: CaseResult) -> str | None:
    """Why a case cannot have passed that says so."""
    if case.state != "passed":
        return None
    if not case.tensors:
        return "nothing of it was compared"
    first = case.first_difference
    return None if first is None else f"its tensor {shortened(first.tensor)} did not"


def summary(certificate: Certificate) -> list[str]:
    """Lines that say what was executed, where, and what differs."""
    about = certificate.environment
    version = f" {about.backend_version}" if about.backend_version else ""
    number = certificate.set_version
    other = f"; this version of trtnet has set {SET_VERSION}" if number != SET_VERSION else ""
    lines = [
        f"certificate of {certificate.made}, {len(certificate.cases)} cases of set {number}{other}",
        f"backend      {about.backend}{version} on {place(certificate)}",
    ]
    if about.not_executed is not None:
        lines.append(f"executed     nothing: {about.not_executed}")
    lines += [
        f"{state:13}{count}: {STATES[state]}" for state, count in certificate.counts().items()
    ]
    bad = [case for case in certificate.cases if case.state in ("differs", "failed", "refused")]
    lines += [f"{case.state:13}{case.key}: {_one_line(case.reason)}" for case in bad]
    types = {kind for case in certificate.cases if case.state == "passed" for kind in case.types}
    lines.append(f"layer types  {len(types)} in cases that passed")
    return lines


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def place(certificate: Certificate) -> str:
    """Where a certificate was made: the GPU with its driver, or the processor."""
    about = certificate.environment
    if about.gpu is not None and about.device != "cpu":
        return f"{about.gpu} ({about.compute_capability}), driver {about.driver}"
    return f"{about.cpu or 'a CPU'}, {about.processors} processors"


def passed(certificate: Certificate) -> bool:
    """Whether every case was executed and passed, but for those that do not exist here."""
    states = set(certificate.counts())
    return "passed" in states and states <= {"passed", "not run"}
