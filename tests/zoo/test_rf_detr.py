"""RF-DETR's own parts against transformers': windows and positions of the backbone, the choice of
pixels, files of the authors. ``test_detr.py`` has what is the same in all DETR detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import reference, zoo
from trtnet.errors import ShapeError, WeightsError
from trtnet.weights.torch_import import without_memory
from trtnet.zoo.detection.detr import dinov2
from trtnet.zoo.detection.detr.rf_detr import RFDETRModel
from trtnet.zoo.detection.detr.sizes import RF_DETR
from trtnet.zoo.settling import settle

transformers = pytest.importorskip("transformers")

MILLIONS = {"n": 30.5, "s": 32.1, "m": 33.7, "l": 33.9}
"""As published: https://rfdetr.roboflow.com/latest/learn/run/detection/."""
EXACT = {"rfdetr_l": 33_933_218}
"""https://github.com/roboflow/model-leaderboard, results_RF-DETR-L.json."""
SMALL: dict[str, Any] = {"num_queries": 12, "num_classes": 3, "group_detr": 2, "decoder_layers": 1}


def test_the_published_numbers_of_parameters() -> None:
    found = {
        name: sum(parameter.numel() for parameter in zoo.get_model(f"rfdetr_{name}").parameters())
        for name in MILLIONS
    }
    assert {name: round(count / 1e6, 1) for name, count in found.items()} == MILLIONS
    assert found["l"] == EXACT["rfdetr_l"]


@pytest.mark.parametrize("name", RF_DETR)
def test_sizes_are_those_of_the_published_configurations(name: str) -> None:
    """``convert_rf_detr_weights_to_hf.py`` of transformers."""
    published = {  # image_size and patch_size of the backbone, windows, features, decoder's layers
        "n": (384, 16, 2, ["stage3", "stage6", "stage9", "stage12"], 2),
        "s": (512, 16, 2, ["stage3", "stage6", "stage9", "stage12"], 3),
        "m": (576, 16, 2, ["stage3", "stage6", "stage9", "stage12"], 4),
        "l": (704, 16, 2, ["stage3", "stage6", "stage9", "stage12"], 4),
        "base": (518, 14, 4, ["stage2", "stage5", "stage8", "stage11"], 3),
    }
    with without_memory():
        config = zoo.get_entry(f"rfdetr_{name}").torch_model().config
    backbone = config.backbone_config
    assert published[name] == (
        backbone.image_size, backbone.patch_size, backbone.num_windows, backbone.out_features,
        config.decoder_layers,
    )  # fmt: skip
    assert (backbone.hidden_size, backbone.num_hidden_layers, backbone.num_attention_heads) == (
        384, 12, 6,
    )  # fmt: skip
    assert (config.d_model, config.num_queries, config.num_labels, config.decoder_n_points) == (
        256, 300, 91, 2,
    )  # fmt: skip
    assert config.decoder_self_attention_heads == 8
    assert config.decoder_cross_attention_heads == 16
    published_edges = {"n": 384, "s": 512, "m": 576, "l": 704, "base": 560}
    assert zoo.get_entry(f"rfdetr_{name}").input_shape == (3, *[published_edges[name]] * 2)


def test_the_counterpart_is_transformers_model_as_it_is() -> None:
    """Its decoder leaves out what training alone needs; that changes no output."""
    arguments = {**SMALL, "decoder_layers": 3, "output_format": "raw"}
    twin = zoo.get_entry("rfdetr_n").torch_model(**arguments).eval()
    theirs = transformers.RfDetrForObjectDetection(twin.config).eval()
    torch.manual_seed(0)
    for parameter in twin.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.load_state_dict(twin.state_dict())
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = theirs(images), twin(images)
    assert wanted.logits.std() > 0.1
    torch.testing.assert_close(found["scores"], wanted.logits.sigmoid())
    x, y, width, height = (wanted.pred_boxes * 96).unbind(-1)
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
    torch.testing.assert_close(found["boxes"], corners.clamp(0, 96))


@pytest.mark.parametrize("windows", [1, 2, 4])
@pytest.mark.parametrize("edge", [64, 128, 192])  # fewer patches than positions, as many, more
def test_windows_and_positions(windows: int, edge: int) -> None:
    from transformers.models.rf_detr import modeling_rf_detr
    from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config

    config = RfDetrDinov2Config(hidden_size=384, num_attention_heads=6, image_size=128,
                                patch_size=16, num_windows=windows)  # fmt: skip
    theirs = modeling_rf_detr.RfDetrDinov2Embeddings(config).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter)
    ours = dinov2.Embeddings(16, 8, windows)
    state = {key: value.float() for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, edge, edge)).astype(np.float32)
    net = trtnet.Network("rtx")
    net.output("tokens", ours(net.input("images", ("N", 3, edge, edge))))
    found = reference.run(net, {"images": images}, float64=True)["tokens"]
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(images).double())
    np.testing.assert_allclose(found, wanted, atol=5e-6)  # transformers interpolates in float32


