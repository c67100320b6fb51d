"""``trtnet run --folder``: an engine on all images in a folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trtnet.cli.arrays import write_results
from trtnet.cli.pictures import Answers, answer, images_of
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Use, require_distinct
from trtnet.finite import json_number

if TYPE_CHECKING:
    from trtnet.engines.session import Session
    from trtnet.pipeline.preprocessing import StatedPreprocessing
    from trtnet.tasks.image_outputs import ImageOutputs


def run_folder(
    session: Session, stated: StatedPreprocessing | None, arguments: argparse.Namespace
) -> int:
    """Runs `session` on every image in ``--folder``; returns the exit status, 1 if any failed.

    Args:
        session: open.
        stated: about preprocessing, over what the sidecar says.
        arguments: of ``trtnet run``.
    """
    from trtnet.tasks.image_outputs import ImageRunner
    from trtnet.tasks.opening import Options

    targets = _targets(images_of(arguments.folder, arguments.output), arguments)
    with ImageRunner(session, Options(preprocess=stated)) as runner:
        answers = OutputAnswers(targets if arguments.output is not None else {})
        return answer(runner, list(targets), answers, arguments)


class OutputAnswers(Answers["ImageOutputs"]):
    """What each output is, and a file of all of them.

    Args:
        targets: where the outputs of each image go; empty for nowhere.
    """

    columns: ClassVar[Columns] = [
        *(("output", "left"), ("dtype", "left"), ("shape", "left")),
        *(("min", "right"), ("max", "right"), ("mean", "right")),
    ]
    widths: ClassVar[Sequence[int]] = (12, 8, 14, 11, 11, 11)
    header = ("output", "dtype", "shape", "min", "max", "mean", "written")

    def __init__(self, targets: Mapping[Path, Path]) -> None:
        self.targets, self.count = targets, 0

    def rows(self, result: ImageOutputs) -> list[list[str]]:
        """One for each output."""
        return [
            [name, *_kind(array), *(f"{number:.5g}" for number in _numbers(array))]
            for name, array in result.outputs.items()
        ]

    def values(self, result: ImageOutputs) -> dict[str, Any]:
        """The outputs, and the file."""
        found = {}
        for name, array in result.outputs.items():
            numbers = dict(
                zip(("min", "max", "mean"), map(json_number, _numbers(array)), strict=True)
            )
            found[name] = {"dtype": str(array.dtype), "shape": [*array.shape], **numbers}
        target = self._target(result)
        return {"outputs": found, "written": None if target is None else str(target)}

    def records(self, result: ImageOutputs) -> list[list[object]]:
        """One for each output."""
        return [
            [name, *_kind(array), *_numbers(array), self._target(result)]
            for name, array in result.outputs.items()
        ]

    def keep(self, result: ImageOutputs) -> None:
        """Writes the outputs."""
        target = self._target(result)
        if target is not None:
            _make(target.parent)
            write_results(target, result.outputs)
            self.count += 1

    def written(self) -> list[str]:
        """How many files."""
        return [f"written   {self.count} files of outputs"] * bool(self.count)

    def _target(self, result: ImageOutputs) -> Path | None:
        return None if result.path is None else self.targets.get(result.path)


def _targets(paths: Sequence[Path], arguments: argparse.Namespace) -> dict[Path, Path]:
    """A ``.npz`` for each image, in the layout of ``--folder``."""
    output = arguments.output
    if output is None:
        return dict.fromkeys(paths, Path())
    if output.suffix == ".npz" or output.is_file():
        raise UsageError(f"-o: {output} is one file", expected="a folder for several images")
    found = {path: output / f"{path.relative_to(arguments.folder)}.npz" for path in paths}
    others = [file for file in arguments.files if file.flag not in ("-o", "--folder")]
    made = [NamedFile("-o", path, Use.WRITE, "the outputs") for path in found.values()]
    require_distinct([*others, *made])
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o: {folder} cannot be written", got=error) from error


def _kind(array: np.ndarray) -> tuple[str, str]:
    return str(array.dtype), "x".join(map(str, array.shape)) or "scalar"


def _numbers(array: np.ndarray) -> tuple[float, float, float]:
    """Least, largest and mean; of nothing, none of them is a number."""
    if not array.size:
        return (np.nan,) * 3
    values = array.astype(np.float64)
    return float(values.min()), float(values.max()), float(values.mean())
