"""The models that ``tools/port_rate.py`` tries: entry points of timm and torchvision."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trtnet.files import atomic_write

LARGEST = 30_000_000  # parameters
SIZES = (32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 320, 384)


@dataclass(frozen=True)
class Candidate:
    """A model to try.

    Attributes:
        name: ``timm:NAME`` or ``torchvision:NAME``.
        file: the module file it is defined in.
        parameters: their number.
    """

    name: str
    file: str
    parameters: int

    def row(self) -> dict[str, Any]:
        """Its values by name."""
        return asdict(self)


def candidates(per_file: bool = False) -> list[Candidate]:
    """All models with at most :data:`LARGEST` parameters; with `per_file` the smallest of each
    file, whatever its size."""
    found = _known()
    if not per_file:
        return [candidate for candidate in found if candidate.parameters <= LARGEST]
    smallest: dict[str, Candidate] = {}
    for candidate in found:
        known = smallest.setdefault(candidate.file, candidate)
        if candidate.parameters < known.parameters:
            smallest[candidate.file] = candidate
    return sorted(smallest.values(), key=lambda candidate: candidate.file)


def _known() -> list[Candidate]:
    """Every model, with its number of parameters; counted once for these versions."""
    versions = "-".join(map(importlib.metadata.version, ("timm", "torchvision")))
    cache = Path(tempfile.gettempdir()) / f"trtnet-port-rate-{versions}.json"
    if not cache.is_file():
        found = [candidate.row() for candidate in (*_timm(), *_torchvision())]
        with atomic_write(str(cache)) as file:
            file.write(json.dumps(found).encode())
    return [Candidate(**row) for row in json.loads(cache.read_text())]


def _timm() -> Iterator[Candidate]:
    import timm

    for name in timm.list_models():
        file = timm.models._registry._model_to_module[name]
        count = _parameters(functools.partial(timm.create_model, name))
        if count is not None:
            yield Candidate(f"timm:{name}", f"timm/models/{file}.py", count)


def _torchvision() -> Iterator[Candidate]:
    from torchvision import models

    for name in models.list_models():
        builder = models.get_model_builder(name)
        if "quantization" in builder.__module__:
            continue
        file = builder.__module__.replace(".", "/") + ".py"
        count = _parameters(functools.partial(make, f"torchvision:{name}"))
        if count is not None:
            yield Candidate(f"torchvision:{name}", file, count)


def _parameters(build: Callable[[], torch.nn.Module]) -> int | None:
    """The number of parameters; ``None`` where the model cannot be made without memory."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build().parameters())
    except Exception:  # of many kinds: such a model is made for real
        return _parameters_of_real(build)


def _parameters_of_real(build: Callable[[], torch.nn.Module]) -> int | None:
    try:
        return sum(parameter.numel() for parameter in build().parameters())
    except Exception:
        return None


def make(name: str, **arguments: Any) -> torch.nn.Module:
    """The model `name` without published weights; of a detector its backbone."""
    library, _, model = name.partition(":")
    if library == "timm":
        import timm

        found: torch.nn.Module = timm.create_model(model, **arguments)
        return found
    from torchvision import models

    builder = models.get_model_builder(model)
    given = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        given["weights_backbone"] = None
    found = builder(**given)
    return found.get_submodule("backbone") if "detection" in builder.__module__ else found


def inputs(name: str, module: torch.nn.Module, size: int) -> list[tuple[int, ...]]:
    """Shapes of the inputs of a model, for images of height and width `size`."""
    module_of = type(module).__module__
    if ".video" in module_of:
        frames = 16 if module_of.endswith((".mvit", ".s3d")) else 8
        return [(2, 3, frames, size, size)]
    if ".optical_flow" in module_of:
        return [(2, 3, size, size)] * 2
    config = getattr(module, "default_cfg", None) or {}
    channels = config.get("input_size", (3,))[0]
    return [(2, channels, size, size)]


def accepted_sizes(name: str, module: torch.nn.Module) -> Iterator[int]:
    """Which of :data:`SIZES` and the model's own size the module accepts, smallest first."""
    config = getattr(module, "default_cfg", None) or {}
    own = int(tuple(config.get("input_size", (3, 224, 224)))[-1])
    tried = (own,) if config.get("fixed_input_size") else sorted({*SIZES, own})
    for size in tried:
        with torch.no_grad():
            try:
                module(*(torch.zeros(shape) for shape in inputs(name, module, size)))
            except Exception:  # of many kinds
                continue
        yield size
