"""PresentMix: a network under a given policy, whose lowered modules can be set back one by one."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from trtnet.errors import UsageError
from trtnet.precision.policy import SAFE_KINDS, Explanation, Policy
from trtnet.precision.table import HALF, QUANTIZED
from trtnet.search.mixable_network import NOT_ALONE, TARGETS, MixableNetwork


@dataclass(frozen=True)
class PresentMix(MixableNetwork):
    """A network under the policy `given`; :func:`of` makes one.

    Its candidates are the modules that `given` quantizes or, where it quantizes nothing, computes
    in half precision. :func:`trtnet.search.sensitivity` measures each of them alone, and
    :func:`trtnet.search.ablate` the mix without it.

    Args:
        given: the policy.
    """

    given: Policy = field(default_factory=Policy)

    @cached_property
    def candidates(self) -> tuple[Explanation, ...]:
        """The lowered modules, in the order of the model.

        Raises:
            UsageError: there are none.
        """
        lowered = QUANTIZED if self.to in QUANTIZED else HALF
        rows = [row for row in self._explained if row.kind not in NOT_ALONE]
        found = tuple(row for row in rows if row.precision in lowered)
        if not found:
            raise UsageError(f"the policy computes no module in {' or '.join(lowered)}")
        return found

    @cached_property
    def _explained(self) -> tuple[Explanation, ...]:
        return tuple(self.given.explain(self.define(self.given, None)))

    def policy(self, changed: Iterable[str]) -> Policy:
        """The given policy with all candidates but `changed` set back."""
        chosen, back = set(changed), set[str]()
        keep = dict(self.given.keep)
        for row in self.candidates:
            if row.module not in chosen:
                back.add(row.module)
                _last(keep, row.module, self.rest)
            elif any(row.module.startswith(f"{path}.") for path in back):
                _last(keep, row.module, row.precision)
        return dataclasses.replace(self.given, keep=keep, budget=None)

    def alone(self, module: str) -> Policy:
        """The policy that lowers one module of a network that is all FP32."""
        row = next(row for row in self.candidates if row.module == module)
        inside = [one for one in self._explained if one.module.startswith(f"{module}.")]
        keep: dict[str, str] = {}
        for other in self._explained:
            if other.kind == row.kind and other.module != module:
                _last(keep, other.module, "fp32")
        _last(keep, module, row.precision)
        for other in inside:
            _last(keep, other.module, "fp32")
        kinds = dict(SAFE_KINDS)
        if self.given.kinds.get(row.kind) == row.precision:
            kinds[row.kind] = row.precision
        return Policy("fp32", keep=keep, base="fp32", kinds=kinds)


def of(policy: Policy, network: MixableNetwork) -> PresentMix:
    """`network` under `policy`.

    Args:
        policy: what computes in INT8, FP8, FP16 or BF16.
        network: how it is defined, its GPU and calibration; its precisions are not used.

    Raises:
        UsageError: see :func:`lowered_to`.
    """
    to, base = lowered_to(policy), policy.base
    return PresentMix(network.define, to, base, network.gpu, network.calibration, given=policy)


def lowered_to(policy: Policy) -> str:
    """The precision of the modules that `policy` lowers.

    Raises:
        UsageError: it lowers nothing whose error can be measured.
    """
    to = policy.calibrated_for or policy.coarsest
    if to in TARGETS:
        return to
    raise UsageError(
        "the policy lowers no module whose error could be measured",
        expected=f"one that computes in {', '.join(TARGETS)}",
        got=str(policy),
        fix="leave the data out, or give another policy",
    )


def _last(keep: dict[str, str], module: str, precision: str) -> None:
    """Names `module` after all patterns so far: the last that matches wins."""
    pattern = glob.escape(module)
    keep.pop(pattern, None)
    keep[pattern] = precision
