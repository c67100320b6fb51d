"""MixableNetwork: a network that can be defined in any mix of precisions, and its cost."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trtnet import graph
from trtnet.errors import UsageError
from trtnet.graph import Gpu, Graph
from trtnet.precision.policy import Explanation, Policy
from trtnet.precision.table import HALF, QUANTIZED, TABLE
from trtnet.quantization.table import DEFAULT_METHOD

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.quantization import CalibrationTable
    from trtnet.quantization.running import Progress
    from trtnet.search.data import Data

TARGETS = (*QUANTIZED, *HALF)
# Kinds whose precision follows from the module before them; a pooling is quantized after
# quantized layers only, and then always.
NOT_ALONE = ("", "batch_norm", "pooling")


@dataclass(frozen=True)
class MixableNetwork:
    """A network whose modules can be changed to another precision one by one.

    Args:
        define: makes the network, outputs marked, under a policy and (``None`` for none) with a
            calibration; it is called often.
        to: the precision to change modules to, one of :data:`TARGETS`: a quantized one, or one of
            half precision.
        base: the precision of what quantized modules give, and of the other modules; where `to`
            is not quantized, the others compute in ``fp32``.
        gpu: whose roofline gives times; a name of :func:`trtnet.graph.gpus` or a
            :class:`trtnet.graph.Gpu`.
        calibration: for quantized precisions; :meth:`calibrated` makes it.

    Raises:
        UsageError: a precision that modules cannot be changed to, or an unknown GPU.
    """

    define: Callable[[Policy, CalibrationTable | None], Network]
    to: str = "int8"
    base: str = "fp16"
    gpu: Gpu | str = "l40s"
    calibration: CalibrationTable | None = None

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise UsageError(
                "modules cannot be changed to this precision",
                expected=", ".join(TARGETS),
                got=self.to,
            )
        self.ceilings.flops_in(TABLE[self.to].product_rate)

    @cached_property
    def ceilings(self) -> Gpu:
        """The GPU's figures."""
        return graph.find_gpu(self.gpu)

    @property
    def rest(self) -> str:
        """The precision of the modules that are not changed."""
        return self.base if self.to in QUANTIZED else "fp32"

    @cached_property
    def candidates(self) -> tuple[Explanation, ...]:
        """The modules that can be changed, in the order of the model.

        Raises:
            UsageError: there are none.
        """
        policy = Policy(self.to, base=self.base)
        rows = policy.explain(self.define(policy, None))
        found = [row for row in rows if row.precision == self.to and row.kind not in NOT_ALONE]
        if not found:
            raise UsageError(f"the model has no module that can be {self.to}")
        return tuple(found)

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the candidates."""
        return tuple(row.module for row in self.candidates)

    # Policies

    def policy(self, changed: Iterable[str]) -> Policy:
        """The policy that changes the modules `changed` and no others."""
        chosen = set(changed)
        wanted = {m: self.to if m in chosen else self.rest for m in self.modules}
        return Policy(self.to, keep=_exceptions(wanted, self.to), base=self.base)

    def alone(self, module: str) -> Policy:
        """The policy that changes one module of a network that is all FP32."""
        wanted = {m: self.to if m == module else "fp32" for m in self.modules}
        return Policy("fp32", keep=_exceptions(wanted, "fp32"), base="fp32")

    # Networks

    def graph(self, policy: Policy) -> Graph:
        """The network under `policy`, read back."""
        known = self.calibration if policy.uses(*QUANTIZED) else None
        return graph.read(self.define(policy, known).definition)

    @cached_property
    def in_fp32(self) -> Graph:
        """The network in FP32, its tensors called as in the others."""
        return graph.read(self._plain.definition)

    @property
    def weights_sha256(self) -> str:
        """:attr:`trtnet.Network.weights_sha256` of the network."""
        return self._plain.weights_sha256

    @cached_property
    def _plain(self) -> Network:
        policy = Policy(self.to, base="fp32") if self.to in QUANTIZED else Policy("fp32")
        return self.define(policy, None)

    def calibrated(
        self, data: Data, method: str = DEFAULT_METHOD, progress: Progress | None = None
    ) -> MixableNetwork:
        """This network with the calibration that it needs; itself if it needs none.

        Args:
            method: one of :data:`trtnet.quantization.METHODS`.
            progress: see :func:`trtnet.quantization.calibrate`.
        """
        if self.to not in QUANTIZED:
            return self
        from trtnet.quantization import calibrate

        found = calibrate(self.in_fp32, self.observed, data.batches, progress=progress)
        table = found.table(method, weights_sha256=self.weights_sha256, precision=self.to)
        return dataclasses.replace(self, calibration=table)

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """Names of the tensors that need a range, whatever modules are changed."""
        policies = (Policy(self.to, base=self.base), *map(self.alone, self.modules))
        found = (self.define(policy, None).observed for policy in policies)
        return tuple(dict.fromkeys(name for names in found for name in names))

    def seconds(self, read: Graph) -> float:
        """The least time `read` takes on the GPU, by its roofline."""
        return graph.cost(read).bound(self.ceilings).seconds

    def in_order(self, modules: Collection[str]) -> tuple[str, ...]:
        """`modules` in the order of the model."""
        return tuple(module for module in self.modules if module in modules)


def _exceptions(wanted: Mapping[str, str], compute: str) -> dict[str, str]:
    """`wanted`, module to precision, as patterns: a module is named only where it does not get
    that from `compute` or a module above it."""
    keep: dict[str, str] = {}
    for module, precision in wanted.items():
        above = [path for path in keep if module.startswith(f"{path}.")]
        if precision != (keep[max(above, key=len)] if above else compute):
            keep[module] = precision
    return {glob.escape(path): precision for path, precision in keep.items()}
