"""Layer times, and the modules they belong to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trtnet import UsageError
from trtnet.benchmark.profile import average, bounded, by_module, profile, to_json

RUNS = [
    [("conv1/conv + relu/relu", 3.0), ("fc/matmul", 1.0)],
    [("conv1/conv + relu/relu", 4.0), ("fc/matmul", 1.0)],
    [("conv1/conv + relu/relu", 8.0), ("fc/matmul", 3.0)],
]


def test_average() -> None:
    first, second = average(RUNS)
    assert (first.mean_ms, first.median_ms) == (5.0, 4.0)
    assert first.share == pytest.approx(15 / 20)
    assert second.share == pytest.approx(5 / 20)


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("layer1.0.conv1/conv", ["layer1.0.conv1"]),
        ("layer1.0.conv1/conv + layer1.0.relu/relu", ["layer1.0.conv1", "layer1.0.relu"]),
        ("layer1.0.conv2/conv + layer1.0/add + layer1.0.relu#1/relu",
         ["layer1.0.conv2", "layer1.0", "layer1.0.relu#1"]),
        ("f6/matmul + f6/add", ["f6"]),
        ("/reshape", [""]),
        ("fc/matmul#2", ["fc"]),
        ("{ForeignNode[encoder.0.ln/layer_norm...encoder.0.mlp/add#1]}",
         ["encoder.0.ln", "encoder.0.mlp"]),
        ("Reformatting CopyNode for Input Tensor 0 to conv1/conv", ["conv1"]),
        ("__myl_Conv_myln_k_arg__bb1_3_myl0_2", []),
    ],
)  # fmt: skip
def test_modules_of_a_layers_name(name: str, modules: list[str]) -> None:
    (layer,) = average([[(name, 1.0)]])
    assert list(layer.modules) == modules


def test_the_first_execution_does_not_count() -> None:
    times = iter([100.0, 1.0, 3.0])
    (layer,) = profile(lambda: [("a/conv", next(times))], iterations=2)
    assert layer.mean_ms == 2.0


def test_time_of_each_module() -> None:
    runs = [[("layer1.0.conv1/conv", 1.0), ("layer1.1.conv1/conv", 2.0), ("noise", 4.0)]]
    assert by_module(average(runs)) == {"layer1": 3.0, "": 4.0}
    assert by_module(average(runs), depth=2) == {"layer1.0": 1.0, "layer1.1": 2.0, "": 4.0}


def test_bounds_come_by_the_names_of_the_members() -> None:
    bounds = {"conv1/conv": 0.5, "fc/matmul": 0.25}
    first, second = bounded(average(RUNS), bounds)
    assert (first.bound_ms, second.bound_ms) == (0.5, 0.25)
    (unknown,) = bounded(average([[("copy", 1.0)]]), bounds)
    assert unknown.bound_ms is None


def test_json_has_trtexecs_keys() -> None:
    count, first, _ = to_json(average(RUNS), 3)
    assert count == {"count": 3}
    assert first == {
        "name": "conv1/conv + relu/relu",
        "timeMs": 15.0,
        "averageMs": 5.0,
        "medianMs": 4.0,
        "minMs": 3.0,
        "percentage": pytest.approx(75),
        "modules": ["conv1", "relu"],
    }


@pytest.mark.parametrize("runs", [[], [[("a", 1.0)], [("b", 1.0)]], [[("a", 1.0)], []]])
def test_runs_that_differ(runs: list, raises: Callable) -> None:
    with raises(UsageError, "the same layers in every run"):
        average(runs)
