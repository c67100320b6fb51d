"""The ways to run an engine's network on a GPU, and which was the fastest for input shapes."""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from torch import fx

from trtnet.engines.torch.compiled import (
    Built,
    CompiledGraph,
    Forward,
    ShapeBuilder,
    Shapes,
    module_of,
)

WITH, WITHOUT = "with tactics", "without tactics"
_TIMED = ", cuDNN's kernels timed"
_MOST_SHAPES = 64  # of which ways are kept, each with a module; others are built again
_DEFAULT_LEVEL = 3  # of a session that has no builder


class Way(NamedTuple):
    """One way to run a network.

    Attributes:
        name: among the ways of one network.
        forward: what is called.
        is_timed: whether cuDNN's kernels are timed.
        behind_us: microseconds that it takes longer than the one with tactics, as far as is known
            before it is timed.
        most_bytes: of values at a time; it is given up where it needs more.
    """

    name: str
    forward: Forward
    is_timed: bool = False
    behind_us: float = 0.0
    most_bytes: float = math.inf


class Ways:
    """The ways of one engine, for all its contexts.

    One thread at a time calls :meth:`ask` and :meth:`candidates`, which build networks.

    Attributes:
        choosing: locked while a context times ways; others then wait for what it finds.
    """

    def __init__(self, compiled: CompiledGraph) -> None:
        self.choosing = threading.Lock()
        self._compiled = compiled
        self._known: OrderedDict[Shapes, Way | None] = OrderedDict()  # those used last at the end
        self._ordering = threading.Lock()
        self._built: list[tuple[Shapes, weakref.ref[fx.GraphModule]]] = []

    @property
    def built(self) -> list[tuple[Shapes, fx.GraphModule]]:
        """The modules that were built for input shapes, and may still run: a captured graph keeps
        its own, whatever is forgotten here."""
        self._built = [found for found in self._built if found[1]() is not None]
        alive = ((shapes, module()) for shapes, module in self._built)
        return [(shapes, module) for shapes, module in alive if module is not None]

    @property
    def level(self) -> int:
        """The optimization level."""
        tactics = self._compiled.tactics
        return _DEFAULT_LEVEL if tactics is None else tactics.level

    @property
    def without(self) -> Way:
        """The module as it is."""
        return Way(WITHOUT, self._compiled.forward)

    @property
    def timed(self) -> Way:
        """The module as it is with cuDNN's kernels timed, at levels that time them."""
        return _timed(self.without) if self.level >= _DEFAULT_LEVEL else self.without

    def known(self, shapes: Shapes) -> Way | None:
        """The way that was the fastest; None where that is not known."""
        with self._ordering:
            if shapes in self._known:
                self._known.move_to_end(shapes)
            return self._known.get(shapes)

    def was_asked(self, shapes: Shapes) -> bool:
        """Whether :meth:`ask` has nothing to add to what is known."""
        return shapes in self._known

    def ask(self, shapes: Shapes) -> None:
        """Asks the timing cache which way was the fastest, and makes that.

        The network is built on the present CUDA stream.
        """
        if shapes in self._known:  # for another context, which was first
            return
        tactics = self._compiled.tactics
        name = None if tactics is None else tactics.recall(shapes)
        way = None
        try:
            way = None if name is None else self._named(shapes, name)
        finally:
            self._remember(shapes, way)

    def candidates(self, shapes: Shapes) -> list[Way]:
        """The ways that are worth timing at this level, those that are set up fastest first.

        One that is clearly behind is worth it only where none before it can be captured. The
        network is built on the present CUDA stream.
        """
        tactics = self._compiled.tactics
        built = None if tactics is None else self._build(shapes, tactics)
        if built is None:
            return [self.without, _timed(self.without)][: 1 if self.level < _DEFAULT_LEVEL else 2]
        with_tactics = Way(WITH, built.forward)
        if self.level < _DEFAULT_LEVEL:
            return [with_tactics]
        is_thorough = self.level > _DEFAULT_LEVEL
        # At the default level the times of the parts are believed; what emulates is always slower,
        # and needs several times the memory.
        is_tried = is_thorough and not math.isinf(built.saved_us)
        without = self.without._replace(behind_us=0.0 if is_tried else built.saved_us)
        again = [with_tactics] if built.convolves else []
        again += [without] if is_thorough else []  # cuDNN's timing takes seconds
        return [with_tactics, without, *map(_timed, again)]

    def keep(self, shapes: Shapes, way: Way, microseconds: Mapping[str, float]) -> None:
        """Keeps the fastest way, and the times of all that were tried."""
        self._remember(shapes, way)
        if self._compiled.tactics is not None:
            self._compiled.tactics.remember(shapes, way.name, microseconds)

    def forget(self, shapes: Shapes) -> None:
        """Forgets a way that does not run; the timing cache is not asked for it again."""
        self._remember(shapes, None)

    def clear(self) -> None:
        """Forgets all."""
        with self._ordering:
            self._known.clear()

    def _remember(self, shapes: Shapes, way: Way | None) -> None:
        with self._ordering:
            self._known[shapes] = way
            self._known.move_to_end(shapes)
            while len(self._known) > _MOST_SHAPES:
                self._known.popitem(last=False)

    def _build(self, shapes: Shapes, tactics: ShapeBuilder) -> Built | None:
        """What `tactics` builds for `shapes`; remembered for :attr:`built`."""
        made = tactics.build(shapes)
        module = None if made is None else module_of(made.forward)
        if module is not None:
            self._built.append((shapes, weakref.ref(module)))
        return made

    def _named(self, shapes: Shapes, name: str) -> Way | None:
        """The way called `name`; None where it cannot be made, or there is none."""
        base, is_timed = name.removesuffix(_TIMED), name.endswith(_TIMED)
        tactics = self._compiled.tactics
        if base == WITHOUT:
            way = self.without
        elif base == WITH and tactics is not None and (built := self._build(shapes, tactics)):
            way = Way(WITH, built.forward)
        else:
            return None
        return _timed(way) if is_timed else way


def _timed(way: Way) -> Way:
    return way._replace(name=way.name + _TIMED, is_timed=True)
