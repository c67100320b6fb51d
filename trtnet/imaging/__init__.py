"""Image files as network inputs, and class maps and boxes as pictures.

Reading and drawing need Pillow, which is imported on the first call.
"""

from trtnet.imaging.classes import map_of_image, map_of_size, shares
from trtnet.imaging.decode import (
    MAX_PIXELS,
    SUFFIXES,
    decode_image,
    images_in,
    read_image,
    upright,
    upright_size,
)
from trtnet.imaging.drawing import Drawn, draw_found
from trtnet.imaging.palettes import PALETTES, palette
from trtnet.imaging.pictures import color_map, overlay, with_legend
from trtnet.imaging.placement import Placement, placement, prepared_size
from trtnet.imaging.prepare import image_mode, load_image, prepare

__all__ = [
    "MAX_PIXELS",
    "PALETTES",
    "SUFFIXES",
    "Drawn",
    "Placement",
    "color_map",
    "decode_image",
    "draw_found",
    "image_mode",
    "images_in",
    "load_image",
    "map_of_image",
    "map_of_size",
    "overlay",
    "palette",
    "placement",
    "prepare",
    "prepared_size",
    "read_image",
    "shares",
    "upright",
    "upright_size",
    "with_legend",
]
