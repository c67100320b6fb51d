"""Heads of seeded detectors that find something: what ``tools/detector_cases.py`` changes in them.

Heads as they are initialised give hardly any box, and equal scores. Here the last layers are scaled
so that each of their channels has a chosen mean and deviation on seeded images: some hundred pairs
of a box and a class come above the threshold, with scores that differ.

A function for a family takes the PyTorch counterpart of the zoo and prepared images (N, 3, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

RARE = 3.2  # deviations from the mean at which a class comes above the threshold


Statistic = float | Callable[[int], torch.Tensor]
"""A number for all channels, or a function of their number that gives one for each."""


def settle_channels(
    model: Any, images: torch.Tensor, layers: Sequence[Any], mean: Statistic, deviation: Statistic
) -> None:
    """Scales each of `layers`, convolutions or linear layers with a bias, so that its outputs have
    these statistics when `model` is called with `images`, channel by channel; of a layer that is
    called several times, over all calls."""
    seen: dict[Any, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        seen[layer].append(_by_channel(layer, output))

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        model(images)
        for layer, parts in seen.items():
            _scale(layer, torch.cat(parts, 1), mean, deviation)
    for hook in hooks:
        hook.remove()


def settle_in_turn(
    model: Any, images: torch.Tensor, wanted: Mapping[Any, tuple[Statistic, Statistic]]
) -> None:
    """The same for layers that are called once, with the mean and deviation of each: what comes
    behind a layer sees its new outputs."""

    def settle(layer: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        _scale(layer, _by_channel(layer, output), *wanted[layer])
        again: torch.Tensor = layer.forward(*args)
        return again

    hooks = [layer.register_forward_hook(settle) for layer in wanted]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


def _by_channel(layer: nn.Module, output: torch.Tensor) -> torch.Tensor:
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return output.detach().movedim(axis, 0).flatten(1)


def _scale(layer: Any, values: torch.Tensor, mean: Statistic, deviation: Statistic) -> None:
    """`values`: (channels, N), what the layer gives."""
    spread, wanted = (each(len(values)) if callable(each) else each for each in (deviation, mean))
    scale = spread / values.std(1).clamp_min(1e-4)
    shift = wanted - values.mean(1) * scale
    layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.mul_(scale).add_(shift)


def settle_transposed(model: Any, images: torch.Tensor, layer: Any, deviation: float) -> None:
    """Scales a transposed convolution so that its outputs have the mean 0 and this deviation, all
    channels together: its weight has the channels on its second axis."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(images)
        scale = deviation / seen[0].std()
        layer.weight.mul_(scale)
        layer.bias.sub_(seen[0].mean()).mul_(scale)
    hook.remove()


def logit(score: float) -> float:
    """The number whose sigmoid is `score`."""
    return math.log(score / (1 - score))


def retinanet(model: Any, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.05) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 0.0, 0.3)


def fcos(model: Any, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.06) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 2.0, 1.0)
    settle_channels(model, images, [head.regression_head.bbox_ctrness], 1.0, 1.0)


