"""EngineModel: an engine in Triton's Python backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtnet.engines.session import Session
from trtnet.errors import ExecutionError, TrtnetError
from trtnet.serving.triton.engine_config import ENGINE
from trtnet.serving.triton.requests import (
    Arrays,
    ModelPlace,
    backend_module,
    failure_of,
    inputs_of,
    joined,
    response_of,
)
from trtnet.serving.triton.server_metrics import ServerMetrics


class EngineModel:
    """The ``TritonPythonModel`` of an exported engine: one session for each instance.

    Requests that the server's batcher puts together are executed as one batch. Where that fails,
    each is executed by itself, so that one request alone gets the error that it causes.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Opens the engine. What is not as it was asked for is in the server's log.

        Args:
            args: of Triton.

        Raises:
            TrtnetError: the engine cannot run here; the server then does not serve the model.
        """
        self._utils, self._place = backend_module(), ModelPlace.of(args)
        metrics = ServerMetrics(self._utils, self._place.name, self._place.version)
        engine = self._place.folder / ENGINE
        self._session = Session(engine, device=self._place.device, contexts=1, metrics=metrics)
        for note in self._session.notes:
            self._utils.Logger.log_warn(f"{self._place.name}: {note}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The responses to `requests`, in order."""
        try:
            return self._together(requests)
        except (TrtnetError, MemoryError) as error:
            if len(requests) == 1:
                return [failure_of(self._utils, error)]
        return [response for request in requests for response in self.execute([request])]

    def finalize(self) -> None:
        """Releases the engine."""
        self._session.close()

    def _together(self, requests: Sequence[Any]) -> list[Any]:
        """The responses to `requests`, of one execution.

        Raises:
            TrtnetError: it failed.
        """
        parts = [inputs_of(self._utils, each, self._place.inputs) for each in requests]
        if not self._place.is_batched:
            return [
                response_of(self._utils, request, self._session(part))
                for request, part in zip(requests, parts, strict=True)
            ]
        counts = [len(part[self._place.inputs[0]]) for part in parts]
        outputs = self._session(joined(parts))
        _require_rows(outputs, sum(counts))
        responses, start = [], 0
        for request, count in zip(requests, counts, strict=True):
            own = {name: array[start : start + count] for name, array in outputs.items()}
            responses.append(response_of(self._utils, request, own))
            start += count
        return responses


def _require_rows(outputs: Arrays, count: int) -> None:
    for name, array in outputs.items():
        if len(array) != count:
            raise ExecutionError(
                "the first axis of an output is not the batch",
                module=name,
                expected=f"{count} rows",
                got=f"shape {tuple(array.shape)}",
                fix="export an engine of one fixed batch, whose shapes are served as they are",
            )
