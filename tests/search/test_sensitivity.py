"""What changing each module alone does, the fast way and the long way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet import graph, reference
from trtnet.errors import UsageError
from trtnet.precision.policy import Policy
from trtnet.search import Data, MixableNetwork, sensitivity
from trtnet.search.journal import SearchJournal
from trtnet.search.sensitivities import job
from trtnet.search.suffix import suffix

RESIDUAL = ("stem", "conv1", "conv2", "down", "conv3", "fc")


def outputs(read: Any, data: Data) -> np.ndarray:
    found = [reference.run(read, batch)["logits"] for batch in data.batches]
    return np.concatenate(found).astype(np.float64)


@pytest.mark.parametrize("to", ["int8", "fp8", "fp16"])
def test_the_fast_way_is_the_long_way(to: str, residual_define: Any, residual_data: Data) -> None:
    """The whole network with only that module changed, read back and run from its inputs on."""
    subject = MixableNetwork(residual_define, to).calibrated(residual_data)
    plain = outputs(residual_define(Policy("fp32"), None).definition, residual_data)
    rows = {row.module: row for row in sensitivity(subject, residual_data)}
    assert set(rows) == set(RESIDUAL)
    for module, row in rows.items():
        policy = Policy("fp32", keep={module: to}, base="fp32")
        changed = outputs(residual_define(policy, subject.calibration).definition, residual_data)
        error = np.linalg.norm(changed - plain) / np.linalg.norm(plain)
        assert row.metrics.rel_l2 == pytest.approx(error, rel=1e-4), module
        cosine = (changed * plain).sum() / np.linalg.norm(changed) / np.linalg.norm(plain)
        assert row.metrics.cosine == pytest.approx(cosine, abs=1e-12), module
        assert row.metrics.top1_drop is None, "the data has no labels"
        assert row.metrics.rel_l2 > 0


def test_only_what_is_behind_the_module_runs(residual: MixableNetwork) -> None:
    whole = residual.in_fp32
    last = suffix(whole, residual.graph(residual.alone("fc")))
    assert {layer.name.partition("/")[0] for layer in last.layers} <= {"fc", ""}
    assert last.outputs == whole.outputs
    assert suffix(whole, whole).layers == ()
    first = suffix(whole, residual.graph(residual.alone("stem")))
    assert "stem/conv" in {layer.name for layer in first.layers}


def test_the_most_sensitive_comes_first_with_its_saving(
    residual: MixableNetwork, residual_data: Data
) -> None:
    rows = sensitivity(residual, residual_data)
    errors = [row.metrics.rel_l2 for row in rows]
    assert errors == sorted(errors, reverse=True)
    none = residual.seconds(residual.graph(residual.policy(())))
    for row in rows:
        changed = residual.graph(residual.policy((row.module,)))
        assert row.seconds_saved == pytest.approx(none - residual.seconds(changed))


def test_a_journal_spares_measuring_again(
    residual: MixableNetwork, residual_data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    first = sensitivity(residual, residual_data, journal=SearchJournal(path, "job"))
    written = path.read_bytes()
    broken = dataclasses.replace(residual, gpu="h100")  # what is measured would differ
    again = sensitivity(broken, residual_data, journal=SearchJournal(path, "job"))
    assert again == first
    assert path.read_bytes() == written


def test_a_job_is_known_by_everything_it_follows_from(
    residual: MixableNetwork, residual_data: Data, lenet: MixableNetwork, lenet_data: Data
) -> None:
    half = Data(residual_data.batches[:1])
    jobs = {
        job(residual, residual_data),
        job(residual, half),
        job(dataclasses.replace(residual, gpu="h100"), residual_data),
        job(dataclasses.replace(residual, base="bf16"), residual_data),
        job(lenet, lenet_data),
    }
    assert len(jobs) == 5
    assert job(residual, residual_data) in jobs


def test_policies_change_exactly_what_is_asked(residual: MixableNetwork) -> None:
    policy = residual.policy(["conv1", "fc"])
    found = {row.module: row.precision for row in policy.explain(residual.define(policy, None))}
    assert {m: found[m] for m in RESIDUAL} == {
        **dict.fromkeys(RESIDUAL, "fp16"),
        "conv1": "int8",
        "fc": "int8",
    }
    assert residual.policy(residual.modules).keep == {}
    read = residual.graph(residual.alone("conv1"))
    kinds = {info.dtype for info in read.tensors.values()}
    assert "int8" in kinds
    assert "float16" not in kinds


@pytest.mark.parametrize(
    ("details", "texts"),
    [
        ({"to": "fp4"}, ("cannot be changed", "int8, fp8, fp16, bf16")),
        ({"gpu": "h2000"}, ("no GPU 'h2000'",)),
        ({"to": "fp8", "gpu": "a100"}, ("no fp8 ceiling", "A100")),
    ],
)
def test_impossible_subjects(
    details: dict[str, str], texts: tuple[str, ...], residual_define: Any, raises: Any
) -> None:
    with raises(UsageError, *texts):
        MixableNetwork(residual_define, **details)


def test_a_network_without_anything_to_change(raises: Any) -> None:
    import trtnet
    from trtnet import nn

    def define(policy: Policy, calibration: Any) -> trtnet.Network:
        network = trtnet.Network("rtx", policy, calibration=calibration)
        network.output("y", nn.ReLU()(network.input("x", (1, 4))))
        return network

    with raises(UsageError, "no module that can be int8"):
        _ = MixableNetwork(define).candidates


def test_layers_of_the_fp32_network_are_all_there(residual: MixableNetwork) -> None:
    types = [layer.type for layer in residual.in_fp32.layers]
    assert types.count("CONVOLUTION") == 5
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(types)
    assert graph.macs(residual.in_fp32) > 0
