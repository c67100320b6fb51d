"""Policies and measurements of a search: what the page says of them is what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import rows

import trtnet
from trtnet import explorer
from trtnet.cli.main import main
from trtnet.pipeline import SearchSettings, set_up_search
from trtnet.pipeline.recipe import Recipe
from trtnet.precision.policy import Policy
from trtnet.search import search

BATCH = 8


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the policy, the journal and the report of a search of LeNet."""
    folder = tmp_path_factory.mktemp("searched")
    images = np.random.default_rng(0).random((16, 1, 32, 32), np.float32)
    np.save(folder / "images.npy", images)
    command = ["search", "lenet5", "--data", str(folder / "images.npy"), "--budget", "sqnr>=49dB"]
    files = ["-o", str(folder / "mix.toml"), "--json", str(folder / "report.json")]
    assert main([*command, *files]) == 0
    return folder


def explored(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {"precision": Policy.load(folder / "mix.toml"), "batch": BATCH, **changes}
    found = explorer.write(Recipe("lenet5", **given), search=folder / "mix.toml.journal")
    return found["builds"][0]


def test_trials_and_sensitivities_are_those_of_the_search(searched: Path) -> None:
    report = json.loads((searched / "report.json").read_text())
    build = explored(searched)
    paths, found = build["modules"]["path"], build["precision"]
    told = {paths[row["module"]]: row for row in rows(found["sensitivities"])}
    assert len(told) == len(report["modules"]) == 5
    for row in report["modules"]:
        mine = told[row["module"]]
        assert mine["kind"] == row["kind"]
        assert mine["rel_l2"] == row["rel_l2"]
        assert mine["sqnr_db"] == pytest.approx(-20 * math.log10(row["rel_l2"]))
        assert mine["saved_s"] == row["seconds_saved"]
    alone = {
        paths[row["module"]]: row["error2_alone"]
        for row in rows(build["study"]["rows"]) if row["error2_alone"] is not None
    }  # fmt: skip
    errors = {row["module"]: row["rel_l2"] ** 2 for row in report["modules"]}
    assert alone == {name: errors[name] for name in report["best"]["changed"]}
    trials = list(rows(found["trials"]))
    best = trials[found["best"]]
    assert best["seconds"] == report["best"]["seconds"]
    assert best["rel_l2"] == report["best"]["rel_l2"]
    assert found["budget"] == {"metric": "sqnr", "limit": 49.0, "text": "sqnr>=49dB"}
    assert (found["to"], found["base"], found["rest"]) == ("int8", "fp16", "fp16")
    assert "l40s" in found["gpus"]  # whose times the search takes by default
    for one in trials:
        beaten = any(
            other["seconds"] <= one["seconds"] and other["rel_l2"] < one["rel_l2"]
            for other in trials
        )
        assert not (one["front"] and beaten)


def test_every_module_names_the_entry_that_decided(searched: Path) -> None:
    build = explored(searched)
    lines = build["precision"]["policy"]["toml"].split("\n")
    assert "\n".join(lines) == (searched / "mix.toml").read_text()
    policy = Policy.load(searched / "mix.toml")
    kept = 0
    for module in rows(build["modules"]):
        if module["entry"] < 0:
            continue
        entry = build["precision"]["entries"][module["entry"]]
        line = lines[entry["line"] - 1]
        assert json.dumps(entry["value"]) in line
        assert line.startswith(json.dumps(entry["key"]) if entry["key"] else entry["where"])
        assert entry["value"] == policy.precision_of(module["path"], module["kind"])
        kept += entry["where"] == "keep"
    assert kept == len(policy.keep) > 0


@pytest.mark.parametrize("changes", [{"batch": 1}, {"precision": "fp16"}])
def test_a_network_that_was_not_searched_is_refused(changes: dict, searched: Path) -> None:
    with pytest.raises(trtnet.UsageError, match="none of the mixes"):
        explored(searched, **changes)


def test_a_journal_of_another_model_is_refused(searched: Path) -> None:
    with pytest.raises(trtnet.UsageError, match="of another network"):
        explorer.write("resnet20_digits:int8", search=searched / "mix.toml.journal")
    with pytest.raises(trtnet.UsageError, match=r"no journal|not a journal|journal of a search"):
        explorer.write("lenet5:int8", search=searched / "mix.toml")


def test_sensitivities_of_other_weights_are_refused(searched: Path) -> None:
    journal = searched / "alone.journal"
    flags = ["--data", str(searched / "images.npy"), "--items", "8", "--journal", str(journal)]
    assert main(["sensitivity", "lenet5", *flags]) == 0
    found = explorer.write("lenet5:int8", search=journal)["builds"][0]["precision"]
    assert found["measured_on"]["items"] == 8
    assert found["trials"] is None
    with pytest.raises(trtnet.UsageError, match="other weights"):
        explorer.write(Recipe("lenet5", precision="int8", weights="random"), search=journal)


def test_a_search_of_other_weights_is_refused(searched: Path) -> None:
    """Of one model, its other weights have other errors in the same precision."""
    with pytest.raises(trtnet.UsageError, match="other weights"):
        explored(searched, weights="random")
    setup = set_up_search(Recipe("lenet5"), SearchSettings(str(searched / "images.npy"), items=2))
    found = search(setup.subject, setup.data, "sqnr>=20dB")
    (batch,) = (len(values) for values in setup.data.batches[0].values())
    given = {"precision": found.policy, "batch": batch}
    (build,) = explorer.write(Recipe("lenet5", **given), search=found)["builds"]
    assert build["precision"]["trials"]
    with pytest.raises(trtnet.UsageError, match="other weights"):
        explorer.write(Recipe("lenet5", weights="random", **given), search=found)
