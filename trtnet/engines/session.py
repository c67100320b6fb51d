"""Session: an engine that can be called like a function."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from trtnet.building.plan import Plan
from trtnet.engines.arrays import View, given, view
from trtnet.engines.lane import Lane
from trtnet.engines.loading import load_engine
from trtnet.engines.pipeline import in_order
from trtnet.engines.pool import Pool
from trtnet.engines.signature import Fit, Signature
from trtnet.engines.steps import Steps
from trtnet.errors import UsageError

_GRAPHS = 4  # sets of shapes per lane that keep a context and a CUDA graph
_COPIES = 3  # items of map() that are copied in or out while another is computed
_REMEMBERED = 1024  # sets of shapes whose check is not repeated


class Session:
    """An engine ready to run, on any of the backends.

    Args:
        plan: a :class:`trtnet.Plan`, or the path of an engine file.
        backend: ``"tensorrt"``, ``"rtx"`` or ``"torch"``; ``"auto"`` asks the plan.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"auto"`` takes the first GPU if there is
            one. Only the torch backend runs on a CPU.
        cuda_graph: launch captured CUDA graphs for the shapes used last. Arrays on the GPU are
            then copied to and from the graph's memory; without graphs the engine works on them
            directly.
        contexts: how many threads may execute at the same time; further ones wait.
        compile: hand the network to ``torch.compile`` (torch backend only).

    Attributes:
        backend, device: which were chosen.
        inputs, outputs: :class:`trtnet.engines.protocol.Binding`, in the network's order.
        profiles: per optimization profile, :class:`trtnet.Shapes` by input.

    Raises:
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
    ) -> None:
        if contexts < 1:
            raise UsageError("a session needs at least one context", got=contexts)
        self.plan = plan if isinstance(plan, Plan) else Plan.load(plan)
        self._engine, self._device = load_engine(
            self.plan,
            None if isinstance(plan, Plan) else plan,
            backend=backend,
            device=device,
            cuda_graph=cuda_graph,
            compile=compile,
        )
        self.backend, self.device = self._engine.backend, self._engine.device
        self.inputs, self.outputs = (
            tuple(b for b in self._engine.bindings if b.is_input == is_input)
            for is_input in (True, False)
        )
        self.profiles = self._engine.profiles
        self._signature = Signature(self.inputs, self.profiles)
        graphs = _GRAPHS if cuda_graph else 0
        self._lanes = Pool(lambda: Lane(self._engine, self._device, graphs), contexts)
        self._fits: dict[Any, Fit] = {}
        self._closing = threading.Lock()
        self._closed = False

    def __call__(self, *arrays: Any, **named: Any) -> dict[str, Any]:
        """Executes the engine.

        Args:
            arrays: inputs in the network's order, or one mapping from name to array.
            named: inputs by name.

        Returns:
            Every output by name: numpy arrays for numpy arrays, torch tensors for torch tensors,
            and for other GPU arrays a :class:`trtnet.engines.arrays.CudaArray`. For GPU arrays
            the work is enqueued on the stream their library works on. An engine with one fixed
            batch size takes other sizes too, in pieces.

        Raises:
            ShapeError: names the input, what the engine takes and what came.
            OutOfMemoryError: with the sizes; the session can still be used.
            ExecutionError: the execution failed, or the session is closed.
        """
        return self._execute(self._views(arrays, named))

    def map(self, items: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Executes the engine on each of `items`, in order, while copies go on beside it.

        Args:
            items: each an array, a tuple of arrays, or a mapping from name to array. They are
                taken a few ahead of the results.

        Yields:
            What calling the session gives. Whatever `items` or an execution raises comes out
            behind the results of the items before it.
        """
        ahead = _COPIES + 1 if self.device == "cuda" else 1
        return in_order(self._execute, map(self._views_of, items), ahead)

    @contextmanager
    def lane(self) -> Iterator[Steps]:
        """The steps of an execution one by one, to measure them."""
        lane = self._lanes.take()
        try:
            self._device.activate()
            yield Steps(lane, self._engine.bindings, self._signature)
        finally:
            self._lanes.give(lane)

    def close(self) -> None:
        """Waits for calls in other threads and releases everything; can be called again."""
        with self._closing:
            if not self._closed:
                self._closed = True
                with ExitStack() as closing:  # in reverse; all of them, also if one fails
                    for part in (self._device, self._engine, self._lanes):
                        closing.callback(part.close)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _views_of(self, item: Any) -> dict[str, View]:
        return self._views(item if isinstance(item, tuple) else (item,), {})

    def _views(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, View]:
        if len(arrays) == 1 and not named and isinstance(arrays[0], Mapping):
            return self._views((), arrays[0])
        return {n: view(n, x) for n, x in self._signature.name(arrays, named).items()}

    def _execute(self, views: dict[str, View]) -> dict[str, Any]:
        fit = self._fit(views)
        lane = self._lanes.take()
        try:
            self._device.activate()
            results = lane.run(views, fit)
        finally:
            self._lanes.give(lane)
        return {name: given(result) for name, result in results.items()}

    def _fit(self, views: dict[str, View]) -> Fit:
        key = tuple([(x.shape, x.dtype, x.kind) for x in views.values()])
        fit = self._fits.get(key)
        if fit is None:
            fit = self._signature.fit(views)
            if len(self._fits) >= _REMEMBERED:
                self._fits.clear()
            self._fits[key] = fit
        return fit