def ssd(model: Any, images: torch.Tensor) -> None:
    head, threshold, classes = model.head, 0.05, model.head.classification_head.num_columns
    background = 2.0 * RARE - math.log(threshold)

    def mean(channels: int) -> torch.Tensor:
        means = torch.zeros(channels // classes, classes)
        means[:, 0] = background
        return means.flatten()

    for part, wanted, deviation in (
        (head.classification_head, mean, 2.0),
        (head.regression_head, 0.0, 2.0),
    ):
        last = [block if isinstance(block, nn.Conv2d) else block[-1] for block in part.module_list]
        settle_channels(model, images, last, wanted, deviation)


def rcnn(model: Any, images: torch.Tensor) -> None:
    rpn, heads = model.rpn, model.roi_heads
    settle_channels(model, images, [rpn.head.cls_logits], 0.0, 1.5)
    settle_channels(model, images, [rpn.head.bbox_pred], 0.0, 0.2)
    classes = heads.box_predictor.cls_score.out_features

    def likely_background(channels: int) -> torch.Tensor:
        means = torch.zeros(channels)
        means[0] = math.log(classes - 1)
        return means

    settle_channels(model, images, [heads.box_predictor.cls_score], likely_background, 2.0)
    settle_channels(model, images, [heads.box_predictor.bbox_pred], 0.0, 0.7)
    model.output_format = "efficientnms"  # only detections reach these heads
    if heads.has_mask():
        settle_channels(model, images, [heads.mask_predictor.mask_fcn_logits], 0.0, 2.0)
    if heads.has_keypoint():
        layer = heads.keypoint_predictor.kps_score_lowres
        settle_transposed(model, images, layer, 2.0)
    model.output_format = "raw"


def refinedet(model: Any, images: torch.Tensor) -> None:
    classes = model.odm.conf[0].out_channels // 3

    def likely_background(channels: int) -> torch.Tensor:
        means = torch.zeros(channels // classes, classes)
        means[:, 0] = 2.0 * RARE - math.log(0.05)
        return means.flatten()

    for layers, wanted, deviation in ((model.arm.conf, 0.0, 1.5), (model.arm.loc, 0.0, 1.0),
                                      (model.odm.conf, likely_background, 2.0),
                                      (model.odm.loc, 0.0, 1.0)):  # fmt: skip
        settle_channels(model, images, [*layers], wanted, deviation)


def yolox(model: Any, images: torch.Tensor) -> None:
    """Input are levels of 0 to 255, which noise does not settle."""
    head = model.head
    _settle_norms(model, images)
    settle_channels(model, images, [*head.cls_preds], logit(0.1), 1.5)
    settle_channels(model, images, [*head.obj_preds], logit(0.05), 2.0)
    settle_channels(model, images, [*head.reg_preds], 0.5, 0.5)


def yolo(model: Any, images: torch.Tensor) -> None:
    """The head whose boxes are given."""
    _settle_norms(model, images)
    head = model.model[-1]
    classes, boxes = (getattr(head, f"{head.prefix}{branch}") for branch in ("cv3", "cv2"))
    settle_channels(model, images, [branch[-1] for branch in classes], logit(0.01), 1.0)
    settle_channels(model, images, [branch[-1] for branch in boxes], 1.0, 0.5)
    if hasattr(head, "cv4"):  # what masks have of prototypes, or keypoints
        settle_channels(model, images, [branch[-1] for branch in head.cv4], 0.0, 1.0)


def yolov9(model: Any, images: torch.Tensor) -> None:
    """The head that is not of training alone."""
    _settle_norms(model, images)
    levels = model[22].heads
    settle_channels(model, images, [level.class_conv[-1] for level in levels], logit(0.01), 1.0)
    settle_channels(model, images, [level.anchor_conv[-1] for level in levels], 1.0, 0.5)


def yolov7(model: Any, images: torch.Tensor) -> None:
    """Boxes about as large as the anchors."""
    _settle_norms(model, images)
    layers = [level.head_conv for level in model[-1].heads]
    _settle_anchors(model, images, layers, anchors=3)


def darknet(model: Any, images: torch.Tensor) -> None:
    """Boxes about as large as the anchors; of YOLOv3 and YOLOv4."""
    _settle_norms(model, images)
    for layer in model.plan:
        if layer.kind == "yolo":
            anchors = len(layer.section.numbers("mask"))
            _settle_anchors(model, images, [model.layers[layer.sources[0]].conv], anchors)


def _settle_anchors(model: Any, images: torch.Tensor, layers: Sequence[Any], anchors: int) -> None:
    """Last layers that give for each anchor x, y, width, height, an object and classes."""

    def one(*values: float) -> Callable[[int], torch.Tensor]:
        *box, has_object, of_class = values
        return lambda channels: torch.tensor(
            [*box, has_object, *[of_class] * (channels // anchors - 5)] * anchors
        )

    mean = one(0.0, 0.0, -0.5, -0.5, logit(0.1), logit(0.03))
    settle_channels(model, images, layers, mean, one(1.0, 1.0, 0.4, 0.4, 2.0, 1.0))


def detr(model: Any, images: torch.Tensor) -> None:
    """The last of the classes is no object."""
    _liven(model)
    _settle_norms(model, images)

    def likely_nothing(channels: int) -> torch.Tensor:
        means = torch.zeros(channels)
        means[-1] = 4.0
        return means

    settle_in_turn(model, images, {
        model.model.input_projection: (0.0, 1.0),
        model.class_labels_classifier: (likely_nothing, 3.0),
        model.bbox_predictor.layers[-1]: (0.0, 1.0),
    })  # fmt: skip


def two_stage(model: Any, images: torch.Tensor) -> None:
    """RT-DETR and D-FINE, from the choice of the queries to the last layer of the decoder."""
    _liven(model)
    _settle_norms(model, images)
    body, decoder = model.model, model.model.decoder
    larger = torch.tensor([0.0, 0.0, 1.5, 1.5])  # boxes of a few pixels show rounding errors
    classifier = decoder.class_embed[-1]
    pairs = model.config.num_queries * classifier.out_features
    rare = float(torch.special.ndtri(torch.tensor(1 - 70 / pairs)))  # 70 pairs of an image
    wanted: dict[Any, tuple[Statistic, Statistic]] = {
        body.enc_score_head: (-3.0, 1.5),
        body.enc_bbox_head.layers[-1]: (lambda _: larger, 0.3),
        **{head.layers[-1]: (0.0, 0.3) for head in decoder.bbox_embed},
        classifier: (logit(0.15) - 1.5 * rare, 1.5),
    }
    if hasattr(decoder, "pre_bbox_head"):  # D-FINE
        wanted[decoder.pre_bbox_head.layers[-1]] = (0.0, 0.3)
        wanted[decoder.lqe_layers[-1].reg_conf.layers[-1]] = (0.0, 0.5)  # added to the scores
    settle_in_turn(model, images, wanted)


def calm_two_stage(model: Any, images: torch.Tensor) -> None:
    """RT-DETR whose decoder hardly amplifies rounding errors, for a comparison of boxes in FP16:
    offsets stay as they begin, other weights are smaller than :func:`two_stage` makes them, and
    boxes change less from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("sampling_offsets"):
            nn.init.xavier_uniform_(module.weight, 0.7, generator=generator)
    body, decoder = model.model, model.model.decoder
    settle_in_turn(model, images, {
        body.enc_score_head: (-3.0, 1.5),
        body.enc_bbox_head.layers[-1]: (0.0, 0.1),
        **{head.layers[-1]: (0.0, 0.1) for head in decoder.bbox_embed},
        decoder.class_embed[-1]: (-4.0, 1.5),
    })  # fmt: skip


def rf_detr(model: Any, images: torch.Tensor) -> None:
    """From the choice of the queries' boxes to the last layers. transformers calls the first of
    them twice, so that they are not settled in turn."""
    _liven(model)
    with torch.no_grad():
        model.model.reference_point_embed.weight.mul_(0.03)  # logarithms of sides
    body, boxes = model.model, (0.0, 0.3)
    settle_channels(model, images, [body.enc_out_class_embed[0]], 0.0, 3.0)
    settle_channels(model, images, [body.enc_out_bbox_embed[0].layers[-1]], *boxes)
    settle_channels(model, images, [model.class_embed], logit(0.01), 1.5)
    settle_channels(model, images, [model.bbox_embed.layers[-1]], *boxes)


def _liven(model: Any) -> None:
    """Weights that keep the signal as large as it is: those that transformers begins with make it
    so small that all images look alike. Branches of transformers are weak beside what they are
    added to: means of self-attention would make pixels and queries alike, the others would amplify
    rounding errors from layer to layer, as would places that are far from their boxes."""
    branches = ("self_attn.o_proj", "output_proj", "mlp.fc2", "mlp.layers.1", "sampling_offsets")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
            if name.endswith(branches):
                module.weight.data *= 0.2
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=3)
        for name, parameter in model.named_parameters():
            if name.endswith("position_embeddings"):
                nn.init.normal_(parameter)


def _settle_norms(model: Any, images: torch.Tensor) -> None:
    """The layers before the heads. With shifts of 1 SiLU is nearly linear: signals neither fade nor
    do rounding errors grow with the depth."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 0.8)
            nn.init.uniform_(norm.bias, 0.8, 1.2)
            norm.train().reset_running_stats()
            norm.momentum = None  # the statistics of the one batch
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum
