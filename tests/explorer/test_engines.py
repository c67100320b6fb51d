"""Layers of engines, attributed to modules.

The files here have the keys and forms of NVIDIA's documentation, and the names of LeNet's layers.
They were not written by TensorRT: what is read of them is unproved.

- TensorRT 10: "Engine Inspector", docs.nvidia.com/deeplearning/tensorrt/10.16.1/
  inference-library/engine-tools.html
- TensorRT 11: "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x",
  docs.nvidia.com/deeplearning/tensorrt/11.3.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html
- names alone, regions and copies: tools/experimental/trt-engine-explorer/src/notebooks/
  layer_info.json of github.com/NVIDIA/TensorRT at 8e449266 (Apache-2.0)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pages import rows

import trtnet
from trtnet import explorer
from trtnet.cli.main import main
from trtnet.graph import cost

CONVOLUTION = "c1/conv + tanh/tanh"
TENSORRT_10 = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to c1/conv + tanh/tanh",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "input", "Location": "Device", "Dimensions": [1, 1, 32, 32],
                        "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "Reformatted Input Tensor 0 to c1/conv + tanh/tanh",
                         "Location": "Device", "Dimensions": [1, 1, 32, 32],
                         "Format/Datatype": "Row major linear FP16 format"}],
            "ParameterType": "Reformat",
            "Origin": "REFORMAT",
            "TacticValue": "0x00000000000003e8",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": CONVOLUTION,
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "input", "Location": "Device", "Dimensions": [1, 1, 32, 32],
                        "Format/Datatype": "Row major linear FP16 format"}],
            "Outputs": [{"Name": "tanh", "Location": "Device", "Dimensions": [1, 6, 28, 28],
                         "Format/Datatype": "Thirty-two wide channel vectorized row major "
                         "Int8 format"}],
            "ParameterType": "Convolution",
            "Kernel": [5, 5],
            "Weights": {"Type": "Int8", "Count": 150},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
            "TacticValue": "0x11bde0e1d9f2f35d",
            "StreamId": 0,
            "Metadata": "",
        },
        "{ForeignNode[s2/avg_pool...f6/add]}",
    ],
    "Bindings": ["input", "logits"],
}  # fmt: skip
TENSORRT_11 = {
    "Layers": [
        {
            "Name": "__myl_Conv_myl0_1",
            "LayerType": "kgen",
            "Inputs": [],
            "Outputs": [{"Name": "tanh", "Format": "Row major linear", "DataType": "Half"}],
            "TacticName": "__myl_Conv_0xabc",
            "Metadata": "[trtnet Layer: c1/conv]\u001f[trtnet Layer: tanh/tanh]",
        }
    ],
    "I/O Tensors": [{"Name": "input", "IOMode": "Input", "DataType": "Float",
                     "Dimensions": [1, 1, 32, 32], "Location": "Device",
                     "IsShapeInferenceIO": False, "ProfileInfo": []}],
}  # fmt: skip
PROFILE = [
    {"count": 10},
    {"name": CONVOLUTION, "timeMs": 0.1, "averageMs": 0.01, "medianMs": 0.009, "percentage": 30.0},
    {"name": "{ForeignNode[s2/avg_pool...f6/add]}", "timeMs": 0.2, "averageMs": 0.02},
    {"name": "noise", "timeMs": 0.01, "averageMs": 0.001, "medianMs": 0.001},
]


def engine(tmp_path: Path, layers: Any, profile: Any = None) -> tuple[dict, list[dict]]:
    """What the page has of lenet5's engine, and its layers by name."""
    files = {}
    for name, content in (("layer_info", layers), ("profile", profile)):
        if content is not None:
            files[name] = tmp_path / f"{name}.json"
            files[name].write_text(json.dumps(content))
    found = explorer.write("lenet5", gpu="l40s", **files)["builds"][0]
    return found, list(rows(found["engine"]["layers"]))


