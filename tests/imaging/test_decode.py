"""Reading image files, against Pillow's and torchvision's own pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import trtnet
from trtnet.imaging import decode_image, read_image, upright_size


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def smooth(height: int, width: int) -> np.ndarray:
    """Colours that change slowly, which lossy formats keep."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y // height, 255 * x // width, 0 * x + 90], 2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "ppm", "bmp", "tiff"])
def test_lossless_formats_give_the_pixels(tmp_path: Path, suffix: str) -> None:
    path, pixels = tmp_path / f"a.{suffix}", noise(13, 17, 3)
    Image.fromarray(pixels).save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert upright_size(path) == (17, 13)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_lossy_formats_give_nearly_the_pixels(tmp_path: Path, suffix: str) -> None:
    path, pixels = tmp_path / f"a.{suffix}", smooth(40, 56)
    Image.fromarray(pixels).save(path)
    difference = np.asarray(read_image(path)).astype(int) - pixels
    assert np.abs(difference).mean() < 6


def test_the_tutorials_ppm(tmp_path: Path) -> None:
    """1282 x 1026, written by hand, with a comment in the header."""
    path, pixels = tmp_path / "street.ppm", noise(1026, 1282, 3)
    path.write_bytes(b"P6\n# a street\n1282 1026\n255\n" + pixels.tobytes())
    image = read_image(path)
    assert image.size == upright_size(path) == (1282, 1026)
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_ppm_of_text(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.ppm", noise(5, 7, 3)
    path.write_text("P3 7 5 255\n" + " ".join(map(str, pixels.reshape(-1).tolist())))
    np.testing.assert_array_equal(np.asarray(read_image(path)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    """What is stored turned comes out as it was: orientations as EXIF 2.32 defines them."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],  # mirrored left to right
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),  # to be turned clockwise
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    path, upright = tmp_path / f"a.{suffix}", smooth(24, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    stored.save(path, exif=exif, **options)
    image = read_image(path)
    assert image.size == upright_size(path) == (40, 24)
    assert np.abs(np.asarray(image).astype(int) - upright).max() <= 8
    with Image.open(path) as raw:
        wanted = np.asarray(ImageOps.exif_transpose(raw).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(image), wanted)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bit_grey_keeps_its_upper_8_bits(tmp_path: Path, suffix: str, mode: str) -> None:
    path, values = tmp_path / f"a.{suffix}", noise(9, 11, dtype="uint16")
    if suffix == "pgm":
        path.write_bytes(b"P5 11 9 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    got = np.asarray(read_image(path, mode))
    wanted = (values >> 8).astype(np.uint8)
    np.testing.assert_array_equal(got if mode == "L" else got[..., 1], wanted)


def test_16_bit_grey_is_turned_too(tmp_path: Path) -> None:
    path, values = tmp_path / "a.png", noise(9, 11, dtype="uint16")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(path, "L")), np.rot90(values >> 8, -1))


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path: Path) -> None:
    path, values = tmp_path / "a.png", noise(5, 7, 3, dtype="uint16")
    path.write_bytes(png(7, 5, depth=16, color=2, rows=values.astype(">u2")))
    np.testing.assert_array_equal(np.asarray(read_image(path)), values >> 8)


def test_grey_palette_and_bilevel_images(tmp_path: Path) -> None:
    grey = noise(8, 9)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "grey.png")), grey[..., None] |
                                  np.zeros(3, np.uint8))  # fmt: skip
    colors = noise(256, 3)
    indexed = Image.fromarray(grey)
    indexed.putpalette(colors.tobytes())
    indexed.save(tmp_path / "indexed.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "indexed.png")), colors[grey])
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    wanted = np.where(grey > 99, 255, 0)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "bits.png", "L")), wanted)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path: Path, mode: str) -> None:
    path, channels = tmp_path / "a.png", len(mode)
    pixels = noise(8, 9, channels)
    Image.fromarray(pixels).save(path)
    got = np.asarray(read_image(path))
    np.testing.assert_array_equal(got, np.broadcast_to(pixels[..., :-1], (8, 9, 3)))
    with Image.open(path) as image:
        np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))


def test_cmyk(tmp_path: Path) -> None:
    path, ink = tmp_path / "a.tiff", noise(8, 9, 4).astype(float)
    Image.fromarray(ink.astype(np.uint8), "CMYK").save(path)
    wanted = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    assert np.abs(np.asarray(read_image(path)) - wanted).max() <= 1.01


def png(width: int, height: int, depth: int, color: int, rows: np.ndarray | None = None) -> bytes:
    """A PNG; without `rows` only its header and the beginning of its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    lines = b"" if rows is None else b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (b"", ["cannot be read as an image", "an empty file"]),
        (b"not an image at all", ["cannot be read", "begins with b'not an image at '"]),
        (png(20_000, 20_000, 8, 2), ["too large", "at most 100 megapixels", "400000000 pixels"]),
        (png(10_001, 10_000, 8, 2), ["too large", "10001 x 10000"]),
        (png(16, 16, 8, 2), ["cannot be read as an image"]),  # no pixels
        (png(16, 16, 8, 2)[:30], ["cannot be read as an image"]),
        (jpeg()[:700], ["cannot be read as an image", "truncated"]),
        (b"P6 1282 1026 255\n" + bytes(99), ["cannot be read as an image"]),
        (b"P6 -3 1026 255\n" + bytes(99), ["cannot be read as an image"]),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ["cannot be read as an image"]),
    ],
    ids=["empty", "text", "gigantic", "too large", "no pixels", "cut header", "cut jpeg",
         "cut ppm", "negative", "eps"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files(tmp_path: Path, content: bytes, messages: list[str], raises: Any) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with raises(trtnet.UsageError, "bad.jpg", *messages):
        read_image(path)


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_bytes_of_a_file_give_its_image(tmp_path: Path, orientation: int) -> None:
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = orientation
    values = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(values).save(path, exif=exif)
    with Image.open(path) as opened:
        want = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
    np.testing.assert_array_equal(np.asarray(decode_image(path.read_bytes(), "L")), want)
    for content, words in ((b"", "an empty file"), (b"abc", "begins with b'abc'")):
        with pytest.raises(trtnet.UsageError, match=f"(?s)picture 3 cannot be read.*{words}"):
            decode_image(content, name="picture 3")


def test_exactly_100_megapixels_are_let_through(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(b"P5 10000 10000 255\n")
    with pytest.warns(Image.DecompressionBombWarning):
        assert upright_size(path) == (10_000, 10_000)


def test_nothing_and_a_folder(tmp_path: Path, raises: Any) -> None:
    with raises(trtnet.UsageError, "there is no file", "none.png", "expected: an image"):
        read_image(tmp_path / "none.png")
    with raises(trtnet.UsageError, "is not a regular file", "got: a directory"):
        read_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a path")
def test_a_pipe_does_not_block(tmp_path: Path, raises: Any) -> None:
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, upright_size):
        with raises(trtnet.UsageError, "a.png is not a regular file", "got: a pipe"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("values", [np.float32([[0.5, 2]]), np.int32([[-1, 5]])])
def test_a_range_that_nothing_tells(tmp_path: Path, values: np.ndarray, raises: Any) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(values).save(path)
    with raises(trtnet.UsageError, "black and white", str(values.dtype)):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_files_never_fail_otherwise(tmp_path: Path) -> None:
    """Files of each format, with random bytes changed."""
    rng, path, refused = np.random.default_rng(5), tmp_path / "a.bin", []
    for kind in ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(smooth(20, 30)).save(file, kind)
        for _ in range(60):
            content = bytearray(file.getvalue())
            for place in rng.integers(0, min(len(content), 400), 4):
                content[place] = rng.integers(256)
            path.write_bytes(content[: rng.integers(1, len(content) + 1)])
            try:
                assert read_image(path).mode == "RGB"
            except trtnet.UsageError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all("a.bin" in message for message in refused)
