"""The networks that ``tools/accuracy.py`` measures: one trained model in many precisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from accuracy_data import BATCH, Task

import trtnet
from trtnet import zoo
from trtnet.graph import Graph, read
from trtnet.network.quantizer import Ranges
from trtnet.precision.table import QUANTIZED, TENSOR_TYPES
from trtnet.quantization import METHODS, Calibration, calibrate
from trtnet.search import MixableNetwork, search
from trtnet.search.journal import SearchJournal

MIX_METHOD = "mse"  # what a mix of precisions is calibrated with
_PRODUCTS = ("convolution", "deconvolution", "linear", "attention")


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        label: for people.
        precision: what :attr:`Task.limits` calls it.
        policy: what each module computes in.
        method: of calibration; ``""`` where nothing has to be calibrated.
    """

    label: str
    precision: str
    policy: trtnet.Policy
    method: str = ""


@dataclass(frozen=True)
class Zoo:
    """Makes the networks of one task.

    Args:
        task: whose model and weights.
        backend: that defines them.
        device: where images run to calibrate them: ``"cpu"`` or ``"cuda"``.
    """

    task: Task
    backend: str
    device: str
    _calibrations: dict[tuple[str, ...], Calibration] = field(default_factory=dict)

    def define(
        self, policy: trtnet.Policy, ranges: Ranges | None = None, batch: int | str = "N"
    ) -> trtnet.Network:
        """The network under `policy`; an observing one where it lacks the `ranges` it needs."""
        entry = zoo.get_entry(self.task.model)
        model = entry.build()
        model.load_state_dict(self.task.load())
        network = trtnet.Network(self.backend, precision=policy, calibration=ranges)
        assert entry.input_shape is not None, self.task.model
        network.output("logits", model(network.input("input", (batch, *entry.input_shape))))
        return network

    def graph(self, variant: Variant) -> Graph:
        """The network of `variant`, read back."""
        network = self.define(variant.policy)
        if variant.method:
            table = self._calibrated(read(network.definition), network.observed).table(
                variant.method,
                weights_sha256=network.weights_sha256,
                precision=variant.policy.calibrated_for or QUANTIZED[0],
            )
            network = self.define(variant.policy, table)
        return read(network.definition)

    def mix(self, policy: trtnet.Policy, origin: str) -> Variant:
        """A policy of several precisions, as a variant; `origin` says in words where it is from."""
        rows = [row for row in policy.explain(self.define(policy)) if row.kind in _PRODUCTS]
        low = sum(row.precision in QUANTIZED for row in rows)
        method = MIX_METHOD if policy.uses(*QUANTIZED) else ""
        label = f"mix, {origin}: {low} of {len(rows)} quantized"
        return Variant(label, "searched", policy, method)

    def searched(self, budgets: Iterable[str]) -> list[Variant]:
        """The fastest mix of FP16 and INT8 within each of `budgets` on the calibration images."""
        subject = MixableNetwork(partial(self.define, batch=BATCH))  # costs depend on the batch
        data = self.task.calibration(subject.in_fp32)
        subject = subject.calibrated(data, MIX_METHOD)
        journal = SearchJournal(None, "")  # measurements for one budget are reused for the next
        found = {text: search(subject, data, text, journal=journal).policy for text in budgets}
        return [self.mix(policy, f"`{text}`") for text, policy in found.items()]

    def _calibrated(self, graph: Graph, observed: tuple[str, ...]) -> Calibration:
        """The calibration of one pass over the images, which serves all methods."""
        if observed not in self._calibrations:
            images = self.task.calibration(graph).batches
            found = calibrate(graph, observed, images, device=self.device)
            self._calibrations[observed] = found
        return self._calibrations[observed]


def variants() -> list[Variant]:
    """Every precision, FP32 first."""
    floats = [Variant(name.upper(), name, trtnet.Policy.preset(name)) for name in TENSOR_TYPES]
    quantized = [
        Variant(name.upper(), name, trtnet.Policy.preset(name), method)
        for name in QUANTIZED
        for method in METHODS
    ]
    return [*floats, *quantized]
