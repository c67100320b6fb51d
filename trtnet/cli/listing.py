"""``--list``: the cards of the models, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import sys

from trtnet.cli.report import write_json
from trtnet.cli.tables import table
from trtnet.errors import UsageError
from trtnet.zoo import Card, card, list_models

_COLUMNS = (
    *(("model", "left"), ("task", "left"), ("parameters", "right"), ("GMAC", "right")),
    *(("input", "left"), ("weights: acc@1, mIoU or AP in percent", "left")),
)


def show(pattern: str, json_path: str | None) -> None:
    """Prints the models that match a shell pattern; with `json_path` their cards are written there
    instead, ``-`` being stdout.

    Raises:
        UsageError: no model matches; the file cannot be written.
    """
    cards = [card(name, compute=False) for name in list_models(pattern)]
    if not cards:
        raise UsageError(f"no model matches {pattern!r}", fix="--list shows all of them")
    if json_path is None:
        table(_COLUMNS, [_row(found) for found in cards], sys.stdout)
        return
    write_json({found.name: dataclasses.asdict(found) for found in cards}, json_path)


def _row(found: Card) -> tuple[str, ...]:
    weights = ", ".join(map(str, found.weights))
    return (
        found.name,
        found.task or "-",
        "-" if found.parameters is None else f"{found.parameters:,}",
        "-" if found.macs is None else f"{found.macs / 1e9:.4g}",
        "-" if found.input_shape is None else "x".join(map(str, found.input_shape)),
        f"of {found.distribution}" if found.distribution else weights,
    )
