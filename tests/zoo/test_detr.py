"""DETR detectors against transformers' own: keys, numbers of parameters, every module, boxes.

``tests/detection`` has the parts: deformable attention, and the choice without suppression.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import trtnet
from trtnet import reference, zoo
from trtnet.errors import ShapeError, UsageError
from trtnet.weights.random_init import random_module

transformers = pytest.importorskip("transformers")

COUNT = 20  # boxes of an image
GAP = 1e-3  # between the scores of the boxes of an image
BOUNDS = {"detections_per_img": COUNT}
MILLIONS = {
    "rtdetr_r18": 20, "rtdetr_r34": 31, "rtdetr_r50": 42, "rtdetr_r101": 76,
    "rtdetr_v2_r18": 20, "rtdetr_v2_r34": 31, "rtdetr_v2_r50m": 36, "rtdetr_v2_r50": 42,
    "rtdetr_v2_r101": 76, "detr_resnet50": 41, "dfine_n": 4,
    "dfine_s": 10, "dfine_m": 19, "dfine_l": 31, "dfine_x": 62,
    "rfdetr_n": 30.5, "rfdetr_s": 32.1, "rfdetr_m": 33.7, "rfdetr_l": 33.933218,
}  # fmt: skip
"""As published: https://github.com/lyuwenyu/RT-DETR, https://github.com/facebookresearch/detr,
https://github.com/Peterande/D-FINE, https://github.com/roboflow/rf-detr, of the last one exactly:
https://github.com/roboflow/model-leaderboard."""


