"""Session: an engine that can be called like a function."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from trtnet.building.axes import AxisRules
from trtnet.building.plan import Plan
from trtnet.detection.reading import SUPPRESSED, format_of, require_converged
from trtnet.engines.arrays import View, as_result, view
from trtnet.engines.device import Device
from trtnet.engines.forking import require_process
from trtnet.engines.loading import load_engine
from trtnet.engines.metrics import SessionMetrics
from trtnet.engines.pool import Lease, Pool
from trtnet.engines.protocol import Engine, LoadOptions, LostWeightsError, PreparedRefit
from trtnet.engines.signature import Fit, Signature
from trtnet.engines.slot import ExecutionSlot
from trtnet.engines.steps import Steps
from trtnet.errors import PlanError, UsageError
from trtnet.escaping import printable
from trtnet.files.uninterrupted import uninterrupted
from trtnet.workers import ordered_map

if TYPE_CHECKING:
    from trtnet.building.new_weights import Calibration

_GRAPHS = 4  # sets of shapes per execution slot that keep a context and a CUDA graph
_COPIES = 3  # items of map() that are copied in or out while another is computed
_REMEMBERED = 1024  # sets of shapes whose check is not repeated


def _new_slot(engine: Engine, device: Device, graphs: int) -> ExecutionSlot:
    return device.aside(lambda: ExecutionSlot(engine, device, graphs))


class Session:
    """An engine ready to run, on any of the backends.

    Args:
        plan: a :class:`trtnet.Plan`, or the path of an engine file.
        backend: ``"tensorrt"``, ``"rtx"`` or ``"torch"``; ``"auto"`` takes the plan's.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"auto"`` takes the first GPU if there is
            one. Only the torch backend runs on a CPU.
        cuda_graph: launch captured CUDA graphs for the shapes used last. Arrays on the GPU are
            then copied to and from the graph's memory, unless they come again and get a graph of
            their own; without graphs the engine works on them directly.
        contexts: how many threads may execute at the same time; further ones wait.
        compile: hand the network to ``torch.compile`` (torch backend only).
        runtime: what runs an engine of the torch backend on a CPU: ``"torch"``, or ``"openvino"``
            (the extra ``cpu``), which is faster and has only some of the layers, in float32; or
            ``"auto"``: OpenVINO where it is installed and has all that the network needs.
            Of the tensorrt backend ``"lean"`` (the extra ``lean``, 44 MB) runs engines that were
            built with ``version_compatible``; ``"dispatch"`` runs the runtime in them; ``"auto"``
            takes full TensorRT where it is installed, and otherwise the lean runtime.
        optimization_level: on a GPU, how much the torch backend times when it first captures a CUDA
            graph for some input shapes: 0 for nothing, 1 to 5 for 1, 2, 4, 8 or all tactics of each
            region of the network; ``None`` for 3. trtexec's ``--builderOptimizationLevel``.
        timing_cache: a file in which it keeps what it found, for the same GPU and versions:
            names and times, no code. trtexec's ``--timingCacheFile``.
        metrics: is told of every call, and of those that :meth:`map` makes: such as
            :class:`trtnet.serving.metrics.PrometheusMetrics`; ``None`` for nobody.
        runtime_cache: the file in which TensorRT-RTX keeps the kernels that it compiles for this
            GPU, which are code; ``None`` for ``<engine file>.cache``.
        engine_host_code_allowed: whether the runtime that a version-compatible engine of TensorRT
            brings may be loaded, which is code: for engines that you trust.

    A session belongs to the process that opened it. An interrupt may come at any moment of a call:
    the next call finds the session as if the interrupted one had not been made.

    Attributes:
        plan: that it runs; another one after :meth:`refit`.
        backend, device: which were chosen.
        runtime: what runs the engine, such as ``"torch 2.14.1, 2 threads"``.
        inputs, outputs: :class:`trtnet.engines.protocol.Binding`, in the network's order.
        profiles: per optimization profile, :class:`trtnet.Shapes` by input.
        notes: what is not as it was asked for, such as a timing cache of another GPU, in sentences;
            each is a ``RuntimeWarning`` too.

    Raises:
        UsageError: an option that does not exist, or that would have no effect here.
        PlanError: the plan is damaged, or was made for another backend, version or GPU.
        BackendError: the backend, or cuda-python, is not installed.
        ExecutionError: the device cannot load the engine.

    >>> import numpy, trtnet
    >>> from trtnet import nn
    >>> net = trtnet.Network(backend="torch")
    >>> _ = net.output("y", nn.ReLU()(net.input("x", (2, 3))))
    >>> with trtnet.Session(trtnet.build(net), device="cpu") as session:
    ...     session(numpy.array([[-1, 0, 1]] * 2, "float32"))["y"].tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        plan: Plan | str | os.PathLike[str],
        *,
        backend: str = "auto",
        device: str = "auto",
        cuda_graph: bool = True,
        contexts: int = 4,
        compile: bool = False,
        runtime: str = "torch",
        optimization_level: int | None = None,
        timing_cache: str | os.PathLike[str] | None = None,
        metrics: SessionMetrics | None = None,
        runtime_cache: str | os.PathLike[str] | None = None,
        engine_host_code_allowed: bool = False,
    ) -> None:
        if contexts < 1:
            raise UsageError("a session needs at least one context", got=contexts)
        self._process, self._metrics = os.getpid(), metrics
        self.plan = plan if isinstance(plan, Plan) else Plan.load(plan)
        path = None if isinstance(plan, Plan) else plan
        options = LoadOptions(
            backend=backend,
            path=path,
            cuda_graph=cuda_graph,
            compile=compile,
            runtime=runtime,
            optimization_level=optimization_level,
            timing_cache=timing_cache,
            runtime_cache=runtime_cache,
            engine_host_code_allowed=engine_host_code_allowed,
        )
        self._engine, self._device = load_engine(self.plan, device, options)
        self.backend, self.device = self._engine.backend, self._engine.device
        # engines of backends that another distribution brings may say nothing of it
        self.runtime: str = getattr(self._engine, "runtime", self.backend)
        self.inputs, self.outputs = (
            tuple(b for b in self._engine.bindings if b.is_input == is_input)
            for is_input in (True, False)
        )
        self._suppresses = format_of({b.name: b.shape for b in self.outputs}) in SUPPRESSED
        self.profiles = self._engine.profiles
        self._signature = Signature(self.inputs, self.profiles, self._axes())
        graphs = _GRAPHS if cuda_graph else 0
        self._slots = Pool(partial(_new_slot, self._engine, self._device, graphs), contexts)
        self._fits: dict[Any, Fit] = {}
        self._closing, self._is_closed = threading.Lock(), False
        self._refitting = threading.Lock()
        self.notes: tuple[str, ...] = getattr(self._engine, "notes", ())
        self._warn()

    def _warn(self) -> None:
        """Warns of what is in `notes`; closes the session where warnings are errors."""
        try:
            for note in self.notes:
                warnings.warn(printable(note), RuntimeWarning, stacklevel=3)
        except RuntimeWarning:
            self.close()
            raise

    def _axes(self) -> AxisRules:
        """The named axes of the plan; releases the engine where they do not fit it."""
        ranks = {binding.name: len(binding.shape) for binding in self.inputs}
        try:
            return AxisRules.stated(self.plan.described.axes, ranks)
        except PlanError:
            self._engine.close()
            self._device.close()
            raise

    def __call__(self, *arrays: Any, **named: Any) -> dict[str, Any]:
        """Executes the engine.

        Args:
            arrays: inputs in the network's order, or one mapping from name to array.
            named: inputs by name.

        Returns:
            Every output by name: numpy arrays for numpy arrays, torch tensors for torch tensors,
            and for other GPU arrays a :class:`trtnet.engines.arrays.CudaArray`. For GPU arrays
            the work is enqueued on their library's current stream. An engine with one fixed batch
            size takes other sizes too; they are executed in several chunks.

        Raises:
            ShapeError: names the input, what the engine takes and what came.
            OutOfMemoryError: with the sizes; the session can still be used.
            ExecutionError: the execution failed, the session is closed, or this is a process that
                was forked from the session's own; a detector's suppression has not converged, which
                outputs on a GPU say themselves, see :mod:`trtnet.detection.formats`.
        """
        if self._metrics is None:
            return self._execute(self._views(arrays, named))
        return self._counted(self._metrics, lambda: self._views(arrays, named))

    def map(self, items: Iterable[Any]) -> Generator[dict[str, Any], None, None]:
        """Executes the engine on each of `items`, in order; copies overlap with executions.

        Args:
            items: each an array, a tuple of arrays, or a mapping from name to array. The iterator
                is advanced at most five items ahead of the results.

        Yields:
            What calling the session gives. An exception of `items` or of an execution is raised
            after the results of the items before it.
        """
        ahead = _COPIES + 1 if self.device == "cuda" else 1

        def execute(views: dict[str, View]) -> dict[str, Any]:
            if self._metrics is None:
                return self._execute(views)
            return self._counted(self._metrics, lambda: views)

        return ordered_map(execute, map(self._views_of, items), ahead)

    def refit(self, state: Mapping[str, Any], *, calibration: Calibration | None = None) -> None:
        """Gives the running engine other weights, as :meth:`trtnet.Plan.refit` does; :attr:`plan`
        is then the new plan. Each call of the session is executed with the old weights or with the
        new ones, never with some of both: calls that have begun end first, later ones wait for the
        moment in which the values are exchanged. Where something fails, the old weights stay; where
        TensorRT cannot set those again either, the session executes nothing any more.

        Captured CUDA graphs stay what they are, the values change in their memory; where more than
        values of tensors differs, as with other INT8 scales, they are captured again.

        Args:
            state, calibration: see :meth:`trtnet.Plan.refit`.

        Raises:
            PlanError, WeightsError: as :meth:`trtnet.Plan.refit`.
            UnsupportedError: engines of the backend cannot change while they are loaded.
            ExecutionError: the session is closed, or there is too little memory for both.
            UsageError: in the block of :meth:`lane` of this thread, which would wait for itself.
        """
        from trtnet.engines import refitting  # needs msgspec

        require_process(self._process)
        self._slots.require_none_here()
        with self._refitting:
            prepared, about = refitting.prepare(
                self._engine, self._device, self.plan, state, calibration
            )
            with self._slots.exclusive():
                uninterrupted(lambda stopped: self._refit(prepared, about))

    def _refit(self, prepared: PreparedRefit, about: Callable[[bytes], Plan]) -> None:
        def apply() -> bytes:
            self._device.synchronize()  # results on a GPU may still be computed
            return prepared.apply()

        self._device.activate()
        try:
            engine = self._device.aside(apply)
        except LostWeightsError:
            self._slots.refuse()
            raise
        try:
            self.plan = about(engine)
        finally:
            if not prepared.keeps_contexts:
                self._device.aside(self._slots.renew)

    @contextmanager
    def lane(self) -> Iterator[Steps]:
        """The steps of an execution one by one, to measure them. No other thread uses the stream
        and the memory of these steps meanwhile. What waits for them to end, as :meth:`refit` and
        :meth:`close` do, raises UsageError in this thread."""
        require_process(self._process)
        lease = Lease()
        try:
            try:
                slot = self._slots.take(lease)
                self._device.activate()
                slot.begin({})
                yield Steps(slot, self._engine.bindings, self._signature)
                slot.end()
            finally:
                lease.is_held = False
        finally:
            lease.is_held = False  # as in _execute()
            self._slots.wake()

    def close(self) -> None:
        """Waits for calls in other threads and releases everything. A call that was interrupted is
        completed by the next one; one after that does nothing, nor does one in a forked process.

        Raises:
            UsageError: in the block of :meth:`lane` of this thread, which would wait for itself.
        """
        if os.getpid() != self._process:
            return
        self._slots.require_none_here()
        with self._closing:
            if self._is_closed:
                return
            errors = []
            for part in (self._slots, self._engine, self._device):
                try:
                    part.close()
                except Exception as error:  # the others are closed all the same
                    errors.append(error)
            self._is_closed = True
        if errors:
            raise errors[0]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _views_of(self, item: Any) -> dict[str, View]:
        return self._views(item if isinstance(item, tuple) else (item,), {})

    def _views(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, View]:
        if len(arrays) == 1 and not named:
            (only,) = arrays
            if isinstance(only, Mapping):
                return self._views((), only)
            if len(self.inputs) == 1:  # most calls
                name = self.inputs[0].name
                return {name: view(name, only)}
        return {n: view(n, x) for n, x in self._signature.name(arrays, named).items()}

    def _counted(
        self, metrics: SessionMetrics, views_of: Callable[[], dict[str, View]]
    ) -> dict[str, Any]:
        """A call that `metrics` is told of."""
        started = time.perf_counter()
        taken: list[float] = []
        try:
            views = views_of()
            found = self._execute(views, lambda: taken.append(time.perf_counter()))
        except Exception as error:
            metrics.call_failed(type(error).__name__)
            raise
        shape = next((view.shape for view in views.values()), ())
        metrics.call_ended(
            shape[0] if shape else 1, taken[0] - started, time.perf_counter() - started
        )
        return found

    def _execute(
        self, views: dict[str, View], taken: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """The outputs. `taken` is called when a context has been taken."""
        require_process(self._process)
        fit = self._fit(views)
        lease = Lease()
        try:
            try:
                slot = self._slots.take(lease)
                if taken is not None:
                    taken()
                self._device.activate()
                results = slot.run(views, fit)
            finally:
                lease.is_held = False
        finally:
            lease.is_held = False  # again: in Python 3.10 an interrupt can come before the first
            self._slots.wake()
        arrays = {name: as_result(result) for name, result in results.items()}
        if self._suppresses and not any(result.on_gpu for result in results.values()):
            require_converged(arrays)
        return arrays

    def _fit(self, views: dict[str, View]) -> Fit:
        key = tuple([(x.shape, x.dtype, x.kind) for x in views.values()])
        fit = self._fits.get(key)
        if fit is None:
            fit = self._signature.fit(views)
            if len(self._fits) >= _REMEMBERED:
                self._fits.clear()
            self._fits[key] = fit
        return fit
