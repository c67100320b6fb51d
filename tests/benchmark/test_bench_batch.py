"""What tools/bench_batch.py makes of the times of its processes."""

from __future__ import annotations

from pathlib import Path

import bench_batch
import PIL.Image
import pytest


def test_the_rate_is_of_whole_parts_between_two_ends() -> None:
    ends = [(10.0, 256), (10.5, 256), (11.0, 128)]
    assert bench_batch.rate(ends) == (256 + 128) / 1.0
    with pytest.raises(SystemExit, match="fewer than two parts"):
        bench_batch.rate(ends[:1])


def test_scaling_compares_each_round() -> None:
    found = bench_batch.scaling([100.0, 200.0, 100.0], [190.0, 400.0, 198.0])
    assert found["ratio"] == {"median": 1.98, "low": 1.9, "high": 2.0}


def test_its_images_are_of_the_size_that_rows_say(tmp_path: Path) -> None:
    bench_batch.make_images(tmp_path / "in", 3)
    files = sorted((tmp_path / "in").iterdir())
    assert [file.name for file in files] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    with PIL.Image.open(files[2]) as image:
        assert image.size == bench_batch.SIZE
        assert image.format == "JPEG"
