"""A run over many images: found, divided, done by workers, joined into one Parquet file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trtnet.errors import ExecutionError, UsageError
from trtnet.files.locks import locked
from trtnet.hardware import missing_gpu
from trtnet.pipeline.files import is_model_file
from trtnet.pipeline.image_session import choose_backend
from trtnet.pipeline.progress import Observer, Silent
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.running import run as run_recipe
from trtnet.serving.batch.images import FoundImage, find_images
from trtnet.serving.batch.job import (
    PART,
    BatchJob,
    Outcome,
    Part,
    engine_files,
    identity,
    key_of,
    parts_of,
)
from trtnet.serving.batch.parts import PartsFolder, is_finished
from trtnet.serving.batch.worker import PartWorker

SUFFIX = ".parquet"
_GPU_BATCH, _CPU_BATCH = 32, 8  # of a model that is built for the run


class Runner(Protocol):
    """Has workers do the parts of a job."""

    def __call__(self, job: BatchJob, parts: Sequence[Part]) -> Iterator[Outcome]:
        """Yields what became of each part, as they end."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: images that are written, those of an earlier run too.
        total: images of the run.
        failed: images of this run that failed.
        images_per_second: of this run, since its first part came back; ``None`` before.
        outcome: of the part that has just ended; ``None`` at the beginning.
    """

    done: int
    total: int
    failed: int
    images_per_second: float | None
    outcome: Outcome | None


@dataclass(frozen=True)
class BatchResult:
    """What a run has written.

    Attributes:
        results: the Parquet file: a row for each image, in the order of their names.
        images: how many.
        resumed: how many of them an earlier run had done.
        failed: how many could not be read or processed: their rows have an ``error``.
        failure: the first of these errors; of an earlier run's ``None``.
        seconds: how long the workers took.
    """

    results: Path
    images: int
    resumed: int
    failed: int
    failure: str | None
    seconds: float


@dataclass(frozen=True)
class BatchSettings:
    """What is written, and how; see :func:`trtnet.serving.ray.run_batch`.

    Attributes:
        task, top, score_threshold, device, runtime, engine_host_code_allowed: see
            :class:`trtnet.serving.batch.job.BatchJob`.
        part_size: images that are written at once.
        resume: go on with a run that did not end; one that has ended is left as it is.
        force: replace results that are there.
    """

    task: str = "auto"
    top: int = 5
    score_threshold: float = 0.0
    part_size: int = PART
    resume: bool = False
    force: bool = False
    device: str = "auto"
    runtime: str = "torch"
    engine_host_code_allowed: bool = False


@dataclass(frozen=True)
class Work:
    """What a run reads and writes; see :func:`find_work`.

    Attributes:
        results: the Parquet file, absolute.
        base: see :class:`trtnet.serving.batch.job.BatchJob`.
        images: in the order of their names.
    """

    results: Path
    base: str
    images: Sequence[FoundImage]


def find_work(images: str, results: str | os.PathLike[str], settings: BatchSettings) -> Work:
    """Checks what a run reads and writes, before anything is started for it.

    Raises:
        UsageError: no images; results that are no ``.parquet``, or are there already and may not
            be replaced.
    """
    target = Path(os.path.abspath(results))
    if target.suffix != SUFFIX:
        raise UsageError(f"{results} is no name of results", expected=f"one that ends in {SUFFIX}")
    if target.exists() and not target.is_file():
        raise UsageError(f"{results} cannot be written: it is no file", fix="name other results")
    if target.exists() and not (settings.resume or settings.force):
        raise _would_be_lost(target)
    return Work(target, *find_images(images))


def run_batch(
    recipe: Recipe,
    work: Work,
    settings: BatchSettings,
    runner: Runner,
    *,
    observer: Observer | None = None,
    told: Callable[[Progress], None] = lambda progress: None,
) -> BatchResult:
    """Does a run; see :func:`trtnet.serving.ray.run_batch`, which has Ray do it.

    Args:
        recipe: the file of an engine, or a model, of which an engine is built.
        work, settings: what to do.
        runner: has workers do it.
        observer: receives the progress of building a model.
        told: is called with the progress of the run.

    Raises:
        UsageError: no such model, or the parts or results of another run or of one that goes on.
        ExecutionError: the engine cannot run; what was written stays, for a run that resumes.
    """
    folder, found = PartsFolder(work.results), work.images
    with _alone(folder):
        engine = _engine(recipe, folder, settings, observer or Silent())
        job = BatchJob(
            str(engine),
            str(work.results),
            work.base,
            task=settings.task,
            top=settings.top,
            score_threshold=settings.score_threshold,
            preprocess=recipe.preprocessing,
            class_names=recipe.class_names,
            device=settings.device,
            runtime=settings.runtime,
            engine_host_code_allowed=settings.engine_host_code_allowed,
        )
        made_of = engine_files(engine)
        about = identity(job, made_of, found, settings.part_size)
        is_done = settings.resume and is_finished(work.results, about)
        if not folder.is_begun and is_done:
            folder.remove()
            return BatchResult(work.results, len(found), len(found), 0, None, 0.0)
        if work.results.exists() and not (is_done or settings.force):
            if not folder.is_begun:
                folder.remove()
            raise _would_be_lost(work.results)
        folder.begin(about, settings.resume)
        job = dataclasses.replace(job, made_of=made_of, key=key_of(about))
        return _run(job, found, settings, runner, told)


def run_here(job: BatchJob, parts: Sequence[Part]) -> Iterator[Outcome]:
    """A :class:`Runner` without Ray: one worker, in this process."""
    worker = PartWorker(job)
    with contextlib.closing(worker):
        for part in parts:
            yield worker.run(part)


def _run(
    job: BatchJob,
    found: Sequence[FoundImage],
    settings: BatchSettings,
    runner: Runner,
    told: Callable[[Progress], None],
) -> BatchResult:
    folder, parts = PartsFolder(job.results), parts_of(found, settings.part_size)
    written = folder.done(parts, job.key)
    resumed = sum(len(part.names) for part in parts if part.index in written)
    left = [part for part in parts if part.index not in written]
    done, failed, failure = resumed, 0, None
    told(Progress(done, len(found), failed, None, None))
    started, first = time.perf_counter(), None
    for outcome in runner(job, left) if left else ():
        if outcome.problem is not None:
            raise ExecutionError(
                f"the run has ended after {done} of {len(found)} images: {outcome.problem}",
                module=outcome.place,
                fix="when that is mended, go on with --resume (resume=True)",
            )
        done, failed = done + outcome.images, failed + outcome.failed
        failure = failure or outcome.failure
        now = time.perf_counter()
        first = first or (now, done)
        rate = (done - first[1]) / (now - first[0]) if done > first[1] else None
        told(Progress(done, len(found), failed, rate, outcome))
    lost = [part.index for part in parts if part.index not in folder.done(parts, job.key)]
    if lost:
        raise ExecutionError(
            f"{len(lost)} of {len(parts)} parts are not written, the first is {lost[0]}",
            fix="go on with --resume (resume=True)",
        )
    seconds = time.perf_counter() - started
    failed = folder.join(parts)
    return BatchResult(Path(job.results), len(found), resumed, failed, failure, seconds)


def _engine(
    recipe: Recipe, folder: PartsFolder, settings: BatchSettings, observer: Observer
) -> Path:
    """The file of the engine, absolute; a model's is built in the folder of the run."""
    name = recipe.model if isinstance(recipe.model, str) else recipe.model.name
    if is_model_file(name):
        return Path(os.path.abspath(name))
    _require_one_size(recipe)
    folder.make(settings.resume)
    backend = choose_backend(recipe.backend, settings.device)
    is_cpu = settings.device == "cpu" or missing_gpu() is not None
    batch = recipe.batch or (_CPU_BATCH if is_cpu else _GPU_BATCH)
    whole = dataclasses.replace(recipe, backend=backend, batch=batch, verify=False)
    digest = hashlib.sha256(repr(whole).encode()).hexdigest()[:16]
    engine = folder.path / f"model-{digest}.engine"
    run_recipe(dataclasses.replace(whole, engine=engine), observer)
    return engine


def _would_be_lost(results: Path) -> UsageError:
    return UsageError(
        f"{results} is there already, and would be lost",
        fix="--force (force=True) replaces it; or name other results",
    )


def _require_one_size(recipe: Recipe) -> None:
    """Checks that the size of the input is said where a model takes images in their own sizes: an
    engine of one size gives something else for them."""
    is_said = recipe.input is not None or recipe.image_size is not None
    if recipe.entry.task == "classification" or recipe.entry.fixed_size or is_said:
        return
    raise UsageError(
        f"{recipe.entry.name} takes images of many sizes, and a run has one size for all",
        fix="say it: --input NAME:1x3x512x512 (Recipe(input=InputSpec(...))), or build an engine "
        "with --minShapes and --maxShapes (trtnet.Shapes), and name that",
    )


@contextlib.contextmanager
def _alone(folder: PartsFolder) -> Iterator[None]:
    """Lets one run at a time write the results."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.path, most_seconds=0))
        except TimeoutError as error:
            raise UsageError(
                f"another run is writing {folder.results}", fix="wait for it, or name other results"
            ) from error
        except OSError as error:
            raise UsageError(f"{folder.results} cannot be written", got=error) from error
        yield
