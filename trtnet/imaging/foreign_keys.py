"""How transformers, timm, OpenCV and others name what preprocessing does, and what says the same
here."""

from __future__ import annotations

ELSEWHERE = {
    "size": 'resize_size: the shorter edge, or [height, width]',
    "shortest_edge": "resize_size = the shorter edge",
    "do_resize": "resize_size; without it images are not resized",
    "resize": "resize_size: the shorter edge, or [height, width]",
    "input_size": "resize_size = [height, width], or crop_size",
    "image_size": "resize_size = [height, width], or crop_size",
    "do_center_crop": "crop_size; without it images are not cropped",
    "crop_pct": "resize_size = crop_size / crop_pct",
    "crop": "crop_size",
    "image_mean": "mean",
    "image_std": "std",
    "do_normalize": "mean and std; without them values are not normalised",
    "normalize": "mean and std",
    "do_rescale": "scale; 1 for values from 0 to 255",
    "rescale": "scale; 1 for values from 0 to 255",
    "rescale_factor": "scale",
    "scalefactor": "scale",
    "resample": 'interpolation, such as "bilinear"',
    "color_format": 'channels: "rgb", "bgr" or "gray"',
    "channel_order": 'channels: "rgb", "bgr" or "gray"',
    "color_order": 'channels: "rgb", "bgr" or "gray"',
    "color": 'channels: "rgb", "bgr" or "gray"',
    "bgr": 'channels = "bgr"',
    "swaprb": 'channels = "bgr"',
    "swap_rb": 'channels = "bgr"',
    "grayscale": 'channels = "gray"',
    "letterbox": "letterbox_size",
    "do_pad": "letterbox_size and pad_color",
    "pad": "letterbox_size and pad_color",
    "pad_value": "pad_color",
    "padding_value": "pad_color",
    "fill": "pad_color",
    "scaleup": "upscale",
    "center": 'pad_position: "center" or "top-left"',
}  # fmt: skip
"""Key elsewhere → the advice."""
