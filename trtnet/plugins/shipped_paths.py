"""Where the plugins that come with trtnet are declared; they are imported on first use."""

from __future__ import annotations

# Import path of each, by its name without the namespace "trtnet".
IMPORT_PATHS = {
    "class_map": "trtnet.plugins.shipped.class_map.declaration:ClassMap",
    "deform_conv2d": "trtnet.plugins.shipped.deform_conv2d.declaration:DeformConv2d",
    "greedy_nms": "trtnet.detection.greedy_nms.declaration:GreedyNms",
    "normalize_image": "trtnet.plugins.shipped.normalize_image.declaration:NormalizeImage",
    "normalize_image_half": "trtnet.plugins.shipped.normalize_image.declaration:NormalizeImageHalf",
    "roi_align": "trtnet.plugins.shipped.roi_align.declaration:RoIAlign",
    "yolo_decode": "trtnet.plugins.shipped.yolo_decode.declaration:YoloDecode",
}