def test_an_engine_of_tensorrt_10(tmp_path: Path) -> None:
    build, (copy, convolution, region) = engine(tmp_path, TENSORRT_10)
    names, paths = build["layers"]["name"], build["modules"]["path"]
    assert build["engine"]["format"] == "TensorRT 10 inspector"
    assert build["engine"]["unproved"]
    assert (copy["members"], copy["shares"]) == ([], [])
    assert [names[row] for row in convolution["members"]] == ["c1/conv", "tanh/tanh"]
    assert convolution["precision"] == "int8"
    assert convolution["tactic"].startswith("sm80_xmma")
    assert not convolution["estimated"]  # the activation is part of the convolution's kernel
    assert [paths[module] for module, _ in convolution["shares"]] == ["c1"]
    inside = [names[row] for row in region["members"]]
    assert region["opaque"]
    assert (inside[0], inside[-1]) == ("s2/avg_pool", "f6/add")
    assert inside == names[names.index("s2/avg_pool") : names.index("f6/add") + 1]
    assert not {"c1/conv", "tanh/tanh"} & {*inside}


def test_the_time_of_a_region_is_split_by_modelled_cost(tmp_path: Path) -> None:
    build, layers = engine(tmp_path, TENSORRT_10, PROFILE)
    _, convolution, region, noise = layers
    assert convolution["time_s"] == pytest.approx(9e-6)  # the median
    assert region["time_s"] == pytest.approx(2e-5)
    assert build["engine"]["total_s"] == pytest.approx(9e-6 + 2e-5 + 1e-6)
    assert noise["shares"] == []
    assert region["estimated"]
    assert sum(share for _, share in region["shares"]) == pytest.approx(1)
    inside = {build["layers"]["name"][row] for row in region["members"]}
    bound = cost(explorer.subject_of("lenet5").graph).bound("l40s")
    seconds: dict[str, float] = {}
    for layer in bound.layers:
        if layer.name in inside:
            module = layer.name.rpartition("/")[0]
            seconds[module] = seconds.get(module, 0.0) + layer.seconds
    shares = {build["modules"]["path"][module]: share for module, share in region["shares"]}
    assert shares == pytest.approx(
        {module: time / sum(seconds.values()) for module, time in seconds.items()}
    )


def test_an_engine_of_tensorrt_11_names_its_layers_in_metadata(tmp_path: Path) -> None:
    build, (layer,) = engine(tmp_path, TENSORRT_11)
    assert build["engine"]["format"] == "TensorRT 11 inspector"
    assert layer["precision"] == "fp16"
    assert [build["layers"]["name"][row] for row in layer["members"]] == ["c1/conv", "tanh/tanh"]


def test_a_profile_alone_is_an_engine(tmp_path: Path) -> None:
    build, layers = engine(tmp_path, None, PROFILE)
    assert build["engine"]["format"] == "profile"
    assert [layer["name"] for layer in layers] == [row["name"] for row in PROFILE[1:]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "JSON"),
        ('{"layers": []}', "Layers"),
        ('{"Layers": [5]}', "Layers"),
        ("[]", "object"),
        ('{"Layers": [{"Name": "a", "Outputs": [{"Format/Datatype": 5}]}]}', "Format/Datatype"),
    ],
)
def test_other_files_are_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(content)
    with pytest.raises(trtnet.UsageError) as caught:
        explorer.write("lenet5", layer_info=path)
    assert said in str(caught.value)
    profile = tmp_path / "profile.json"
    profile.write_text('[{"count": 3}]')
    with pytest.raises(trtnet.UsageError, match="no times"):
        explorer.write("lenet5", profile=profile)


def test_the_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(TENSORRT_10))
    assert main(["explore", "lenet5", "--layer-info", str(path), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["builds"][0]["engine"]["layers"]["name"]) == 3
    missing = str(tmp_path / "none.json")
    assert main(["explore", "lenet5", "--layer-info", missing, "--json", "-"]) == 2
    assert "none.json" in capsys.readouterr().err
