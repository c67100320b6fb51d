"""timm's state_dict keys → torchvision's, family by family.

A family whose keys are the same in both, such as ResNet, needs no map. The others are tables of
rules: a prefix of timm's key, in which ``*`` stands for one part of the path, and what torchvision
has in its place. The first rule that matches is taken; a key that none matches stays as it is, to
be reported when the weights are loaded.

Source of the names: https://github.com/huggingface/pytorch-image-models, timm 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

State = dict[str, np.ndarray]
Rules = Iterable[tuple[str, str]]

_STAGES = range(4)

_VGG = (
    ("pre_logits.fc1.", "classifier.0."),
    ("pre_logits.fc2.", "classifier.3."),
    ("head.fc.", "classifier.6."),
)

_CONVNEXT = (
    ("stem.", "features.0."),
    *((f"stages.{stage}.downsample.", f"features.{2 * stage}.") for stage in _STAGES),
    *(
        (f"stages.{stage}.blocks.*.{timm}", f"features.{2 * stage + 1}.*.{torchvision}")
        for stage in _STAGES
        for timm, torchvision in (
            ("gamma", "layer_scale"),
            ("conv_dw.", "block.0."),
            ("norm.", "block.2."),
            ("mlp.fc1.", "block.3."),
            ("mlp.fc2.", "block.5."),
        )
    ),
    ("head.norm.", "classifier.0."),
    ("head.fc.", "classifier.2."),
)

_VIT = (
    ("cls_token", "class_token"),
    ("pos_embed", "encoder.pos_embedding"),
    ("patch_embed.proj.", "conv_proj."),
    *(
        (f"blocks.*.{timm}", f"encoder.layers.encoder_layer_*.{torchvision}")
        for timm, torchvision in (
            ("norm1.", "ln_1."),
            ("attn.qkv.", "self_attention.in_proj_"),
            ("attn.proj.", "self_attention.out_proj."),
            ("norm2.", "ln_2."),
            ("mlp.fc1.", "mlp.0."),
            ("mlp.fc2.", "mlp.3."),
        )
    ),
    ("norm.", "encoder.ln."),
    ("head.", "heads.head."),
)

_SWIN = (
    ("patch_embed.proj.", "features.0.0."),
    ("patch_embed.norm.", "features.0.2."),
    *((f"layers.{stage}.downsample.", f"features.{2 * stage}.") for stage in _STAGES),
    *(
        (f"layers.{stage}.blocks.*.{timm}", f"features.{2 * stage + 1}.*.{torchvision}")
        for stage in _STAGES
        for timm, torchvision in (("mlp.fc1.", "mlp.0."), ("mlp.fc2.", "mlp.3."), ("", ""))
    ),
    ("head.fc.", "head."),
)

_BLOCKS = (  # the layers of each kind of block in torchvision's order; "se" may be absent
    ("conv_pw", "conv_dw", "se", "conv_pwl"),  # inverted residual
    ("conv_exp", "conv_pwl"),  # its fused form
    ("conv_dw", "se", "conv_pw"),  # one that widens nothing
    ("conv",),  # its fused form
)


def same(state: State) -> State:
    """ResNet and DenseNet."""
    return state


def vgg(state: State) -> State:
    """timm has the classifier's hidden layers as convolutions."""
    return _as_linear(_rename(state, _VGG), "classifier.0.weight", "classifier.3.weight")


def convnext(state: State) -> State:
    """torchvision has the layer scale as (channels, 1, 1)."""
    renamed = _rename(state, _CONVNEXT)
    scales = {
        key: array.reshape(-1, 1, 1)
        for key, array in renamed.items()
        if key.endswith(".layer_scale")
    }
    return {**renamed, **scales}


def vit(state: State) -> State:
    """Queries, keys and values lie in the same order in both."""
    return _rename(state, _VIT)


def swin(state: State, window: int) -> State:
    """timm keeps no indices; before version 0.9 it had what merges patches one stage earlier."""
    if "head.weight" in state:
        state = {_after_merging(key): array for key, array in state.items()}
    renamed = _rename(state, _SWIN)
    index = _relative_position_index(window)
    for path in _parents(renamed, ".proj.weight"):
        renamed[f"{path}.relative_position_index"] = index
        renamed.pop(f"{path.removesuffix('.attn')}.attn_mask", None)
    return renamed


def swin_v2(state: State, window: int) -> State:
    """timm keeps biases of queries and values apart, and no table of coordinates."""
    renamed = swin(state, window)
    table = _relative_coords_table(window)
    for path in _parents(renamed, ".cpb_mlp.0.weight"):
        renamed[f"{path}.relative_coords_table"] = table
        if f"{path}.q_bias" in renamed and f"{path}.v_bias" in renamed:
            q, v = renamed.pop(f"{path}.q_bias"), renamed.pop(f"{path}.v_bias")
            renamed[f"{path}.qkv.bias"] = np.concatenate([q, np.zeros_like(q), v])
    return renamed


