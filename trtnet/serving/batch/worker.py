"""PartWorker: opens an engine, and does one part of a run after another."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trtnet import zoo
from trtnet.detection.reading import format_of
from trtnet.engines.session import Session
from trtnet.errors import (
    BackendError,
    ExecutionError,
    OutOfMemoryError,
    PlanError,
    TrtnetError,
    UsageError,
)
from trtnet.serving.batch.images import fetched
from trtnet.serving.batch.job import BatchJob, Outcome, Part, engine_files
from trtnet.serving.batch.parts import PartsFolder
from trtnet.serving.batch.records import (
    BoxRecords,
    ClassRecords,
    OutputRecords,
    Records,
    ShareRecords,
)
from trtnet.serving.node_cache import open_on_node
from trtnet.tasks.classifier import Classifier
from trtnet.tasks.detector import Detector
from trtnet.tasks.image_outputs import ImageRunner
from trtnet.tasks.opening import Options
from trtnet.tasks.pictures import Failure
from trtnet.tasks.segmenter import Segmenter
from trtnet.tasks.task import ImageTask

_MOST_TRIES = 3
_ENGINE_FAILS = (BackendError, ExecutionError, PlanError)  # perhaps whatever image comes next


class _Opened(NamedTuple):
    task: str
    run: ImageTask[Any]
    records: Records
    session: Session


class PartWorker:
    """Does the parts of a job, in one process with one GPU or none. It is the same under Ray and
    without it. The engine is opened when the first part comes.

    Args:
        job: what to do.
        readers: how many threads read and prepare images.
    """

    def __init__(self, job: BatchJob, readers: int = 1) -> None:
        self.job, self.readers = job, readers
        self._folder = PartsFolder(job.results)
        self._open: _Opened | None = None

    def run(self, part: Part) -> Outcome:
        """Does a part and writes it. Images that fail are rows with an error; what stops every
        image is the outcome's `problem`, and nothing is written then."""
        try:
            tries = self._folder.tries(part.index)
            if tries > _MOST_TRIES:
                return self._problem(part, _fatal(part))
            return self._run(part, self._opened())
        except (TrtnetError, OSError) as error:
            return self._problem(part, error)

    def results(self, part: Part) -> Iterator[tuple[str, Any]]:
        """Each image's name, and its result or the text of its error, in order; nothing is written.

        Raises:
            TrtnetError: the engine fails.
        """
        yield from self._results(part, self._opened())

    def close(self) -> None:
        """Releases the engine."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.session.close()

    def _run(self, part: Part, opened: _Opened) -> Outcome:
        failures: list[str] = []
        job, records = self.job, opened.records
        with self._folder.writer(part.index, job.key, opened.task, records) as writer:
            for name, result in self._results(part, opened):
                if isinstance(result, str):
                    failures.append(result)
                    writer.add(records.failed_row(name, result))
                else:
                    writer.add(records.row(name, result))
        return Outcome(
            part.index,
            len(part.names),
            len(failures),
            failure=failures[0] if failures else None,
            task=opened.task,
            place=self._place(opened),
        )

    def _results(self, part: Part, opened: _Opened) -> Iterator[tuple[str, Any]]:
        """Each image's name and result, or the text of its error, in order.

        Raises:
            TrtnetError: the engine fails.
        """
        with fetched(self.job.base, part.names) as files:
            paths = [file for file in files if isinstance(file, Path)]
            results = iter(opened.run.stream(paths, readers=self.readers))
            for name, file in zip(part.names, files, strict=True):
                if isinstance(file, TrtnetError):
                    yield name, str(file)
                    continue
                result = next(results)
                if not isinstance(result, Failure):
                    yield name, result
                    continue
                if _may_stop(result.error) and not _runs(opened):
                    raise result.error
                yield name, str(result).replace(str(file), name)  # which may be a fetched copy

    def _opened(self) -> _Opened:
        if self._open is None:
            session = open_on_node(
                self.job.engine,
                self.job.device,
                runtime=self.job.runtime,
                engine_host_code_allowed=self.job.engine_host_code_allowed,
            )
            try:
                self._require_same_engine()
                self._open = _open(session, self.job)
            except BaseException:
                session.close()
                raise
        return self._open

    def _require_same_engine(self) -> None:
        """Checks that the files, which have just been opened, are those that the run began with."""
        job = self.job
        if job.made_of is not None and engine_files(job.engine) != job.made_of:
            raise UsageError(
                f"{job.engine} or its sidecar was changed while the run went on",
                fix="put the engine back that the run began with, or begin another run",
            )

    def _place(self, opened: _Opened | None) -> str:
        where = f"{socket.gethostname()}:{os.getpid()}"
        if opened is None:
            return where
        return f"{where}, {opened.session.backend} on {opened.session.device}"

    def _problem(self, part: Part, error: Exception) -> Outcome:
        return Outcome(
            part.index, len(part.names), problem=str(error), place=self._place(self._open)
        )


def task_of(session: Session) -> str:
    """What an engine is for: one of :data:`trtnet.serving.batch.job.TASKS` but ``"auto"``. Scores
    are those of classes only where their names are known, or the sidecar names a classifier."""
    shapes = {each.name: each.shape for each in session.outputs}
    if format_of(shapes) is not None:
        return "detection"
    model = session.plan.sidecar.get("model")
    known = zoo.get_entry(model).task if model in zoo.list_models() else None
    if known in ("classification", "segmentation"):
        return str(known)
    is_scores = len(shapes) == 1 and len(next(iter(shapes.values()))) == 2
    if is_scores and session.plan.described.class_names:
        return "classification"
    return "outputs"


def _open(session: Session, job: BatchJob) -> _Opened:
    task = task_of(session) if job.task == "auto" else job.task
    given: dict[str, Any] = {"preprocess": job.preprocess, "class_names": job.class_names}
    run: ImageTask[Any]
    records: Records
    if task == "classification":
        run, records = Classifier(session, top_k=job.top, **given), ClassRecords()
    elif task == "segmentation":
        run, records = Segmenter(session, **given), ShareRecords()
    elif task == "detection":
        run = Detector(session, score_threshold=job.score_threshold, **given)
        records = BoxRecords()
    elif task == "outputs":
        run, records = ImageRunner(session, Options(**given)), OutputRecords(session)
    else:
        raise UsageError(f"there is no task {task!r}", expected="see --task (task=)")
    return _Opened(task, run, records, session)


def _may_stop(error: TrtnetError) -> bool:
    return isinstance(error, _ENGINE_FAILS) and not isinstance(error, OutOfMemoryError)


def _runs(opened: _Opened) -> bool:
    """Whether the engine still runs, on an image of noise. Where it does, it has failed on one
    image alone, of which a network may give values that are none, and the others go on."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (found,) = opened.run.stream([noise])
    return not isinstance(found, Failure)


def _fatal(part: Part) -> UsageError:
    return UsageError(
        f"the images of part {part.index} have ended the process that did them {_MOST_TRIES} times",
        got=f"{part.names[0]} to {part.names[-1]}",
        fix="run those alone, in parts of one image (--part-size 1, part_size=1), to find which it "
        "is; too little memory may be the reason as well",
    )
