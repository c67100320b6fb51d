"""What each changed module of a mix costs: against networks that are defined by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtnet import reference
from trtnet.errors import UsageError
from trtnet.precision.policy import Policy
from trtnet.search import Data, MixableNetwork, ablate, search
from trtnet.search.finding import MixRunner
from trtnet.search.journal import SearchJournal

CHANGED = ("conv1", "conv3", "fc")


def outputs(network: Any, data: Data) -> np.ndarray:
    found = [reference.run(network.definition, batch)["logits"] for batch in data.batches]
    return np.concatenate(found).astype(np.float64)


def test_an_ablation_is_the_mix_without_that_module(
    residual: MixableNetwork, residual_define: Any, residual_data: Data
) -> None:
    told: list[str] = []
    rows = ablate(residual, residual_data, CHANGED, progress=told.append)
    plain = outputs(residual_define(Policy("fp32"), None), residual_data)
    assert {row.modules for row in rows} == {(name,) for name in CHANGED}
    for row in rows:
        left = {name: "int8" for name in CHANGED if name not in row.modules}
        policy = Policy("fp16", keep=left)
        network = residual_define(policy, residual.calibration)
        found = outputs(network, residual_data)
        error = np.linalg.norm(found - plain) / np.linalg.norm(plain)
        assert row.metrics.rel_l2 == pytest.approx(error, rel=1e-4)
        read = residual.graph(residual.policy(left))
        assert row.seconds == pytest.approx(residual.seconds(read))
        mix = residual.seconds(residual.graph(residual.policy(CHANGED)))
        assert row.seconds_added == pytest.approx(row.seconds - mix)
    assert told == [f"{n} of 3 set back, {name}" for n, name in enumerate(CHANGED, 1)]


def test_groups_and_a_journal(residual: MixableNetwork, residual_data: Data) -> None:
    journal = SearchJournal(None, "")
    runner = MixRunner(residual, residual_data, journal)
    runner(CHANGED)
    expected = runner(["fc"])
    (row,) = ablate(residual, residual_data, CHANGED, groups=[["conv3", "conv1"]], journal=journal)
    assert row.modules == ("conv1", "conv3")  # in the order of the model
    assert (row.metrics, row.seconds) == (expected.metrics, expected.seconds)
    assert ablate(residual, residual_data, ()) == []


@pytest.mark.parametrize(
    ("changed", "groups", "texts"),
    [
        (("conv1", "con3"), None, ["con3 is no module that can be int8"]),
        (CHANGED, [["stem"]], ["holds changed modules", "got: stem"]),
        (CHANGED, [[]], ["got: an empty group"]),
    ],
)
def test_what_cannot_be_set_back(
    changed: Any, groups: Any, texts: list[str], residual: MixableNetwork, residual_data: Data,
    raises: Any,
) -> None:  # fmt: skip
    with raises(UsageError, *texts):
        ablate(residual, residual_data, changed, groups=groups)


def test_an_ablation_of_a_search_on_other_data_is_measured_on_it(
    residual: MixableNetwork, residual_data: Data
) -> None:
    """The journal of the search is of the search's own data."""
    found = search(residual, residual_data, "sqnr>=10dB")
    other = Data(tuple({name: 3 * value for name, value in batch.items()}
                       for batch in residual_data.batches[:1]))  # fmt: skip
    own = {row.modules: row.metrics for row in ablate(found)}
    rows = {row.modules: row.metrics for row in ablate(found, other)}
    wanted = {row.modules: row.metrics for row in ablate(residual, other, found.best.changed)}
    assert rows != own
    assert rows == wanted
    assert ablate(found, changed=()) == []