def efficientnet(state: State) -> State:
    """Blocks are numbered alike, and the layers inside one by their place."""
    blocks = _blocks(state)
    rules = [*_conv_rules("conv_stem.", "bn1.", "features.0")]
    for (stage, number), layers in blocks.items():
        target = f"features.{stage + 1}.{number}.block"
        rules += _block_rules(f"blocks.{stage}.{number}", target, layers)
    last = 2 + max((stage for stage, _ in blocks), default=0)
    rules += _conv_rules("conv_head.", "bn2.", f"features.{last}")
    return _rename(state, [*rules, ("classifier.", "classifier.1.")])


def mobilenet_v3(state: State) -> State:
    """torchvision has the blocks of all stages in one row, with a mere convolution at its end.
    timm has the classifier's hidden layer as a convolution."""
    rules = [*_conv_rules("conv_stem.", "bn1.", "features.0")]
    for index, ((stage, number), layers) in enumerate(_blocks(state).items(), 1):
        block, target = f"blocks.{stage}.{number}", f"features.{index}"
        if "conv" in layers:
            rules += _conv_rules(f"{block}.conv.", f"{block}.bn1.", target)
        else:
            rules += _block_rules(block, f"{target}.block", layers)
    rules += [("conv_head.", "classifier.0."), ("classifier.", "classifier.3.")]
    return _as_linear(_rename(state, rules), "classifier.0.weight")


def _blocks(state: State) -> dict[tuple[int, int], set[str]]:
    """(stage, number in it) of each block, in order → names of the layers that it has."""
    found: dict[tuple[int, int], set[str]] = {}
    for key in state:
        if match := re.match(r"blocks\.(\d{1,3})\.(\d{1,3})\.([^.]+)\.", key):
            found.setdefault((int(match[1]), int(match[2])), set()).add(match[3])
    return dict(sorted(found.items()))


def _block_rules(timm: str, torchvision: str, layers: set[str]) -> Iterator[tuple[str, str]]:
    kind = next((kind for kind in _BLOCKS if {*kind} - {"se"} <= layers), ())
    norms = 0
    for place, layer in enumerate(layer for layer in kind if layer in layers):
        if layer == "se":
            yield f"{timm}.se.conv_reduce.", f"{torchvision}.{place}.fc1."
            yield f"{timm}.se.conv_expand.", f"{torchvision}.{place}.fc2."
        else:
            norms += 1
            conv, norm = f"{timm}.{layer}.", f"{timm}.bn{norms}."
            yield from _conv_rules(conv, norm, f"{torchvision}.{place}")


def _conv_rules(conv: str, norm: str, torchvision: str) -> Rules:
    """A convolution and the BatchNorm after it, which are one module in torchvision."""
    return ((conv, f"{torchvision}.0."), (norm, f"{torchvision}.1."))


def _rename(state: State, rules: Rules) -> State:
    patterns = [(re.compile(re.escape(old).replace(r"\*", "([^.]+)")), new) for old, new in rules]
    return {_renamed(key, patterns): array for key, array in state.items()}


def _renamed(key: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in patterns:
        if match := pattern.match(key):
            for part in match.groups():
                new = new.replace("*", part, 1)
            return new + key[match.end() :]
    return key


def _parents(state: State, child: str) -> list[str]:
    """Paths of the modules that have `child`."""
    return [key.removesuffix(child) for key in state if key.endswith(f".attn{child}")]


def _as_linear(state: State, *keys: str) -> State:
    """With the convolution weights called `keys` as those of linear layers."""
    found = {key: state[key].reshape(len(state[key]), -1) for key in keys if key in state}
    return {**state, **found}


def _after_merging(key: str) -> str:
    """A key of timm before 0.9 as it is since."""
    if merging := re.match(r"layers\.(\d)\.downsample\.", key):
        return f"layers.{int(merging[1]) + 1}.downsample.{key[merging.end() :]}"
    return re.sub(r"^head\.", "head.fc.", key)


def _relative_position_index(window: int) -> np.ndarray:
    """For each pair of positions in a window the row of the bias table: (window**4,)."""
    offsets = np.arange(window)[:, None] - np.arange(window) + window - 1
    rows, columns = offsets[:, None, :, None], offsets[None, :, None, :]
    return ((2 * window - 1) * rows + columns).reshape(-1)


def _relative_coords_table(window: int) -> np.ndarray:
    """Distances along both axes on the paper's logarithmic scale (equation 4), those of a window
    as 8: (1, 2 * window - 1, 2 * window - 1, 2)."""
    distances = np.arange(1 - window, window) * (8 / (window - 1))
    scaled = np.sign(distances) * np.log2(np.abs(distances) + 1) / np.log2(8)
    both = np.stack(np.meshgrid(scaled, scaled, indexing="ij"), axis=-1)
    return both.astype(np.float32)[None]