@dataclass(frozen=True)
class Case:
    """A model that is small enough for a test.

    Attributes:
        arguments: of its builder.
        classifier: path of the layer that gives the logits.
        config, kind: of transformers, as published.
        softmax: whether classes exclude each other; the last is that of no object.
        size: height and width of images.
        processor: what prepares images in transformers, and chooses boxes.
        unused: how paths of modules begin that serve training alone.
    """

    classifier: str
    config: str
    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)

    softmax: bool = False
    size: tuple[int, int] = (64, 96)
    processor: str = "RTDetrImageProcessor"
    unused: tuple[str, ...] = ("model.decoder.class_embed", "model.decoder.lqe_layers")

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Those that detections are chosen by."""
        return logits.softmax(-1)[..., :-1].amax(-1) if self.softmax else logits.sigmoid()


_TWO_GROUPS = {"num_queries": 30, "decoder_layers": 2, "num_classes": 6, "group_detr": 2}
_SECOND_GROUP = tuple(f"model.enc_{part}.1" for part in ("output", "output_norm", "out_bbox_embed",
                                                         "out_class_embed"))  # fmt: skip
CASES = {
    "rtdetr_r18": Case("model.decoder.class_embed.1", "RTDetrConfig", "RTDetrForObjectDetection",
                       {"num_queries": 30, "decoder_layers": 2, "num_classes": 6}),
    "rtdetr_v2_r18": Case("model.decoder.class_embed.1", "RTDetrV2Config",
                          "RTDetrV2ForObjectDetection",
                          {"num_queries": 30, "decoder_layers": 2, "num_classes": 6}),
    "dfine_n": Case("model.decoder.class_embed.1", "DFineConfig", "DFineForObjectDetection",
                    {"num_queries": 23, "decoder_layers": 2, "num_classes": 6}),
    "detr_resnet50": Case("class_labels_classifier", "DetrConfig", "DetrForObjectDetection",
                          {"num_queries": 30, "layers": 1, "num_classes": 6}, softmax=True,
                          processor="DetrImageProcessor", unused=("class_labels",)),
    "rfdetr_n": Case("class_embed", "RfDetrConfig", "RfDetrForObjectDetection", _TWO_GROUPS,
                     size=(96, 96), processor="RfDetrImageProcessor", unused=_SECOND_GROUP),
    "rfdetr_base": Case("class_embed", "RfDetrConfig", "RfDetrForObjectDetection", _TWO_GROUPS,
                        size=(112, 112), processor="RfDetrImageProcessor",
                        unused=(*_SECOND_GROUP, "model.backbone.backbone.encoder.layer.11")),
}  # fmt: skip


@dataclass(frozen=True)
class Seeded:
    """Weights whose boxes have scores far apart, and images."""

    name: str
    state: dict[str, torch.Tensor]
    twin: torch.nn.Module
    images: np.ndarray

    @property
    def arguments(self) -> dict[str, Any]:
        return CASES[self.name].arguments

    @property
    def size(self) -> tuple[int, int]:
        return CASES[self.name].size

    def counterpart(self, **others: Any) -> torch.nn.Module:
        twin = zoo.get_entry(self.name).torch_model(**self.arguments, **others)
        twin.load_state_dict(self.state)
        return twin

    def network(self, shape: Any, precision: str = "fp32", **others: Any) -> trtnet.Network:
        model = zoo.get_model(self.name, **self.arguments, **others)
        model.load_state_dict(self.state)
        net = trtnet.Network("rtx", precision)
        inputs = [net.input("input", shape)]
        if others.get("image_sizes"):
            inputs.append(net.input("image_sizes", (shape[0], 2), "int32"))
        for output, tensor in model(*inputs).items():
            net.output(output, tensor)
        return net


def drawn(count: int, height: int, width: int) -> np.ndarray:
    """Coarse squares of levels 0 to 1, and noise in every second image."""
    rng = np.random.default_rng(height)
    squares = rng.uniform(0, 1, (count, 3, height // 16, width // 16))
    values = squares.repeat(16, 2).repeat(16, 3)
    values[1::2] += rng.normal(0, 0.3, values[1::2].shape)
    return values.astype(np.float32)


def lively(name: str, **arguments: Any) -> torch.nn.Module:
    """With weights that keep the signal as large as it is: those that transformers begins with
    make it so small that all images look alike."""
    twin = zoo.get_entry(name).torch_model(**arguments)
    for path, module in twin.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.1 if "reference_point" in path else 3)
        if "bbox" in path and path.endswith("layers.2"):
            module.weight.data *= 0.1  # boxes stay in the image
    for path, parameter in twin.named_parameters():
        if path.endswith("position_embeddings"):
            torch.nn.init.normal_(parameter)
    return twin


@pytest.fixture(scope="module", params=CASES)
def seeded(request: pytest.FixtureRequest) -> Seeded:
    name, case = request.param, CASES[request.param]
    images = drawn(2, *case.size)
    twin = random_module(lively, 0, input_shape=(3, *case.size), name=name, output_format="raw",
                         **case.arguments)  # fmt: skip
    classifier = twin.get_submodule(case.classifier)
    given: list[torch.Tensor] = []
    hook = classifier.register_forward_hook(lambda module, args, out: given.extend([args[0], out]))
    with hook, torch.no_grad():
        found = twin(torch.from_numpy(images))["scores"]
    *_, queries, logits = given
    added = torch.zeros(1) if case.softmax else found.logit() - logits  # as D-FINE does
    features = queries.flatten(0, 1)
    _, lengths, directions = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    lengths = lengths[:6].clamp(min=lengths[1] / 10)  # of about the same weight, not of rounding
    strong = directions[:6] / lengths[:, None] * len(features) ** 0.5
    for seed in range(4000):
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randn(len(classifier.bias), len(strong), generator=generator) / 2
        classifier.weight.data = mixed @ strong
        classifier.bias.data = -1 - classifier.weight @ features.mean(0)
        with torch.no_grad():
            scores = case.scores(classifier(queries) + added)
        best = scores.flatten(1).sort(descending=True).values[:, : COUNT + 1]
        if (-best.diff(dim=1) >= GAP).all():
            return Seeded(name, twin.state_dict(), twin, images)
    raise AssertionError("no seed gives scores that are far enough apart")


@pytest.mark.parametrize("name", MILLIONS)
def test_the_published_numbers_of_parameters(name: str) -> None:
    count = sum(parameter.numel() for parameter in zoo.get_model(name).parameters())
    assert abs(count / 1e6 - MILLIONS[name]) < 1


def test_files_of_transformers_are_taken() -> None:
    """As its model of the published configuration has them, and under their former names."""
    for name, case in CASES.items():
        entry = zoo.get_entry(name)
        wanted = entry.torch_model(**case.arguments)
        config = wanted.config.to_dict() | {"freeze_backbone_batch_norms": True}
        if name == "detr_resnet50":  # with a backbone of timm
            del config["backbone_config"], config["use_timm_backbone"]
        theirs = getattr(transformers, case.kind)(getattr(transformers, case.config)(**config))
        state = {key: value.numpy() for key, value in theirs.state_dict().items()}
        ours = entry.build(**case.arguments)
        assert ours.load_state_dict(state, strict=True) == ([], [])
        held = ours.state_dict()
        assert all((held[key] == value).all() for key, value in state.items() if key in held)
        assert not [key for key in state if key not in held and key.startswith("model.")
                    and "denoising" not in key]  # fmt: skip
        again = entry.build(**case.arguments)
        assert again.load_state_dict(formerly(theirs)) == ([], [])
        assert all((held[key] == value).all() for key, value in again.state_dict().items())


def formerly(model: Any) -> dict[str, np.ndarray]:
    """The state_dict as transformers itself writes it into a file."""
    from transformers.core_model_loading import revert_weight_conversion

    state = revert_weight_conversion(model, model.state_dict())
    assert state.keys() != model.state_dict().keys()
    return {key: value.numpy() for key, value in state.items()}


def test_every_module_verifies(seeded: Seeded) -> None:
    case = CASES[seeded.name]
    forms = [{"sampling": form} for form in ("layer", "gathers")]
    for form in [{}] if case.softmax else forms:
        net = seeded.network(seeded.images.shape, output_format="raw", **form)
        found = trtnet.verify(net, seeded.twin, {"input": seeded.images}, float64=True)
        found.require()
        rows = {row.module.split("#")[0] for row in found.rows}
        leaves = {path for path, module in seeded.twin.named_modules()
                  if not list(module.children()) and list(module.parameters())}  # fmt: skip
        folded = {path for path in leaves if path not in rows}
        for path in folded:  # into the BatchNorm behind it, or of training alone
            kinds = (torch.nn.Conv2d, torch.nn.Embedding)  # embeddings are read, not called
            is_other = isinstance(seeded.twin.get_submodule(path), kinds)
            assert is_other or path.startswith(case.unused)
        assert max(row.rel_l2 for row in (*found.rows, *found.outputs)) <= 1e-5


@pytest.mark.parametrize("image_sizes", [False, True])
def test_boxes_are_those_of_transformers(image_sizes: bool, seeded: Seeded) -> None:
    inputs = {"input": seeded.images}
    if image_sizes:
        inputs["image_sizes"] = np.array(
            [seeded.size, np.subtract(seeded.size, (20, 30))], np.int32
        )
    twin = seeded.counterpart(output_format="efficientnms", **BOUNDS)
    with torch.no_grad():
        wanted = twin(*(torch.from_numpy(value) for value in inputs.values()))
    net = seeded.network(("N", 3, *seeded.size), image_sizes=image_sizes, **BOUNDS)
    found = reference.run(net, inputs)
    assert (wanted["num_dets"] == COUNT).all()
    np.testing.assert_array_equal(found["num_dets"], wanted["num_dets"])
    np.testing.assert_array_equal(found["det_classes"], wanted["det_classes"])
    np.testing.assert_allclose(found["det_scores"], wanted["det_scores"], atol=1e-4)
    for image in range(2):
        ours, theirs = torch.from_numpy(found["det_boxes"][image]), wanted["det_boxes"][image]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-2)
        has_area = ((theirs[:, 2:] - theirs[:, :2]) >= 1).all(1)
        assert (box_iou(ours, theirs).diagonal()[has_area] >= 0.999).all()
        assert has_area.sum() >= (1 if image_sizes and image else COUNT // 2)
    rows = reference.run(
        seeded.network(
            ("N", 3, *seeded.size), image_sizes=image_sizes, output_format="rows6", **BOUNDS
        ),
        inputs,
    )["detections"]
    np.testing.assert_allclose(rows[..., :4], found["det_boxes"], atol=1e-4)
    np.testing.assert_array_equal(rows[..., 5], found["det_classes"])


def test_the_threshold_and_raw_outputs(seeded: Seeded) -> None:
    with torch.no_grad():
        raw = seeded.counterpart(output_format="raw")(torch.from_numpy(seeded.images))
        scores = reference.run(
            seeded.network(seeded.images.shape, output_format="raw"), {"input": seeded.images}
        )
        for name, value in raw.items():
            np.testing.assert_allclose(scores[name], value, rtol=1e-3, atol=1e-2)
        twin = seeded.counterpart(score_thresh=0.5, **BOUNDS)
        wanted = twin(torch.from_numpy(seeded.images))
    net = seeded.network(seeded.images.shape, score_thresh=0.5, **BOUNDS)
    found = reference.run(net, {"input": seeded.images})
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=2e-2)


def test_the_choice_is_that_of_transformers_own_processor(seeded: Seeded) -> None:
    twin = seeded.counterpart(output_format="raw")
    with torch.no_grad():
        forward = getattr(transformers, CASES[seeded.name].kind).forward
        outputs = forward(twin, torch.from_numpy(seeded.images))
    theirs = getattr(transformers, CASES[seeded.name].processor)().post_process_object_detection(
        outputs, threshold=0.5, target_sizes=[seeded.size, seeded.size]
    )
    count = seeded.arguments["num_queries"]
    net = seeded.network(seeded.images.shape, score_thresh=0.5, detections_per_img=count)
    ours = reference.run(net, {"input": seeded.images})
    for image, wanted in enumerate(theirs):
        order = wanted["scores"].argsort(descending=True)
        wanted = {key: value[order] for key, value in wanted.items()}
        count = ours["num_dets"][image, 0]
        assert count == len(wanted["scores"])
        np.testing.assert_allclose(ours["det_scores"][image, :count], wanted["scores"], atol=1e-4)
        np.testing.assert_array_equal(ours["det_classes"][image, :count], wanted["labels"])


def test_boxes_are_float32_in_half_precision(seeded: Seeded) -> None:
    """What is computed of the heads' outputs, which are cast, is not rounded anywhere."""
    net = seeded.network(seeded.images.shape, "fp16", output_format="raw")
    graph = trtnet.graph.read(net.definition)
    makers = {name: layer for layer in graph.layers for name in layer.outputs}
    for layer in graph.layers:
        if layer.type == "GRID_SAMPLE":
            assert {graph.tensors[name].dtype for name in layer.inputs if name} == {"float32"}
    waiting, seen, casts = ["boxes", "scores"], set[str](), 0
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        assert graph.tensors[name].dtype != "float16"
        if name not in graph.inputs:
            is_cast = makers[name].type == "CAST"
            casts += is_cast
            waiting += [] if is_cast else [given for given in makers[name].inputs if given]
    assert casts >= 2


