"""Which texts name a file with a network rather than a model."""

from __future__ import annotations

from pathlib import Path

from trtnet.building.plan import sidecar_path
from trtnet.errors import UsageError

_ENGINES = (".engine", ".plan", ".trt")
_HEADER = 9  # bytes: the length of a safetensors header, and the brace that it begins with


def is_model_file(text: str) -> bool:
    """Whether `text` is the path of an existing engine or graph; Python source is neither."""
    return Path(text).is_file() and not text.endswith(".py")


def is_built_engine(text: str) -> bool:
    """Whether `text` is the path of an engine in TensorRT's own format, whose layers cannot be
    read; those of the backend ``torch`` are graphs."""
    path = Path(text)
    if not is_model_file(text):
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER)
    except OSError:
        return False
    if start[8:9] == b"{":
        return False
    known = start[1:4] == b"trt"  # ftrt, vtrt: the beginning of TensorRT's engines
    return known or path.suffix in _ENGINES or sidecar_path(path).is_file()


def unreadable(text: str) -> UsageError:
    """An error: the layers of the built engine `text` are needed."""
    return UsageError(
        f"{text} is a built engine, whose layers cannot be read",
        expected="a model, such as resnet50:fp16, or a file of graph.save()",
        fix=f"name the model that it was built of; trtnet inspect {text} shows what is known of it",
    )
