"""The builder of one engine's network: its module for input shapes, and which way to run it was the
fastest."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.compiled import Built, Shapes
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.calls import finished
from trtnet.engines.torch.tactics.values import SpecializationError, may_be_sizes
from trtnet.escaping import printable
from trtnet.reference.convolution import cropped_deconvolution, padded_convolution

_FAILURES = (RuntimeError, IndexError, ValueError, TypeError, AssertionError)
_CONVOLUTIONS = (
    *(F.conv2d, F.conv3d, F.conv_transpose2d, F.conv_transpose3d),
    *(padded_convolution, cropped_deconvolution, convolution_relu, finished),
)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class NetworkBuilder:
    """Builds one module for input shapes; see :class:`trtnet.engines.torch.compiled.ShapeBuilder`.

    Attributes:
        notes: what is not as it was asked for, in sentences.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        types: Sequence[torch.dtype],
        builder: Builder,
        path: Path | None = None,
        tf32: bool = False,
    ) -> None:
        """`types` are those of the inputs of `module`, `path` is where the choices of `builder` are
        kept, and `tf32` says whether float32 values are multiplied in TF32."""
        self._module, self._types, self._builder, self._path = module, types, builder, path
        self._tf32 = tf32
        self._failed: set[Shapes] = set()
        ignored = builder.cache.ignored
        self.notes = () if ignored is None else (_note(path, ignored),)

    @property
    def level(self) -> int:
        """The optimization level."""
        return self._builder.level

    def build(self, shapes: Shapes) -> Built | None:
        """See :meth:`trtnet.engines.torch.compiled.ShapeBuilder.build`."""
        try:
            made = self._builder.build(self._module, list(zip(shapes, self._types, strict=True)))
        except SpecializationError:
            return None
        except _FAILURES as error:  # memory, above all; the module runs as it is
            self._failed.add(shapes)
            text = "the builder made nothing faster for these shapes, because it failed"
            warnings.warn(f"{text}: {printable(error)}", RuntimeWarning, stacklevel=2)
            return None
        self._save()
        return Built(made.forward, made.meta["saved_us"], _convolves(made))

    def for_module(self, module: fx.GraphModule) -> NetworkBuilder:
        """See :meth:`trtnet.engines.torch.compiled.ShapeBuilder.for_module`."""
        return NetworkBuilder(module, self._types, self._builder, self._path, self._tf32)

    def recall(self, shapes: Shapes) -> str | None:
        """See :meth:`trtnet.engines.torch.compiled.ShapeBuilder.recall`."""
        return self._builder.cache.get(self._problem(shapes)) if self.level else None

    def remember(self, shapes: Shapes, way: str, microseconds: Mapping[str, float]) -> None:
        """See :meth:`trtnet.engines.torch.compiled.ShapeBuilder.remember`."""
        if self.level and shapes not in self._failed:
            self._builder.cache.put(self._problem(shapes), way, dict(microseconds))
            self._save()

    def _problem(self, shapes: Shapes) -> str:
        types = (str(dtype).removeprefix("torch.") for dtype in self._types)
        words = [f"{shape} {name}" for shape, name in zip(shapes, types, strict=True)]
        return f"network {self._digest} {'tf32 ' * self._tf32}{', '.join(words)}"

    @cached_property
    def _digest(self) -> str:
        return digest(self._module)

    def _save(self) -> None:
        """Writes the timing cache. A failure is a warning only: the same is timed again next
        time."""
        try:
            self._builder.cache.save()
        except OSError as error:
            text = f"the timing cache {printable(self._path)} is not written ({printable(error)})"
            warnings.warn(f"{text}: tactics will be timed again", RuntimeWarning, stacklevel=2)


def _convolves(module: fx.GraphModule) -> bool:
    """Whether `module`, or the body of a region, calls cuDNN's convolutions."""
    parts = (part for part in module.modules() if isinstance(part, fx.GraphModule))
    targets = (node.target for part in parts for node in part.graph.nodes)
    return any(getattr(target, "__wrapped__", target) in _CONVOLUTIONS for target in targets)


def digest(module: fx.GraphModule) -> str:
    """What identifies the work of `module`: a hash of its code and of the shapes, types and strides
    of its tensors, and of those on the host that may be sizes the values. Weights have no part in
    it, nor have addresses and the number of the GPU."""
    found = hashlib.sha256()
    for name, part in module.named_modules():
        if isinstance(part, fx.GraphModule):
            code = re.sub(r"index=\d+", "index", _ADDRESS.sub("", part.code))
            found.update(f"{name}\n{code}".encode())
            for key, value in part.named_buffers(recurse=False):
                found.update(f"{key} {_words(value)}\n".encode())
    return found.hexdigest()[:32]


def _words(value: Tensor) -> str:
    held = value.tolist() if may_be_sizes(value) else ""
    return f"{value.dtype} {tuple(value.shape)} {value.stride()} {held}"


def _note(path: Path | None, ignored: str) -> str:
    return f"{path} is ignored, and replaced by what is found here: {ignored}"
