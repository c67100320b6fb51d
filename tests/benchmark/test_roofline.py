"""The share of a GPU's bound, and what limits."""

from __future__ import annotations

import numpy as np
import pytest

import trtnet
from trtnet import benchmark, nn
from trtnet.benchmark import Query, known_gpu, limited_by, roofline, summarize
from trtnet.benchmark.report import roofline_line, summary_json
from trtnet.graph import Bound, cost


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", None),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA RTX A5000", None),
        ("cpu", None),
    ],
)
def test_gpus_known_by_name(name: str, key: str | None) -> None:
    assert known_gpu(name) == key


def matmul(size: int, gpu: str = "h200-measured") -> Bound:
    """One FP16 product of `size` x 4096 by 4096 x 4096."""
    net = trtnet.Network("rtx", precision="fp16")
    linear = nn.Linear(4096, 4096, bias=False)
    linear.load_state_dict({"weight": np.broadcast_to(np.float32(1), (4096, 4096))})
    net.output("y", linear(net.input("x", (size, 4096), "float16")))
    return cost(trtnet.graph.read(net.definition)).bound(gpu)


def measured(ms: float, copies: float = 0.0, queries: int = 10, gap: float = 0.0) -> list[Query]:
    found, now = [], 0.0
    for _ in range(queries):
        a, b, c = now + copies, now + copies + ms, now + 2 * copies + ms
        found.append(Query(0, now, now + 0.001, now, a, a, b, b, c))
        now = c + gap
    return found


def test_share_of_a_product_by_hand() -> None:
    summary = summarize(measured(1.0))
    found = roofline(matmul(8192), summary)
    # 2 * 8192 * 4096 * 4096 operations at 790 TFLOP/s; the weights and both matrices move less
    product = 2 * 8192 * 4096 * 4096 / 790e12 * 1e3
    assert found.bound_ms == pytest.approx(product, rel=0.05)
    assert found.share == pytest.approx(found.bound_ms / 1.0)
    assert found.limit == "compute"
    assert limited_by(summary, found) == "compute"
    assert "limited by compute" in roofline_line(found, "compute")
    assert f"{found.share:.1%}" in roofline_line(found, "compute")


def test_a_narrow_product_is_limited_by_memory() -> None:
    found = roofline(matmul(1), summarize(measured(1.0)))
    # 32 MiB of weights at 4.3 TB/s
    assert found.bound_ms == pytest.approx(2 * 4096 * 4096 / 4.3e12 * 1e3, rel=0.05)
    assert found.limit == "memory"
    assert sum(found.layers_ms.values()) == pytest.approx(found.bound_ms)


def test_overlapping_streams_count_by_throughput() -> None:
    alone = measured(1.0)
    both = sorted([*alone, *alone], key=lambda query: query.h2d_start)
    found = roofline(matmul(1), summarize(both))
    assert found.measured_ms == pytest.approx(0.5)
    waiting = roofline(matmul(1), summarize(measured(1.0, gap=3.0)))
    assert waiting.measured_ms == pytest.approx(1.0)  # a pause is not the execution's


def test_the_host_limits_before_the_gpu() -> None:
    summary = summarize(measured(1.0, copies=2.0))
    found = roofline(matmul(1), summary)
    assert limited_by(summary, found) == "h2d"
    assert limited_by(summarize(measured(1.0)), None) is None


def test_json_has_no_infinities() -> None:
    found = summary_json(summarize(measured(1.0)))
    assert found["h2d"]["variation"] is None  # of copies that take no time
    assert found["compute"]["median"] == pytest.approx(1.0)
    assert set(found) >= {"throughput", *benchmark.report.KINDS, "median_interval"}
