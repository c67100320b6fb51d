"""Masks and keypoints of two-stage detectors against torchvision's own model, from pixels to
pixels: for ``tools/verify_detectors.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou
from torchvision.transforms.functional import pil_to_tensor

from trtnet.detection import heatmap_keypoints, paste_masks
from trtnet.imaging import placement
from trtnet.imaging.preprocessing import Preprocessing

CLEAR = 0.01  # masks are compared where the probability is at least this far from one half
NEAR = 0.05  # pixels


def compare(
    outputs: Mapping[str, np.ndarray],
    model: torch.nn.Module,
    images: Sequence[Image.Image],
    rules: Preprocessing,
) -> dict[str, float]:
    """Of every object that both found: what is different in the original images.

    Args:
        outputs: of our network, called with the prepared `images`.
        model: torchvision's, which prepares the images itself.

    Returns:
        For masks ``mask_pixels``, the fraction of the pixels in a mask (probability at least one
        half) that are in the other's too, of those whose probability is clear. For keypoints
        ``keypoints``, the fraction that are at most :data:`NEAR` apart. The least of all images.
    """
    with torch.no_grad():
        theirs = model([pil_to_tensor(image).float() / 255 for image in images])
    least: dict[str, float] = {}
    for index, (image, wanted) in enumerate(zip(images, theirs, strict=True)):
        count = int(outputs["num_dets"][index, 0])
        mine = {name: x[index, :count] for name, x in outputs.items() if name != "num_dets"}
        place = placement(image.size, rules)
        boxes = place.to_image(mine["det_boxes"])
        overlap = box_iou(torch.from_numpy(boxes).float(), wanted["boxes"]).numpy()
        overlap[mine["det_classes"][:, None] != wanted["labels"].numpy()] = 0
        partner = overlap.argmax(1)
        found: dict[str, float] = {}
        if "masks" in wanted:
            pasted = paste_masks(mine["det_masks"], boxes, image.size[::-1])
            found["mask_pixels"] = _same_pixels(pasted, wanted["masks"][partner, 0].numpy())
        if "keypoints" in wanted:
            points = heatmap_keypoints(mine["det_keypoints"], mine["det_boxes"]).points
            corners = np.concatenate([points, points], -1).reshape(-1, 4)
            there = place.to_image(corners)[:, :2].reshape(points.shape)
            apart = np.abs(there - wanted["keypoints"][partner, :, :2].numpy()).max(-1)
            found["keypoints"] = float((apart <= NEAR).mean())
        for name, value in found.items():
            least[name] = min(least.get(name, 1.0), value)
    return least


def _same_pixels(mine: np.ndarray, theirs: np.ndarray) -> float:
    clear = (np.abs(theirs - 0.5) >= CLEAR) & ((theirs > 0) | (mine > 0))
    same = (mine >= 0.5) == (theirs >= 0.5)
    return float(same[clear].mean()) if clear.any() else 1.0
