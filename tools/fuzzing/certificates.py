"""Cases for certificates: files that other people send."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from fuzzing.mutations import changed_bytes, document
from trtnet.certify.certificate import as_json, digest, load, summary
from trtnet.certify.page import page

_STORED = Path(__file__).resolve().parents[2] / "benchmarks" / "certificates" / "torch_cpu.json"
_KEPT = 3  # of the cases: small files are changed where it matters


@functools.cache
def _folder() -> Path:
    """A folder for the files of this process."""
    return Path(tempfile.mkdtemp(prefix="trtnet-fuzz-"))


@functools.cache
def _content() -> str:
    found = as_json(load(_STORED))
    return json.dumps({**found, "cases": found["cases"][:_KEPT]})


def certificate(draw: random.Random) -> None:
    """A certificate is loaded, summed up, and shown; often its hash fits what was changed."""
    content = document(json.loads(_content()), draw)
    try:
        changed: Any = json.loads(content)
        if draw.random() < 0.8 and isinstance(changed, dict):
            content = json.dumps({**changed, "sha256": digest(changed)}).encode()
    except (ValueError, RecursionError):  # no JSON any more
        pass
    path = _folder() / "certificate.json"
    path.write_bytes(changed_bytes(content, draw) if draw.random() < 0.1 else content)
    found = load(path)
    summary(found)
    page(found)


CASES = {"certificate": certificate}
