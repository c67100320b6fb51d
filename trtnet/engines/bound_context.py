"""BoundContext: a context whose input shapes are set, with the memory it reads and writes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping

from trtnet.engines.arrays import View, item_bytes
from trtnet.engines.device import Buffer, CpuDevice, Device, Stream
from trtnet.engines.protocol import CaptureError, Context, Engine, Replay

_HOST = CpuDevice()
_MOST_GRAPHS = 8  # CUDA graphs for one set of shapes, each for other addresses
_MOST_SEEN = 64  # addresses remembered in order to recognise them when they come again


class BoundContext:
    """One context of an engine, and what it is bound to.

    Inputs and outputs are either the arrays given to :meth:`bind_arrays`, or after
    :meth:`bind_buffers` memory of the context itself, whose addresses stay the same.

    Attributes:
        context: the context of the engine.
        output_shapes: for the present input shapes; -1 for an axis that depends on the data.
        data_dependent: names of the outputs with such an axis.
        capture_failure: why no CUDA graph could be captured; ``None`` if none has failed.
        is_standalone: the captured graphs hold their addresses, see
            :class:`trtnet.engines.protocol.Replay`; ``False`` before the first capture.
    """

    def __init__(self, engine: Engine, device: Device, profile: int) -> None:
        self.context: Context = engine.create_context(profile)
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self.data_dependent: list[str] = []
        self.capture_failure: str | None = None
        self.is_standalone = False
        self._device = device
        self._bindings = {binding.name: binding for binding in engine.bindings}
        self._input_shapes: dict[str, tuple[int, ...]] = {}
        self._is_set = False
        self._addresses = dict.fromkeys(self._bindings, -1)  # in the network's order
        self._buffers: dict[tuple[str, str], Buffer] = {}  # by purpose and tensor
        self._graphs: dict[tuple[int, ...], Replay] = {}
        self._seen: set[tuple[int, ...]] = set()
        self._has_run = False

    def can_be_captured(self, at_once: bool = False) -> bool:
        """Whether a CUDA graph can be tried: it has run for these shapes, or, if it is to be
        captured `at_once`, its context needs no execution before."""
        is_ready = self._has_run or (at_once and self.context.captures_at_once)
        return is_ready and self.capture_failure is None and not self.data_dependent

    @property
    def graph(self) -> Replay | None:
        """The CUDA graph for the present addresses."""
        return self.graph_for(tuple(self._addresses.values()))

    def graph_for(self, addresses: tuple[int, ...]) -> Replay | None:
        """The CUDA graph captured for these addresses of all inputs and outputs, in order."""
        return self._graphs.get(addresses)

    def should_capture(self, addresses: tuple[int, ...]) -> bool:
        """Whether to capture a CUDA graph for these addresses: they come for the second time, and
        there are fewer than 8 graphs.

        Graphs are kept for the arrays that a caller uses again and again. There is a limit, so
        that a caller with always new arrays does not spend the time on captures.
        """
        if len(self._graphs) >= _MOST_GRAPHS or self.capture_failure is not None:
            return False
        if addresses in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(addresses)
        return False

    def set_shapes(self, views: Mapping[str, View]) -> None:
        """Sets the shapes of `views`, and the values of those that are shapes themselves. Other
        shapes, and all values, discard the CUDA graphs."""
        shapes = {name: view.shape for name, view in views.items()}
        hosted = {name: view for name, view in views.items() if self._bindings[name].on_host}
        if self._is_set and shapes == self._input_shapes and not hosted:
            return
        self._drop_graphs()
        self._is_set = False  # in case one of the next lines raises
        for name, shape in shapes.items():
            self.context.set_input_shape(name, shape)
        for name, view in hosted.items():
            address = self._buffer("host", name, view.nbytes, _HOST)
            ctypes.memmove(address, view.address, view.nbytes)
            self._set_address(name, address)
        self.output_shapes = self.context.output_shapes()
        self.data_dependent = [name for name, shape in self.output_shapes.items() if -1 in shape]
        self._input_shapes, self._has_run = shapes, False
        for name in self.data_dependent:
            self.context.set_output_allocator(name, self._allocator(name))
        self._is_set = True

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an input or output; for one that depends on the data it is known once the
        execution has ended."""
        if name in self._input_shapes:
            return self._input_shapes[name]
        shape = self.output_shapes[name]
        return self.context.final_shape(name) if -1 in shape else shape

    def nbytes(self, name: str) -> int:
        """The size of an input or output in bytes; see :meth:`shape`."""
        return math.prod(self.shape(name)) * item_bytes(self._bindings[name].dtype)

    def address(self, name: str) -> int:
        """Where the last execution read, or wrote, a tensor."""
        return self._addresses[name]

    def pinned(self, name: str) -> int:
        """The address of pinned host memory for a tensor, to copy it from or to the device."""
        return self._buffer("pinned", name, self.nbytes(name), self._device)

    def bind_arrays(self, arrays: Mapping[str, View]) -> None:
        """Makes the next execution read and write the memory of `arrays`."""
        for name, array in arrays.items():
            if not (self._bindings[name].on_host and self._bindings[name].is_input):
                self._set_address(name, array.address)

    def bind_buffers(self) -> None:
        """Makes the next execution read and write memory of this context, except for outputs that
        are allocated while executing; raises :class:`trtnet.errors.OutOfMemoryError` with the
        sizes."""
        for name, binding in self._bindings.items():
            if name in self.data_dependent or (binding.on_host and binding.is_input):
                continue
            place = _HOST if binding.on_host else self._device
            self._set_address(name, self._buffer("own", name, self.nbytes(name), place))

    def enqueue(self, stream: int) -> None:
        """Enqueues one execution: a launch of the CUDA graph for the present addresses if there is
        one."""
        graph = self.graph
        if graph is not None:
            graph.launch(stream)
            return
        if self.context.runs_aside:
            self._device.aside(lambda: self.context.execute(stream))
        else:
            self.context.execute(stream)
        self._has_run = True

    def capture(self, idle: Stream) -> None:
        """Captures a CUDA graph for the present addresses on the stream `idle`; where that fails,
        sets `capture_failure`. The outputs' memory may be overwritten."""
        try:
            graph = self.context.capture(idle.handle)
        except CaptureError as error:
            self.capture_failure = str(error)
        else:
            self._graphs[tuple(self._addresses.values())] = graph
            self.is_standalone = graph.is_standalone

    def forget(self) -> None:
        """Forgets everything that is set in the context: it is set again, whatever it is now.
        Nothing is executing any more."""
        self._drop_graphs()
        self._is_set = False
        self._addresses = dict.fromkeys(self._bindings, -1)

    def close(self) -> None:
        """Releases the graphs, the context and its memory; nothing is executing any more."""
        self._drop_graphs()
        self.context.close()
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()

    def _drop_graphs(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._seen.clear()
        self.is_standalone = False

    def _set_address(self, name: str, address: int) -> None:
        if self._addresses.get(name) != address:
            self.context.set_tensor_address(name, address)
            self._addresses[name] = address

    def _allocator(self, name: str) -> Callable[[int], int]:
        def allocate(nbytes: int) -> int:
            self._addresses[name] = self._buffer("grown", name, nbytes, self._device)
            return self._addresses[name]

        return allocate

    def _buffer(self, purpose: str, name: str, nbytes: int, device: Device) -> int:
        """The address of at least `nbytes`; the same as before where that is large enough."""
        found = self._buffers.get((purpose, name))
        if found is None or found.nbytes < nbytes:
            found = device.aside(lambda: self._grow(purpose, name, nbytes, device))
        return found.address

    def _grow(self, purpose: str, name: str, nbytes: int, device: Device) -> Buffer:
        old = self._buffers.pop((purpose, name), None)
        if old is not None:
            old.close()
        allocate = device.pinned if purpose == "pinned" else device.zeros
        self._buffers[purpose, name] = made = allocate(max(nbytes, 1))
        return made
