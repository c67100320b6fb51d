"""ExecutionSlot: one execution at a time, from arrays to results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trtnet.engines.arrays import View, empty
from trtnet.engines.bound_context import BoundContext
from trtnet.engines.device import DEFAULT_STREAMS, Device
from trtnet.engines.protocol import Binding, Engine, Replay
from trtnet.engines.signature import Fit
from trtnet.errors import ShapeError

_DEFAULT_STREAM = 0
_NOTHING = View(0, (), "float32", "numpy")  # stands for the inputs of an engine without any


class ExecutionSlot:
    """A stream, and a context with its memory for each of the sets of shapes used last.

    A CUDA graph belongs to the shapes, the addresses and the state of the context it was captured
    from, so every set of shapes has a context of its own. One thread uses a slot at a time; the
    GPU may still execute its work when the next thread takes the slot.

    An execution lies between :meth:`begin` and :meth:`end`. Where the end is missing, because an
    error or an interrupt came, nothing is known of the state of the contexts: the next execution
    waits for the work that is still enqueued, and sets everything again. Until then the slot keeps
    the arrays alive that this work reads and writes.

    Args:
        graphs: how many sets of shapes keep a context and a CUDA graph; with 0 there is one
            context per profile and no graph.
    """

    def __init__(self, engine: Engine, device: Device, graphs: int) -> None:
        self.device, self.stream = device, device.new_stream()
        self._engine = engine
        self._graphs = graphs if device.kind == "cuda" else 0
        self._arrived, self._done = device.new_event(), device.new_event()
        self._last: int | None = None  # the stream of the last execution
        self._is_marked = True  # whether `_done` was recorded there
        self._contexts: OrderedDict[Any, BoundContext] = OrderedDict()
        self._newest: Any = None
        self._fit: Fit | None = None  # that the newest context was found by
        self._used: list[object] | None = None  # the arrays of an execution that has not ended
        self._has_shape_values = any(b.on_host and b.is_input for b in engine.bindings)
        self._inputs = [binding for binding in engine.bindings if binding.is_input]
        self._outputs = [binding for binding in engine.bindings if not binding.is_input]

    def run(self, views: Mapping[str, View], fit: Fit) -> dict[str, View]:
        """Executes the engine on `views`.

        Args:
            views: the inputs.
            fit: what :meth:`trtnet.engines.signature.Signature.fit` gave for them.

        Returns:
            The outputs, in arrays of the same kind. For GPU arrays the work is enqueued on the
            stream of their owner, and may not have ended; results in host memory are complete.
        """
        self.begin(views)
        if fit.chunk_size is not None:
            results = self._run_in_chunks(views, fit.profile, fit.chunk_size)
        else:
            results = self._run_at_once(views, fit)
        self.end()
        return results

    def begin(self, views: Mapping[str, View]) -> None:
        """Begins an execution on `views`."""
        unended = self._used
        if unended is not None:
            self.device.aside(lambda: self._recover(unended))
        self._used = [views]

    def end(self) -> None:
        """Says that everything was enqueued as intended."""
        self._used = None

    def _recover(self, unended: list[object]) -> None:
        """Makes the slot ready again after the execution that uses `unended`; can be interrupted
        itself.

        Who waits for it can be interrupted too, and the next one asks for it again. The device
        then recovers a second time, maybe in the midst of a later execution, and must do nothing.
        """
        if self._used is not unended:
            return
        self.device.synchronize()
        for bound in self._contexts.values():
            bound.forget()
        self._newest = self._fit = self._last = None
        self._is_marked = True
        self._used = None

    def _run_at_once(self, views: Mapping[str, View], fit: Fit) -> dict[str, View]:
        bound, first = self._bound_by(fit, views), _first(views)
        results = {
            b.name: self._empty(b, bound.output_shapes[b.name], first)
            for b in self._outputs
            if b.name not in bound.data_dependent
        }
        if self.device.kind == "cpu" or (first.on_gpu and not self._graphs):
            return self._run_direct(bound, views, results)
        if first.on_gpu and bound.is_standalone:
            addresses = (
                *[view.address for view in views.values()],
                *[view.address for view in results.values()],
            )
            graph = bound.graph_for(addresses)
            if graph is None and bound.should_capture(addresses):
                graph = self._capture_on(bound, {**views, **results}, first.stream)
            if graph is not None:
                return self._launch(graph, results, first.stream)
        return self._run_staged(bound, views, results)

    def _bound_by(self, fit: Fit, views: Mapping[str, View]) -> BoundContext:
        """:meth:`bound`; the newest one at once where the same `fit` comes again, which a session
        makes once for some shapes."""
        if fit is not self._fit:
            bound = self.bound(views, fit.profile)
            self._fit = None if self._newest is None or self._has_shape_values else fit
            return bound
        return self._contexts[self._newest]

    def bound(self, views: Mapping[str, View], profile: int) -> BoundContext:
        """The context for the shapes of `views`."""
        key: Any = profile
        if self._graphs:
            key = (profile, *[(name, view.shape) for name, view in views.items()])
        if key == self._newest and not self._has_shape_values:
            return self._contexts[key]
        self._newest = self._fit = None
        if key not in self._contexts:
            self.device.aside(lambda: self._add(key, profile))
        self._contexts.move_to_end(key)  # the one used most recently
        bound = self._contexts[key]
        bound.set_shapes(views)
        self._newest = key if self._graphs else None
        return bound

    def _add(self, key: Any, profile: int) -> None:
        """A new context; if there are too many, the one that was not used for longest goes."""
        if len(self._contexts) >= max(self._graphs, len(self._engine.profiles)):
            self.settle()
            self._contexts.popitem(last=False)[1].close()
        self._contexts[key] = BoundContext(self._engine, self.device, profile)

    def prepare(self, bound: BoundContext, at_once: bool = False) -> None:
        """Binds memory of the context itself; captures a CUDA graph if graphs are used, there is
        none yet, and the first execution without one is done; `at_once` where the backend needs
        none."""
        bound.bind_buffers()
        if self._graphs and bound.graph is None and bound.can_be_captured(at_once):
            self.settle()
            self.device.aside(lambda: bound.capture(self.stream))

    def settle(self) -> None:
        """Waits until all work of this slot has ended."""
        if self._last is not None:
            self._mark()
            self._done.synchronize()
            self._last = None

    def _mark(self) -> None:
        """Records `_done` on the stream of the last execution, where that was put off."""
        if not self._is_marked and self._last is not None:
            self._done.record(self._last)
            self._is_marked = True

    def close(self) -> None:
        """Waits until all work has ended, and releases everything; a second call does nothing, or
        goes on where the first was interrupted."""
        self.device.aside(self._close)

    def _close(self) -> None:
        if self._used is not None:
            self._recover(self._used)
        self.settle()
        for bound in self._contexts.values():
            bound.close()
        self._contexts.clear()
        for part in (self._arrived, self._done, self.stream):
            part.close()

    def _capture_on(
        self, bound: BoundContext, arrays: Mapping[str, View], caller: int
    ) -> Replay | None:
        """A CUDA graph that works on the memory of `arrays` itself."""
        self._arrived.record(caller)  # the outputs' memory may still be in use there
        self._arrived.synchronize()
        self.settle()
        bound.bind_arrays(arrays)
        self.device.aside(lambda: bound.capture(self.stream))
        return bound.graph

    def _launch(self, graph: Replay, results: dict[str, View], caller: int) -> dict[str, View]:
        """A launch of a CUDA graph that works on the caller's memory.

        On the default stream, which always exists, the event is recorded when something else has
        to wait for it: rarely, while each record takes a microsecond.
        """
        if self._last not in (None, caller):
            self._mark()
            self._done.wait(caller)
        graph.launch(caller)
        self._last, self._is_marked = caller, False
        if caller != _DEFAULT_STREAM:
            self._mark()
        return results

    def _run_direct(
        self, bound: BoundContext, views: Mapping[str, View], results: dict[str, View]
    ) -> dict[str, View]:
        """Executes on the memory of the arrays themselves."""
        bound.bind_arrays({**views, **results})
        stream = self._enter(bound, views)
        bound.enqueue(stream)
        grown = self._grown(bound, views, stream)
        self._leave(views, stream)
        return {**results, **grown}

    def _run_staged(
        self, bound: BoundContext, views: Mapping[str, View], results: dict[str, View]
    ) -> dict[str, View]:
        """Copies the inputs to memory of the context, executes on it, and copies the outputs back.
        Its addresses stay the same, so that one CUDA graph serves all arrays.

        `views` and `results` may have fewer entries on the first axis than the shapes of `bound`.
        The first execution for some shapes is without a graph, before the second it is captured.
        """
        self.prepare(bound)
        stream = self._enter(bound, views)
        for name, view in views.items():
            self._copy_in(bound, name, view, stream)
        bound.enqueue(stream)
        pinned = {name: view for name, view in results.items() if self._needs_pinned(view)}
        for name, view in results.items():
            target = bound.pinned(name) if name in pinned else view.address
            self.device.copy(target, bound.address(name), view.nbytes, stream)
        grown = self._grown(bound, views, stream)
        self._leave(views, stream)
        for name, view in pinned.items():
            self.device.copy_on_host(view.address, bound.pinned(name), view.nbytes)
        return {**results, **grown}

    def _run_in_chunks(self, views: Mapping[str, View], profile: int, size: int) -> dict[str, View]:
        """Executes a batch whose size is not the engine's fixed `size`, in chunks of `size`; the
        last one is padded."""
        data = {b.name: views[b.name] for b in self._inputs if not b.on_host}
        count = next(view.shape[0] for view in data.values())
        full = {n: replace(view, shape=(size, *view.shape[1:])) for n, view in data.items()}
        bound = self.bound({**views, **full}, profile)
        results = {}
        for b in self._outputs:
            shape = bound.output_shapes[b.name]
            if shape[:1] != (size,):
                raise ShapeError(
                    f"a batch of {count} cannot be run in pieces of {size}",
                    module=b.name,
                    expected="outputs with the batch as their first axis",
                    got=shape,
                    fix=f"give batches of {size}, or build the engine for other batch sizes",
                )
            results[b.name] = self._empty(b, (count, *shape[1:]), _first(views))
        for start in range(0, count, size):
            rows = (start, min(size, count - start))
            self._run_staged(
                bound,
                {name: view.rows(*rows) for name, view in data.items()},
                {name: view.rows(*rows) for name, view in results.items()},
            )
        return results

    def _copy_in(self, bound: BoundContext, name: str, view: View, stream: int) -> None:
        source = view.address
        if self._needs_pinned(view):
            source = bound.pinned(name)
            self.device.copy_on_host(source, view.address, view.nbytes)
        self.device.copy(bound.address(name), source, view.nbytes, stream)

    def _needs_pinned(self, view: View) -> bool:
        """Whether this is pageable host memory, whose copies would block host and device."""
        if self.device.kind == "cpu" or view.on_gpu:
            return False
        return not self.device.is_pinned(view.address)

    def _grown(
        self, bound: BoundContext, views: Mapping[str, View], stream: int
    ) -> dict[str, View]:
        """Waits for the execution, and copies the outputs whose shape depends on the data."""
        grown = {}
        for b in self._outputs:
            if b.name in bound.data_dependent:
                self._synchronize(stream)
                view = grown[b.name] = self._empty(b, bound.shape(b.name), _first(views))
                if view.nbytes:
                    self.device.copy(view.address, bound.address(b.name), view.nbytes, stream)
                    self._synchronize(stream)
        return grown

    def _empty(self, output: Binding, shape: tuple[int, ...], like: View) -> View:
        """A new result array of the kind of `like`; an output `on_host` is in host memory."""
        kind = "numpy" if output.on_host and like.on_gpu else like.kind
        made = empty(kind, shape, output.dtype, self.device, like.stream)
        if self._used is not None:
            self._used.append(made)
        return made

    def _enter(self, bound: BoundContext, views: Mapping[str, View]) -> int:
        """The stream to work on. It waits for all earlier work of this slot and of the arrays'
        owner."""
        caller = _caller(views)
        # TensorRT synchronises more than it must on the default streams.
        own = not _on_gpu(views) or (caller in DEFAULT_STREAMS and not bound.is_standalone)
        stream = self.stream.handle if own else caller
        if own and _on_gpu(views):
            self._arrived.record(caller)
            self._arrived.wait(stream)
        if self._last not in (None, stream):
            self._mark()
            self._done.wait(stream)
        return stream

    def _leave(self, views: Mapping[str, View], stream: int) -> None:
        """Makes the stream of the GPU arrays' owner wait for the work; for host arrays, waits for
        it here."""
        self._done.record(stream)
        self._last, self._is_marked = stream, True
        if not _on_gpu(views):
            self.settle()
        elif stream != _caller(views):
            self._done.wait(_caller(views))

    def _synchronize(self, stream: int) -> None:
        self._done.record(stream)
        self._done.synchronize()


def _first(views: Mapping[str, View]) -> View:
    """An array on the GPU if there is one: those that hold shapes are always on the host."""
    for view in views.values():
        if view.on_gpu:
            return view
    return next(iter(views.values()), _NOTHING)


def _on_gpu(views: Mapping[str, View]) -> bool:
    return _first(views).on_gpu


def _caller(views: Mapping[str, View]) -> int:
    """The stream that the owner of GPU arrays works on; 0 for arrays of the host."""
    return _first(views).stream