def test_an_engine_builds(seeded: Seeded) -> None:
    net = seeded.network(("N", 3, *seeded.size), "fp16", image_sizes=True, **BOUNDS)
    sizes = {
        "input": trtnet.Shapes(
            min=(1, 3, *seeded.size), opt=(1, 3, *seeded.size), max=(2, 3, *seeded.size)
        ),
        "image_sizes": trtnet.Shapes(min=(1, 2), opt=(1, 2), max=(2, 2)),
    }
    assert len(trtnet.build(net, shapes=sizes).engine) > 1_000_000


def test_what_does_not_fit_is_refused() -> None:
    model = zoo.get_model("rtdetr_r18")
    entries = [*model.named_parameters(), *model.named_buffers()]
    model.load_state_dict({key: np.zeros(entry.shape, np.float32) for key, entry in entries})
    net = trtnet.Network("rtx")
    with pytest.raises(ShapeError, match="multiples of 32"):
        model(net.input("odd", (1, 3, 100, 128)))
    with pytest.raises(ShapeError, match="batch may be dynamic"):
        model(net.input("dynamic", (1, 3, "H", "W")))
    with pytest.raises(ShapeError, match="fewer num_queries"):
        model(net.input("small", (1, 3, 64, 64)))
    with pytest.raises(UsageError, match="layer or gathers"):
        zoo.get_model("rtdetr_r18", sampling="plugin")
    with pytest.raises(UsageError, match="efficientnms"):
        zoo.get_model("rtdetr_r18", output_format="coco")


def test_images_are_prepared_as_by_transformers() -> None:
    from PIL import Image

    levels = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    theirs = transformers.RTDetrImageProcessor()(Image.fromarray(levels), return_tensors="np")
    rules = zoo.get_entry("rtdetr_r18").preprocessing
    assert rules is not None
    ours = trtnet.imaging.prepare(Image.fromarray(levels), rules)
    np.testing.assert_allclose(ours, theirs["pixel_values"], atol=1.5 / 255)
