"""Measures engines as trtexec does, and compares the times with the GPU's roofline bound.

>>> from trtnet import benchmark
>>> benchmark.describe([0.42, 0.40, 0.41]).median
0.41
"""

from trtnet.benchmark.ceilings import measure_ceilings
from trtnet.benchmark.measure import Settings, measure
from trtnet.benchmark.profile import LayerTime, average, by_module, noise, profile
from trtnet.benchmark.roofline import Roofline, known_gpu, limited_by, roofline
from trtnet.benchmark.statistics import (
    Distribution,
    Summary,
    describe,
    median_interval,
    percentile,
    summarize,
)
from trtnet.benchmark.trace import Query, Trace, from_json, to_json, without_warm_up

__all__ = [
    "Distribution",
    "LayerTime",
    "Query",
    "Roofline",
    "Settings",
    "Summary",
    "Trace",
    "average",
    "by_module",
    "describe",
    "from_json",
    "known_gpu",
    "limited_by",
    "measure",
    "measure_ceilings",
    "median_interval",
    "noise",
    "percentile",
    "profile",
    "roofline",
    "summarize",
    "to_json",
    "without_warm_up",
]
