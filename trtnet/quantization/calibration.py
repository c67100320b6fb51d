"""Calibration: the distribution of each tensor's values, counted in one pass over the data."""

from __future__ import annotations

from dataclasses import dataclass

from trtnet.errors import NetworkError
from trtnet.quantization.histogram import Histogram
from trtnet.quantization.ranges import RangeRow, range_row, worst_first
from trtnet.quantization.table import CalibrationTable
from trtnet.quantization.thresholds import PERCENTILE, threshold


@dataclass(frozen=True)
class Observation:
    """The values of one tensor.

    Attributes:
        tensor: its name.
        module: path of the module that makes it; its name if it is a network input.
        modules: paths of the modules that make it or read it, the maker first.
        histogram: of its values.
    """

    tensor: str
    module: str
    modules: tuple[str, ...]
    histogram: Histogram


@dataclass(frozen=True)
class Calibration:
    """The distributions of a network's tensors; tables of every method come from them.

    Attributes:
        observations: one for each tensor, in the order asked for.
        items: the number of images, or whatever the data consists of.
    """

    observations: tuple[Observation, ...]
    items: int

    def table(
        self,
        method: str,
        *,
        weights_sha256: str,
        precision: str = "int8",
        percentile: float = PERCENTILE,
    ) -> CalibrationTable:
        """The table of ranges by `method`; see :func:`trtnet.quantization.thresholds.threshold`.

        Args:
            weights_sha256: :attr:`trtnet.Network.weights_sha256` of the network.
            precision: one of :data:`trtnet.precision.QUANTIZED`; makes a difference to ``"mse"``.
            percentile: for ``"percentile"``.

        Raises:
            NetworkError: a tensor had NaN or infinite values.
            UsageError: an unknown method or precision.
        """
        for observation in self.observations:
            _check_finite(observation)
        ranges = {
            observation.tensor: threshold(
                observation.histogram, method, precision=precision, percentile=percentile
            )
            for observation in self.observations
        }
        return CalibrationTable(ranges, method, weights_sha256, precision, self.items)

    @property
    def ranges(self) -> tuple[RangeRow, ...]:
        """The rows of :class:`trtnet.quantization.RangeRow`, worst first."""
        return worst_first(
            range_row(seen.module, seen.tensor, seen.modules, seen.histogram)
            for seen in self.observations
        )


def _check_finite(observation: Observation) -> None:
    bad = observation.histogram.nonfinite
    if bad:
        raise NetworkError(
            "a tensor with NaN or infinite values cannot be calibrated",
            module=observation.tensor,
            expected="finite values in FP32",
            got=f"{bad} of {observation.histogram.total} values",
            fix=f"check the weights of {observation.module} and those before it, and the "
            "preprocessing of the data",
        )
