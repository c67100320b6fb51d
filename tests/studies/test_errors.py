"""The errors of a study: against networks that are defined by hand, and run one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import nn, reference
from trtnet.search import Data, MixableNetwork, search


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def define() -> Any:
    random, model = np.random.default_rng(1), Nested()
    for _, parameter in model.named_parameters():
        parameter.data = random.standard_normal(parameter.shape, np.float32) * np.float32(0.3)

    def define(policy: trtnet.Policy, calibration: Any = None) -> trtnet.Network:
        network = trtnet.Network("rtx", policy, calibration=calibration)
        network.output("y", model(network.input("x", (2, 3, 16, 16))))
        return network

    return define


@pytest.fixture(scope="module")
def data() -> Data:
    random = np.random.default_rng(2)
    return Data(tuple({"x": random.standard_normal((2, 3, 16, 16), np.float32)} for _ in range(2)))


def error2(network: trtnet.Network, data: Data, exact: np.ndarray) -> float:
    found = [reference.run(network.definition, batch)["y"] for batch in data.batches]
    return float(((np.concatenate(found).astype(float) - exact) ** 2).sum() / (exact**2).sum())


MODULES = ("stem", "body.0", "body.2", "fc")


def test_errors_of_a_policy_in_half_precision(define: Any, data: Data) -> None:
    plain = define(trtnet.Policy("fp32"))
    exact = [reference.run(plain.definition, batch)["y"] for batch in data.batches]
    wanted = np.concatenate(exact).astype(float)
    policy = trtnet.Policy("bf16", keep={"body.0": "fp32"})
    study = trtnet.study(MixableNetwork(define), policy=policy, data=data, gpu="l40s")
    rows = {row["module"]: row for row in study.rows(9) if row["op"] is None}
    mix = error2(define(policy), data, wanted)
    assert study.about["error2"] == pytest.approx(mix, rel=1e-4)
    assert study.about["items"] == 4
    assert rows["body.0"]["error2_alone"] is None
    assert rows["body.0"]["reason"] == "keep 'body.0' = fp32"
    for module in ("stem", "body.2", "fc"):
        alone = trtnet.Policy("fp32", keep={module: "bf16"}, base="fp32")
        without = trtnet.Policy("bf16", keep={"body.0": "fp32", module: "fp32"})
        row = rows[module]
        assert row["error2_alone"] == pytest.approx(error2(define(alone), data, wanted), rel=1e-3)
        marginal = mix - error2(define(without), data, wanted)
        assert row["error2_marginal"] == pytest.approx(marginal, rel=1e-3, abs=1e-9)
        assert row["benefit"] == pytest.approx(row["saved_s"] / row["error2_alone"])
        without_s = trtnet.study(define(without), gpu="l40s").rows(0)[0]["bound_s"]
        assert row["saved_marginal_s"] == pytest.approx(without_s - study.rows(0)[0]["bound_s"])


def test_errors_add_up_when_rolled_up(define: Any, data: Data) -> None:
    study = trtnet.study(MixableNetwork(define), policy=trtnet.Policy("fp16"), data=data)
    leaves = {row["module"]: row for row in study.rows(9) if row["error2_alone"] is not None}
    assert {*leaves} == {*MODULES}
    body = next(row for row in study.rows(1) if row["module"] == "body")
    parts = [leaves["body.0"], leaves["body.2"]]
    assert body["error2_alone"] == pytest.approx(sum(part["error2_alone"] for part in parts))
    assert body["sqnr_without_db"] is None
    assert leaves["body.0"]["sqnr_without_db"] is not None
    assert body["saved_s"] is None  # no GPU was named


def test_a_search_is_studied_with_what_it_measured(define: Any, data: Data) -> None:
    subject = MixableNetwork(define, gpu="l40s").calibrated(data)
    found = search(subject, data, "sqnr>=30dB")
    before = len(found.journal.keys())
    study = trtnet.study(found, gpu="l40s")
    alone = {row.module: row.metrics.rel_l2**2 for row in found.sensitivities}
    rows = {row["module"]: row for row in study.rows(9) if row["error2_alone"] is not None}
    assert {*rows} == {*found.best.changed}
    for module, row in rows.items():
        assert row["error2_alone"] == alone[module]
        assert row["precision"] == "int8"
    assert study.bound is not None
    assert study.bound.seconds == pytest.approx(found.best.seconds)
    assert study.about["sqnr_db"] == pytest.approx(found.best.metrics.sqnr_db)
    assert len(found.journal.keys()) - before <= len(found.best.changed)
    other = trtnet.study(found, gpu="h200")  # its times are not those of the search's GPU
    again = trtnet.study(subject, policy=found.policy, data=data, gpu="h200")
    for row, same in zip(other.rows(9), again.rows(9), strict=True):
        assert row["saved_s"] == same["saved_s"]
        assert row["saved_marginal_s"] == same["saved_marginal_s"]


def test_another_policy_than_the_one_found_is_measured_itself(define: Any, data: Data) -> None:
    """What a search measured is of its own precision: INT8's errors are not FP16's."""
    subject = MixableNetwork(define, gpu="l40s").calibrated(data)
    found = search(subject, data, "sqnr>=20dB")
    policy = trtnet.Policy("fp16")
    studied = trtnet.study(found, policy=policy, gpu="l40s").errors
    wanted = trtnet.study(MixableNetwork(define), policy=policy, data=data, gpu="l40s").errors
    assert {*studied} == {*wanted} == {*MODULES}
    for module, error in wanted.items():
        assert studied[module].alone == pytest.approx(error.alone)
        assert studied[module].marginal == pytest.approx(error.marginal)
        assert studied[module].saved == pytest.approx(error.saved)
