"""Masks and keypoints of detectors against PyTorch, from pixels to pixels: for
``tools/verify_detectors.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.ops import box_iou
from torchvision.transforms.functional import pil_to_tensor

from trtnet.detection import PrototypeMasks, heatmap_keypoints, paste_masks
from trtnet.imaging import Placement, placement
from trtnet.imaging.preprocessing import Preprocessing

CLEAR = 0.01  # masks are compared where the probability is at least this far from one half
NEAR = 0.05  # pixels

Found = Mapping[str, torch.Tensor]
"""What was found in one image, in its pixels: `boxes`, `labels`, and `masks` (n, 1, H, W) or
`keypoints` (n, N, 3), as torchvision's detectors give them."""


def of_torchvision(model: torch.nn.Module, images: Sequence[Image.Image]) -> list[Found]:
    """What torchvision's own model finds; it prepares the images."""
    with torch.no_grad():
        found: list[Found] = model([pil_to_tensor(image).float() / 255 for image in images])
    return found


def of_twin(
    outputs: Mapping[str, torch.Tensor], images: Sequence[Image.Image], rules: Preprocessing
) -> Iterator[Found]:
    """What a YOLO in PyTorch gives, called with the prepared `images`."""
    for index, image in enumerate(images):
        count = int(outputs["num_dets"][index, 0])
        place = placement(image.size, rules)
        boxes = torch.from_numpy(place.to_image(outputs["det_boxes"][index, :count]))
        found = {"boxes": boxes.float(), "labels": outputs["det_classes"][index, :count]}
        if "det_points" in outputs:
            found["keypoints"] = outputs["det_points"][index, :count].clone()
            at = place.to_image(found["keypoints"][..., :2])
            found["keypoints"][..., :2] = torch.from_numpy(at)
        if "prototypes" in outputs:
            coefficients = outputs["det_coefficients"][index, :count]
            chances = torch.einsum("np,phw->nhw", coefficients, outputs["prototypes"][index])
            found["masks"] = _enlarged(chances.sigmoid(), boxes, place)[:, None]
        yield found


def _enlarged(chances: torch.Tensor, boxes: torch.Tensor, place: Placement) -> torch.Tensor:
    """(n, H, W) of the image, zero outside of the boxes, of masks over the whole input."""
    pixels = np.mgrid[: place.original[1], : place.original[0]].T[..., :2] + 0.5  # (H, W, 2): x, y
    size = np.array(place.size[::-1])
    grid = torch.from_numpy(place.to_input(pixels) / size * 2 - 1)[None]
    large = torch.nn.functional.grid_sample(chances[None].double(), grid, padding_mode="border",
                                            align_corners=False)[0]  # fmt: skip
    at = torch.from_numpy(pixels)
    low, high = (boxes[:, None, None, part] for part in (slice(2), slice(2, 4)))
    inside = ((at >= low) & (at < high)).all(-1)
    return large * inside


def compare(
    outputs: Mapping[str, np.ndarray],
    theirs: Sequence[Found],
    images: Sequence[Image.Image],
    rules: Preprocessing,
) -> dict[str, float]:
    """Of every object that both found: what is different in the original images.

    Args:
        outputs: of our network, called with the prepared `images`.
        theirs: what PyTorch finds in each.

    Returns:
        For masks ``mask_pixels``, the fraction of the pixels in a mask (probability at least one
        half) that are in the other's too, of those whose probability is clear. For keypoints
        ``keypoints``, the fraction that are at most :data:`NEAR` apart. The least of all images.
    """
    least: dict[str, float] = {}
    for index, (image, wanted) in enumerate(zip(images, theirs, strict=True)):
        count = int(outputs["num_dets"][index, 0])
        mine = {name: x[index, :count] if name.startswith("det_") else x[index]
                for name, x in outputs.items()}  # fmt: skip
        place = placement(image.size, rules)
        boxes = place.to_image(mine["det_boxes"])
        overlap = box_iou(torch.from_numpy(boxes).float(), wanted["boxes"]).numpy()
        overlap[mine["det_classes"][:, None] != wanted["labels"].numpy()] = 0
        partner = overlap.argmax(1)
        found: dict[str, float] = {}
        if "masks" in wanted:
            pasted = _masks(mine, boxes, place)
            found["mask_pixels"] = _same_pixels(pasted, wanted["masks"][partner, 0].numpy())
        if "keypoints" in wanted:
            there = _keypoints(mine, place)
            apart = np.abs(there - wanted["keypoints"][partner, :, :2].numpy()).max(-1)
            found["keypoints"] = float((apart <= NEAR).mean())
        for name, value in found.items():
            least[name] = min(least.get(name, 1.0), value)
    return least


def _masks(mine: Mapping[str, np.ndarray], boxes: np.ndarray, place: Placement) -> np.ndarray:
    """(n, H, W) probabilities of our network's outputs for one image."""
    if "det_masks" in mine:
        return paste_masks(mine["det_masks"], boxes, place.original)
    extent = place.to_image([0, 0, place.size[1], place.size[0]])
    masks = PrototypeMasks(mine["det_coefficients"], mine["prototypes"], extent)
    pasted = np.zeros((len(boxes), *place.original), np.float32)
    for number, (box, target) in enumerate(zip(boxes, pasted, strict=True)):
        masks.paste(number, box, target)
    return pasted


def _keypoints(mine: Mapping[str, np.ndarray], place: Placement) -> np.ndarray:
    """(n, N, 2) in the image."""
    if "det_points" in mine:
        return place.to_image(mine["det_points"][..., :2])
    points = heatmap_keypoints(mine["det_keypoints"], mine["det_boxes"]).points
    return place.to_image(points)


def _same_pixels(mine: np.ndarray, theirs: np.ndarray) -> float:
    clear = (np.abs(theirs - 0.5) >= CLEAR) & ((theirs > 0) | (mine > 0))
    same = (mine >= 0.5) == (theirs >= 0.5)
    return float(same[clear].mean()) if clear.any() else 1.0
