"""certify(): runs the cases and makes the certificate."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from trtnet.certify.cases import SET_VERSION, UNCOVERED, cases
from trtnet.certify.certificate import signed
from trtnet.certify.environment import environment
from trtnet.certify.schema import FORMAT, CaseResult, Certificate
from trtnet.certify.settings import Settings
from trtnet.certify.worker import COMMAND, Worker
from trtnet.journal import ResultJournal
from trtnet.pipeline.progress import Counted, Silent

if TYPE_CHECKING:
    from trtnet.pipeline import Observer

CASE_SECONDS = 120.0


class _Journal(ResultJournal):
    format = "trtnet certificate journal 1"
    what = "a certificate"
    another = "another certificate, or of another machine, version, or limit of time"


def certify(
    *,
    backend: str = "auto",
    device: str = "auto",
    only: Sequence[str] = (),
    precisions: Sequence[str] = (),
    timed: bool = True,
    seconds: float = CASE_SECONDS,
    journal: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
    command: Sequence[str] = COMMAND,
) -> Certificate:
    """Runs the cases on this machine, each in a child process, and says what became of them.

    Args:
        backend, device: see :func:`trtnet.certify.environment.environment`.
        only, precisions: which cases; see :func:`trtnet.certify.cases.cases`.
        timed: whether the models' executions are timed.
        seconds: that one case may take.
        journal: a file that keeps each result as it comes, from which an interrupted run goes on;
            :func:`finished` removes it. ``None`` keeps results in memory.
        observer: receives the progress.
        command: starts the child process.

    Raises:
        UsageError: no such case, or a journal of another run.
        BackendError: this machine cannot build engines for `backend`.
    """
    started = time.perf_counter()
    chosen = cases(only, precisions)
    about = environment(backend, device)
    settings = Settings(about.backend, about.device, about.not_executed, timed)
    kept = _Journal(journal, _job(asdict(about), asdict(settings), seconds))
    results = []
    observer = observer or Silent()
    with Worker(settings, seconds, command) as worker, observer.step("certify") as update:
        for done, case in enumerate(chosen):
            update(Counted(f"{done} of {len(chosen)}: {case.key}", done, len(chosen)))
            result = kept.get(case.key, CaseResult)
            if result is None:
                result = worker.run(case)
                kept.put(case.key, asdict(result))
            results.append(result)
        update(Counted(f"{len(chosen)} cases", len(chosen), len(chosen)))
    return signed(
        Certificate(
            format=FORMAT,
            set_version=SET_VERSION,
            made=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            only=[*only],
            precisions=[*precisions],
            timed=timed,
            environment=about,
            cases=results,
            uncovered=dict(UNCOVERED),
            seconds=time.perf_counter() - started,
            sha256="",
        )
    )


def finished(journal: Path) -> None:
    """Removes the journal of a certificate that was written."""
    journal.unlink(missing_ok=True)


def _job(*parts: object) -> str:
    return hashlib.sha256(json.dumps([SET_VERSION, *parts]).encode()).hexdigest()