def test_pixels_near_the_edge_are_not_chosen() -> None:
    """Where there are more than 50 pixels in a row, the outermost are nearer to the edge of the
    image than transformers allows; here they would be the best ones."""
    queries, side = 25, 52
    sizing = RF_DETR["n"]
    ours = RFDETRModel(sizing, 3, queries, 1, 24, 1, "layer")
    config = zoo.get_entry("rfdetr_n").torch_model(num_queries=queries, num_classes=3, group_detr=1,
                                                   decoder_layers=1).config  # fmt: skip
    theirs = transformers.RfDetrModel(config).eval()
    torch.manual_seed(0)
    for module in (theirs.enc_output, theirs.enc_out_bbox_embed, theirs.enc_out_class_embed):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.06)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    memory = torch.randn(2, side * side, 256)
    outermost = np.zeros((side, side), bool)
    outermost[[0, -1]] = outermost[:, [0, -1]] = True
    with torch.no_grad():
        # What the norm of an outermost pixel's zeros says is what the class likes best.
        zeros = theirs.enc_output_norm[0](theirs.enc_output[0](torch.zeros(1, 256)))
        theirs.enc_out_class_embed[0].weight.copy_(zeros.expand(3, -1))
        ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
        inside, proposals, invalid = theirs.gen_encoder_output_proposals(
            memory, torch.zeros(2, side * side, dtype=torch.bool), [(side, side)]
        )
        assert (invalid[0, :, 0].numpy() == outermost.ravel()).all()
        score = theirs.enc_out_class_embed[0](
            theirs.enc_output_norm[0](theirs.enc_output[0](inside))
        )
        assert outermost.ravel()[score.amax(-1).topk(queries, 1)[1].numpy()].all()
        _, wanted, _ = theirs.generate_topk_proposals(0, inside, proposals, invalid, queries)
    net = trtnet.Network("rtx")
    net.output("boxes", ours.select(net.input("memory", (2, side * side, 256)), (side, side)))
    found = reference.run(net, {"memory": memory.numpy()})["boxes"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def authors_state(**arguments: Any) -> dict[str, np.ndarray]:
    """Random values under the authors' names, as transformers itself turns its own into them."""
    from transformers.core_model_loading import revert_weight_conversion

    with without_memory():
        twin = zoo.get_entry("rfdetr_n").torch_model(**arguments)
    model = transformers.RfDetrForObjectDetection(twin.config)
    state = revert_weight_conversion(model, model.state_dict())
    random = np.random.default_rng(0)
    return {key: random.standard_normal(value.shape).astype(np.float32)
            for key, value in state.items()}  # fmt: skip


def test_a_checkpoint_of_the_authors_says_what_it_has(tmp_path: Any) -> None:
    arguments = {**SMALL, "positional_encoding_size": 6}
    state = authors_state(**arguments)
    assert "transformer.decoder.layers.0.self_attn.in_proj_weight" in state
    assert "backbone.0.encoder.encoder.encoder.layer.0.attention.attention.query.weight" in state
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    torch.save({"model": tensors, "epoch": 3}, tmp_path / "checkpoint.pth")
    entry = zoo.get_entry("rfdetr_n")
    weights = trtnet.weights.load(tmp_path / "checkpoint.pth")
    settled = settle(entry, entry.build(), weights, {}, set())
    assert settled.arguments == arguments
    assert len(settled.notes) == len(arguments)
    settled.module.load_state_dict(settled.weights)
    held = settled.module.state_dict()
    assert len(held) == sum(p.numel() > 0 for p in settled.module.parameters())
    rows = state["transformer.decoder.layers.0.self_attn.in_proj_weight"]
    path = "model.decoder.layers.0.self_attn"
    for index, name in enumerate("qkv"):
        part = rows[256 * index : 256 * (index + 1)]
        np.testing.assert_array_equal(held[f"{path}.{name}_proj.weight"], part)
    entry.build(**arguments).load_state_dict(state)
    del state["query_feat.weight"]
    with pytest.raises(WeightsError, match="query_feat"):
        entry.build(**arguments).load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("rfdetr_n", (96, 128), "square"),
        ("rfdetr_n", (112, 112), "multiples of 32"),
        ("rfdetr_base", (64, 64), "multiples of 56"),
        ("rfdetr_n", (32, 32), "fewer num_queries"),
        ("rfdetr_n", ("H", "W"), "batch may be dynamic"),
    ],
)
def test_images_that_do_not_fit_are_refused(name: str, size: Any, message: str) -> None:
    model = zoo.get_model(name, **SMALL)
    entries = model.named_parameters()
    model.load_state_dict({key: np.zeros(entry.shape, np.float32) for key, entry in entries})
    net = trtnet.Network("rtx")
    with pytest.raises(ShapeError, match=message):
        model(net.input("images", (1, 3, *size)))


def test_images_are_prepared_as_by_transformers() -> None:
    from PIL import Image

    levels = np.random.default_rng(0).integers(0, 256, (420, 500, 3), np.uint8)
    processor = transformers.RfDetrImageProcessor(size={"height": 384, "width": 384})
    theirs = processor(Image.fromarray(levels), return_tensors="np")
    rules = zoo.get_entry("rfdetr_n").preprocessing
    assert rules is not None
    ours = trtnet.imaging.prepare(Image.fromarray(levels), rules)
    np.testing.assert_allclose(ours, theirs["pixel_values"], atol=1e-4)
