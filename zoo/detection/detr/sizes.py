"""The sizes of RT-DETR, D-FINE and RF-DETR.

They are those of the published weights, as transformers' programs that convert these have them
(Apache-2.0): ``convert_rt_detr_original_pytorch_checkpoint_to_hf.py``,
``convert_rt_detr_v2_weights_to_hf.py``, ``convert_d_fine_original_pytorch_checkpoint_to_hf.py`` and
``convert_rf_detr_weights_to_hf.py``. Those of RF-DETR are also in its authors'
``src/rfdetr/config.py`` (https://github.com/roboflow/rf-detr, Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trtnet.zoo.detection.detr.hgnet_v2 import Widths

LEVELS, POINTS, HEADS = 3, 4, 8
"""Of RT-DETR: features, and places that a head reads in each; heads of all attentions."""


@dataclass(frozen=True)
class RTDetrSizing:
    """What RT-DETR models differ in.

    Attributes:
        depths: blocks of the backbone's stages.
        bottleneck: whether these have three convolutions, and four times the channels.
        decoder_layers: of which each refines the boxes.
        expansion: of the channels in the encoder's blocks.
        encoded, encoder_hidden: channels of the encoder, and of its linear layers.
        stem: channels before the backbone's stages.
        queries, decoder_hidden: channels of the queries, and of the decoder's linear layers.
    """

    depths: tuple[int, ...]
    bottleneck: bool = True
    decoder_layers: int = 6
    expansion: float = 1.0
    encoded: int = 256
    encoder_hidden: int = 1024
    stem: int = 64
    queries: int = 256
    decoder_hidden: int = 1024

    @property
    def widths(self) -> list[int]:
        """Channels of the backbone's stages."""
        first = self.stem * (4 if self.bottleneck else 1)
        return [first << stage for stage in range(4)]


RT_DETR = {
    "r18": RTDetrSizing((2, 2, 2, 2), False, 3, 0.5),
    "r34": RTDetrSizing((3, 4, 6, 3), False, 4, 0.5),
    "r50": RTDetrSizing((3, 4, 6, 3)),
    "r101": RTDetrSizing((3, 4, 23, 3), encoded=384, encoder_hidden=2048),
}
RT_DETR_V2 = {
    "r18": RT_DETR["r18"],
    "r34": RT_DETR["r34"],
    "r50m": replace(RT_DETR["r50"], expansion=0.5),
    "r50": RT_DETR["r50"],
    "r101": RT_DETR["r101"],
}
SHAPES = RTDetrSizing((2, 2, 2, 2), False, 3, 0.5, 64, 128, 16, 64, 128)


@dataclass(frozen=True)
class DFineSizing:
    """What D-FINE models differ in.

    Attributes:
        backbone: its sizes.
        decoder_layers: of which each refines the boxes.
        expansion, blocks: channels and number of the blocks in the encoder.
        channels: of the encoder, and of the queries unless `queries` says otherwise.
        queries: channels of the queries.
        hidden, decoder_hidden: of the linear layers of the encoder, and of the decoder.
        points: places that a head reads in each of the features.
    """

    backbone: Widths
    decoder_layers: int
    expansion: float = 1.0
    blocks: int = 3
    channels: int = 256
    queries: int = 256
    hidden: int = 1024
    decoder_hidden: int = 1024
    points: tuple[int, ...] = (3, 6, 3)


_NANO = Widths((16, 16), (16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1), 3, affine=True)
_WIDE = (128, 512, 1024, 2048)
D_FINE = {
    "n": DFineSizing(_NANO, 3, 0.34, 2, 128, 128, 512, 512, (6, 6)),
    "s": DFineSizing(_NANO, 3, 0.5, 1),
    "m": DFineSizing(
        Widths((24, 32), (32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), 4, affine=True),
        4,
        blocks=2,
    ),
    "l": DFineSizing(Widths((32, 48), (48, 96, 192, 384), _WIDE, (1, 1, 3, 1), 6, affine=False), 6),
    "x": DFineSizing(
        Widths((32, 64), (64, 128, 256, 512), _WIDE, (1, 2, 5, 2), 6, affine=False),
        6,
        channels=384,
        hidden=2048,
    ),
}


@dataclass(frozen=True)
class RFDETRSizing:
    """What RF-DETR models differ in.

    Attributes:
        edge: of images.
        positions: patches along an edge that the weights have position embeddings of.
        decoder_layers: how many there are.
        patch: edge of the backbone's patches.
        windows: along an edge of the image, in most layers of the backbone.
        taken: the layers of the backbone, counted from 1, whose results are features. The next
            layer behind each sees the whole image.
    """

    edge: int
    positions: int
    decoder_layers: int
    patch: int = 16
    windows: int = 2
    taken: tuple[int, ...] = (3, 6, 9, 12)


RF_DETR = {
    "n": RFDETRSizing(384, 24, 2),
    "s": RFDETRSizing(512, 32, 3),
    "m": RFDETRSizing(576, 36, 4),
    "l": RFDETRSizing(704, 44, 4),
    "base": RFDETRSizing(560, 37, 3, 14, 4, (2, 5, 8, 11)),
}
