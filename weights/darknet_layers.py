"""The layers of a darknet network: what each takes, and how many channels it gives.

https://github.com/pjreddie/darknet and https://github.com/AlexeyAB/darknet, in the public domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trtnet.reading.darknet import Section

ACTIVATIONS = ("linear", "leaky", "mish", "relu", "swish", "logistic")
"""What a convolution or a sum may end in."""

_TRAINING = frozenset((
    "jitter", "ignore_thresh", "truth_thresh", "random", "resize", "iou_thresh", "cls_normalizer",
    "iou_normalizer", "obj_normalizer", "iou_loss", "nms_kind", "beta_nms", "max_delta",
    "label_smooth_eps", "objectness_smooth", "max", "counters_per_class", "focal_loss",
))  # fmt: skip
_KEYS = {
    "convolutional": frozenset((
        "batch_normalize", "filters", "size", "stride", "pad", "padding", "groups", "activation",
    )),
    "maxpool": frozenset(("size", "stride", "padding")),
    "upsample": frozenset(("stride",)),
    "route": frozenset(("layers", "groups", "group_id")),
    "shortcut": frozenset(("from", "activation")),
    "yolo": _TRAINING | {"mask", "anchors", "classes", "num", "scale_x_y", "new_coords"},
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        kind: ``"convolutional"``, ``"maxpool"``, ``"upsample"``, ``"route"``, ``"shortcut"`` or
            ``"yolo"``.
        section: its values.
        sources: numbers of the layers that it takes; -1 is the image.
        in_channels, channels: of what it takes (the sum for a route) and gives.
        stride: the distance of its cells in pixels of the image.
    """

    kind: str
    section: Section
    sources: tuple[int, ...]
    in_channels: int
    channels: int
    stride: int

    @property
    def has_norm(self) -> bool:
        """Whether a convolution has batch normalisation in place of a bias."""
        return self.section.number("batch_normalize", 0) != 0

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """Size, stride, padding and groups of a convolution."""
        size = self.section.number("size", 1)
        around = self.section.number("padding", 0)
        padding = size // 2 if self.section.number("pad", 0) else around
        groups = self.section.number("groups", 1)
        return size, self.section.number("stride", 1), padding, groups

    @property
    def activation(self) -> str:
        """What the layer ends in."""
        name = self.section.values.get("activation", "linear")
        if name not in ACTIVATIONS:
            raise self.section.refuse("unknown activation", ", ".join(ACTIVATIONS), name)
        return name


def planned(sections: Sequence[Section]) -> list[Layer]:
    """The layers of a description, whose first section is that of the whole network.

    Raises:
        TrtnetError: a section or a key that is unknown here, so that the network would not be the
            one that is described; layers that do not fit together.
    """
    layers: list[Layer] = []
    channels = sections[0].number("channels", 3)
    for section in sections[1:]:
        known = _KEYS.get(section.kind)
        if known is None:
            raise section.refuse("a layer that is unknown here", ", ".join(_KEYS), section.kind)
        if strange := sorted(section.values.keys() - known):
            raise section.refuse("a key that is unknown here", ", ".join(sorted(known)),
                                 ", ".join(strange))  # fmt: skip
        layers.append(_planned(section, layers, channels))
    if not layers:
        raise sections[0].refuse("there are no layers")
    return layers


def _planned(section: Section, layers: Sequence[Layer], image: int) -> Layer:
    sources = _sources(section, len(layers))
    inputs = [layers[source].channels if source >= 0 else image for source in sources]
    strides = {layers[source].stride if source >= 0 else 1 for source in sources}
    if len(strides) > 1 or (section.kind == "shortcut" and len(set(inputs)) > 1):
        raise section.refuse("layers of other sizes", "equal sizes, and channels to be added",
                             f"{inputs} channels, {sorted(strides)} pixels to a cell")  # fmt: skip
    taken, stride = sum(inputs) if section.kind == "route" else inputs[0], strides.pop()
    given = taken
    if section.kind == "convolutional":
        given, stride = section.number("filters"), stride * section.number("stride", 1)
        groups = section.number("groups", 1)
        if given < 1 or groups < 1 or taken % groups or given % groups:
            raise section.refuse("impossible numbers of channels",
                                 got=f"{taken} in, {given} filters, {groups} groups")  # fmt: skip
    elif section.kind == "maxpool":
        stride *= section.number("stride", 1)
        if "padding" in section.values:
            expected = section.number("size", section.number("stride", 1)) - 1
            if section.number("padding") != expected:
                raise section.refuse("unusual padding", expected, section.values["padding"])
    elif section.kind == "upsample":
        times = section.number("stride", 2)
        if times < 1 or stride % times:
            raise section.refuse("it enlarges beyond the image", got=times)
        stride //= times
    elif section.kind == "route":
        given = taken // _groups(section, taken)
    elif section.kind == "yolo":
        _check_head(section, taken)
    return Layer(section.kind, section, sources, taken, given, stride)


def _sources(section: Section, index: int) -> tuple[int, ...]:
    """Numbers of the layers that a layer takes; negative ones in a file count back from it."""
    if section.kind not in ("route", "shortcut"):
        return (index - 1,)
    key = "layers" if section.kind == "route" else "from"
    found = [int(n) + index if n < 0 else int(n) for n in section.numbers(key)]
    found = found if section.kind == "route" else [index - 1, *found]
    if not found or not all(0 <= number < index for number in found):
        raise section.refuse(f"{key} names no layer before it", f"0 to {index - 1}",
                             section.values.get(key))  # fmt: skip
    return tuple(found)


def _groups(section: Section, channels: int) -> int:
    groups, taken = section.number("groups", 1), section.number("group_id", 0)
    if groups < 1 or channels % groups or not 0 <= taken < groups:
        raise section.refuse("impossible groups", got=f"{taken} of {groups} of {channels} channels")
    return groups


def _check_head(section: Section, channels: int) -> None:
    if section.number("new_coords", 0):
        raise section.refuse("new_coords=1, another decoding of boxes, is unknown here")
    anchors, mask = section.numbers("anchors"), section.numbers("mask")
    known = len(anchors) // 2
    if not mask or len(anchors) % 2 or not all(0 <= n < known and n == int(n) for n in mask):
        raise section.refuse("mask and anchors do not fit", got=f"{mask} of {known} anchors")
    wanted = len(mask) * (section.number("classes") + 5)
    if channels != wanted:
        raise section.refuse("it takes another number of channels", wanted, channels)
