"""The weights that an engine gets of another state_dict, and what prevents it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np

from trtnet.building.recipes import digest, keys_of
from trtnet.building.refit_report import RefitReport
from trtnet.building.stated_refit import StatedKey, StatedRefit, StatedWeight
from trtnet.dtypes import DType, dtype_of, to_storage
from trtnet.errors import PlanError, TrtnetError, UsageError
from trtnet.finite import require_in_range, require_representable
from trtnet.names import nearest
from trtnet.recipes.evaluation import evaluate, key_array
from trtnet.recipes.steps import RANGE, Step
from trtnet.weights import fitted
from trtnet.weights.container import Weights, combined_sha256, data_sha256
from trtnet.weights.places import Place
from trtnet.workers import ordered_map


class Calibration(Protocol):
    """The ranges of activations, such as a :class:`trtnet.quantization.CalibrationTable`."""

    def amax(self, name: str) -> float:
        """The range of the tensor `name`."""

    def require_weights(self, sha256: str) -> None:
        """Refuses other weights than those it was made with."""


@dataclass(frozen=True)
class NewWeights:
    """What an engine gets.

    Attributes:
        report: what becomes of each key.
        arrays: layer and role of each weight that changes, to its values as the engine stores
            them: see :func:`trtnet.dtypes.to_storage`.
        keys: the new entries of the sidecar's keys.
        amax: the new ranges, by tensor.
    """

    report: RefitReport
    arrays: Mapping[tuple[str, str], np.ndarray]
    keys: Mapping[str, StatedKey]
    amax: Mapping[str, float]


def new_weights(
    stated: StatedRefit,
    state: Mapping[str, Any],
    calibration: Calibration | None = None,
    every: bool = False,
) -> NewWeights:
    """Compares `state` with what the engine was built with, and computes what changes.

    Args:
        stated: of the engine.
        state: arrays or tensors by key; prefixes that wrappers add are dropped.
        calibration: made with these weights, for an engine with INT8 or FP8 activations.
        every: compute every weight that may be replaced, once something has changed.

    Raises:
        PlanError: recipes that cannot be followed.
        WeightsError: values that are no numbers.
    """
    return _Comparison(stated, state, calibration, every).found()


def places(stated: StatedRefit) -> dict[str, Place]:
    """The keys and shapes that the engine wants, as :func:`trtnet.weights.load` takes them."""
    tied = {key for key, known in stated.keys.items() if known.tied is not None}
    return {
        key: Place(tuple(known.shape), known.optional or key in tied)
        for key, known in stated.keys.items()
    }


class _Comparison:
    """One comparison of a state_dict with an engine."""

    def __init__(
        self,
        stated: StatedRefit,
        state: Mapping[str, Any],
        calibration: Calibration | None,
        every: bool,
    ) -> None:
        self._stated, self._calibration = stated, calibration
        self._every = every or stated.stripped
        self._steps = stated.plain_steps()
        self._state = _as_weights(stated, state)
        self._refused: dict[str, str] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._digests: dict[str, str] = {}

    def found(self) -> NewWeights:
        """The report, and the weights where it says that they can go in."""
        known = self._stated.keys
        given = [key for key in known if key in self._state]
        for key in given:
            self._check_key(key, known[key])
        changed = self._changed(given)
        self._check_ties(given)
        used = [key for key in changed if known[key].used or known[key].lost]
        for key in used:
            if known[key].lost is not None:
                self._refuse([key], f"{known[key].lost}")
        amax = self._ranges(used)
        if self._stated.stripped:  # it has no old values
            used = [key for key in given if known[key].used]
        arrays = {} if self._refused or self._missing() else self._compute(used, amax)
        return NewWeights(
            self._report(given, changed, used, len(arrays)),
            {} if self._refused else arrays,
            {key: _with_sha256(known[key], self._digests[key]) for key in changed
             if key in self._digests},
            amax,
        )  # fmt: skip

    def _report(
        self, given: Sequence[str], changed: Sequence[str], used: Sequence[str], count: int
    ) -> RefitReport:
        refused = self._refused
        return RefitReport(
            refittable=tuple(key for key in used if key not in refused),
            unchanged=tuple(k for k in given if k not in {*changed, *used, *refused}),
            unused=tuple(key for key in changed if key not in used and key not in refused),
            missing=self._missing(),
            unexpected=self._unexpected(),
            refused=dict(refused),
            weights=0 if refused else count,
        )

    def _missing(self) -> tuple[str, ...]:
        ties = {key for key, known in self._stated.keys.items() if known.tied is not None}
        return tuple(
            key
            for key, known in self._stated.keys.items()
            if key not in self._state and not known.optional and key not in ties
        )

    def _unexpected(self) -> tuple[str, ...]:
        return tuple(
            f"{key}{_similar(key, self._missing())}"
            for key in self._state
            if key not in self._stated.keys
            and not any(fnmatchcase(key, pattern) for pattern in self._stated.ignored)
        )

    def _check_key(self, key: str, known: StatedKey) -> None:
        """Converts the values of a key to the type that they had."""
        values = self._state[key]
        if tuple(values.shape) != tuple(known.shape):
            self._refuse([key], f"it has the shape {tuple(values.shape)}, not {tuple(known.shape)}")
            return
        is_float = known.dtype == "bfloat16" or np.dtype(known.dtype).kind == "f"
        if is_float != (values.dtype.kind == "f"):
            self._refuse([key], f"its values are {values.dtype}, not {known.dtype}")
            return
        with np.errstate(over="ignore", invalid="ignore"):
            self._arrays[key] = key_array(values, known.dtype, None)
        may_round = is_float and (known.dtype != "float16" or known.rounds)
        if not may_round and not _holds(self._arrays[key], values):
            why = (f"its values, {values.dtype}, do not fit {known.dtype}, the type of those that "
                   "the engine was built of; convert them, or build it again")  # fmt: skip
            self._refuse([key], why)

    def _changed(self, given: Sequence[str]) -> list[str]:
        names = [key for key in given if key in self._arrays]
        digests = ordered_map(lambda key: digest(self._arrays[key]), names, os.cpu_count() or 1)
        self._digests = dict(zip(names, digests, strict=True))
        known = self._stated.keys
        return [key for key in names if self._digests[key] != known[key].sha256]

    def _check_ties(self, given: Sequence[str]) -> None:
        """Refuses different values for keys that have one tensor in the engine."""
        tied = {
            key: known.tied
            for key, known in self._stated.keys.items()
            if known.tied is not None and key in self._arrays
        }
        if not tied or not self._has_all(tied.values()):
            return
        for number, array in evaluate(self._steps, tied.values(), self._key, lambda _: 1.0):
            for key, step in tied.items():
                mine = self._arrays[key]
                if step == number and digest(np.ascontiguousarray(array)) != digest(mine):
                    self._refuse([key], "it shares its values with "
                                 f"{', '.join(sorted(keys_of(self._steps, number)))} in the "
                                 "engine, and here the two differ")  # fmt: skip

    def _has_all(self, numbers: Any) -> bool:
        return all(key in self._arrays for n in numbers for key in keys_of(self._steps, n))

    def _key(self, key: str) -> np.ndarray:
        known = self._stated.keys[key]
        return key_array(self._arrays[key], self._arrays[key].dtype.name, known.strides)

    def _ranges(self, changed: Sequence[str]) -> dict[str, float]:
        """The ranges of the engine's tensors: the calibration's, or those that it has."""
        stated = {str(s.options["tensor"]): float(s.options["amax"])
                  for s in self._steps if s.op == RANGE}  # fmt: skip
        if self._calibration is None:
            if stated and changed:
                why = ("the scales of INT8 or FP8 activations were calibrated with the old "
                       "weights; give a calibration of the new ones (--calib-table, "
                       "calibration=)")  # fmt: skip
                self._refuse(changed, why)
            return stated
        if not stated:
            raise UsageError("a calibration, and an engine without INT8 or FP8 activations",
                             fix="leave it out")  # fmt: skip
        self._calibration.require_weights(self._weights_sha256())
        return {tensor: self._calibration.amax(tensor) for tensor in stated}

    def _weights_sha256(self) -> str:
        """As :attr:`trtnet.Network.weights_sha256` has it."""
        roots = self._stated.roots or [""]
        own = {key: self._state[key] for key in self._stated.keys if key in self._state}
        digests = [
            data_sha256({k.removeprefix(root): v for k, v in own.items() if k.startswith(root)})
            for root in roots
        ]
        return combined_sha256(digests)

    def _compute(
        self, changed: Sequence[str], amax: Mapping[str, float]
    ) -> dict[tuple[str, str], np.ndarray]:
        """The weights that depend on one of the keys `changed`, or on a range that has changed."""
        affected = self._affected(set(changed), amax)
        by_step: dict[int, list[StatedWeight]] = {}
        for weight in affected:
            by_step.setdefault(weight.step, []).append(weight)
        arrays: dict[tuple[str, str], np.ndarray] = {}
        for number, weights in by_step.items():
            keys = sorted(keys_of(self._steps, number))
            fixed = [weight for weight in weights if not weight.refittable]
            if fixed:
                self._refuse([k for k in keys if k in changed],
                             "the engine was built to refit other weights "
                             "(--refit-individual, refit_individual)")  # fmt: skip
        if self._refused:
            return {}
        try:
            found = evaluate(self._steps, by_step, self._key, amax.__getitem__)
            pairs = ((weight, array) for number, array in found for weight in by_step[number])

            def stored(pair: tuple[StatedWeight, np.ndarray]) -> tuple[StatedWeight, np.ndarray]:
                return pair[0], self._stored(*pair, changed)

            for weight, array in ordered_map(stored, pairs, os.cpu_count() or 1):
                arrays[weight.layer, weight.role] = array
        except PlanError:
            raise
        except TrtnetError as error:
            self._refuse(changed, f"{error.problem} ({error.got})")
        return arrays

    def _affected(self, changed: set[str], amax: Mapping[str, float]) -> list[StatedWeight]:
        depends: list[bool] = []
        for step in self._steps:
            depends.append(_is_new(step, changed, amax)
                           or any(depends[s] for s in step.of if s is not None))  # fmt: skip
        weights = self._stated.weights
        needed = [weight for weight in weights if depends[weight.step]]
        if self._every and (needed or self._stated.stripped):
            return [w for w in weights if depends[w.step] or w.refittable]
        return needed

    def _stored(
        self, weight: StatedWeight, array: np.ndarray, changed: Sequence[str]
    ) -> np.ndarray:
        dtype = dtype_of(weight.dtype)
        keys = sorted(keys_of(self._steps, weight.step))
        try:
            _require(array, dtype, weight.name or weight.layer, bool(weight.name))
        except TrtnetError as error:
            self._refuse([k for k in keys if k in changed] or keys,
                         f"{error.problem}: {error.got}")  # fmt: skip
        stored = to_storage(array, dtype)
        if stored.size != int(np.prod(weight.shape, dtype=np.int64)):
            raise PlanError(
                "a recipe gives another number of values than the engine has",
                module=weight.layer,
                expected=weight.shape,
                got=stored.shape,
                fix="build the engine again",
            )
        shaped: np.ndarray = stored.reshape(weight.shape)
        return shaped

    def _refuse(self, keys: Sequence[str], why: str) -> None:
        for key in keys:
            self._refused.setdefault(key, why)


def _is_new(step: Step, changed: set[str], amax: Mapping[str, float]) -> bool:
    if step.op == RANGE:
        return float(amax[str(step.options["tensor"])]) != float(step.options["amax"])
    return step.op == "key" and step.options["key"] in changed


def _holds(array: np.ndarray, values: np.ndarray) -> bool:
    """Whether `array` has all of `values`; what is not finite is refused elsewhere."""
    finite = np.isfinite(values)
    return bool(np.array_equal(array[finite], values[finite]))


def _require(array: np.ndarray, dtype: DType, name: str, finite: bool) -> None:
    """What a network refuses too when it is defined."""
    if dtype.is_floating_point and array.size:
        require_representable(array, dtype, name, finite=finite)
    elif dtype is not DType.BOOL and array.dtype.kind in "iu" and array.size:
        require_in_range(array, dtype, name)


def _as_weights(stated: StatedRefit, state: Mapping[str, Any]) -> Weights:
    wanted = places(stated)
    if isinstance(state, Weights) and state.flat:
        state = state.shaped({key: place.shape for key, place in wanted.items()})
    return fitted(state, wanted)


def _with_sha256(known: StatedKey, sha256: str) -> StatedKey:
    import msgspec

    return msgspec.structs.replace(known, sha256=sha256)


def _similar(key: str, others: Sequence[str]) -> str:
    close = nearest(key, others, count=1, cutoff=0.7) if len(others) < 50 else []
    return f" (the engine has {close[0]})" if close else ""
