"""The columns of a study in the document: sums of modules are the study's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pages import rows
from test_engines import PROFILE, TENSORRT_10

import trtnet
from trtnet import explorer
from trtnet.benchmark.profile import average, to_json
from trtnet.graph import read


def test_errors_on_data_are_those_of_a_study(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, 1, 32, 32), np.float32)
    np.save(tmp_path / "images.npy", images)
    data = str(tmp_path / "images.npy")
    build = explorer.write("lenet5:fp16", data=data, items=4, gpu="l40s")["builds"][0]
    found, modules = build["study"], build["modules"]
    assert {"error2_alone", "error2_marginal", "saved_s"} <= {*found["additive"]}
    assert found["about"]["items"] == 4
    tree = trtnet.study("lenet5:fp16", data=data, items=4, gpu="l40s").tree()
    for wanted in tree:
        if wanted["op"] is not None:
            continue
        row = modules["path"].index(wanted["module"])
        inside = [
            one for one in rows(found["rows"]) if row <= one["module"] < modules["end"][row]
        ]  # fmt: skip
        for key in ("casts", "qdq", "error2_alone", "saved_s"):
            values = [one[key] for one in inside if one[key] is not None]
            if wanted[key] is not None and wanted["module"] != "tanh":  # called four times
                assert sum(values) == pytest.approx(wanted[key])


def test_times_are_split_as_the_engine_view_splits_them(tmp_path: Path) -> None:
    files = {}
    for name, content in (("layer_info", TENSORRT_10), ("profile", PROFILE)):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(content))
    build = explorer.write("lenet5", gpu="l40s", **files)["builds"][0]
    by_engine: dict[int, float] = {}
    for layer in rows(build["engine"]["layers"]):
        for module, share in layer["shares"] or [[0, 1.0]]:
            by_engine[module] = by_engine.get(module, 0.0) + share * (layer["time_s"] or 0.0)
    by_study: dict[int, float] = {}
    for row in rows(build["study"]["rows"]):
        if row["time_s"] is not None:
            by_study[row["module"]] = by_study.get(row["module"], 0.0) + row["time_s"]
    by_engine = {module: time for module, time in by_engine.items() if time}
    assert by_study == pytest.approx(by_engine)
    assert sum(by_study.values()) == pytest.approx(build["engine"]["total_s"])
    worst = build["gaps"]["l40s"][0]
    assert "times its bound" in worst["text"]
    names = build["variants"][0]["kernels"]
    kernel = [names["layer"][worst["kernel"]], *names["fused"][worst["kernel"]]]
    layers = build["layers"]["name"]
    taken = [
        row["time_s"] for row in rows(build["study"]["rows"])
        if row["layer"] >= 0 and layers[row["layer"]] in kernel and row["time_s"] is not None
    ]  # fmt: skip
    bound = trtnet.graph.cost(read_again()).bound("l40s").layers[worst["kernel"]].seconds
    assert worst["seconds"] == pytest.approx(sum(taken) - bound)


def read_again() -> trtnet.graph.Graph:
    return explorer.subject_of("lenet5").graph


def test_a_network_of_one_s_own_has_a_table_and_no_data() -> None:
    net = trtnet.Network("rtx")
    net.output("y", trtnet.nn.ReLU()(net.input("x", (1, 4))))
    build = explorer.write(read(net))["builds"][0]
    assert build["study"]["rows"]["op"] == ["relu"]
    with pytest.raises(trtnet.UsageError, match="which is defined again"):
        explorer.write(net, data="random")


def test_gaps_are_those_of_a_study_of_the_same_profile(tmp_path: Path) -> None:
    """``trtnet bench`` writes least times too; they, not medians, are held against the bound."""
    names = ["c1/conv + tanh/tanh", "c3/conv + tanh#1/tanh"]
    profile = average([[(name, 0.25 + run) for name in names] for run in range(7)])
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(to_json(profile, 7)))
    build = explorer.write("lenet5", gpu="l40s", profile=path)["builds"][0]
    study = trtnet.study("lenet5", gpu="l40s", profile=profile)
    wanted = {row["layer"]: row for row in study.rows() if row["time_s"] is not None}
    layers = build["layers"]["name"]
    found = {layers[row["layer"]]: row for row in rows(build["study"]["rows"])
             if row["time_s"] is not None}  # fmt: skip
    assert found.keys() == wanted.keys()
    for name, row in wanted.items():
        assert found[name]["time_s"] == pytest.approx(row["time_s"])
        assert found[name]["min_s"] == pytest.approx(row["min_s"])
    texts = [one["text"] for one in build["gaps"]["l40s"]]
    for name, row in wanted.items():
        (text,) = [text for text in texts if text.startswith(name)]
        assert f"took at least 250.00 µs, {row['gap']:.1f} times its bound" in text


def test_layers_of_one_name_have_its_time_once(tmp_path: Path) -> None:
    """A profile adds up what layers of one name take."""
    layers, profile = tmp_path / "layers.json", tmp_path / "profile.json"
    layers.write_text(json.dumps({"Layers": ["c1/conv", "copy", "copy"]}))
    profile.write_text(json.dumps([{"name": "copy", "averageMs": 1.0},
                                   {"name": "copy", "averageMs": 2.0}]))  # fmt: skip
    build = explorer.write("lenet5", layer_info=layers, profile=profile)["builds"][0]
    assert build["engine"]["total_s"] == pytest.approx(3e-3)
    assert build["engine"]["layers"]["time_s"] == [None, pytest.approx(3e-3), None]
