"""Pictures of boxes, names, masks and keypoints."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trtnet.errors import ShapeError
from trtnet.imaging import Drawn, draw_found, palette
from trtnet.imaging.drawing import edge_color

RED, EDGE = (192, 0, 0), (255, 255, 255)


def plain(level: int | tuple[int, int, int], width: int = 400, height: int = 300) -> Image.Image:
    return Image.new("RGB", (width, height), (level,) * 3 if isinstance(level, int) else level)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("level", [0, 255, 128, RED])
def test_a_box_covers_the_pixels_at_its_border(level: int | tuple[int, int, int]) -> None:
    """One pixel wide at this size, between lines that show on any ground."""
    before = plain(level)
    drawn = pixels(draw_found(before, [Drawn((100.2, 150, 200, 250.5), "", RED)]))
    box = np.zeros((300, 400), bool)
    box[150:251, 100:200] = True
    inside = np.zeros_like(box)
    inside[151:250, 101:199] = True
    assert (drawn[box & ~inside] == RED).all()
    around = np.zeros_like(box)
    around[149:252, 99:201] = True
    deeper = np.zeros_like(box)
    deeper[152:249, 102:198] = True
    assert (drawn[(around & ~box) | (inside & ~deeper)] == EDGE).all()
    assert (drawn[deeper] == pixels(before)[deeper]).all()
    assert (drawn[260:] == pixels(before)[260:]).all()
    assert (pixels(before) == pixels(plain(level))).all()  # a copy was drawn on


def test_lines_grow_with_the_image() -> None:
    for edge, width in ((300, 1), (1000, 4), (3000, 12)):
        box = (edge * 0.4, edge * 0.4, edge * 0.6, edge * 0.6)
        drawn = pixels(draw_found(plain(9, edge, edge), [Drawn(box, "", RED)]))
        assert (drawn[edge // 2] == RED).all(-1).sum() == 2 * width


def test_colours_and_their_edges_differ_in_brightness() -> None:
    """Thus one of the two shows on any ground."""
    for name in ("voc", "tutorial"):
        for color in palette(name, 257).tolist():
            light, dark = (np.dot([0.299, 0.587, 0.114], c) for c in (color, edge_color(color)))
            assert abs(light - dark) > 125


def text_rows(image: Image.Image, before: Image.Image) -> np.ndarray:
    return np.flatnonzero((pixels(image) != pixels(before)).any((1, 2)))


def test_a_label_stands_above_its_box_or_in_it() -> None:
    ground = plain(40)
    for top, first in ((100, 86), (3, 2)):
        drawn = draw_found(ground, [Drawn((50, top, 350, top + 90), "cat 0.98", RED)])
        assert text_rows(drawn, ground)[0] == first  # its text is 10 pixels high, 4 around it
        label = pixels(drawn)[max(top - 14, 3) : max(top - 14, 3) + 14, 50:110]
        assert (label == RED).all(-1).sum() > 200
        assert (label == EDGE).all(-1).sum() > 60


def test_labels_avoid_each_other() -> None:
    found = [Drawn((50, 100, 350, 200), "first", RED), Drawn((52, 101, 351, 202), "second", RED)]
    both = pixels(draw_found(plain(40), found))
    for each in found:
        alone = pixels(draw_found(plain(40), [each]))
        assert len(alone)
    first = pixels(draw_found(plain(40), found[:1]))
    assert (both[86:99, 50:85] == first[86:99, 50:85]).all()  # the first has the better place


def test_labels_without_room_are_left_out() -> None:
    """Of many boxes in one place the first ones have labels, and all of them can be read."""
    found = [Drawn((50, 100, 200, 160), f"name {i}", RED) for i in range(30)]
    few, more = (pixels(draw_found(plain(40), found[:count])) for count in (8, 30))
    assert (few == more).all()


def test_the_first_is_on_top() -> None:
    blue = (0, 0, 128)
    found = [Drawn((50, 100, 350, 200), "", RED), Drawn((50, 100, 350, 200), "", blue)]
    drawn = pixels(draw_found(plain(40), found))
    assert (drawn[150, 50] == RED).all()
    assert not (drawn == blue).all(-1).any()


def test_a_mask_is_half_transparent() -> None:
    mask = np.zeros((300, 400), bool)
    mask[120:140, 120:140] = True
    drawn = pixels(draw_found(plain(200), [Drawn((100, 100, 300, 200), "", RED, mask)]))
    assert np.abs(drawn[130, 130] - (np.array(RED) + 200) / 2).max() <= 1
    assert (drawn[150, 150] == 200).all()


def test_keypoints_are_dots_and_those_of_a_person_are_joined() -> None:
    points = np.array([[120.0, 120.0], [280.0, 180.0]])
    for number, joined in ((2, False), (17, True)):
        every = np.concatenate([points, np.full((number - 2, 2), 150)])
        drawn = pixels(draw_found(plain(40), [Drawn((100, 100, 300, 200), "", RED, None, every)]))
        assert (drawn[120, 120] == RED).all()
        assert (drawn[180, 280] == RED).all()
        assert (drawn[150, 200] == RED).all() == joined  # the nose and an eye
        for far in (np.nan, 1e30):
            every[1] = far
            found = Drawn((100, 100, 300, 200), "", RED, None, every)
            drawn = pixels(draw_found(plain(40), [found]))
            assert (drawn[120, 120] == RED).all()
            assert not (drawn[180, 280] == RED).all()
            assert not (drawn[150, 200] == RED).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (12, 12), (40, 30)])
def test_small_images(size: tuple[int, int]) -> None:
    """Have no room for a label, or for part of it."""
    width, height = size
    found = [Drawn((0, 0, width, height), "a long name 0.98", RED),
             Drawn((width - 1, height - 1, width, height), "x", RED)]  # fmt: skip
    drawn = draw_found(plain(40, width, height), found)
    assert drawn.size == size
    assert (pixels(drawn) == RED).all(-1).any()


def test_images_of_other_modes() -> None:
    for mode in ("L", "RGBA", "P"):
        image = plain(40).convert(mode)
        drawn = draw_found(image, [])
        assert drawn.mode == "RGB"
        assert (pixels(drawn) == pixels(image.convert("RGB"))).all()
    image = plain(40)
    assert draw_found(image, []) is not image


def test_a_mask_of_another_size_is_refused() -> None:
    mask = np.ones((400, 300), bool)  # (width, height)
    with pytest.raises(ShapeError, match=r"\(height, width\) \(300, 400\)"):
        draw_found(plain(0), [Drawn((1, 1, 5, 5), "", RED, mask)])
