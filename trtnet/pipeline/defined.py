"""A model that is defined as a network, and its comparison with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet.backend import Backend
from trtnet.module import Module
from trtnet.network import Network
from trtnet.network.quantizer import Ranges
from trtnet.pipeline.budget import BudgetCheck, check_budget
from trtnet.pipeline.definition import define
from trtnet.pipeline.model import counterpart_name, torch_model
from trtnet.pipeline.progress import Update, ignore
from trtnet.pipeline.shapes import InputShapes
from trtnet.pipeline.verification import verify_batches, verify_in_float64
from trtnet.precision.policy import Policy
from trtnet.weights import Weights
from trtnet.zoo import Entry

if TYPE_CHECKING:
    from trtnet.quantization import Batches
    from trtnet.verification import Verification


@dataclass(frozen=True)
class LoadedModel:
    """A model with weights, ready to be defined in any precision.

    Attributes:
        entry: of the zoo.
        arguments: of the entry's builder.
        module: with weights.
        weights: what `module` was loaded with.
        shapes: of its input.
        backend: that defines networks of it.
        plugins, nms: see :class:`trtnet.Network`.
    """

    entry: Entry
    arguments: dict[str, Any]
    module: Module
    weights: Weights
    shapes: InputShapes
    backend: Backend
    plugins: str = "auto"
    nms: str = "native"

    def define(self, policy: Policy, ranges: Ranges | None = None) -> Network:
        """A network of it; without `ranges` one that quantizes observes."""
        return define(self.backend, policy, self.shapes, self.module, ranges, self.plugins,
                      self.nms)  # fmt: skip


@dataclass(frozen=True)
class DefinedModel:
    """A model that is defined as a network.

    Attributes:
        model: what was defined.
        network: of it.
        data: what it was calibrated on, if it was.
    """

    model: LoadedModel
    network: Network
    data: Batches | None = None

    def verify(
        self,
        images: int = 1,
        seed: int = 0,
        shapes: Sequence[tuple[int, ...]] | None = None,
        update: Update = ignore,
    ) -> Comparison:
        """Compares the network with its PyTorch counterpart, module by module; where there is
        none, its outputs with those of the same model in float64.

        A policy with a budget is held to it in place of the usual limit of its precision: on all of
        the data, not on `images` alone.

        Args:
            images: how many at least, for each shape.
            seed: of the inputs, where the network was not calibrated on data.
            shapes: of the inputs; ``None`` for :attr:`InputShapes.varied`. Data has one size, so
                that a calibrated network is compared at the `opt` shape of each profile.
            update: receives the progress.

        Raises:
            UsageError: the policy has a budget, and there is no data to measure it on.
        """
        model, budget = self.model, self.network.policy.budget
        checked = None
        if budget is not None:
            exact = model.define(Policy("fp32"))
            batch, name = model.shapes.typical[0][0], model.shapes.name
            update(f"measuring {budget}")
            checked = check_budget(budget, self.network, exact, batch, name, self.data)
        if self.data is not None:
            shapes = model.shapes.typical  # data has images of one size
        chosen = tuple(model.shapes.varied if shapes is None else shapes)
        from trtnet.verification import FINITE  # needs torch

        held = FINITE if budget is not None else None
        options = (chosen, images, seed, self.data, model.shapes.name, held, update)
        if model.entry.has_counterpart(**model.arguments):
            theirs = torch_model(model.entry, model.module, model.arguments)
            found, count = verify_batches(self.network, theirs, *options)
            against = counterpart_name(model.entry)
        else:
            exact = model.define(Policy("fp32"))
            found, count = verify_in_float64(self.network, exact, *options)
            against = "itself in float64: no PyTorch counterpart"
        return Comparison(found, count, against, chosen, self.network.exactness, checked)


@dataclass(frozen=True)
class Comparison:
    """A verification, and what was compared.

    Attributes:
        verification: the worst of all batches.
        images: how many.
        against: what the network was compared with, in words.
        shapes: of the batches.
        precision: whose limits hold, the coarsest of the network.
        budget: the budget of the policy, measured; ``None`` where it has none.
    """

    verification: Verification
    images: int
    against: str
    shapes: tuple[tuple[int, ...], ...]
    precision: str
    budget: BudgetCheck | None = None

    @property
    def passed(self) -> bool:
        """Whether everything is within tolerance, and within the budget."""
        return self.verification.passed and (self.budget is None or self.budget.passed)
