"""Runs over many images on Ray Data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trtnet.errors import ExecutionError, UsageError
from trtnet.extras import install
from trtnet.pipeline.progress import Observer
from trtnet.pipeline.recipe import Recipe
from trtnet.serving.batch import running
from trtnet.serving.batch.job import BatchJob, Outcome, Part
from trtnet.serving.batch.running import BatchResult, BatchSettings, Progress
from trtnet.serving.batch.worker import PartWorker


def run_batch(
    model: str | os.PathLike[str] | Recipe,
    images: str | os.PathLike[str],
    results: str | os.PathLike[str],
    *,
    gpus: int | None = None,
    workers: int | None = None,
    settings: BatchSettings | None = None,
    observer: Observer | None = None,
    told: Callable[[Progress], None] = lambda progress: None,
) -> BatchResult:
    """Runs an engine on very many images, with Ray, and writes a Parquet file with a row for each.

    Images are done in parts, each by one worker, which writes its rows at once beside the results,
    in ``RESULTS.parts``. A worker that is killed is replaced, and its part is done again. After
    this process was killed, ``BatchSettings(resume=True)`` goes on with the parts that are missing.
    An image that cannot be read or processed is a row with an ``error``.

    Args:
        model: the file of an engine; or a model's name or recipe, of which an engine is built.
        images: a folder, a pattern, a file, or an address such as ``s3://bucket/photos``.
        results: the file, whose name ends in ``.parquet``.
        gpus: how many, a worker for each; ``None`` for all of the cluster, 0 to run on CPUs.
        workers: how many on CPUs; ``None`` for one per CPU.
        settings: what is written, and how.
        observer: receives the progress of building a model.
        told: is called with the progress of the run.

    Where Ray runs already, or ``RAY_ADDRESS`` names a cluster, it is used: engine, images and
    results must then be on storage that all nodes share. Otherwise Ray is started here, and ended.

    Raises:
        UsageError: no images, no such model, results that are no ``.parquet`` or are there already,
            the parts of another run; more GPUs or workers than there are; Ray is not installed.
        ExecutionError: the engine cannot run, or Ray cannot; what was written stays, for a run that
            resumes.
    """
    recipe = model if isinstance(model, Recipe) else Recipe(os.fspath(model))
    chosen = settings or BatchSettings()
    require_ray()
    work = running.find_work(os.fspath(images), results, chosen)
    with _cluster() as nodes:
        pool = pool_of(nodes, gpus, workers)
        chosen = dataclasses.replace(chosen, device="cuda" if pool.gpus else "cpu")
        return running.run_batch(
            recipe,
            work,
            chosen,
            RayRunner(pool),
            observer=observer,
            told=told,
        )


class Pool(NamedTuple):
    """The workers of a run.

    Attributes:
        workers: how many.
        gpus: of each: 1, or 0.
        cpus: of each; Ray gives a worker on a GPU none to compute with, it reads images with them.
    """

    workers: int
    gpus: int
    cpus: int


def pool_of(nodes: Sequence[Mapping[str, float]], gpus: int | None, workers: int | None) -> Pool:
    """The workers for a cluster.

    Args:
        nodes: ``CPU`` and ``GPU`` of each.
        gpus, workers: see :func:`run_batch`.

    Raises:
        UsageError: there are not so many.

    >>> pool_of([{"CPU": 32, "GPU": 2}], None, None)
    Pool(workers=2, gpus=1, cpus=16)
    >>> pool_of([{"CPU": 8}, {"CPU": 4}], None, 3)
    Pool(workers=3, gpus=0, cpus=4)
    """
    there = sum(int(node.get("GPU", 0)) for node in nodes)
    wanted = there if gpus is None and workers is None else gpus or 0
    if gpus and workers:
        raise UsageError(
            "a run is on GPUs or on CPUs", got="--gpus and --workers (gpus=, workers=)",
            fix="give one of them: there is a worker for each GPU",
        )  # fmt: skip
    if wanted > there:
        raise UsageError(
            f"there are not {wanted} GPUs (--gpus, gpus=)",
            expected=f"at most {there}, which Ray finds",
            fix="trtnet doctor says what this machine has",
        )
    if wanted:
        having = [node for node in nodes if node.get("GPU", 0) >= 1]
        cpus = min(int(node.get("CPU", 0) // node["GPU"]) for node in having)
        return Pool(wanted, 1, max(1, cpus))
    free = [int(node.get("CPU", 0)) for node in nodes]
    count = sum(free) if workers is None else workers
    fitting = [c for c in range(1, max([*free, 0]) + 1) if sum(n // c for n in free) >= count]
    if count < 1 or not fitting:
        raise UsageError(
            f"{count} workers (--workers, workers=) do not fit", expected=f"1 to {sum(free)}"
        )
    return Pool(count, 0, fitting[-1])


class RayRunner:
    """Does the parts of a job with a pool of Ray Data's actors.

    Args:
        pool: how many, with what.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __call__(self, job: BatchJob, parts: Sequence[Part]) -> Iterator[Outcome]:
        """See :class:`trtnet.serving.batch.running.Runner`.

        Raises:
            ExecutionError: Ray failed.
        """
        import ray.data

        pool = self.pool
        count = min(pool.workers, len(parts))
        items = [{"part": part.as_json()} for part in parts]
        needs: dict[str, Any] = {"num_gpus": 1} if pool.gpus else {"num_cpus": pool.cpus}
        try:
            with _quiet():
                rows = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                    RayWorker,
                    fn_constructor_kwargs={"job": job, "readers": pool.cpus},
                    compute=ray.data.ActorPoolStrategy(size=count),
                    batch_size=1,
                    **needs,
                )
                for row in rows.iter_rows():
                    yield Outcome(**json.loads(row["outcome"]))
        except ray.exceptions.RayError as error:
            raise ExecutionError(
                "Ray has ended the run",
                got=str(error).strip().splitlines()[-1][:500],
                fix="go on with --resume (resume=True)",
            ) from error


class RayWorker:
    """A :class:`trtnet.serving.batch.worker.PartWorker` as ``map_batches`` calls it: with one part,
    and with its outcome as the result."""

    def __init__(self, job: BatchJob, readers: int) -> None:
        self._worker = PartWorker(job, readers)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Does the part in the one row of `batch`."""
        outcome = self._worker.run(Part.from_json(str(batch["part"][0])))
        return {"outcome": [json.dumps(dataclasses.asdict(outcome))]}


def require_ray() -> None:
    """Checks that Ray Data is installed.

    Raises:
        UsageError: it is not; says how to install it.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise UsageError("runs over many images need Ray", got=error, fix=install("ray")) from error


@contextlib.contextmanager
def _cluster() -> Iterator[list[dict[str, float]]]:
    """The resources of each node of the cluster. Ray is started where it is not running, and then
    ended."""
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            named = os.environ.get("RAY_ADDRESS")
            problem, fix = "Ray cannot start", "see the logs in /tmp/ray/session_latest/logs"
            if named:
                problem = f"the cluster {named} (RAY_ADDRESS) cannot be used"
                fix = "start it, or leave RAY_ADDRESS out for a cluster of this run alone"
            raise ExecutionError(problem, got=error, fix=fix) from error
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if is_ours:
            ray.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without its own bars and lines, as the run has one of its own; afterwards as it
    was."""
    import ray.data

    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before[:2]
        logger.setLevel(before[2])
