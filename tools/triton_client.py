"""Asks models of a Triton Inference Server, over gRPC or HTTP, with NVIDIA's client."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

_TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
    "bool": "BOOL",
    "object": "BYTES",
}


class Client:
    """One connection to a server.

    Args:
        protocol: how.
        address: such as ``"127.0.0.1:8001"``.
    """

    def __init__(self, protocol: Literal["grpc", "http"], address: str) -> None:
        self.protocol = protocol
        self._module: Any = importlib.import_module(f"tritonclient.{protocol}")
        self._client: Any = self._module.InferenceServerClient(address)

    def ask(
        self, model: str, arrays: Mapping[str, np.ndarray], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """The outputs of a model by name: all, or those of the names `outputs`.

        Args:
            model: its name.
            arrays: its inputs by name.
            outputs: names.

        Raises:
            InferenceServerException: what the server says.
        """
        inputs = []
        for name, array in arrays.items():
            given = self._module.InferInput(name, list(array.shape), _TYPES[str(array.dtype)])
            given.set_data_from_numpy(array)
            inputs.append(given)
        asked = [self._module.InferRequestedOutput(name) for name in outputs] or None
        result = self._client.infer(model, inputs, outputs=asked)
        response = result.get_response()
        if self.protocol == "grpc":
            names = [each.name for each in response.outputs]
        else:
            names = [each["name"] for each in response["outputs"]]
        return {name: result.as_numpy(name) for name in names}

    def executions(self, model: str) -> tuple[int, int]:
        """How often a model was executed, and how many rows that were, as the server counts it."""
        found = self._client.get_inference_statistics(model)
        if self.protocol == "grpc":
            (stats,) = found.model_stats
            return int(stats.execution_count), int(stats.inference_count)
        (stats,) = found["model_stats"]
        return int(stats["execution_count"]), int(stats["inference_count"])

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()
