"""Boxes as labels: in the arrays of a ``.npz`` file, or beside images in COCO's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.detection.average_precision import Truth
from trtnet.errors import ShapeError, UsageError
from trtnet.imaging.decode import upright_size
from trtnet.imaging.placement import placement
from trtnet.reading.documents import Source
from trtnet.reading.schema import read_checked

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing
    from trtnet.quantization.coco_annotations import CocoBox

ANNOTATIONS = "annotations.json"
"""Name of the file with boxes in a folder of images."""

BOXES, CLASSES, CROWD = "boxes", "box_classes", "box_crowd"
"""Names of arrays with boxes in a ``.npz`` file."""

_WHAT = "boxes of images, in COCO's format"


def boxes_in_arrays(
    arrays: Mapping[str, np.ndarray], items: int, chosen: Iterable[int]
) -> list[Truth] | None:
    """The objects of the items `chosen`; ``None`` where the arrays have none.

    Args:
        arrays: of a ``.npz`` file: ``boxes`` (N, K, 4), x1, y1, x2, y2 in pixels of the network's
            input; ``box_classes`` (N, K) integers as the network numbers classes, -1 for places
            without a box; and perhaps ``box_crowd`` (N, K), true or 1 for crowds, in which boxes
            are neither right nor wrong.
        items: N.
        chosen: numbers of items.

    Raises:
        ShapeError: arrays of other shapes or types.
        UsageError: one of the arrays is missing, or holds impossible boxes.
    """
    if BOXES not in arrays and CLASSES not in arrays:
        return None
    if BOXES not in arrays or CLASSES not in arrays:
        raise UsageError("boxes as labels need two arrays", expected=f"{BOXES} and {CLASSES}",
                         got=BOXES if BOXES in arrays else CLASSES)  # fmt: skip
    boxes, classes = arrays[BOXES], arrays[CLASSES]
    crowd = arrays.get(CROWD, np.zeros(classes.shape, bool))
    places = (items, boxes.shape[1] if boxes.ndim > 1 else 0)
    for name, array, shape, kinds in ((BOXES, boxes, (*places, 4), "f"),
                                      (CLASSES, classes, places, "iu"),
                                      (CROWD, crowd, places, "biu")):  # fmt: skip
        if array.shape != shape or array.dtype.kind not in kinds:
            kind = {"f": "floats", "iu": "integers", "biu": "booleans"}[kinds]
            raise ShapeError("boxes as labels have another shape or type", module=name,
                             expected=f"{kind} of shape {shape}",
                             got=f"{array.dtype} of shape {array.shape}")  # fmt: skip
    found = []
    for item in chosen:
        there = classes[item] >= 0
        corners = boxes[item][there].astype(np.float64)
        _check(corners, f"{BOXES}[{item}]")
        found.append(Truth(corners, classes[item][there].astype(np.int64),
                           crowd[item][there].astype(bool)))  # fmt: skip
    return found


def boxes_in_folder(
    folder: Path, paths: Sequence[Path], preprocessing: Mapping[str, Any] | Preprocessing
) -> list[Truth] | None:
    """The objects of the images `paths`, in pixels of the network's input; ``None`` where the
    folder has no :data:`ANNOTATIONS`. An image that is listed without a box has no objects.

    Args:
        folder: whose annotations name files relative to it. ``category_id`` is the number that the
            network gives the class.
        paths: of images in it.
        preprocessing: of the images, which moves the boxes with them.

    Raises:
        UsageError: a file that is not in COCO's format, an image that is not in it, is in it twice
            or has another size, or a box that is none.
    """
    from trtnet.quantization.coco_annotations import CocoAnnotations  # needs msgspec

    file = folder / ANNOTATIONS
    if not file.exists():
        return None
    source = Source(str(file), _WHAT, UsageError, "write it as the annotations of COCO are written")
    stated = read_checked(file, CocoAnnotations, source)
    images = {image.file_name: image for image in stated.images}
    known = {image.id for image in stated.images}
    for what, different in (("file_name", images), ("id", known)):
        if len(different) < len(stated.images):
            raise source.refuse(f"two of images have the same {what}",
                                expected=f"another {what} for each")  # fmt: skip
    by_image: dict[int, list[CocoBox]] = {number: [] for number in known}
    for place, box in enumerate(stated.annotations):
        if box.image_id not in known:
            raise source.refuse(f"annotations[{place}] is of an image that is not listed",
                                expected="the id of one of images", got=box.image_id)  # fmt: skip
        by_image[box.image_id].append(box)
    found = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name not in images:
            raise source.refuse(f"the image {name} is not in it", expected="each image of the "
                                "folder, also one without boxes")  # fmt: skip
        image, size = images[name], upright_size(path)
        if size != (image.width, image.height):
            raise source.refuse(f"the image {name} has another size", got=f"{size[0]}x{size[1]}",
                                expected=f"{image.width}x{image.height}")  # fmt: skip
        found.append(_moved(by_image[image.id], size, preprocessing, f"{file}, {name}"))
    return found


def _moved(
    boxes: Sequence[CocoBox], size: tuple[int, int], preprocessing: Any, where: str
) -> Truth:
    """The boxes of one image of `size`, (width, height), in its input; what is cut off is left
    out."""
    placed = placement(size, preprocessing)
    left_top_size = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    corners = np.concatenate([left_top_size[:, :2], left_top_size[:, :2] + left_top_size[:, 2:]], 1)
    _check(corners, where)
    height, width = placed.size
    corners = placed.to_input(corners).clip(0, [width, height, width, height])
    inside = (corners[:, 2:] > corners[:, :2]).all(1)
    classes = np.array([box.category_id for box in boxes], np.int64)
    crowd = np.array([bool(box.iscrowd) for box in boxes], bool)
    return Truth(corners[inside], classes[inside], crowd[inside])


def _check(corners: np.ndarray, where: str) -> None:
    good = np.isfinite(corners).all(1) & (corners[:, 2:] >= corners[:, :2]).all(1)
    if not good.all():
        raise UsageError("a box as label is none", module=where,
                         expected="finite numbers, x1 <= x2 and y1 <= y2",
                         got=corners[~good][0].tolist())  # fmt: skip
