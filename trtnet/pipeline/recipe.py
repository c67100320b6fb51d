"""Recipe: everything that decides what a pipeline makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet import zoo
from trtnet.building.options import BuildConfig
from trtnet.building.profiles import Shapes
from trtnet.precision.policy import Policy
from trtnet.precision.table import QUANTIZED
from trtnet.quantization.table import DEFAULT_ITEMS, DEFAULT_METHOD
from trtnet.zoo import Entry

if TYPE_CHECKING:
    from trtnet.pipeline.preprocessing import StatedPreprocessing

_IMAGE_AXES = 3  # without the batch
INPUT = "input"
"""The default name of a model's input."""


@dataclass(frozen=True)
class InputSpec:
    """The input of a model.

    Attributes:
        shape: with its batch axis: (N, C, H, W) for images.
        name: in the network and its engine.
    """

    shape: tuple[int, ...]
    name: str = INPUT


@dataclass(frozen=True)
class CalibrationSettings:
    """How INT8 and FP8 get their ranges.

    Attributes:
        data: a folder of images, a ``.npy`` or ``.npz`` file, or ``"random"`` for seeded noise,
            which only random weights accept. With it the range of FP16 is checked too.
        items: how many items of the data to use at most, spread evenly over all.
        method: one of :data:`trtnet.quantization.METHODS`.
        table: file of the ranges: read where it exists, otherwise written; ``None`` for
            ``ENGINE.calib.json``.
    """

    data: str | None = None
    items: int = DEFAULT_ITEMS
    method: str = DEFAULT_METHOD
    table: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """What to build, and how.

    Attributes:
        model: what :func:`trtnet.zoo.get_entry` accepts, or an entry.
        precision: a preset's name, such as ``"fp16"``, or a policy.
        weights: ``"random"``, ``"DEFAULT"``, the name of published weights, or the path of a file;
            ``None`` for the model's default.
        weights_key: which part of a file of weights to take, see :func:`trtnet.weights.load`.
        seed: of random weights, and of the inputs of verification.
        arguments: keyword arguments of the model's builder, such as ``num_classes``.
        image_size: height and width of the input; also the builder's argument of this name, where
            it has one.
        input: name and shape of the input; required where the model states no shape.
        batch: a static batch size in place of that of the input.
        profiles: optimization profiles, in place of one static shape; axes whose sizes differ
            become dynamic.
        calibration: see :class:`CalibrationSettings`.
        preprocessing: of images, over what the weights say; see
            :func:`trtnet.pipeline.state_preprocessing`.
        class_names: of the output, in order, in place of those of the weights.
        backend: ``"auto"``, ``"tensorrt"``, ``"rtx"`` or ``"torch"``.
        plugins, nms: see :class:`trtnet.Network`.
        config: the builder's options.
        engine: file of the engine; ``None`` for :func:`default_engine`, or for another name where
            that has an engine which differs in model, arguments, backend, precision or shapes.
        label: what the default name of the engine calls the precision; ``None`` for
            :attr:`precision_name`.
        force: build even where an engine of the same recipe exists, and calibrate again.
        verify: compare the network with its PyTorch counterpart before it is built.
        verify_images: number of seeded images to compare, rounded up to whole batches.
        verify_shapes: input shapes to compare; none for
            :attr:`trtnet.pipeline.InputShapes.varied`.
    """

    model: str | Entry
    precision: str | Policy = "tf32"
    weights: str | None = None
    weights_key: str | None = None
    seed: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    input: InputSpec | None = None
    batch: int | None = None
    profiles: tuple[Shapes, ...] = ()
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    preprocessing: StatedPreprocessing | None = None
    class_names: tuple[str, ...] | None = None
    backend: str = "auto"
    plugins: str = "auto"
    nms: str = "native"
    config: BuildConfig = field(default_factory=BuildConfig)
    engine: Path | None = None
    label: str | None = None
    force: bool = False
    verify: bool = True
    verify_images: int = 1
    verify_shapes: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def entry(self) -> Entry:
        """The model's entry; raises :class:`trtnet.UsageError` where there is no such model."""
        return zoo.get_entry(self.model) if isinstance(self.model, str) else self.model

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one input that the model states, with the channels of ``in_channels``."""
        shape, channels = self.entry.input_shape, self.arguments.get("in_channels")
        if shape is None or channels is None or len(shape) != _IMAGE_AXES:
            return shape
        return (channels, *shape[1:])

    @cached_property
    def policy(self) -> Policy:
        """The policy that `precision` stands for."""
        return Policy.preset(self.precision) if isinstance(self.precision, str) else self.precision

    @property
    def precision_name(self) -> str:
        """The preset's name; of a policy, what it computes in."""
        return self.precision if isinstance(self.precision, str) else self.precision.compute

    @property
    def quantizes(self) -> bool:
        """Whether the network needs ranges."""
        return self.policy.uses(*QUANTIZED)


def default_engine(model: str, precision: str) -> Path:
    """The file of the engine of a model, where none is named.

    >>> default_engine("models/tiny.py:TinyNet", "fp16").as_posix()
    'engines/TinyNet-fp16.engine'
    """
    name = re.sub(r"[^\w.+-]", "_", model.rpartition(":")[2])
    return Path("engines") / f"{name}-{precision}.engine"
