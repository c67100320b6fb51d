"""The page of a certificate: one HTML file, made as the explorer's page, whose style it shares."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from trtnet.certify.cases import PRECISIONS
from trtnet.certify.certificate import as_json, place, write
from trtnet.certify.schema import STATES, Certificate
from trtnet.explorer.page import assembled, resource, to_json

HERE = Path(__file__).parent
SCRIPTS = ("scripts/dom.js", "scripts/format.js")
"""Scripts of the explorer's page that this one uses too."""

OWN_SCRIPTS = ("matrix.js", "cases.js", "main.js")
"""In the order in which they run."""


def page(certificate: Certificate) -> str:
    """The page that shows `certificate`: HTML that needs nothing else."""
    document = {
        "certificate": as_json(certificate),
        "place": place(certificate),
        "states": dict(STATES),
        "precisions": list(PRECISIONS),
    }
    style = resource("page.css") + _read("certificate.css")
    scripts = [*map(resource, SCRIPTS), *map(_read, OWN_SCRIPTS)]
    return assembled(_read("template.html"), style, scripts, to_json(document))


def write_page(certificate: Certificate, path: str | os.PathLike[str]) -> None:
    """Writes the page of `certificate` to `path`.

    Raises:
        UsageError: the file cannot be written.
    """
    write(path, page(certificate))


@functools.cache
def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
