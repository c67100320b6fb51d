"""The process that runs cases: ``python -m trtnet.certify.child SETTINGS``.

It reads the key of a case from each line of its input, and answers with lines of JSON: lists of the
layer types that the case has, as soon as they are known, and in the end its result. What
libraries print goes to its error output, where it cannot be taken for an answer. A crash ends this
process alone. It ends as soon as its input does, also in the middle of a case: whoever asked is
gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence

from trtnet.certify.cases import case_of
from trtnet.certify.running import run_case
from trtnet.certify.schema import CaseResult
from trtnet.certify.settings import READY, Settings


def serve(run: Callable[..., CaseResult], arguments: Sequence[str]) -> None:
    """Answers until the input ends.

    Args:
        run: :func:`run_case`, or what takes its place.
        arguments: one, the settings as a JSON object.
    """
    settings = Settings(**json.loads(arguments[0]))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def say(value: object) -> None:
            print(json.dumps(value), file=answers, flush=True)

        keys: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(keys,), daemon=True).start()
        print(READY, file=answers, flush=True)
        while True:
            result = run(case_of(keys.get()), settings, tell=say)
            say(dataclasses.asdict(result))


def _read(keys: queue.Queue[str]) -> None:
    """Puts the lines of the input into `keys`, and ends the process where it ends: a case that
    hangs would outlive who asked for it, who may have been killed."""
    for line in sys.stdin:
        keys.put(line.strip())
    os._exit(0)


if __name__ == "__main__":
    serve(run_case, sys.argv[1:])
