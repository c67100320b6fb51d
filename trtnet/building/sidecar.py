"""What a sidecar says about its engine: the schema of the file, for those who write and read it.

Entries that are not listed here are kept and ignored, so an older trtnet reads the sidecars of a
newer one with the same ``format_version``. Every entry but ``format_version`` and ``engine`` may be
missing or ``null``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trtnet.building.stated_refit import StatedRefit
from trtnet.imaging.preprocessing import Preprocessing, require_effect, require_known
from trtnet.plugins.registry import NeededPlugin
from trtnet.reading.documents import Source, from_json, to_json
from trtnet.reading.schema import checked

Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Sizes = tuple[Size, ...]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Version = Annotated[str, Meta(max_length=80, pattern=r"^[\x20-\x7e]*$")]


class StatedBackend(msgspec.Struct, frozen=True):
    """The backend that built the engine: its `name` and `version`."""

    name: str | None = None
    version: Version | None = None


class StatedTensor(msgspec.Struct, frozen=True):
    """An input or output: -1 in the `shape` of an axis without a fixed size."""

    name: str
    dtype: str
    shape: tuple[Annotated[int, Meta(ge=-1, le=2**31 - 1)], ...]


class StatedShapes(msgspec.Struct, frozen=True):
    """The smallest, the most frequent and the largest shape of an input in one profile."""

    min: Sizes
    opt: Sizes
    max: Sizes

    def __post_init__(self) -> None:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError("min, opt and max have one size for each axis")
        if any(not a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("every axis has min <= opt <= max")


class StatedAxis(msgspec.Struct, frozen=True):
    """A named axis: its range, the inputs and indices where it is, and what the model's code
    concluded from the range."""

    min: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    max: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None
    multiple_of: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    places: Annotated[tuple[tuple[str, Size], ...], Meta(min_length=1)]
    guards: tuple[str, ...]


class StatedOptions(msgspec.Struct, frozen=True):
    """The builder's options that matter to whoever loads the engine."""

    strip_weights: bool = False
    version_compatible: bool = False
    exclude_lean_runtime: bool = False


class StatedWeights(msgspec.Struct, frozen=True):
    """Where the weights are from: a `source` in words, the name of their `origin`, and `notes` of
    what of a file was taken, dropped and concluded."""

    source: str | None = None
    origin: str | None = None
    notes: tuple[str, ...] = ()


class StatedCalibration(msgspec.Struct, frozen=True):
    """The calibration: its `method`, the number of `items`, a `key` of all that it follows from,
    and the `sha256` of the table."""

    method: str | None = None
    items: Count = 0
    key: str | None = None
    sha256: str | None = None


class StatedMaker(msgspec.Struct, frozen=True):
    """The code that made the model: a hash of its `place`, and the `arguments` of the builder."""

    place: str | None = None
    arguments: dict[str, bool | int | float | str | None] = {}


class StatedEngine(msgspec.Struct, frozen=True):
    """The engine's size in `bytes` and its `sha256` in hexadecimal."""

    sha256: str
    bytes: Count | None = None


class Sidecar(msgspec.Struct, frozen=True):
    """The entries of a sidecar that trtnet reads.

    Attributes:
        format_version: of the file.
        engine: which engine the file describes.
        trtnet: the version that built it.
        model: its name.
        made_by: the code that made the model.
        backend: what built it.
        compute_capabilities: the GPUs that it was built for, such as ``"8.9"``; ``None`` for the
            backend's default.
        precision: such as ``"fp16"``.
        policy: see :meth:`trtnet.Policy.as_dict`.
        inputs, outputs: of the engine.
        profiles: the shapes of the inputs with dynamic axes, per optimization profile.
        axes: the named axes.
        plugins: those whose layers are in the engine.
        options: of the builder.
        recipe: a hash of all that the engine is made of.
        weights: where they are from; a user may give a text.
        preprocessing: how an image becomes the input.
        preprocessing_source: who says so, in words.
        class_names: of the output, in order.
        calibration: where the ranges of an engine with quantized layers are from.
        refit: how the weights come from a state_dict, of an engine that can get others.
    """

    format_version: int | None = None
    engine: StatedEngine | None = None
    trtnet: str | None = None
    model: str | None = None
    made_by: StatedMaker | None = None
    backend: StatedBackend | None = None
    compute_capabilities: list[str] | None = None
    precision: str | None = None
    policy: dict[str, str | dict[str, str]] | None = None
    inputs: list[StatedTensor] | None = None
    outputs: list[StatedTensor] | None = None
    profiles: list[dict[str, StatedShapes]] | None = None
    axes: dict[str, StatedAxis] | None = None
    plugins: list[NeededPlugin] | None = None
    options: StatedOptions | None = None
    recipe: str | None = None
    weights: StatedWeights | str | None = None
    preprocessing: Preprocessing | None = None
    preprocessing_source: str | None = None
    class_names: list[str] | None = None
    calibration: StatedCalibration | None = None
    refit: StatedRefit | None = None


def require_readable(values: Mapping[str, Any]) -> None:
    """Checks that a sidecar with `values` can be written, and read again.

    Raises:
        UsageError: names what cannot.
    """
    source = Source("", "the sidecar that was given", fix="give JSON values, or leave it out")
    described(from_json(to_json(dict(values), source), source), source)


def described(values: Mapping[str, Any], source: Source) -> Sidecar:
    """The entries of `values`, the JSON values of a sidecar.

    Raises:
        TrtnetError: `source.error`, which names the first entry that is wrong.
    """
    stated = values.get("preprocessing")
    if isinstance(stated, dict):
        require_known(stated, source, "preprocessing")  # it knows other libraries' names for them
    found = checked(dict(values), Sidecar, source)
    if isinstance(stated, dict):
        require_effect(stated, source)
    return found
