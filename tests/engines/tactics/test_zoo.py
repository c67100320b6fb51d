"""Models of the zoo in modules for inputs of fixed shapes; the oracle is the module for any."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import compiled, filled, inputs_of, specialized

from trtnet import zoo
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.simplify import simplify

RPN = {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 40, "num_classes": 5}
MODELS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (RPN, 96),
    "ssdlite320_mobilenet_v3_large": ({"num_classes": 4}, 96),
    "yolox_nano": ({"num_classes": 3}, 64),
    "dfine_n": ({"num_classes": 3, "num_queries": 20}, 96),
    "swin_v2_t": ({"num_classes": 7}, 64),
    "unet": ({}, 64),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    arguments, size = MODELS[name]
    model = filled(zoo.get_model(name, **arguments))
    module = compiled(model, ("N", 3, size, size), precision="fp32")
    made = specialized(module, (2, 3, size, size))
    gather_rows(made, torch.device("cpu"))
    simplify(made)
    assert not made.graph.find_nodes(op="call_module")
    inputs = inputs_of([(2, 3, size, size)])
    with torch.inference_mode():
        found, expected = made(*inputs), module(*inputs)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)
        assert value.isfinite().all()
        assert value.any()
