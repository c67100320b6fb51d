"""Texts that name a model and a precision: ``resnet50:fp16``, ``net.py:Net:int8``."""

from __future__ import annotations

import re
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.names import did_you_mean
from trtnet.precision.policy import PRESETS


def split_precision(text: str) -> tuple[str, str | None]:
    """The model that `text` names, and the precision, if it ends in one.

    >>> split_precision("resnet50:fp16"), split_precision("nets/tiny.py:Tiny")
    (('resnet50', 'fp16'), ('nets/tiny.py:Tiny', None))
    >>> split_precision("my_models.tiny:Tiny:int8")
    ('my_models.tiny:Tiny', 'int8')

    Raises:
        UsageError: it ends in a precision that does not exist.
    """
    if Path(text).is_file():
        return text, None
    model, colon, end = text.rpartition(":")
    if not colon or end in PRESETS:
        return (model, end) if colon else (text, None)
    from trtnet import zoo  # all models: not for --help

    without_drive = re.sub(r"^[A-Za-z]:(?=[\\/])", "", model)
    if ":" in without_drive or model in zoo.list_models():
        raise unknown_precision(end)
    return text, None


def unknown_precision(name: str) -> UsageError:
    """The error for a precision that is none."""
    return UsageError(
        f"unknown precision {name!r}",
        expected=", ".join(PRESETS),
        fix=did_you_mean(name, PRESETS),
    )
