"""What an argument names and is not there: said before anything else that the command line lacks,
as a user mends that first."""

from __future__ import annotations

import os
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.names import did_you_mean

_RANDOM = "random"


def require_file(flag: str, value: str | Path) -> None:
    """Raises UsageError unless there is a file `value`."""
    if not os.path.exists(value):
        raise UsageError(f"{flag}: there is no file {value}", fix=_near(Path(value)))


def require_folder(flag: str, value: Path) -> None:
    """Raises UsageError unless there is a folder `value`."""
    if not value.is_dir():
        raise UsageError(f"{flag}: there is no folder {value}", fix=_near(value))


def require_data(flag: str, value: str) -> None:
    """Raises UsageError unless `value` is a file, a folder, or the word for noise."""
    if value != _RANDOM:
        require_file(flag, value)


def require_array(flag: str, value: str) -> None:
    """Raises UsageError unless there is the file of ``[NAME:]FILE``."""
    name, colon, path = value.partition(":")
    if not os.path.exists(value):
        require_file(flag, path if colon and name else value)


def require_engine(flag: str, value: Path) -> None:
    """Raises the error that opening the engine raises, where there is none."""
    if not value.exists():
        from trtnet.building.plan import Plan

        Plan.load(value)


def require_model(flag: str, value: str) -> None:
    """Raises UsageError unless `value` is a model, perhaps with a precision, or a file with a
    network. The code of a model of the user's is imported."""
    from trtnet.pipeline.files import is_model_file
    from trtnet.pipeline.precision_suffix import split_precision

    name, _ = split_precision(value)
    if not is_model_file(name):
        from trtnet.zoo import get_entry

        get_entry(name)


def require_weights(flag: str, value: str) -> None:
    """Raises WeightsError where `value` is the path of a file that is not there; names are looked
    up later, with the model."""
    from trtnet.weights.loading import is_path

    if is_path(value) and not os.path.exists(value):
        from trtnet.weights import load

        load(value)


def _near(path: Path) -> str:
    """Advice: what is there with a similar name."""
    try:
        there = [str(path.parent / entry) for entry in sorted(os.listdir(path.parent))]
    except OSError:
        return f"there is no folder {path.parent}: check the path"
    return did_you_mean(str(path), there) or "check the path"
