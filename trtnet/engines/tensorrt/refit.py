"""Other weights in engines of TensorRT and TensorRT-RTX, by their Refitter.

Every weight that the sidecar knows is set, not only what changes: ``get_missing_weights()`` of
TensorRT-RTX may be empty where something is missing, and old values would stay
(https://github.com/pytorch/TensorRT/pull/4198). For the same reason names are compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import backend as backends
from trtnet.backend import Backend
from trtnet.dtypes import dtype_of
from trtnet.engines.protocol import LostWeightsError
from trtnet.engines.tensorrt.context import failure
from trtnet.errors import ExecutionError, PlanError
from trtnet.graph.weights import as_array
from trtnet.hardware import missing_gpu

if TYPE_CHECKING:
    from trtnet.building.refitting import EngineChange

_AGAIN = "build the engine again with --refit, or BuildConfig(refit=True)"
_SHOWN = 3


def refit_engine(engine: bytes, change: EngineChange) -> bytes:
    """See :class:`trtnet.building.refitting.EngineRefitter`. It needs a GPU that the engine is
    for."""
    installed = backends.load(change.backend)
    runtime = installed.runtime()
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise failure(
            installed,
            f"{installed.name} {installed.version} cannot load the engine, to refit it",
            fix=missing_gpu() or "build it again on this machine",
        )
    return LiveRefit(installed, loaded, change).apply()


class LiveRefit:
    """New weights for a loaded engine; see :class:`trtnet.engines.protocol.PreparedRefit`.

    Args:
        engine: the ``ICudaEngine``.

    Raises:
        PlanError: the engine's weights are not those that the sidecar knows.
    """

    keeps_contexts = True

    def __init__(self, backend: Backend, engine: Any, change: EngineChange) -> None:
        self._backend, self._engine, self._change = backend, engine, change
        backend.clear_errors()
        self._refitter = backend.trt.Refitter(engine, backend.logger)
        self._new = _by_name(change)
        self._check_names()
        self._held: list[np.ndarray] = []  # TensorRT keeps addresses

    def apply(self) -> bytes:
        """Sets all weights; where TensorRT refuses, the old ones are set again. Returns the bytes
        of the engine, its weights included.

        Raises:
            ExecutionError: TensorRT's words.
            LostWeightsError: it refuses the old ones too.
        """
        old = {} if self._change.was_stripped else self._snapshot()
        try:
            self._put(self._new)
            return _serialized(self._backend, self._engine, self._change.excludes_runtime)
        except Exception as error:
            if old:
                self._put_again(old)
            if isinstance(error, ExecutionError):
                error.fix = error.fix or "the engine has its old weights; " + _AGAIN
            raise

    def _put_again(self, old: Mapping[str, tuple[np.ndarray, str]]) -> None:
        try:
            self._put(old)
        except Exception as error:
            raise LostWeightsError(
                "the engine has neither its old weights nor the new ones",
                got=error,
                fix="close the session, and open another one",
            ) from error

    def _check_names(self) -> None:
        """Compares the names that the engine has with those of the sidecar, and their sizes."""
        refitter, known = self._refitter, set(self._refitter.get_all_weights())
        absent = sorted(set(self._new) - known)
        further = sorted(known - set(self._new)) if self._change.was_stripped else []
        if absent or further:
            raise PlanError(
                "the engine's weights are not those that its sidecar knows",
                expected=f"{len(self._new)} weights",
                got=f"{len(known)}; "
                + "; ".join(
                    f"{word}: {', '.join(names[:_SHOWN])}"
                    for word, names in (("not in the engine", absent), ("only there", further))
                    if names
                ),
                fix=_AGAIN,
            )
        for name, (array, dtype) in self._new.items():
            wanted = refitter.get_weights_prototype(name)
            kind = dtype_of(dtype).of(self._backend.trt)
            if (wanted.dtype, wanted.size) != (kind, array.size):
                raise PlanError(
                    "a weight of the engine has another size or type than the sidecar says",
                    module=name,
                    expected=f"{wanted.size} of {wanted.dtype}",
                    got=f"{array.size} of {kind}",
                    fix=_AGAIN,
                )

    def _snapshot(self) -> dict[str, tuple[np.ndarray, str]]:
        return {
            name: (np.array(as_array(self._refitter.get_named_weights(name), name)), dtype)
            for name, (_, dtype) in self._new.items()
        }

    def _put(self, weights: Mapping[str, tuple[np.ndarray, str]]) -> None:
        trt, refitter = self._backend.trt, self._refitter
        for name, (array, dtype) in weights.items():
            held = np.asarray(array, order="C")
            self._held.append(held)
            given = trt.Weights(dtype_of(dtype).of(trt), held.ctypes.data, held.size)
            if not refitter.set_named_weights(name, given):
                raise failure(self._backend, "TensorRT refuses a weight", module=name)
        missing = refitter.get_missing_weights()
        if missing:
            raise failure(
                self._backend,
                "TensorRT needs further weights to refit the engine",
                got=", ".join(missing[:_SHOWN]),
            )
        if not refitter.refit_cuda_engine():
            raise failure(self._backend, "TensorRT could not refit the engine")


def _by_name(change: EngineChange) -> dict[str, tuple[np.ndarray, str]]:
    """The new values and their types, by the names that the builder gave the weights."""
    found = {}
    for weight in change.stated.weights:
        array = change.arrays.get((weight.layer, weight.role))
        if array is not None and weight.refittable:
            found[weight.weights_name] = array, weight.dtype
    return found


def _serialized(backend: Backend, engine: Any, excludes_runtime: bool) -> bytes:
    """The bytes of `engine` with its weights, which TensorRT leaves out of a stripped engine unless
    it is told, and still refittable."""
    flags = backend.trt.SerializationFlag
    config = engine.create_serialization_config()
    config.clear_flag(flags.EXCLUDE_WEIGHTS)
    if backend.has("include_refit"):
        config.set_flag(flags.INCLUDE_REFIT)
    if excludes_runtime:
        config.set_flag(flags.EXCLUDE_LEAN_RUNTIME)
    made = engine.serialize_with_config(config)
    if made is None:
        raise failure(backend, "TensorRT cannot serialize the refitted engine")
    return bytes(made)
