"""BatchJob: everything that decides what a run over many images writes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trtnet.building.pair import PairFiles
from trtnet.errors import UsageError
from trtnet.pipeline.preprocessing import StatedPreprocessing
from trtnet.reading.documents import MOST_BYTES
from trtnet.reading.files import read_if_present
from trtnet.serving.batch.images import FoundImage, without_secret
from trtnet.version import __version__

PART = 256
"""How many images a part has, where nothing else is asked for."""
TASKS = ("auto", "classification", "segmentation", "detection", "outputs")
"""What is written of an image: classes, the classes of its pixels, boxes, or what the network
gives; ``"auto"`` for what the engine is for."""


class EngineFiles(NamedTuple):
    """SHA-256 of an engine's file, and of its sidecar, which says how images are prepared and what
    classes are called; ``None`` without one."""

    engine: str
    sidecar: str | None


@dataclass(frozen=True)
class BatchJob:
    """A run, as its workers get it: names of files, and no engine, session or image.

    Attributes:
        engine: the file of the engine, absolute: it is read where it runs.
        results: the Parquet file that is written, absolute.
        base: the folder that relative names of images are in, or the address of a file system, such
            as ``s3://bucket/photos``.
        task: one of :data:`TASKS`.
        top: how many classes of a classification are written.
        score_threshold: detections of a lower score are left out.
        preprocess: what the user states about the preparation of images.
        class_names: in order, in place of those of the sidecar.
        device, runtime, engine_host_code_allowed: where and by what the engine is run, as for
            :class:`trtnet.Session`.
        made_of: what the files of the engine must be where it is opened, see :func:`engine_files`;
            ``None`` where anything goes.
        key: of the job, see :func:`identity`.
    """

    engine: str
    results: str
    base: str
    task: str = "auto"
    top: int = 5
    score_threshold: float = 0.0
    preprocess: StatedPreprocessing | None = None
    class_names: tuple[str, ...] | None = None
    device: str = "auto"
    runtime: str = "torch"
    engine_host_code_allowed: bool = False
    made_of: EngineFiles | None = None
    key: str = ""


@dataclass(frozen=True)
class Part:
    """Images that are done by one worker, and written at once.

    Attributes:
        index: its place among the parts, from 0.
        names: of the images.
    """

    index: int
    names: tuple[str, ...]

    def as_json(self) -> str:
        """As text."""
        return json.dumps([self.index, self.names])

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Of what :meth:`as_json` gave."""
        index, names = json.loads(text)
        return cls(index, tuple(names))


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        part: its index.
        images: how many it has.
        failed: how many of them could not be read or processed.
        problem: why the part is not written, and the run cannot go on; ``None`` where it is.
        failure: the error of the first image that failed.
        task: what was written, one of :data:`TASKS`.
        place: who did it, as ``host:process``, on what, such as ``torch on cuda``.
    """

    part: int
    images: int
    failed: int = 0
    problem: str | None = None
    failure: str | None = None
    task: str | None = None
    place: str = ""


def parts_of(images: Sequence[FoundImage], size: int) -> list[Part]:
    """The images in parts of `size`; the last one may have fewer."""
    if size < 1:
        raise UsageError("a part has at least one image (--part-size, part_size=)", got=size)
    names = [image.name for image in images]
    starts = range(0, len(names), size)
    return [Part(place, tuple(names[at : at + size])) for place, at in enumerate(starts)]


def identity(
    job: BatchJob, made_of: EngineFiles, images: Sequence[FoundImage], part_size: int
) -> dict[str, Any]:
    """What a run must have in common with one that it goes on with, as JSON values."""
    stated = job.preprocess
    found = [[image.name, image.size, image.changed] for image in images]
    return {
        "trtnet": __version__,
        "engine": made_of.engine,
        "sidecar": made_of.sidecar,
        "images": f"{len(images)}, {_sha256(found)}",
        "base": without_secret(job.base),
        "task": job.task,
        "top": job.top,
        "score threshold": job.score_threshold,
        "preprocessing": None if stated is None else _preprocessing(stated),
        "class names": None if job.class_names is None else [*job.class_names],
        "part size": part_size,
    }


def key_of(identity: Mapping[str, Any]) -> str:
    """A checksum of :func:`identity`, which parts and results carry."""
    return _sha256(identity)


def engine_files(path: str | os.PathLike[str]) -> EngineFiles:
    """What the files of the engine at `path` are.

    Raises:
        UsageError: they cannot be read.
    """
    files = PairFiles.of(path)
    sidecars = [
        read_if_present(file, "a sidecar", MOST_BYTES) for file in (files.sidecar, files.following)
    ]
    stated = None if sidecars == [None, None] else b"".join(text or b"" for text in sidecars)
    about = None if stated is None else hashlib.sha256(stated).hexdigest()
    return EngineFiles(_engine_sha256(files.engine), about)


def _engine_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"the engine {path} cannot be read", got=error) from error
    return digest.hexdigest()


def _preprocessing(stated: StatedPreprocessing) -> list[Any]:
    base = None if stated.base is None else stated.base.as_dict()
    return [base, {key: repr(value) for key, value in sorted(stated.changes.items())}]


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
